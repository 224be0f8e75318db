"""What a report shows of fit.json: which model to use, the leaderboard, and the metric by group."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.file import read_json
from assay.fitting import scores

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
        metric, listed = str(found["metric"]), found["leaderboard"]
        name = scores.title_of(metric)
        columns = ("", "seconds to train", f"valid: {name}", f"test: {name} (95 % interval)")
        rows: list[tuple[str, ...]] = [
            (row["title"], f"{row['seconds']:.1f}", _cell(metric, row.get("valid")), _cell(metric, row.get("test"))) for row in listed
        ]
        titles = {row["name"]: row["title"] for row in listed}
        groups = [_group(metric, name, column, titles) for name, column in found["groups"].items() if column]
        return BoardView(str(found["sentence"]), [Rows("", columns, rows), *groups])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


# -- private --------------------------------------------------------------------------------------------------------------


def _group(metric: str, name: str, rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> Rows:
    models = [key for key in rows[0] if key in titles]
    cells = [(row["group"], f"{row['n']:,}", *(_cell(metric, row[key]) for key in models)) for row in rows]
    return Rows(f"By {name}", (name, "rows", *(titles[key] for key in models)), cells)


def _cell(metric: str, found: Mapping[str, float] | None) -> str:
    return scores.shown_interval(metric, {key: float("nan") if found[key] is None else found[key] for key in found}) if found else ""
