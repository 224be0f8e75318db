"""The rows that are searched, and the issue of one of them: `issue(gathered(found), 3, "outlier", 0.8, "...")`.

Every row of train, valid and test is searched, so the parts are joined, with where each row comes from.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.data.files.content import keys_of
from assay.data.files.roles import Roles
from assay.data.files.table import Table, size, sources_of, take
from assay.fitting.issues.issue import ALL, Issue
from assay.tasks.files.opened import Opened
from assay.tasks.files.rows import line_of

EXCERPT = 160  # characters of a row


class Rows(NamedTuple):
    """Rows of all parts."""

    roles: Roles
    table: Table  # columns of target and inputs; `source` is that of the first part
    parts: np.ndarray  # [n], names of parts
    sources: np.ndarray  # [n], files or folders
    places: np.ndarray  # [n], lines, or paths of pictures
    keys: np.ndarray  # uint64 [n]: equal for equal inputs, whatever their spelling


def gathered(found: Opened) -> Rows:
    """Returns the rows of train, valid and test, in this order."""
    return joined(found.roles, list(found.parts.items()))


def joined(roles: Roles, tables: Sequence[tuple[str, Table]]) -> Rows:
    """Returns the rows of tables with the names of their parts."""
    names = [name for name in tables[0][1].columns if all(name in table.columns for _, table in tables)]
    columns = {name: np.concatenate([table.columns[name] for _, table in tables]) for name in names}
    lines = np.concatenate([table.lines for _, table in tables])
    places = columns[roles.pictures[0]] if _has_paths(columns, roles) else lines.astype(object)
    return Rows(
        roles,
        Table(columns, lines, tables[0][1].source),
        np.repeat(np.array([name for name, _ in tables], object), [size(table) for _, table in tables]),
        np.concatenate([sources_of(table) for _, table in tables]),
        places,
        np.concatenate([keys_of(table, roles) for _, table in tables]),
    )


def stacked(first: Rows, second: Rows) -> Rows:
    """Returns the rows of both."""
    names = [name for name in first.table.columns if name in second.table.columns]
    columns = {name: np.concatenate([first.table.columns[name], second.table.columns[name]]) for name in names}
    lines = np.concatenate([first.table.lines, second.table.lines])
    joint: dict[str, Any] = {
        name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("parts", "sources", "places", "keys")
    }
    return first._replace(table=Table(columns, lines, first.table.source), **joint)


def some(rows: Rows, chosen: np.ndarray) -> Rows:
    """Returns the rows with these indices."""
    columns = {name: getattr(rows, name)[chosen] for name in ("parts", "sources", "places", "keys")}
    return rows._replace(table=take(rows.table, chosen), **columns)


def issue(rows: Rows, row: int, kind: str, score: float, why: str, suggested: str = "", other: int | None = None) -> Issue:
    """Returns the issue of a row; `other` is the other row of a pair."""
    part, source = str(rows.parts[row]), str(rows.sources[row])
    place: int | str = ""
    if other is not None:
        part += f"+{rows.parts[other]}" if rows.parts[other] != part else ""
        place = rows.places[other] if rows.sources[other] == source else f"{rows.sources[other]}:{rows.places[other]}"
    return Issue(kind, source, rows.places[row], part, float(score), given(rows, row), suggested, place, why, _excerpt(rows, row))


def of_all(rows: Rows, kind: str, score: float, name: str, why: str, suggested: str = "", part: str = ALL, line: int | str = "") -> Issue:
    """Returns the issue of a column or of the name of a class."""
    return Issue(kind, rows.table.source, line, part, float(score), name, suggested, "", why, "")


def given(rows: Rows, row: int) -> str:
    """Returns the target of a row as text."""
    return text_of(rows.table.columns[rows.roles.target][row])


def text_of(target: Any) -> str:
    """Returns a class, labels or a number as text."""
    if isinstance(target, list):
        return "|".join(map(str, target))
    return f"{target:.6g}" if isinstance(target, float) else str(target)


def classes_of(rows: Rows) -> np.ndarray:
    """Returns the target of each row as text, [n] of objects: several labels are one name."""
    cells = rows.table.columns[rows.roles.target].tolist()
    return np.array([text_of(sorted(cell) if isinstance(cell, list) else cell) for cell in cells], object)


# -- private --------------------------------------------------------------------------------------------------------------


def _excerpt(rows: Rows, row: int) -> str:
    """Returns the texts of a row, or all inputs where it has none."""
    shown = rows.roles._replace(numbers=(), categories=(), dates=()) if rows.roles.texts else rows.roles
    return "" if rows.roles.pictures else " ".join(line_of(rows.table, shown, row)[: 4 * EXCERPT].split())[:EXCERPT]


def _has_paths(columns: Mapping[str, np.ndarray], roles: Roles) -> bool:
    return bool(roles.pictures) and all(isinstance(cell, str) for cell in columns[roles.pictures[0]].tolist())
