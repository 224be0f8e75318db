"""Split functions from indices and labels to indices: pure NumPy functions of (indices, labels, seed).

Each index has its own random key (counter-based, core/rng.py), and the smallest keys are chosen. A choice therefore does not depend on the
order of the indices. A smaller subset is contained in every larger one of its seed, and episode i alone equals episode i of a batch.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer, Shaped

from assay.core.errors import UserError
from assay.core.rng import example_keys, integers, stable_hash

Indices = Integer[np.ndarray, "n"]
Chosen = Integer[np.ndarray, "_"]  # subset of the indices
Labels = Shaped[np.ndarray, "n"]  # numbers or strings


class Fold(NamedTuple):
    train: np.ndarray
    held_out: np.ndarray


class Episodes(NamedTuple):
    """Few-shot episodes. The label of a row within its episode is its index along the axis `ways`."""

    classes: np.ndarray  # [episodes, ways]: labels drawn
    support: np.ndarray  # [episodes, ways, shots]: indices
    query: np.ndarray  # [episodes, ways, queries]: indices, disjoint from the support


def shuffled(indices: Indices, seed: int, name: str = "shuffle") -> Indices:
    """Returns the indices in a random order; a subset of the indices keeps its relative order."""
    return indices[np.argsort(keys_of(indices, seed, name), kind="stable")]


def k_fold(indices: Indices, folds: int, seed: int, labels: Labels | None = None) -> list[Fold]:
    """Splits indices for cross-validation. Each index is held out once, and sizes of held-out parts differ by at most one.

    With labels (stratified), the same holds for each class. These are the guarantees of scikit-learn's KFold and StratifiedKFold.
    """
    if not 2 <= folds <= len(indices):
        raise UserError(f"{folds} folds of {len(indices)} examples are not possible: use at least 2, and at most as many as examples.")
    order = np.argsort(keys_of(indices, seed, "fold"), kind="stable")
    if labels is not None:  # dealt class by class without restarting, so that no fold comes first twice
        order = order[np.argsort(numbered(labels, indices)[order], kind="stable")]
    fold_of = np.empty(len(indices), np.int64)
    fold_of[order] = np.arange(len(indices)) % folds
    return [Fold(indices[fold_of != fold], indices[fold_of == fold]) for fold in range(folds)]


def n_labels(indices: Indices, labels: Labels, count: int, seed: int) -> Chosen:
    """Returns `count` labelled examples, stratified: each class is less than one away from its share. The 50 of a seed are in its 100."""
    _positive(count, len(indices), "labels")
    number = numbered(labels, indices)
    order, starts, sizes = by_class(number, keys_of(indices, seed, "labels"))
    given = _apportioned(sizes, count)
    return np.sort(np.concatenate([indices[order[start : start + taken]] for start, taken in zip(starts, given, strict=True)]))


def label_fraction(indices: Indices, labels: Labels, share: float, seed: int) -> Chosen:
    """Returns a fraction in (0, 1] of the examples, stratified and nested as in `n_labels`; at least one."""
    if not 0 < share <= 1:
        raise UserError(f"a share of {share} of the labels is not possible: it must be above 0 and at most 1.")
    return n_labels(indices, labels, max(1, round(share * len(indices))), seed)


def labels_per_class(indices: Indices, labels: Labels, count: int, seed: int) -> Chosen:
    """Returns `count` examples of each class, nested."""
    number = numbered(labels, indices)
    order, starts, sizes = by_class(number, keys_of(indices, seed, "labels"))
    _positive(count, int(sizes.min()), "labels of each class")
    return np.sort(indices[order[(starts[:, None] + np.arange(count)[None, :]).ravel()]])


def group_split(
    indices: Indices, groups: Labels, share: float, seed: int, labels: Labels | None = None, least: int = 1
) -> tuple[Chosen, Chosen]:
    """Returns (train, held out) without dividing a group, such as a file.

    About `share` of the examples are held out (of each class, if labels are given), and at least `least` groups. At least one group of
    each class remains for training.

    Groups are visited in random order; each is held out if that brings the held-out fraction closer to `share`. A group's class is that of
    its first example.
    """
    if not 0 < share < 1:
        raise UserError(f"a held-out share of {share} is not possible: it must be between 0 and 1.")
    names, first, group = np.unique(groups, return_index=True, return_inverse=True)
    class_of = np.zeros(len(names), np.int64) if labels is None else numbered(labels, indices)[first]
    keys = keys_of(np.array([stable_hash(str(name)) for name in names], np.uint64), seed, "groups")
    sizes, held = np.bincount(group), np.zeros(len(names), bool)
    for number in np.unique(class_of):
        members = np.flatnonzero(class_of == number)
        if len(members) <= least:
            which = "" if labels is None else f" of class {np.unique(labels)[number]}"
            raise UserError(f"{len(members)} groups{which} cannot be split with {least} held out and one for training. Hold out fewer.")
        wanted, taken, chosen = share * sizes[members].sum(), 0, 0
        for member in members[np.argsort(keys[members], kind="stable")]:
            nearer = abs(taken + sizes[member] - wanted) < abs(taken - wanted)
            if chosen < len(members) - 1 and (chosen < least or nearer):
                held[member], taken, chosen = True, taken + sizes[member], chosen + 1
    return indices[~held[group]], indices[held[group]]


def episodes(
    indices: Indices, labels: Labels, ways: int, shots: int, queries: int, seed: int, numbers: Integer[np.ndarray, "episodes"]
) -> Episodes:
    """Returns the episodes `numbers`: `ways` classes with `shots` + `queries` distinct examples of each (Vinyals et al. 2016).

    Classes with too few examples are never drawn. To reserve classes for testing, pass only the examples of the other classes.
    """
    number = numbered(labels, indices)
    need = shots + queries
    if min(ways, shots) < 1 or queries < 0:
        raise UserError(f"episodes of {ways} ways, {shots} shots and {queries} queries are not possible: use at least 1, 1 and 0.")
    order, starts, sizes = by_class(number, indices)
    possible = np.flatnonzero(sizes >= need)
    if len(possible) < ways:
        raise UserError(f"{ways} ways need as many classes of at least {need} examples (shots + queries); {len(possible)} have them.")
    keys = example_keys("episodes", seed, numbers)
    drawn = possible[_distinct(keys, "class", ways, np.full(len(keys), len(possible)))]
    per_way = example_keys("ways", seed, np.arange(ways))
    member = _distinct((keys[:, None] ^ per_way[None, :]).ravel(), "member", need, sizes[drawn].ravel()).reshape(len(keys), ways, need)
    chosen = indices[order[starts[drawn][:, :, None] + member]]
    return Episodes(np.unique(labels)[drawn], chosen[:, :, :shots], chosen[:, :, shots:])


def keys_of(indices: np.ndarray, seed: int, name: str) -> np.ndarray:
    """Returns the random key of each index for a purpose: a bijection of the index, so no two are equal."""
    return example_keys(f"split/{name}", seed, indices)


def numbered(labels: np.ndarray, indices: np.ndarray) -> Int[np.ndarray, "n"]:
    """Maps labels to 0, 1, ... in sorted order."""
    if len(labels) != len(indices) or len(labels) == 0:
        raise ValueError(f"each index needs a label, and at least one is required: got {len(labels)} labels for {len(indices)} indices")
    return np.unique(labels, return_inverse=True)[1]


def by_class(number: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the rows sorted by class and key, the start of each class, and its size."""
    sizes = np.bincount(number)
    return np.lexsort((keys, number)), np.cumsum(sizes) - sizes, sizes


