"""Numbers and dates as people write them: which form all cells of a column share, and their values.

A form is recognised only if every cell fits it and at least one cell fits no other: `1,234` alone may be a thousand or a decimal.
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from typing import NamedTuple

PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.ASCII)  # 1,234.5
DOTTED = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?", re.ASCII)  # 1.234,5
COMMA = re.compile(r"[+-]?\d+(?:,\d+)?", re.ASCII)  # 1234,5
CODE = re.compile(r"0\d+", re.ASCII)  # 01234: a postcode, whose zero would be lost
UNIT = re.compile(r"\s*([$\u20ac\u00a3\u00a5\u20b9%])\s*")
MARKERS = frozenset({"na", "n/a", "#n/a", "nan", "null", "none", "?", "-"})

ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
TIME = r"(?:[T ]+(\d{1,2}):(\d\d)(?::(\d\d))?)?"
YEAR_FIRST = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})" + TIME, re.ASCII)
DOTS = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})" + TIME, re.ASCII)
SLASHES = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})" + TIME, re.ASCII)
FORMS = {  # of a date -> how it is matched, and the places of year, month and day among its numbers
    "year/month/day": (YEAR_FIRST, (0, 1, 2)),
    "day.month.year": (DOTS, (2, 1, 0)),
    "day/month/year": (SLASHES, (2, 1, 0)),
    "month/day/year": (SLASHES, (2, 0, 1)),
}
ISO_FORM = "year-month-day"


class Style(NamedTuple):
    """How the numbers of a column are written."""

    thousands: str = ""
    decimal: str = "."
    unit: str = ""

    def __str__(self) -> str:
        example = f"1{self.thousands}234{self.decimal}5"
        return f"{example} %" if self.unit == "%" else f"{self.unit}{example}"


def is_marker(cell: str) -> bool:
    """Says whether a cell is one of the words for a missing value."""
    return cell.lower() in MARKERS


def style_of(cells: Iterable[str]) -> Style | None:
    """Returns how all cells are written as numbers; None if one is no number or begins with a zero that says something, or if the meaning
    of commas is not certain.
    """
    cells = list(map(str.strip, cells))
    if all(map(PLAIN.fullmatch, cells)):
        return Style() if cells and not any(map(CODE.fullmatch, cells)) else None
    unit = UNIT.search(cells[0]) if cells[0] else None
    if unit:
        bare = [UNIT.sub("", cell, count=1) for cell in cells]
        if not all(_is_outside(cell, unit[1]) for cell in cells):
            return None
        style = style_of(bare)
        return None if style is None or style.unit else style._replace(unit=unit[1])
    if all(GROUPED.fullmatch(cell) or PLAIN.fullmatch(cell) for cell in cells):
        commas = [cell for cell in cells if "," in cell]
        clear = any(cell.count(",") > 1 for cell in commas) or any("." in cell for cell in cells)
        small = [len(cell.lstrip("+-")) <= 3 for cell in cells if "," not in cell]
        return Style(",") if clear or (small and all(small)) else None
    if all(DOTTED.fullmatch(cell) or COMMA.fullmatch(cell) for cell in cells):
        tails = [len(cell.rpartition(",")[2]) for cell in cells if "," in cell]
        dots = any("." in cell for cell in cells)
        clear = any(tail != 3 for tail in tails) or any("." in cell and "," in cell for cell in cells)
        return Style("." if dots else "", ",") if clear else None
    return None


def number_of(style: Style) -> Callable[[str], float]:
    """Returns the function from a cell to its value; NaN for a cell that is no number."""

    def parse(cell: str) -> float:
        if style.unit:
            cell = cell.replace(style.unit, "", 1)
        cell = cell.strip()
        if style.thousands:
            cell = cell.replace(style.thousands, "")
        if style.decimal != ".":
            cell = cell.replace(style.decimal, ".")
        return float(cell) if PLAIN.fullmatch(cell) else float("nan")

    return parse


def date_form(cells: Iterable[str]) -> str:
    """Returns the form that all cells have as dates, or "". Days and months that could be exchanged in every cell have no form."""
    cells = list(map(str.strip, cells))
    if all(map(ISO.fullmatch, cells)):
        return ISO_FORM if cells and all(date_of(cell, ISO_FORM) for cell in cells) else ""
    fitting = [form for form, (pattern, _) in FORMS.items() if pattern.fullmatch(cells[0])]
    fitting = [form for form in fitting if all(date_of(cell, form) for cell in cells)]
    return fitting[0] if len(fitting) == 1 else ""


def date_of(cell: str, form: str) -> datetime | None:
    """Returns the date of a cell, in UTC without a time zone, or None for what is no date of this form."""
    try:
        if form == ISO_FORM:
            return plain_date(datetime.fromisoformat(cell)) if ISO.fullmatch(cell) else None
        pattern, places = FORMS[form]
        found = pattern.fullmatch(cell)
        if not found:
            return None
        numbers = found.groups()
        return datetime(*(int(numbers[place]) for place in places), *(int(each or 0) for each in numbers[3:]))  # type: ignore[arg-type]
    except ValueError:
        return None


def plain_date(value: date) -> datetime:
    """Returns a date, or a time with or without a zone, as a time in UTC without one."""
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


# -- private --------------------------------------------------------------------------------------------------------------


def _is_outside(cell: str, unit: str) -> bool:
    return cell.count(unit) == 1 and (cell.startswith(unit) or cell.endswith(unit) or cell.lstrip("+-").startswith(unit))
