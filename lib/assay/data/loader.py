"""The loader: batches as a pure function of the step, so that its whole state is the step.

Lengths are bucketed: a batch is padded to the upper end of its bucket, and XLA compiles one program a bucket instead of one a length.
"""

from collections.abc import Callable, Mapping

import numpy as np

from assay.core.rng import example_keys, integers
from assay.data.source import Examples, Source

Sample = Callable[[int], np.ndarray]  # step -> indices of the examples that it sees


def bucket_ends(lengths: tuple[int, int], count: int) -> list[int]:
    """The upper ends of at most `count` buckets of near-equal width over a range of lengths, ascending; the last is the range's."""
    first, last = lengths
    edges = np.linspace(first - 1, last, min(count, last - first + 1) + 1)[1:]
    return sorted({int(np.ceil(edge)) for edge in edges})


def bucket_of(length: int, ends: list[int]) -> int:
    """The end of the bucket that holds a length."""
    return next(end for end in ends if length <= end)


def uniform_lengths(source: Source, seed: int, batch_size: int, ends: list[int], block: int) -> Sample:
    """Each batch has one length, uniform over the split's lengths, and examples that no other step has.

    The `block` steps of one compiled call draw their lengths from one bucket, so that they share a shape; over blocks every length is
    as likely as the others.
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


def stacked(
    source: Source,
    sample: Sample,
    encode: Callable[[Examples, int], Mapping[str, np.ndarray]],
    width: Callable[[int], int],
    ends: list[int],
    start: int,
    count: int,
    block: int,
) -> dict[str, np.ndarray]:
    """The batches of steps `start` to `start + count - 1` under a leading axis of `block` steps; the rest repeats the last one."""
    indices = [sample(step) for step in range(start, start + count)]
    longest = max(int(source.length_of(index).max()) for index in indices)
    tokens = width(bucket_of(longest, ends))
    batches = [encode(source.fetch(index), tokens) for index in indices]
    batches += [batches[-1]] * (block - count)
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
