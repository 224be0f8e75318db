"""Random access to examples: a split is a `Source`, whose examples can be made or read independently, in any order.

A split in memory has `size` examples and repeats after them: example i + size is example i in the next epoch. A negative index raises an
error.

A generated split makes example i from a key that depends only on (task, split, seed, i). The index encodes ordinal and length:
`index = ordinal * lengths + (length - first)`, so enumerating a split covers its lengths evenly.

No leakage: for a length with more than 2**30 inputs, a hash of the content assigns every input string to one role. A split redraws until
the string belongs to its role. For a length with fewer inputs, splits inevitably share strings.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from assay.core.rng import GOLDEN, example_keys, mix

SHARED_BELOW_BITS = 30  # lengths with fewer inputs than 2**30 are not partitioned
ROLES: Mapping[str, tuple[int, ...]] = {"test": (0,), "valid": (1,), "train": (2, 3, 4, 5, 6, 7)}  # eighths of all input strings


class Examples(NamedTuple):
    """n examples on the host, right-padded with zeros. Lengths count tokens; those of an image are 1."""

    id: np.ndarray  # int64 [n]: index in the split
    length: np.ndarray  # int64 [n]: nominal length, used for length buckets and for grouping results
    input: np.ndarray  # int32 [n, longest], or images [n, height, width, channels]
    input_length: np.ndarray  # int64 [n]
    target: np.ndarray  # int32 [n, longest]; a class is one token
    target_length: np.ndarray  # int64 [n]: number of target tokens that count
    slots: np.ndarray  # int64 [n]: number of positions available for the answer; at least target_length


def as_tokens(examples: Examples, i: int) -> dict[str, Any]:
    """Returns example i as shown to users and in predictions: token ids without padding."""
    return {
        "input": examples.input[i, : examples.input_length[i]].tolist(),
        "target": examples.target[i, : examples.target_length[i]].tolist(),
    }


def _no_columns(indices: np.ndarray) -> Mapping[str, np.ndarray]:
    del indices
    return {}


@dataclass(frozen=True)
class Source:
    """One split. `size` is None for an endless split."""

    name: str
    lengths: tuple[int, int]  # nominal lengths, both ends included
    size: int | None
    fetch: Callable[[np.ndarray], Examples]
    length_of: Callable[[np.ndarray], np.ndarray]  # nominal length of each index, without making the example
    index_of: Callable[[np.ndarray, int], np.ndarray]  # (ordinals, length) -> indices of the examples of that length
    describe: Callable[[Examples, int], dict[str, Any]] = as_tokens  # (examples, i) -> input and target as shown and written
    groups: Sequence[str] | None = None  # cluster of each example of a split in memory, such as its file
    labels: Callable[[], np.ndarray] | None = None  # class of each example, [size], -1 if withheld; None without classes
    columns: Callable[[np.ndarray], Mapping[str, np.ndarray]] = _no_columns  # indices -> further batch arrays [n, ...]: `client`, `domain`
    seed: int = field(default=0, repr=False)  # seed of random draws by treatments: the run's seed, or a secret one

    def indices(self, per_length: int) -> np.ndarray:
        """Returns the indices for evaluation by ascending length: every example, or `per_length` of each length of an endless split."""
        size = self.size if self.size is not None else per_length * (self.lengths[1] - self.lengths[0] + 1)
        indices = np.arange(size)
        return indices[np.argsort(self.length_of(indices), kind="stable")]


def row_of(indices: np.ndarray, size: int) -> np.ndarray:
    """Returns the row of each index in a split of `size` examples, in any epoch. Raises IndexError for a negative index."""
    return _non_negative(indices, f"of a split of {size:,} examples") % size


def padded(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns token lists as int32 [n, longest], padded with zeros on the right, and their lengths."""
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.zeros((len(rows), int(lengths.max(initial=0))), np.int32)
    tokens[np.arange(tokens.shape[1])[None, :] < lengths[:, None]] = [token for row in rows for token in row]
    return tokens, lengths


def in_memory(
    name: str,
    examples: Examples,
    describe: Callable[[Examples, int], dict[str, Any]] = as_tokens,
    groups: Sequence[str] | None = None,
) -> Source:
    """Returns a split that holds all of its examples; ids are positions. It has labels if each target is a single class."""
    length, size = examples.length, len(examples.length)
    classes = examples.target.ndim == 2 and examples.target.shape[1] == 1 and np.issubdtype(examples.target.dtype, np.integer)

    def fetch(indices: np.ndarray) -> Examples:
        rows = row_of(indices, size)
        return Examples(np.asarray(indices, np.int64), *(part[rows] for part in examples[1:]))

    def index_of(ordinals: np.ndarray, wanted: int) -> np.ndarray:
        return np.flatnonzero(length == wanted)[_non_negative(ordinals, f"among the examples of length {wanted}")]

    def length_of(indices: np.ndarray) -> np.ndarray:
        return length[row_of(indices, size)]

    labels = (lambda: np.where(examples.target_length > 0, examples.target[:, 0], -1)) if classes else None
    return Source(name, (int(length.min()), int(length.max())), size, fetch, length_of, index_of, describe, groups, labels)


Make = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray]]  # (keys, length) -> input, target with all slots, counts


