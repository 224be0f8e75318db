"""Rows of a table as examples: batches, records, and rows that a user asks about."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import UserError
from assay.data.files.roles import Roles
from assay.data.files.table import Table, column_of, size
from assay.data.source import Examples
from assay.tasks.files.answers import Answers
from assay.tasks.files.opened import Opened

SHOWN = 400  # characters of a row in records and on pages
Encode = Callable[[Examples, int], Mapping[str, np.ndarray]]


def examples_of(inputs: np.ndarray, targets: np.ndarray, lengths: np.ndarray | None = None, known: np.ndarray | None = None) -> Examples:
    """Returns examples with their targets [rows, any]. `lengths`: tokens of each input; `known`: which have a label."""
    n = len(targets)
    ones = np.ones(n, np.int64)
    length = ones if lengths is None else lengths.astype(np.int64)
    counted = np.full(n, targets.shape[1], np.int64) * (1 if known is None else known.astype(np.int64))
    hidden = targets if known is None else targets * known[:, None].astype(targets.dtype)
    return Examples(np.arange(n), length, inputs, length, hidden, counted, np.full(n, targets.shape[1], np.int64))


def encoder(inputs: Encode, answers: Answers, unlabelled: bool) -> Encode:
    """Returns the function from examples to a batch: that of the inputs, `targets` and `weight`, and `labelled` where some have none."""

    def encode(examples: Examples, width: int) -> Mapping[str, np.ndarray]:
        batch = {**inputs(examples, width), "targets": answers.encode(examples.target), "weight": np.ones(len(examples.id), np.float32)}
        return {**batch, "labelled": (examples.target_length > 0).astype(np.float32)} if unlabelled else batch

    return encode


def said(table: Table, roles: Roles, answers: Answers, targets: np.ndarray) -> Callable[[Examples, int], dict[str, Any]]:
    """Returns the function that describes an example of a part: its row in words, its target and its line."""

    def describe(examples: Examples, i: int) -> dict[str, Any]:
        row = int(examples.id[i]) % size(table)
        return {"input": line_of(table, roles, row), "target": answers.shown(targets[row])}

    return describe


def line_of(table: Table, roles: Roles, row: int) -> str:
    """Returns the inputs of a row as text: the text itself where it is the only input."""
    cells = {name: table.columns[name][row] for name in roles.inputs}
    if len(cells) == 1:
        return _shown(next(iter(cells.values())))
    return ", ".join(f"{name}={_shown(cell)[:SHOWN]}" for name, cell in cells.items())


def listed(roles: Roles, name: str) -> None:
    """Raises UserError if a table has nothing but texts or pictures, which other tasks read."""
    if roles.pictures:
        raise UserError(f"{name} does not read pictures ({', '.join(roles.pictures)}). Set --config.task.name=files/pictures.")
    if roles.texts:
        raise UserError(f"{name} does not read texts ({', '.join(roles.texts)}). Set --config.task.name=files/texts, or ignore them.")


def asked(rows: Sequence[Any], roles: Roles) -> Table:
    """Returns a table of rows without targets: mappings from columns to cells, or cells where there is one input or one text.

    Columns that a row lacks are missing. Raises UserError for a row that has none of the inputs.
    """
    names = roles.inputs
    cells: dict[str, list[Any]] = {name: [] for name in names}
    for number, row in enumerate(rows, 1):
        only = names if len(names) == 1 else roles.texts if isinstance(row, str) else ()
        given = row if isinstance(row, Mapping) else {only[0]: row} if len(only) == 1 else None
        if given is None or not set(given) & set(names):
            shown = ", ".join(map(str, given)) if given else repr(row)[:80]
            raise UserError(f"row {number} ({shown}) has none of the columns that the model reads: {', '.join(names)}.")
        for name in names:
            cells[name].append(given.get(name))
    return Table({name: column_of(column, len(rows)) for name, column in cells.items()}, np.arange(1, len(rows) + 1), str(Path.cwd()))


def digest(found: Opened) -> str:
    """Returns a hash of the training rows and of the names of the classes: a run resumes and answers only with the same."""
    whole = hashlib.blake2b(repr((found.classes, found.roles.inputs)).encode("utf-8", "surrogatepass"), digest_size=8)
    train = found.parts["train"]
    for name in sorted((found.roles.target, *found.roles.inputs)):
        whole.update(repr(train.columns[name].tolist()).encode("utf-8", "surrogatepass"))
    return whole.hexdigest()


# -- private --------------------------------------------------------------------------------------------------------------


def _shown(cell: Any) -> str:
    return "" if cell is None else f"picture of {len(cell):,} bytes" if isinstance(cell, bytes) else str(cell)
