"""Data loader: batches are a pure function of the step, so the step is the loader's whole state.

A `Sample` selects the examples of a step. It returns indices of shape [rows], or [rows, ...] if a batch entry is several examples, such
as a client's local steps or an episode. It may also return `Drawn`: indices with weights and batch columns.

Lengths are bucketed: a batch is padded to the upper end of its bucket. XLA compiles one program per bucket instead of one per length.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from assay.core.rng import example_keys, integers
from assay.data.source import Examples, Source


class Drawn(NamedTuple):
    """Examples of one step."""

    indices: np.ndarray  # int64 [rows, ...], non-negative indices of a split; rows that do not count have any index and weight 0
    weight: np.ndarray | None = None  # float [rows, ...]: factor on each example's weight; None: 1
    columns: Mapping[str, np.ndarray] = {}  # extra batch arrays, each [rows, ...]: `client`, `domain`, `episode`


Sample = Callable[[int], Drawn | np.ndarray]  # step -> its examples, with the same shapes at every step
CHUNK = 16  # calls whose examples are sorted into buckets together


def bucket_ends(lengths: tuple[int, int], count: int) -> list[int]:
    """Returns the upper ends of at most `count` buckets of near-equal width over a range of lengths, ascending; the last is the range's."""
    first, last = lengths
    edges = np.linspace(first - 1, last, min(count, last - first + 1) + 1)[1:]
    return sorted({int(np.ceil(edge)) for edge in edges})


def bucket_of(length: int, ends: list[int]) -> int:
    """Returns the end of the bucket that contains a length."""
    return next(end for end in ends if length <= end)


def drawn(found: Drawn | np.ndarray) -> Drawn:
    """Converts the result of a Sample to a record."""
    return found if isinstance(found, Drawn) else Drawn(np.asarray(found))


def counted(sample: Sample, step: int) -> np.ndarray:
    """Returns the indices of the examples that count in a step, int64 [n]: those whose weight is above 0."""
    found = drawn(sample(step))
    return (found.indices if found.weight is None else found.indices[found.weight > 0]).reshape(-1)


def sampler(source: Source, seed: int, batch_size: int, ends: list[int], block: int) -> Sample:
    """Returns the training sample of a split: epochs if it is finite, uniform lengths if it is endless."""
    return (epochs if source.size is not None else uniform_lengths)(source, seed, batch_size, ends, block)