def generated(
    name: str,
    split: str,
    role: str,
    seed: int,
    lengths: tuple[int, int],
    make: Make,
    log2_inputs: Callable[[int], float],
    shared_below: float | None = None,
) -> Source:
    """Returns an endless split of a generated task. Its strings belong to `role` for lengths large enough to be partitioned: those with
    more than 2**shared_below inputs (SHARED_BELOW_BITS by default)."""
    first, last = lengths
    shared_below = SHARED_BELOW_BITS if shared_below is None else shared_below

    def of_length(keys: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        made = make(keys, length)
        if log2_inputs(length) <= shared_below:
            return made
        parts = [np.array(part) for part in made]
        pending = np.flatnonzero(~np.isin(content_hash(parts[0]) % np.uint64(8), ROLES[role]))
        while len(pending):
            keys = mix(keys + GOLDEN)
            again = make(keys[pending], length)
            for part, new in zip(parts, again, strict=True):
                part[pending] = new
            pending = pending[~np.isin(content_hash(again[0]) % np.uint64(8), ROLES[role])]
        return parts[0], parts[1], parts[2]

    def fetch(indices: np.ndarray) -> Examples:
        indices = _non_negative(indices, "of an endless split")
        keys, length = example_keys(f"{name}/{split}", seed, indices), first + indices % (last - first + 1)
        groups = [np.flatnonzero(length == value) for value in np.unique(length)]
        made = [of_length(keys[rows], int(length[rows[0]])) for rows in groups]
        inputs, targets = (_pad(groups, [m[i] for m in made], len(indices)) for i in (0, 1))
        width, slots, counted = (np.zeros(len(indices), np.int64) for _ in range(3))
        for rows, (input_, target, count) in zip(groups, made, strict=True):
            width[rows], slots[rows], counted[rows] = input_.shape[1], target.shape[1], count
        return Examples(indices, length, inputs, width, targets, counted, slots)

    def length_of(indices: np.ndarray) -> np.ndarray:
        return first + _non_negative(indices, "of an endless split") % (last - first + 1)

    def index_of(ordinals: np.ndarray, length: int) -> np.ndarray:
        return _non_negative(ordinals, f"among the examples of length {length}") * (last - first + 1) + (length - first)

    return Source(split, lengths, None, fetch, length_of, index_of)


def finite(source: Source, size: int) -> Source:
    """Restricts an endless split of one length to its first `size` examples, repeated in each epoch."""

    def fetch(indices: np.ndarray) -> Examples:
        return source.fetch(row_of(indices, size))._replace(id=np.asarray(indices, np.int64))

    return replace(source, size=size, fetch=fetch, columns=lambda indices: source.columns(row_of(indices, size)))


def subset(source: Source, members: np.ndarray) -> Source:
    """Returns the examples of a finite split where `members`, bool [size], is true. Indices and ids count those examples alone."""
    chosen = np.flatnonzero(members)
    length, labels = source.length_of(chosen), source.labels

    def fetch(indices: np.ndarray) -> Examples:
        return source.fetch(chosen[row_of(indices, len(chosen))])._replace(id=np.asarray(indices, np.int64))

    def length_of(indices: np.ndarray) -> np.ndarray:
        return length[row_of(indices, len(chosen))]

    def index_of(ordinals: np.ndarray, wanted: int) -> np.ndarray:
        return np.flatnonzero(length == wanted)[_non_negative(ordinals, f"among the examples of length {wanted}")]

    return replace(
        source,
        lengths=(int(length.min()), int(length.max())),
        size=len(chosen),
        fetch=fetch,
        length_of=length_of,
        index_of=index_of,
        groups=None if source.groups is None else [source.groups[i] for i in chosen.tolist()],
        labels=None if labels is None else lambda: labels()[chosen],
        columns=lambda indices: source.columns(chosen[row_of(indices, len(chosen))]),
    )


def content_hash(tokens: np.ndarray) -> np.ndarray:
    """Returns a 64-bit hash of each row's tokens (non-negative integers), stable across processes and versions."""
    with np.errstate(over="ignore"):
        weights = mix(GOLDEN * np.arange(1, tokens.shape[1] + 1, dtype=np.uint64))
        return mix(((tokens.astype(np.uint64) + np.uint64(1)) * weights[None, :]).sum(axis=1, dtype=np.uint64) + np.uint64(tokens.shape[1]))


def occurring(inputs: Sequence[Sequence[int]], source: Source, parts: Iterable[np.ndarray]) -> np.ndarray:
    """Returns which of n token sequences occur as inputs of a split's examples: bool [n].

    Args:
      parts: indices of the examples, int64 [any], in parts that are fetched one after the other.
    """
    wanted = np.array([content_hash(np.array([tokens]))[0] for tokens in inputs])
    found = np.zeros(len(wanted), bool)
    for indices in parts:
        examples = source.fetch(indices)
        for length in np.unique(examples.input_length):
            found |= np.isin(wanted, content_hash(examples.input[examples.input_length == length, :length]))
    return found


def _non_negative(indices: np.ndarray, where: str) -> np.ndarray:
    indices = np.asarray(indices, np.int64)
    lowest = int(indices.min(initial=0))
    if lowest < 0:
        raise IndexError(f"index {lowest} {where}: indices are at least 0. Rows that do not count have weight 0.")
    return indices


def _pad(groups: list[np.ndarray], parts: list[np.ndarray], n: int) -> np.ndarray:
    padded = np.zeros((n, max((part.shape[1] for part in parts), default=0)), np.int32)
    for rows, part in zip(groups, parts, strict=True):
        padded[rows, : part.shape[1]] = part
    return padded
