"""Divides the rows of a table into train, valid and test, once and for all: `divide(cleaned.table, roles)`.

Rows whose contents differ in spelling only (content.py) are never in two parts. Which part a content is in follows from a hash of it and
from how many others its classes have, so the order of rows changes nothing. Classes are divided one by one, the rarest first, as in
Sechidis et al. 2011, "On the Stratification of Multi-Label Data"; numbers are divided by tenths of their range of ranks.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from assay.core.errors import UserError
from assay.data.files.content import keys_of
from assay.data.files.roles import Roles
from assay.data.files.table import Dropped, Table, dropped, size
from assay.data.split import keys_of as random_keys

SEED = 0  # one division for everybody
SMALL = 300  # rows: below, more of them validate
BINS = 10  # of a number


class Shares(NamedTuple):
    """Shares of the distinct contents of each class that are held out. With a test table, `test` is not used; so for `valid`."""

    valid: float = 0.1
    test: float = 0.2


LARGE_SHARES, SMALL_SHARES = Shares(), Shares(valid=0.2, test=0.2)


class Divided(NamedTuple):
    """Rows of each part. With a test table, the rows of `test` are rows of that table, and so for `valid`; the others of the table."""

    rows: Mapping[str, np.ndarray]  # "train", "valid", "test" -> int64 [_], ascending
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()


def divide(table: Table, roles: Roles, test: Table | None = None, valid: Table | None = None, shares: Shares | None = None) -> Divided:
    """Divides cleaned tables. Each class with at least three contents is in every part; one of two is in train and test.

    Training rows whose content is in a given `test` or `valid` are left out and counted, and so are rows of `valid` that are in `test`.
    Raises UserError if nothing is left to train on.
    """
    shares = shares or (SMALL_SHARES if size(table) < SMALL else LARGE_SHARES)
    if min(shares) < 0 or sum(shares) >= 1:
        raise UserError(
            f"shares of {shares.valid} for valid and {shares.test} for test leave nothing to train on. Together they must be below 1."
        )
    keys, rows, left = keys_of(table, roles), dict[str, np.ndarray](), list[Dropped]()
    free = np.ones(size(table), bool)
    held = np.zeros(0, np.uint64)
    for name, given in (("test", test), ("valid", valid)):
        if given is None:
            continue
        theirs = keys_of(given, roles)
        fresh = ~np.isin(theirs, held)
        if not fresh.all():
            left.append(dropped("validation rows whose inputs are also in the test data", given.lines[~fresh].tolist()))
        if not fresh.any():
            raise UserError(f"every row of {given.source} also occurs in the test data. Give other data to validate on, or none.")
        rows[name], held = np.flatnonzero(fresh), np.concatenate([held, theirs])
        known = np.isin(keys, theirs) & free
        if known.any():
            told = {"test": "test", "valid": "validation"}[name]
            left.append(dropped(f"training rows whose inputs are also in the {told} data", table.lines[known].tolist()))
        free &= ~known
    if not free.any():
        raise UserError(f"every row of {table.source} also occurs in the data to test or validate on, so nothing is left to train on.")
    wanted = Shares(0.0 if valid is not None else shares.valid, 0.0 if test is not None else shares.test)
    part = _assigned(keys[free], _classes(table, roles, free), wanted)
    places = np.flatnonzero(free)
    rows |= {name: places[part == number] for number, name in enumerate(("train", "valid", "test")) if name not in rows}
    ordered = {name: rows[name].astype(np.int64) for name in ("train", "valid", "test")}
    return Divided(ordered, tuple(left), _notes(table, roles, ordered["train"], {"test": test, "valid": valid}))


# -- private --------------------------------------------------------------------------------------------------------------


def _classes(table: Table, roles: Roles, free: np.ndarray) -> list[tuple[str, ...]]:
    """Returns the classes of each row: of a number, its tenth."""
    cells = table.columns[roles.target][free].tolist()
    if roles.kind == "number":
        values = np.array(cells, np.float64)
        edges: np.ndarray = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])) if len(values) >= 5 * BINS else np.zeros(0)
        return [(str(number),) for number in np.searchsorted(edges, values, side="right")]
    return [tuple(cell) if isinstance(cell, list) else (str(cell),) for cell in cells]


def _assigned(keys: np.ndarray, classes: list[tuple[str, ...]], shares: Shares) -> np.ndarray:
    """Returns the part of each row: 0 train, 1 valid, 2 test."""
    contents, place = np.unique(keys, return_inverse=True)
    members: dict[str, set[int]] = {}
    for content, names in zip(place.tolist(), classes, strict=True):
        for name in names or ("",):  # rows without any label are divided as a class of their own
            members.setdefault(name, set()).add(content)
    order = np.argsort(random_keys(contents, SEED, "parts"), kind="stable")
    rank = np.empty(len(contents), np.int64)
    rank[order] = np.arange(len(contents))
    part = np.full(len(contents), -1, np.int8)
    for _, found in sorted(members.items(), key=lambda pair: (len(pair[1]), pair[0])):
        inside = np.fromiter(found, np.int64, len(found))
        inside = inside[np.argsort(rank[inside])]
        unassigned = inside[part[inside] < 0]
        for number, share in ((2, shares.test), (1, shares.valid)):
            count = _held(len(inside), share, number, shares) - int((part[inside] == number).sum())
            chosen, unassigned = np.split(unassigned, [max(0, min(count, len(unassigned)))])
            part[chosen] = number
        part[unassigned] = 0
    return part[place]


def _held(contents: int, share: float, number: int, shares: Shares) -> int:
    """Returns how many contents of a class a part gets: at least one, if one is left to train on and, of two, only the test."""
    if not share or contents < 2 or (contents == 2 and number == 1 and shares.test):
        return 0
    return max(1, min(round(share * contents), (contents - 1) // (2 if min(shares) > 0 else 1) or 1))


def _notes(table: Table, roles: Roles, train: np.ndarray, given: Mapping[str, Table | None]) -> tuple[str, ...]:
    """Returns a note about rows of given tables whose class no training row has."""
    if roles.kind == "number":
        return ()
    notes, known = list[str](), set[str]()
    for cell in table.columns[roles.target][train].tolist():
        known.update(cell if isinstance(cell, list) else [cell])
    for name, other in given.items():
        cells = other.columns[roles.target].tolist() if other is not None else []
        odd = [cell for cell in cells if not known.issuperset(cell if isinstance(cell, list) else [cell])]
        if odd:
            shown = next(each for each in (odd[0] if isinstance(odd[0], list) else odd) if each not in known)
            notes.append(f"{len(odd):,} rows of {name} have a class that no training row has, such as {shown!r}")
    return tuple(notes)
