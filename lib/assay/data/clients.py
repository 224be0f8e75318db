"""Federated clients: splits of a data set's examples over simulated clients, and a test part of each client.

    by_label(...)       label skew by Dirichlet shares (Yurochkin et al. 2019)
    by_shards(...)      label skew by shards of the sorted labels (McMahan et al. 2017)
    by_quantity(...)    quantity skew: sizes by Dirichlet shares, labels alike (Li et al. 2022)
    with_test(...)      (train, test) of each client

Each function is pure, gives every example to exactly one client, and does not depend on the order of the examples.
"""

import math
from collections.abc import Sequence

import numpy as np

from assay.core.errors import UserError
from assay.core.rng import example_keys, integers
from assay.data.split import Chosen, Fold, Indices, Labels, by_class, keys_of, numbered, shuffled

ATTEMPTS = 100  # draws of the clients' shares, of which the best is used
MOVED = 0.05  # maximum fraction of examples moved between clients afterwards, so that no client is too small


def by_label(indices: Indices, labels: Labels, count: int, concentration: float, seed: int, smallest: int = 1) -> list[Chosen]:
    """Splits examples over federated clients with label skew: symmetric Dirichlet shares per class (Yurochkin et al. 2019).

    Each index has one client. Low concentration gives few classes per client; infinite concentration gives equal shares, so that clients
    differ by at most one example, in total and in each class. Otherwise a class is divided by systematic sampling from a random offset per
    class: each client's count is its share rounded down or up. Small shares of several classes thus add up. Shares are redrawn until each
    client has `smallest` examples. If no draw succeeds, the best one is used, and small clients receive examples of the largest, at most a
    twentieth of all examples.
    """
    if count < 1 or not concentration > 0 or smallest * count > len(indices):
        raise UserError(
            f"{count} clients of at least {smallest} at concentration {concentration} are not possible with {len(indices)} examples. "
            "Use at least 1 client, a concentration above 0, and enough examples."
        )
    number = numbered(labels, indices)
    order, starts, sizes = by_class(number, keys_of(indices, seed, "clients"))
    if math.isinf(concentration):  # dealt class by class without restarting, as in k_fold
        return [np.sort(indices[order[i::count]]) for i in range(count)]
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
            f"none of {ATTEMPTS} draws gave each of {count} clients {smallest} examples at concentration {concentration}: "
            "raise the concentration, or lower the number of clients."
        )
    best = _levelled(best, count, smallest)
    return [np.sort(indices[order[best == i]]) for i in range(count)]


def by_shards(indices: Indices, labels: Labels, count: int, seed: int, shards: int = 2) -> list[Chosen]:
    """Splits examples over clients in shards: sorted by label, cut into `count * shards` equal parts, `shards` of them to each client.

    This is the pathological non-IID split of McMahan et al. 2017 (arXiv 1602.05629), who use 2 shards for each of 100 clients. Sizes of
    shards differ by at most one. A client has at most `2 * shards` classes if no class is smaller than a shard.
    """
    if count < 1 or shards < 1 or count * shards > len(indices):
        raise UserError(
            f"{count} clients with {shards} shards each are not possible with {len(indices)} examples. "
            "Use at least 1 of both, and no more shards than examples."
        )
    order, _, _ = by_class(numbered(labels, indices), keys_of(indices, seed, "shards"))
    dealt = shuffled(np.arange(count * shards), seed, "dealt")
    shard = np.arange(len(indices)) * (count * shards) // len(indices)
    client = np.empty(count * shards, np.int64)
    client[dealt] = np.arange(count * shards) % count
    return [np.sort(indices[order[client[shard] == i]]) for i in range(count)]


def by_quantity(indices: Indices, count: int, concentration: float, seed: int, smallest: int = 1) -> list[Chosen]:
    """Splits examples over clients of unequal sizes, drawn from a symmetric Dirichlet distribution; labels are distributed alike.

    This is the quantity skew of Li et al. 2022 (arXiv 2102.02079). Each client first receives `smallest` examples; the others are divided
    by the shares, each count rounded down or up. Infinite concentration gives sizes that differ by at most one.
    """
    left = len(indices) - smallest * count
    if count < 1 or not concentration > 0 or smallest < 0 or left < 0:
        raise UserError(
            f"{count} clients of at least {smallest} at concentration {concentration} are not possible with {len(indices)} examples. "
            "Use at least 1 client, a concentration above 0, and enough examples."
        )
    shares = np.full(count, 1 / count)
    if not math.isinf(concentration):
        shares = _dirichlet(example_keys("quantity", seed, np.arange(1)), count, concentration)[0]
    ends = np.floor(np.cumsum(shares) * left + 0.5).astype(np.int64)
    ends[-1] = left
    bounds = ends + smallest * np.arange(1, count + 1)
    rows = np.argsort(keys_of(indices, seed, "quantity"), kind="stable")
    return [np.sort(indices[part]) for part in np.split(rows, bounds[:-1])]


def with_test(parts: Sequence[Chosen], share: float, seed: int) -> list[Fold]:
    """Returns (train, held out) of each client: about `share` of its examples are held out, and at least one remains for training.

    A client of two or more examples holds out at least one. Whether an example is held out does not depend on other clients.
    """
    if not 0 < share < 1:
        raise UserError(f"a held-out share of {share} is not possible: it must be between 0 and 1.")
    return [_divided(part, share, seed) for part in parts]


# -- private --------------------------------------------------------------------------------------------------------------


def _divided(part: np.ndarray, share: float, seed: int) -> Fold:
    """Returns (train, held out) of one client, neither empty if it has two examples."""
    many = min(max(round(share * len(part)), 1), max(len(part) - 1, 0))
    held = np.zeros(len(part), bool)
    held[np.argsort(keys_of(part, seed, "test"), kind="stable")[:many]] = True
    return Fold(part[~held], part[held])


def _levelled(client: np.ndarray, count: int, smallest: int) -> np.ndarray:
    """Returns the client of each row, after clients below `smallest` have received rows of the largest."""
    client = client.copy()
    for i in range(count):
        while (sizes := np.bincount(client, minlength=count))[i] < smallest:
            client[np.flatnonzero(client == sizes.argmax())[-1]] = i
    return client


def _dirichlet(keys: np.ndarray, count: int, concentration: float) -> np.ndarray:
    """Returns Dirichlet shares [keys, count] by Gamma(a) = Gamma(a + 1) U^(1 / a), in logs: at low concentration most underflow floats."""
    from scipy.special import gammaincinv  # slow to import

    first, second = ((integers(keys, slot, count, 2**32) + 0.5) / 2**32 for slot in ("gamma", "power"))
    logarithm = np.log(gammaincinv(concentration + 1, first)) + np.log(second) / concentration
    shares = np.exp(logarithm - logarithm.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
