"""What a report shows of fit.json: which model to use, the leaderboard, and the metric by group."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.file import read_json
from assay.core.number import limits, number

SUMMARY = "fit.json"


class Rows(NamedTuple):
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


class BoardView(NamedTuple):
    """The section of a page."""

    sentence: str
    tables: Sequence[Rows]


def board_of(folder: Path) -> BoardView | None:
    """Returns the section of a work directory that `assay fit` made; None for another one, or if fit.json is not as it was written."""
    try:
        found = read_json(folder / SUMMARY)
        name, unit, listed = str(found["title"]), str(found["unit"]), found["leaderboard"]
        columns = ("", "seconds to train", f"valid: {name}", f"test: {name} (95 % interval)")
        rows: list[tuple[str, ...]] = [
            (row["title"], f"{row['seconds']:.1f}", cell(unit, row.get("valid")), cell(unit, row.get("test"))) for row in listed
        ]
        titles = {row["name"]: row["title"] for row in listed}
        groups = [_group(unit, name, column, titles) for name, column in found["groups"].items() if column]
        return BoardView(str(found["sentence"]), [Rows("", columns, rows), *groups])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def cell(unit: str, found: Mapping[str, float | None] | None) -> str:
    """Returns {value, low, high} as text; ends are None or NaN where there is no interval."""
    if not found:
        return ""
    low, high = found["low"], found["high"]
    return number(found["value"], unit) + ("" if low is None or high is None or low != low else f" ({limits((low, high), unit)})")


# -- private --------------------------------------------------------------------------------------------------------------


def _group(unit: str, name: str, rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> Rows:
    models = [key for key in rows[0] if key in titles]
    cells = [(row["group"], f"{row['n']:,}", *(cell(unit, row[key]) for key in models)) for row in rows]
    return Rows(f"By {name}", (name, "rows", *(titles[key] for key in models)), cells)
