"""Leaves out the rows that nothing can be learned from: without a target, without inputs, or seen before; each is counted.

A text or picture that comes again is kept once. Where it comes with another label, the first row is kept, and the number of such texts is
told. In tables without texts and pictures, rows may be equal by chance: if more than a fifth are, all stay.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from assay.core.errors import UserError
from assay.data.files.content import keys_of
from assay.data.files.roles import Roles
from assay.data.files.table import Table, column_of, drop, note, size, take
from assay.data.files.values import categories, labels, missing, numbers

BY_CHANCE = 0.2  # share of equal rows from which those of a table of short cells are not copies
FEWEST = 5  # rows of a class that are worth no remark
GENUINE = 0.05  # share of rows from which the class "none" is a class, and no mark of a missing one
SHOWN = 8  # classes that a note lists


class Cleaned(NamedTuple):
    """A table whose target is str (classes), a list of str (labels) or float (number), and never missing."""

    table: Table
    classes: Mapping[str, int]  # rows of each class or label, in the order of class ids; {} for numbers
    repeated: int  # rows whose inputs and target came before
    conflicting: int  # distinct inputs that came with several targets
    contradicting: Table  # the rows left out since an earlier row has their inputs and another target


def clean(table: Table, roles: Roles, training: bool = True) -> Cleaned:
    """Returns the rows to use. Raises UserError if no row is left or, of training data, only one class."""
    source, names = table.source, roles.inputs
    table = replace(table, columns={**table.columns, roles.target: _targets(table, roles)})
    absent = np.array([value is None for value in table.columns[roles.target]], bool)
    if absent.all():
        raise UserError(f"{source}: every cell of the target {roles.target!r} is missing. Choose another column with --target=NAME.")
    table = drop(table, absent, f"no target ({roles.target})")
    empty = np.logical_and.reduce([missing(table.columns[name], roles.kinds[name]) for name in names])
    if empty.all():
        raise UserError(
            f"{source}: no row has both a target and an input ({', '.join(names)}). Choose other columns with --target and --text."
        )
    table = drop(table, empty, f"no input ({', '.join(names)})" if len(names) <= 3 else "no input")
    table, repeated, conflicting, contradicting = _once(table, roles)
    classes = _counted(table, roles)
    if roles.kind != "number" and training:
        if len(classes) < 2:
            only = f"only one class, {next(iter(classes))!r}" if classes else "no label in any row"
            raise UserError(f"{source}: the target {roles.target!r} has {only}; at least two are needed. Choose another --target.")
        table = note(table, *_remarks(classes))
    return Cleaned(table, classes, repeated, conflicting, contradicting)


# -- private --------------------------------------------------------------------------------------------------------------


def _targets(table: Table, roles: Roles) -> np.ndarray:
    column, kind = table.columns[roles.target], roles.kinds[roles.target]
    if roles.kind == "labels":
        return labels(column, kind)
    if roles.kind == "number":
        return column_of((None if value != value else value for value in numbers(column, kind).tolist()), len(column))
    names = categories(column, kind)
    none = np.array([isinstance(cell, str) and cell.strip().lower() == "none" for cell in column], bool)
    if none.sum() >= max(2, GENUINE * len(column)) and kind.name != "number":
        names[none] = column_of((str(cell).strip() for cell in column[none]), int(none.sum()))
    return names


def _once(table: Table, roles: Roles) -> tuple[Table, int, int, Table]:
    """Leaves out rows whose inputs came before.

    Returns also how many had the same target, how many inputs have several targets, and the rows of these that were left out.
    """
    keys = keys_of(table, roles, spelling=True)
    targets = [tuple(sorted(value)) if isinstance(value, list) else value for value in table.columns[roles.target].tolist()]
    first = dict[int, Any]()
    same, other = np.zeros(size(table), bool), np.zeros(size(table), bool)
    conflicts = set[int]()
    for i, (key, target) in enumerate(zip(keys.tolist(), targets, strict=True)):
        known = first.setdefault(key, (target, i))
        if known[1] == i:
            continue
        (same if known[0] == target else other)[i] = True
        if known[0] != target:
            conflicts.add(key)
    repeated, conflicting = int(same.sum()), len(conflicts)
    if not repeated and not conflicting:
        return table, 0, 0, take(table, other)
    if not (roles.texts or roles.pictures) and int((same | other).sum()) > BY_CHANCE * size(table):
        count = repeated + int(other.sum())
        told = f"{count:,} rows have the same inputs as an earlier row; they stay, since rows this short are equal by chance"
        return note(table, told), repeated, conflicting, take(table, np.zeros(size(table), bool))
    if conflicting:
        inputs = "1 input comes" if conflicting == 1 else f"{conflicting:,} inputs come"
        table = note(table, f"{inputs} with different targets; the first row of each is kept")
    places = np.flatnonzero(same), np.flatnonzero(other)
    reasons = ("the same inputs and target as an earlier row", "the inputs of an earlier row with another target")
    left = table.dropped
    for rows, reason in zip(places, reasons, strict=True):
        chosen = np.zeros(size(table), bool)
        chosen[rows] = True
        left = drop(replace(table, dropped=left), chosen, reason).dropped
    named = other | (same & np.isin(keys, np.array(sorted(conflicts), np.uint64)))
    return replace(take(table, ~(same | other)), dropped=left), repeated, conflicting, take(table, named)


def _counted(table: Table, roles: Roles) -> dict[str, int]:
    """Returns the rows of each class, in numerical order if all names are integers, otherwise as strings."""
    if roles.kind == "number":
        return {}
    cells = table.columns[roles.target].tolist()
    counts = Counter(name for cell in cells for name in (cell if isinstance(cell, list) else [cell]))
    whole = all(name.removeprefix("-").isascii() and name.removeprefix("-").isdigit() and len(name) < 19 for name in counts)
    return dict(sorted(counts.items(), key=lambda pair: (int(pair[0]) if whole else 0, pair[0])))


def _remarks(classes: Mapping[str, int]) -> list[str]:
    notes = list[str]()
    rare = [f"{name} ({count})" for name, count in classes.items() if count < FEWEST]
    if rare:
        more = f", ... ({len(rare)} in all)" if len(rare) > SHOWN else ""
        notes.append(f"classes with fewer than {FEWEST} rows can hardly be learned: {', '.join(rare[:SHOWN])}{more}")
    alike = Counter(name.casefold() for name in classes)
    twice = [name for name in classes if alike[name.casefold()] > 1]
    if twice:
        notes.append(f"classes that differ in case only are different classes: {', '.join(twice[:SHOWN])}")
    return notes
