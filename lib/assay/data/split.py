"""Split functions: from indices and their labels to indices. Pure functions of (indices, labels, seed), in NumPy.

Each index has a random key of its own (counter-based, core/rng.py), and the smallest keys are chosen. So a choice does not depend on the
order in which the indices come, a smaller subset lies in every larger one of its seed, and episode i alone is episode i of a batch.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer, Shaped

from assay.core.errors import UserError
from assay.core.rng import example_keys, integers, stable_hash

Indices = Integer[np.ndarray, "n"]
Chosen = Integer[np.ndarray, "_"]  # some of them
Labels = Shaped[np.ndarray, "n"]  # numbers or strings
ATTEMPTS = 100  # draws of the clients' shares, of which the one that fits best counts
MOVED = 0.05  # share of the examples that may change clients after that, so that none is too small


class Fold(NamedTuple):
    train: np.ndarray
    held_out: np.ndarray


class Episodes(NamedTuple):
    """Few-shot episodes. The label of a row within its episode is its place along the axis `ways`."""

    classes: np.ndarray  # [episodes, ways]: the labels that were drawn
    support: np.ndarray  # [episodes, ways, shots]: indices
    query: np.ndarray  # [episodes, ways, queries]: indices, none of them in the support


def shuffled(indices: Indices, seed: int, name: str = "shuffle") -> Indices:
    """The indices in a random order, which a subset of them keeps."""
    return indices[np.argsort(_keys(indices, seed, name), kind="stable")]


def k_fold(indices: Indices, folds: int, seed: int, labels: Labels | None = None) -> list[Fold]:
    """Cross-validation: each index is held out once, and sizes of held-out parts differ by at most one; with labels (stratified) those of
    each class do too. This is what scikit-learn's KFold and StratifiedKFold promise.
    """
    if not 2 <= folds <= len(indices):
        raise UserError(f"{folds} folds of {len(indices)} examples are not possible: give at least 2, and at most as many as examples.")
    order = np.argsort(_keys(indices, seed, "fold"), kind="stable")
    if labels is not None:  # dealt class by class, and on without a break, so that no fold is first twice
        order = order[np.argsort(_numbers(labels, indices)[order], kind="stable")]
    fold_of = np.empty(len(indices), np.int64)
    fold_of[order] = np.arange(len(indices)) % folds
    return [Fold(indices[fold_of != fold], indices[fold_of == fold]) for fold in range(folds)]


def n_labels(indices: Indices, labels: Labels, count: int, seed: int) -> Chosen:
    """`count` labelled examples in all, stratified: each class less than one away from its share. The 50 of a seed lie in its 100."""
    _positive(count, len(indices), "labels")
    number = _numbers(labels, indices)
    order, starts, sizes = _by_class(number, _keys(indices, seed, "labels"))
    given = _apportioned(sizes, count)
    return np.sort(np.concatenate([indices[order[start : start + taken]] for start, taken in zip(starts, given, strict=True)]))


def label_fraction(indices: Indices, labels: Labels, share: float, seed: int) -> Chosen:
    """A share in (0, 1] of the examples, stratified and nested as in `n_labels`; at least one."""
    if not 0 < share <= 1:
        raise UserError(f"a share of {share} of the labels is not possible: it lies above 0 and is at most 1.")
    return n_labels(indices, labels, max(1, round(share * len(indices))), seed)


def labels_per_class(indices: Indices, labels: Labels, count: int, seed: int) -> Chosen:
    """`count` examples of each class, nested."""
    number = _numbers(labels, indices)
    order, starts, sizes = _by_class(number, _keys(indices, seed, "labels"))
    _positive(count, int(sizes.min()), "labels of each class")
    return np.sort(indices[order[(starts[:, None] + np.arange(count)[None, :]).ravel()]])


def group_split(
    indices: Indices, groups: Labels, share: float, seed: int, labels: Labels | None = None, least: int = 1
) -> tuple[Chosen, Chosen]:
    """(train, held out), where a group such as a file lies in one of the two whole. About `share` of the examples are held out, of each
    class where labels are given, and at least `least` groups; one group of each class at least is left to train on.

    Groups are taken in random order, each if it brings the held-out part nearer to its share. A group's class is that of its first example.
    """
    if not 0 < share < 1:
        raise UserError(f"a held-out share of {share} is not possible: it lies between 0 and 1.")
    names, first, group = np.unique(groups, return_index=True, return_inverse=True)
    class_of = np.zeros(len(names), np.int64) if labels is None else _numbers(labels, indices)[first]
    keys = _keys(np.array([stable_hash(str(name)) for name in names], np.uint64), seed, "groups")
    sizes, held = np.bincount(group), np.zeros(len(names), bool)
    for number in np.unique(class_of):
        members = np.flatnonzero(class_of == number)
        if len(members) <= least:
            which = "" if labels is None else f" of class {np.unique(labels)[number]}"
            raise UserError(f"{len(members)} groups{which} cannot be split with {least} held out and one left. Hold out fewer.")
        wanted, taken, chosen = share * sizes[members].sum(), 0, 0
        for member in members[np.argsort(keys[members], kind="stable")]:
            nearer = abs(taken + sizes[member] - wanted) < abs(taken - wanted)
            if chosen < len(members) - 1 and (chosen < least or nearer):
                held[member], taken, chosen = True, taken + sizes[member], chosen + 1
    return indices[~held[group]], indices[held[group]]


def episodes(
    indices: Indices, labels: Labels, ways: int, shots: int, queries: int, seed: int, numbers: Integer[np.ndarray, "episodes"]
) -> Episodes:
    """The episodes of these numbers: `ways` classes, and `shots` + `queries` different examples of each (Vinyals et al. 2016).

    Classes with fewer examples are never drawn. To keep classes for testing, give the examples of other classes.
    """
    number = _numbers(labels, indices)
    need = shots + queries
    if min(ways, shots) < 1 or queries < 0:
        raise UserError(f"episodes of {ways} ways, {shots} shots and {queries} queries are not possible: at least 1, 1 and 0.")
    order, starts, sizes = _by_class(number, indices)
    possible = np.flatnonzero(sizes >= need)
    if len(possible) < ways:
        raise UserError(f"{ways} ways need as many classes of at least {need} examples (shots + queries); {len(possible)} have them.")
    keys = example_keys("episodes", seed, numbers)
    drawn = possible[_distinct(keys, "class", ways, np.full(len(keys), len(possible)))]
    per_way = example_keys("ways", seed, np.arange(ways))
    member = _distinct((keys[:, None] ^ per_way[None, :]).ravel(), "member", need, sizes[drawn].ravel()).reshape(len(keys), ways, need)
    chosen = indices[order[starts[drawn][:, :, None] + member]]
    return Episodes(np.unique(labels)[drawn], chosen[:, :, :shots], chosen[:, :, shots:])


def clients(indices: Indices, labels: Labels, count: int, concentration: float, seed: int, smallest: int = 1) -> list[Chosen]:
    """Federated clients with label skew: each class is dealt out in shares from a symmetric Dirichlet (Yurochkin et al. 2019).

    Each index has one client. Low concentration: few classes a client; infinite: equal shares. A class is cut by systematic sampling: the
    count of each client is its share rounded down or up, from a random offset of each class, so that small shares of several classes add
    up. Shares are drawn again until each client has `smallest`; where no draw gives them, the best one is taken, and clients that lack
    examples get some of the largest, a twentieth of all examples at most.
    """
    if count < 1 or not concentration > 0 or smallest * count > len(indices):
        raise UserError(
            f"{count} clients of at least {smallest} at concentration {concentration} are not possible with {len(indices)} examples: "
            "there is at least 1 client, the concentration is above 0, and the examples are enough."
        )
    number = _numbers(labels, indices)
    order, starts, sizes = _by_class(number, _keys(indices, seed, "clients"))
    rank = np.arange(len(indices)) - np.repeat(starts, sizes)
    best, fewest = None, len(indices) * MOVED
    for attempt in range(ATTEMPTS):
        keys = example_keys(f"shares/{attempt}", seed, np.arange(len(sizes)))
        offset = integers(keys, "offset", 1, 2**32) / 2**32
        ends = np.floor(np.cumsum(_dirichlet(keys, count, concentration), axis=1) * sizes[:, None] + offset).astype(np.int64)
        ends[:, -1] = sizes
        client = (rank[:, None] >= ends[number[order]]).sum(axis=1)
        lacking = int(np.maximum(smallest - np.bincount(client, minlength=count), 0).sum())
        if lacking <= fewest and (best is None or lacking < fewest):
            best, fewest = client, lacking
        if lacking == 0:
            break
    if best is None:
        raise UserError(
            f"no draw of {ATTEMPTS} gave each of {count} clients {smallest} examples at concentration {concentration}: "
            "raise the concentration, or lower the number of clients."
        )
    best = _levelled(best, count, smallest)
    return [np.sort(indices[order[best == i]]) for i in range(count)]


# -- private --------------------------------------------------------------------------------------------------------------


def _keys(indices: np.ndarray, seed: int, name: str) -> np.ndarray:
    return example_keys(f"split/{name}", seed, indices)  # a bijection of the index: no two are equal


def _numbers(labels: np.ndarray, indices: np.ndarray) -> Int[np.ndarray, "n"]:
    """Labels as 0, 1, ... in sorted order."""
    if len(labels) != len(indices) or len(labels) == 0:
        raise ValueError(f"a label for each index is needed, and at least one: got {len(labels)} labels of {len(indices)} indices")
    return np.unique(labels, return_inverse=True)[1]


def _by_class(number: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows class by class, within a class by their keys; where each class starts; its size."""
    sizes = np.bincount(number)
    return np.lexsort((keys, number)), np.cumsum(sizes) - sizes, sizes


