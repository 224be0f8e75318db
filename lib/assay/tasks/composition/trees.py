"""Expressions as forests: grown from the roots one depth at a time for all trees, evaluated from the leaves, and written as tokens.

An operator's key derives from its parent's, so a tree is a function of its root's key alone. A tree with a condition is drawn again until
it satisfies it; the successful attempt does not depend on how many trees are tried together.

    keys = first_accepted(keys, accept)
    levels, _ = grow(keys, draw, longest=50)
    tokens = write(levels, len(keys), 50, opening, closing)
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from assay.core.rng import GOLDEN, mix
from assay.data.source import Examples, Source

AT_ONCE = 4096  # maximum number of trees tried together
FEW = 512  # fewer trees than this take the same time


class Level(NamedTuple):
    """The operators at one depth of all trees, [m], with their arguments, [m, most]. The next level has the nested ones in row order."""

    row: np.ndarray  # the tree of each operator
    marked: np.ndarray  # bool: whether its parent marked it; the roots are marked
    operator: np.ndarray
    inside: np.ndarray  # bool [m, most]: which arguments exist
    digits: np.ndarray  # the arguments that are digits
    nested: np.ndarray  # bool: the arguments that are operators
    marks: np.ndarray  # bool: the nested arguments that are marked


# (keys [m], marked [m], depth of the operators, from 1) -> operator, inside, digits, nested, marks
Draw = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]


def grow(keys: np.ndarray, draw: Draw, longest: int, infix: bool = False, reach: int = 1) -> tuple[list[Level], np.ndarray]:
    """Returns the levels of the trees that have at most `longest` tokens and operators down to depth `reach`, and their indices.

    An operator is written as an opening and a closing token around its arguments; with `infix`, also between each two of them.
    """
    levels: list[Level] = []
    alive, tokens = np.ones(len(keys), bool), np.ones(len(keys), np.int64)
    row, marked = np.arange(len(keys)), np.ones(len(keys), bool)
    while len(row):
        level = Level(row, marked, *draw(keys, marked, len(levels) + 1))
        levels.append(level)
        count = level.inside.sum(axis=1)
        tokens += np.bincount(row, 2 * count if infix else count + 1, len(alive)).astype(np.int64)
        alive &= tokens <= longest
        if len(levels) < reach:
            alive &= np.bincount(row, level.nested.any(axis=1), len(alive)) > 0
        node, place = np.nonzero(level.nested & alive[row][:, None])
        with np.errstate(over="ignore"):
            keys = mix(keys[node] + GOLDEN * (place + 1).astype(np.uint64))
        row, marked = row[node], level.marks[node, place]
    # A tree that stopped growing is removed from every level, so nested arguments and the level below still match.
    return [Level(*(part[alive[level.row]] for part in level)) for level in levels], np.flatnonzero(alive)


def filled(arguments: np.ndarray, level: Level, below: np.ndarray) -> np.ndarray:
    """Returns the arguments of a level, [m, most], with the results of the level below at the nested positions."""
    found = arguments.copy()
    found[level.nested] = below
    return found


def first_accepted(keys: np.ndarray, accept: Callable[[np.ndarray], np.ndarray], at_once: int = AT_ONCE) -> np.ndarray:
    """Returns, for each key, the first key of its own sequence of attempts that `accept` (keys -> bool of each) accepts."""
    found, pending, tried, each = np.array(keys, np.uint64), np.arange(len(keys)), 0, 1.0
    while len(pending):
        count = min(max(int(each * 1.5), FEW // len(pending)), at_once // len(pending))
        attempts = tried + 1 + np.arange(max(count, 1), dtype=np.uint64)
        with np.errstate(over="ignore"):
            drawn = mix(keys[pending][:, None] ^ mix(GOLDEN * attempts)[None, :])
        accepted = np.concatenate([accept(part) for part in np.array_split(drawn.ravel(), -(-drawn.size // at_once))]).reshape(drawn.shape)
        hit = accepted.any(axis=1)
        found[pending[hit]] = drawn[hit, accepted[hit].argmax(axis=1)]
        pending, tried = pending[~hit], tried + len(attempts)
        each = accepted.size / max(int(accepted.sum()), 0.2)  # mean number of attempts per success
    return found


def write(levels: list[Level], trees: int, width: int, opening: np.ndarray, closing: int, between: np.ndarray | None = None) -> np.ndarray:
    """Returns tokens [trees, width], padded with zeros. Digits are their own ids; `opening` and `between` give the token
    of each operator.
    """
    gap = 0 if between is None else 1
    steps, below = [], np.zeros(0, np.int64)  # tokens of each argument, including the one before the next argument
    for level in reversed(levels):
        steps.append((filled(np.ones_like(level.digits), level, below) + gap) * level.inside)
        below = 2 + steps[-1].sum(axis=1) - gap
    tokens, start = np.zeros((trees, width), np.int64), np.zeros(len(below), np.int64)
    for level, step in zip(levels, reversed(steps), strict=True):
        ends = start[:, None] + 1 + np.cumsum(step, axis=1)
        tokens[level.row, start] = opening[level.operator]
        tokens[level.row, ends[:, -1] - gap] = closing
        node, place = np.nonzero(level.inside & ~level.nested)
        tokens[level.row[node], (ends - step)[node, place]] = level.digits[node, place]
        if between is not None:
            node, place = np.nonzero(level.inside[:, 1:])
            tokens[level.row[node], ends[node, place] - 1] = between[level.operator[node]]
        start = (ends - step)[level.nested]
    return tokens


def until_closing(source: Source, closing: int) -> Source:
    """Restricts inputs to end with their last `closing` token: expressions of one nominal length differ in their number of tokens."""

    def fetch(indices: np.ndarray) -> Examples:
        examples = source.fetch(indices)
        places = np.arange(1, examples.input.shape[1] + 1)[None, :]
        return examples._replace(input_length=((examples.input == closing) * places).max(axis=1, initial=0))

    return replace(source, fetch=fetch)
