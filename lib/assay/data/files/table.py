"""A table in memory: named columns of cells, the line of each row in its file, and what was left out on the way.

`read` (reader.py) makes one, and each later step returns another, with more entries in `dropped` and `notes`. Cells are `str`, `float`,
`int`, `bool`, `None` (missing), `list` (several labels), `datetime`, `date`, and `bytes` of a picture.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import UserError

FIRST = 5  # places that are named of many


@dataclass(frozen=True)
class Dropped:
    """Rows or files left out for one reason. `lines` are the first few: lines in the file, or names of files."""

    reason: str
    count: int
    lines: tuple[int | str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Columns of equal length."""

    columns: Mapping[str, np.ndarray]  # [n], of objects
    lines: np.ndarray  # int64 [n]: where each row starts in its file, from 1; the number of the row in files without lines
    source: str  # file or folder
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()  # sentences about what was assumed
    files: np.ndarray | None = None  # [n], the file of each row, of a table of several files


def size(table: Table) -> int:
    """Returns the number of rows."""
    return len(table.lines)


def column_of(cells: Iterable[Any], count: int = -1) -> np.ndarray:
    """Returns cells as an array of objects [n]; lists stay cells."""
    return np.fromiter(cells, object, count)


def take(table: Table, rows: np.ndarray) -> Table:
    """Returns the rows with these indices, or those that a boolean array selects."""
    columns = {name: column[rows] for name, column in table.columns.items()}
    return replace(table, columns=columns, lines=table.lines[rows], files=None if table.files is None else table.files[rows])


def drop(table: Table, rows: np.ndarray, reason: str) -> Table:
    """Returns the table without the rows that a boolean array selects, which are counted under `reason`."""
    if not rows.any():
        return table
    lines = table.lines[rows].tolist()
    if table.files is not None:
        lines = [f"{Path(file).name}:{line}" for file, line in zip(table.files[rows].tolist(), lines, strict=True)]
    return replace(take(table, ~rows), dropped=(*table.dropped, dropped(reason, lines)))


def dropped(reason: str, places: Sequence[int | str]) -> Dropped:
    """Returns the record of everything at `places`, of which the first few are kept."""
    return Dropped(reason, len(places), tuple(places[:FIRST]))


def note(table: Table, *notes: str) -> Table:
    """Returns the table with further notes."""
    return replace(table, notes=(*table.notes, *notes))


def join(tables: Sequence[Table], source: str) -> Table:
    """Returns the rows of several files of one data set. Raises UserError where their columns differ."""
    first = tables[0]
    for other in tables[1:]:
        if set(other.columns) != set(first.columns):
            odd = sorted(set(other.columns) ^ set(first.columns))
            raise UserError(
                f"{other.source} and {first.source} have different columns ({', '.join(odd)} are in one of them only). "
                "Files of one split need the same columns; give one file."
            )
    return Table(
        {name: np.concatenate([table.columns[name] for table in tables]) for name in first.columns},
        np.concatenate([table.lines for table in tables]),
        source,
        tuple(each for table in tables for each in table.dropped),
        tuple(dict.fromkeys(each for table in tables for each in table.notes)),
        np.concatenate([sources_of(table) for table in tables]),
    )


def sources_of(table: Table) -> np.ndarray:
    """Returns the file or folder of each row, [n] of objects."""
    return np.full(size(table), table.source, object) if table.files is None else table.files


def unique_names(names: Sequence[str]) -> list[str]:
    """Returns distinct names of columns: repeated ones get `_2`, `_3`, and blank ones `column_N`, counted from 1."""
    filled = [name.strip() or f"column_{i}" for i, name in enumerate(names, 1)]
    made, known = list[str](), set(filled)
    for name in filled:
        chosen, number = name, 2
        while chosen in made or (number > 2 and chosen in known):
            chosen, number = f"{name}_{number}", number + 1
        made.append(chosen)
    return made