def _apportioned(sizes: np.ndarray, count: int) -> np.ndarray:
    """How many of `count` each class gets: never fewer for a larger count, and less than one away from its share. That is the quota method
    (Balinski and Young 1975): the next goes to the largest size / (given + 1) among classes that stay within their share rounded up.
    """
    given, total = np.zeros(len(sizes), np.int64), sizes.sum()
    for seat in range(1, count + 1):
        given[np.argmax(np.where(given * total < sizes * seat, sizes / (given + 1), -1.0))] += 1
    return given


def _levelled(client: np.ndarray, count: int, smallest: int) -> np.ndarray:
    """The client of each row, after clients below `smallest` have got rows of the largest."""
    client = client.copy()
    for i in range(count):
        while (sizes := np.bincount(client, minlength=count))[i] < smallest:
            client[np.flatnonzero(client == sizes.argmax())[-1]] = i
    return client


def _positive(count: int, most: int, what: str) -> None:
    if not 1 <= count <= most:
        raise UserError(f"{count} {what} are not possible: at least 1, and at most the {most} that there are.")


def _distinct(keys: np.ndarray, slot: str, count: int, sizes: np.ndarray) -> np.ndarray:
    """`count` different integers in [0, size) for each key, every ordered choice as likely: [keys, count].

    Draw j is uniform over what is left, and steps over those already drawn, from the smallest up.
    """
    drawn = np.empty((len(keys), count), np.int64)
    for j in range(count):
        value = integers(keys, f"{slot}/{j}", 1, sizes - j)[:, 0]
        for taken in np.sort(drawn[:, :j], axis=1).T:
            value = value + (value >= taken)
        drawn[:, j] = value
    return drawn


def _dirichlet(keys: np.ndarray, count: int, concentration: float) -> np.ndarray:
    """Rows of shares [keys, count]. Gamma(a) = Gamma(a + 1) U^(1 / a), in logarithms: at low concentration most are below any float."""
    if math.isinf(concentration):
        return np.full((len(keys), count), 1 / count)
    from scipy.special import gammaincinv  # slow to import

    first, second = ((integers(keys, slot, count, 2**32) + 0.5) / 2**32 for slot in ("gamma", "power"))
    logarithm = np.log(gammaincinv(concentration + 1, first)) + np.log(second) / concentration
    shares = np.exp(logarithm - logarithm.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
