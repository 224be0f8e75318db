"""Columns as arrays, once their kind is known: numbers, dates, names of categories, lists of labels."""

from collections.abc import Callable, Iterable
from datetime import date, datetime
from typing import Any
from unicodedata import normalize

import numpy as np

from assay.data.files.kinds import Kind, is_blank, pieces
from assay.data.files.numerals import date_of, is_marker, number_of, plain_date
from assay.data.files.table import column_of

REPEATED = 2  # rows per distinct cell from which each is computed once
WITHOUT_MARKERS = ("text", "picture")  # kinds whose cells may be words that mark missing values elsewhere


def missing(values: np.ndarray, kind: Kind) -> np.ndarray:
    """Returns which cells [n] of a column are missing, bool [n]."""
    if kind.name == "number":
        return np.isnan(numbers(values, kind))
    markers = kind.name not in WITHOUT_MARKERS

    def absent(cell: Any) -> bool:
        return is_blank(cell) or (markers and isinstance(cell, str) and is_marker(cell.strip()))

    return np.fromiter(_each(values, absent, kind), bool, len(values))


def numbers(values: np.ndarray, kind: Kind) -> np.ndarray:
    """Returns float64 [n], NaN where a cell is missing, infinite or no number."""
    parse = number_of(kind.style)

    def value(cell: Any) -> float:
        if isinstance(cell, str):
            return parse(cell)
        return float(cell) if isinstance(cell, (int, float)) else float("nan")

    found = np.fromiter(_each(values, value, kind), np.float64, len(values))
    found[np.isinf(found)] = np.nan
    return found


def dates(values: np.ndarray, kind: Kind) -> np.ndarray:
    """Returns datetime64[us] [n] in UTC, NaT where a cell is missing."""

    def value(cell: Any) -> datetime | None:
        if isinstance(cell, date):
            return plain_date(cell)
        return date_of(cell.strip(), kind.form) if isinstance(cell, str) and kind.form else None

    return np.array(
        [np.datetime64("NaT", "us") if found is None else np.datetime64(found, "us") for found in map(value, values)], "datetime64[us]"
    )


def categories(values: np.ndarray, kind: Kind) -> np.ndarray:
    """Returns the names of categories or classes, str or None, [n]. They are in NFC, and whole numbers have no decimal point."""
    return column_of(_each(values, _name(kind), kind), len(values))


def labels(values: np.ndarray, kind: Kind) -> np.ndarray:
    """Returns lists of names [n], each once and in the order of the cell; None where a cell is missing."""

    def value(cell: Any) -> list[str] | None:
        if isinstance(cell, str) and kind.form and not is_blank(cell) and not is_marker(cell.strip()):
            cell = pieces(cell.strip(), kind.form)
        if not isinstance(cell, list):
            return None
        return list(dict.fromkeys(tidy(str(each)) for each in cell if not is_blank(each)))

    return column_of(map(value, values), len(values))


def tidy(name: str) -> str:
    """Returns a name in NFC without white space around it."""
    return normalize("NFC", name.strip())


# -- private --------------------------------------------------------------------------------------------------------------


def _each(values: np.ndarray, function: Callable[[Any], Any], kind: Kind) -> Iterable[Any]:
    """Returns the function of each cell, computed once for equal cells if many are."""
    cells = values.tolist()
    if kind.distinct * REPEATED <= len(cells) and set(map(type, cells)) <= {
        str,
        type(None),
    }:  # True and 1 are equal, and their names are not
        return map({cell: function(cell) for cell in set(cells)}.__getitem__, cells)
    return map(function, cells)


def _name(kind: Kind) -> Callable[[Any], str | None]:
    parse = number_of(kind.style)

    def name(cell: Any) -> str | None:
        if is_blank(cell) or (isinstance(cell, str) and is_marker(cell.strip())):
            return None
        if isinstance(cell, bool):
            return str(cell).lower()
        if kind.name in ("number", "identifier", "constant") and isinstance(cell, (str, float)):
            value = parse(cell) if isinstance(cell, str) else cell
            if value == value and abs(value) < 2**53 and float(value).is_integer():
                return str(int(value))
        return tidy(str(cell))

    return name