# -- private --------------------------------------------------------------------------------------------------------------


def _apportioned(sizes: np.ndarray, count: int) -> np.ndarray:
    """Apportions `count` among classes: never fewer for a larger count, and less than one away from the exact share.

    This is the quota method (Balinski and Young 1975). Among classes that stay within their share rounded up, the next seat goes to the
    largest size / (given + 1).
    """
    given, total = np.zeros(len(sizes), np.int64), sizes.sum()
    for seat in range(1, count + 1):
        given[np.argmax(np.where(given * total < sizes * seat, sizes / (given + 1), -1.0))] += 1
    return given


def _positive(count: int, most: int, what: str) -> None:
    if not 1 <= count <= most:
        raise UserError(f"{count} {what} are not possible: use at least 1, and at most the {most} available.")


def _distinct(keys: np.ndarray, slot: str, count: int, sizes: np.ndarray) -> np.ndarray:
    """Draws `count` distinct integers in [0, size) for each key, every ordered choice equally likely: [keys, count].

    Draw j is uniform over the remaining integers and skips those already drawn, from the smallest up.
    """
    drawn = np.empty((len(keys), count), np.int64)
    for j in range(count):
        value = integers(keys, f"{slot}/{j}", 1, sizes - j)[:, 0]
        for taken in np.sort(drawn[:, :j], axis=1).T:
            value = value + (value >= taken)
        drawn[:, j] = value
    return drawn
