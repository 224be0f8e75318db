"""Columns of numbers, categories and dates as features, learned from the training rows: `fitted(table, roles)`.

numbers      standardized, and cut at CUT deviations; a missing one is the median, with a feature that says so where training has any
dates        as days, like numbers, and month, weekday and hour where they vary
categories   one feature for each of the commonest LEVELS values; a value unseen in training has none of them
"""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from assay.core.errors import UserError
from assay.data.files.roles import Roles
from assay.data.files.table import Table
from assay.data.files.values import categories, dates, numbers

CUT = 8.0  # standard deviations from the mean at which a number is cut
LEVELS = 100  # values of a category that have a feature of their own
BINS = 8  # of a number's values, where numbers stand beside texts as tokens
MISSING = "missing"
DAY = np.timedelta64(1, "D")


class Feature(NamedTuple):
    """Features of one column: their names, and the function from a table to their values, float32 [rows, names]."""

    names: tuple[str, ...]
    values: Callable[[Table], np.ndarray]


class Tokens(NamedTuple):
    """One token of a column: the names of its values, and the function from a table to their numbers, int64 [rows]."""

    names: tuple[str, ...]
    number: Callable[[Table], np.ndarray]


def features(train: Table, roles: Roles) -> list[Feature]:
    """Returns the features of all columns but texts and pictures, in the order numbers, dates, categories."""
    made = [_number(train, name, _of_number(name, roles)) for name in roles.numbers]
    for name in roles.dates:
        made += [_number(train, f"{name} {part}", read) for part, read in _of_dates(name, roles).items()]
    made = [one for one in made if one.names]
    made += [_category(train, name, roles) for name in roles.categories]
    if not (made or roles.texts or roles.pictures):
        raise UserError(
            f"each column that the model reads ({', '.join(roles.inputs)}) has one value only in the training rows of {train.source}, so "
            "nothing can be learned from them. Give more rows, or other columns."
        )
    return made


def matrix(table: Table, made: Sequence[Feature]) -> np.ndarray:
    """Returns float32 [rows, features]."""
    return np.concatenate([one.values(table) for one in made], axis=1, dtype=np.float32)


def tokens(train: Table, roles: Roles) -> list[Tokens]:
    """Returns the same columns as one token each: which of BINS equally full ranges a number is in, or which category."""
    made = [_range(train, name, _of_number(name, roles)) for name in roles.numbers]
    for name in roles.dates:
        made += [_range(train, f"{name} {part}", read) for part, read in _of_dates(name, roles).items()]
    return made + [_level(train, name, roles) for name in roles.categories]


# -- private --------------------------------------------------------------------------------------------------------------


Read = Callable[[Table], np.ndarray]  # float64 [rows], NaN where missing


def _of_number(name: str, roles: Roles) -> Read:
    return lambda table: numbers(table.columns[name], roles.kinds[name])


def _of_dates(name: str, roles: Roles) -> dict[str, Read]:
    def part(unit: Callable[[np.ndarray], np.ndarray]) -> Read:
        def read(table: Table) -> np.ndarray:
            found = dates(table.columns[name], roles.kinds[name])
            return np.where(np.isnat(found), np.nan, unit(np.where(np.isnat(found), np.datetime64(0, "us"), found)).astype(np.float64))

        return read

    return {
        "day": part(lambda found: (found - np.datetime64(0, "us")) / DAY),
        "month": part(lambda found: found.astype("datetime64[M]").astype(np.int64) % 12 + 1),
        "weekday": part(lambda found: (found.astype("datetime64[D]").astype(np.int64) + 3) % 7 + 1),
        "hour": part(lambda found: (found - found.astype("datetime64[D]")) / np.timedelta64(1, "h")),
    }


def _number(train: Table, name: str, read: Read) -> Feature:
    seen = read(train)
    there = seen[np.isfinite(seen)]
    if not len(there) or np.ptp(there) == 0:
        return Feature((), lambda table: np.zeros((len(table.lines), 0), np.float32))
    middle, mean, deviation = np.median(there), there.mean(), there.std()
    marked = len(there) < len(seen)

    def values(table: Table) -> np.ndarray:
        found = read(table)
        absent = ~np.isfinite(found)
        scaled = np.clip((np.where(absent, middle, found) - mean) / deviation, -CUT, CUT)
        return np.stack([scaled, absent] if marked else [scaled], axis=1).astype(np.float32)

    return Feature((name, f"{name} {MISSING}") if marked else (name,), values)


def _levels(train: Table, name: str, roles: Roles) -> tuple[list[str], Callable[[Table], np.ndarray]]:
    """Returns the values of a category, the commonest first, and the function to their numbers: -1 unseen in training."""

    def read(table: Table) -> list[str]:
        return [MISSING if cell is None else cell for cell in categories(table.columns[name], roles.kinds[name]).tolist()]

    counts = Counter(read(train))
    levels = sorted(counts, key=lambda level: (-counts[level], level))[:LEVELS]
    ids = {level: i for i, level in enumerate(levels)}
    return levels, lambda table: np.array([ids.get(cell, -1) for cell in read(table)], np.int64)


def _category(train: Table, name: str, roles: Roles) -> Feature:
    levels, number = _levels(train, name, roles)

    def values(table: Table) -> np.ndarray:
        return (number(table)[:, None] == np.arange(len(levels))[None, :]).astype(np.float32)

    return Feature(tuple(f"{name}={level}" for level in levels), values)


def _level(train: Table, name: str, roles: Roles) -> Tokens:
    levels, number = _levels(train, name, roles)
    return Tokens((f"{name}=other", *(f"{name}={level}" for level in levels)), lambda table: number(table) + 1)


def _range(train: Table, name: str, read: Read) -> Tokens:
    seen = read(train)
    there = seen[np.isfinite(seen)]
    edges = np.unique(np.quantile(there, np.arange(1, BINS) / BINS)) if len(there) else np.zeros(0)
    ends = ["", *(f"{edge:.4g}" for edge in edges), ""]
    names = [f"{low} <= {name} < {high}".removeprefix(" <= ").removesuffix(" < ") for low, high in itertools.pairwise(ends)]

    def number(table: Table) -> np.ndarray:
        found = read(table)
        return np.where(np.isfinite(found), np.searchsorted(edges, found, side="right") + 1, 0)

    return Tokens((f"{name} {MISSING}", *names), number)