def uniform_lengths(source: Source, seed: int, batch_size: int, ends: list[int], block: int) -> Sample:
    """Samples batches of one length each, uniform over the split's lengths, without repeating examples across steps.

    The `block` steps of one compiled call draw their lengths from one bucket, so that they share a shape. Over many blocks every length
    is equally likely.
    """
    first, _ = source.lengths
    name = f"lengths/{source.name}"

    def sample(step: int) -> np.ndarray:
        low_end = integers(example_keys(name, seed, np.array([step // block])), "bucket", 1, source.lengths[1] - first + 1)[0, 0] + first
        end = bucket_of(int(low_end), ends)
        low = max([first, *(other + 1 for other in ends if other < end)])
        length = low + int(integers(example_keys(name, seed, np.array([step])), "length", 1, end - low + 1)[0, 0])
        return source.index_of(step * batch_size + np.arange(batch_size), length)

    return sample


def epochs(source: Source, seed: int, batch_size: int, ends: list[int], block: int) -> Sample:
    """Samples every example once per epoch, in an order that is a pure function of (seed, epoch). A batch may span two epochs.

    Index i + size is example i in the next epoch. With several buckets, the examples of CHUNK calls are sorted by bucket and their calls
    shuffled, which keeps padding small.
    """
    size = source.size
    assert size is not None
    call = batch_size * block

    @functools.lru_cache(maxsize=3)
    def order(epoch: int) -> np.ndarray:
        key = int(example_keys(f"epochs/{source.name}", seed, np.array([epoch]))[0])
        random = np.random.Generator(np.random.Philox(key=key))
        shuffled = random.permutation(size)
        if len(ends) > 1:
            bucket = np.searchsorted(ends, source.length_of(shuffled))
            for start in range(0, size, CHUNK * call):
                inside = slice(start, start + CHUNK * call)
                ordered = shuffled[inside][np.argsort(bucket[inside], kind="stable")]
                whole = len(ordered) // call * call  # the remainder, less than one call, stays at the end
                calls = ordered[:whole].reshape(-1, call)[random.permutation(whole // call)]
                shuffled[inside] = np.concatenate([calls.reshape(-1), ordered[whole:]])
        return shuffled + epoch * size

    def sample(step: int) -> np.ndarray:
        epoch, place = np.divmod(step * batch_size + np.arange(batch_size), size)
        return np.concatenate([order(int(number))[place[epoch == number]] for number in np.unique(epoch)])

    return sample


def stacked(
    source: Source,
    sample: Sample,
    encode: Callable[[Examples, int], Mapping[str, np.ndarray]],
    width: Callable[[int], int],
    ends: list[int],
    start: int,
    count: int,
    block: int,
    rows: slice = slice(None),
) -> dict[str, np.ndarray]:
    """Returns the batches of steps `start` to `start + count - 1` under a leading axis of `block` steps; the last batch fills the rest.

    Besides the arrays from `encode`, a batch has `id`, int32: the index of each example within an epoch, modulo 2^31 for an endless split.
    Weights of the sample multiply those of `encode`. A row of weight 0 holds one of the examples that count, so it never sets the length.
    `rows` selects the rows that this process makes; the padded length is still that of the longest example in the whole batch.
    The examples of all steps are fetched and encoded at once, each row independently: small batches take as few calls as large ones.
    """
    steps = [drawn(sample(step)) for step in range(start, start + count)]
    indices, weight = np.stack([one.indices for one in steps]), _weights(steps)
    if weight is not None and (weight > 0).any():
        indices = np.where(weight > 0, indices, indices[weight > 0][0])
    tokens = width(bucket_of(int(source.length_of(indices.reshape(-1)).max()), ends))
    own = indices[:, rows]
    made = {**encoded(source, own.reshape(-1), encode, tokens)[1], "id": id_of(own.reshape(-1), source.size)}
    batches = {name: array.reshape(*own.shape, *array.shape[1:]) for name, array in made.items()}
    if weight is not None:
        batches["weight"] = batches["weight"] * weight[:, rows].astype(batches["weight"].dtype)
    columns = {name: np.stack([one.columns[name] for one in steps])[:, rows] for name in steps[0].columns}
    if taken := columns.keys() & batches.keys() - source.columns(own[:0].reshape(-1)).keys():
        raise ValueError(f"the sample returns the column {min(taken)!r}, which the batch already has. Rename it in Drawn.columns.")
    batches |= columns
    return batches if count == block else {name: array[np.minimum(np.arange(block), count - 1)] for name, array in batches.items()}


def encoded(
    source: Source, indices: np.ndarray, encode: Callable[[Examples, int], Mapping[str, np.ndarray]], tokens: int
) -> tuple[Examples, dict[str, np.ndarray]]:
    """Returns the examples of a split at `indices` and their batch, padded to `tokens`: the arrays of `encode` and the split's columns.

    Raises ValueError for a column whose name `encode` uses.
    """
    examples = source.fetch(indices)
    batch, columns = dict(encode(examples, tokens)), source.columns(indices)
    if taken := {"id", *batch} & columns.keys():
        raise ValueError(
            f"the split {source.name!r} has the column {min(taken)!r}, which its batches already have. Rename it in Source.columns."
        )
    return examples, {**batch, **columns}


def id_of(indices: np.ndarray, size: int | None = None) -> np.ndarray:
    """Returns the `id` column of a batch, int32 [n]: each index within an epoch of `size` examples, modulo 2^31 for an endless split."""
    return (indices % (size or 2**31)).astype(np.int32)


# -- private --------------------------------------------------------------------------------------------------------------


def _weights(steps: Sequence[Drawn]) -> np.ndarray | None:
    """Returns the weights of several steps, [steps, rows, ...]; None if no step has weights."""
    if all(one.weight is None for one in steps):
        return None
    return np.stack([np.ones(one.indices.shape) if one.weight is None else np.asarray(one.weight) for one in steps])
