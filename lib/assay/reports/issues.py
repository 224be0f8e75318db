"""What a report shows of issues.csv: counts by kind, the surest suspects, and some of every other kind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from assay.core.file import read_json
from assay.fitting.issues.issue import KINDS, MOST
from assay.fitting.issues.written import FILE, name_of, read

SUMMARY = "fit.json"
SUSPECTS = ("suspect label", "unlikely number")
SHOWN, SHOWN_OTHERS = 20, 5  # rows of each table; of the other kinds, of each kind
WORDS = 160  # characters of a row


class Table(NamedTuple):
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


class IssuesView(NamedTuple):
    """The section of a page."""

    counts: list[tuple[str, str]]  # kind and number
    notes: tuple[str, ...]  # what was searched only in part
    tables: list[Table]
    file: str
    kept: str  # how many of them the file has


def issues_of(folder: Path) -> IssuesView | None:
    """Returns the section of a work directory with issues.csv; None without one, or with one that no longer has its columns."""
    path = folder / FILE
    rows = read(path) if path.is_file() else None
    if rows is None:
        return None
    told = _told(folder)
    counts = told.get("counts") or Counter(row["kind"] for row in rows)
    listed = [(name_of(kind, counts[kind]), _number(counts[kind], "counts" in told)) for kind in KINDS if counts.get(kind)]
    kept = f"all of them, but at most the surest {MOST:,} of a kind" if any(count > MOST for count in counts.values()) else "all"
    tables = [
        Table(f"The surest {name_of(kind, 2)}", ("line or picture", "part", "given", "suggested", "score", "row"), _suspects(rows, kind))
        for kind in SUSPECTS
    ]
    tables.append(Table("Other suspicions", ("kind", "line or name", "part", "why", "row"), _others(rows)))
    return IssuesView(listed, tuple(map(str, told.get("notes") or ())), [table for table in tables if table.rows], FILE, kept)


# -- private --------------------------------------------------------------------------------------------------------------


def _told(folder: Path) -> Mapping:
    """Returns what fit.json says of the search: its counts are full, and those of issues.csv end at MOST."""
    try:
        found = read_json(folder / SUMMARY)["issues"]
        return found if isinstance(found["counts"], dict) and isinstance(found["notes"], list) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _number(count: int, full: bool) -> str:
    return f"{count:,}" + (" or more" if count >= MOST and not full else "")


def _suspects(rows: Sequence[Mapping[str, str]], kind: str) -> list[tuple[str, ...]]:
    chosen = [row for row in rows if row["kind"] == kind][:SHOWN]
    return [(_place(row), _part(row), row["given"], row["suggested"], row["score"], _words(row)) for row in chosen]


def _others(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
    chosen = [row for kind in KINDS if kind not in SUSPECTS for row in [row for row in rows if row["kind"] == kind][:SHOWN_OTHERS]]
    return [(row["kind"], _place(row), _part(row), row["why"], _words(row)) for row in chosen]


def _place(row: Mapping[str, str]) -> str:
    """Returns the line, or both of a pair, or the path of a picture; of a column or class its name."""
    places = [row["line"], row["other"]] if row["line"] else [row["given"]]
    return ", ".join(filter(None, places))


def _part(row: Mapping[str, str]) -> str:
    return row["part"].replace("+", " + ")


def _words(row: Mapping[str, str]) -> str:
    return row["excerpt"] if len(row["excerpt"]) <= WORDS else row["excerpt"][: WORDS - 1] + "\u2026"
