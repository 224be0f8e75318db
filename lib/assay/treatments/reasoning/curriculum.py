"""Length curriculum (Bengio et al. 2009): training starts with short examples, and the maximum length grows to the full range.

After n examples, lengths are drawn from first ... first + c (last - first), as evenly as they are without a curriculum. The fraction c
rises linearly from `start` to 1 over the first `examples` examples. It depends only on an example's index, so a resumed run sees the same
examples as an uninterrupted one.

    --config.treatments=curriculum:examples=100000
"""

from dataclasses import replace

import numpy as np

from assay.core.errors import UserError
from assay.data.source import Source
from assay.tasks.task import Task
from assay.train.treatment import Treatment
from assay.treatments.option import check


def curriculum(examples: int = 100_000, start: float = 0.1) -> Treatment:
    """Returns the curriculum treatment.

    Args:
        examples: number of examples after which all lengths are allowed; at least 1.
        start: fraction of the length range that is allowed at the start, in (0, 1].
    """
    check(examples >= 1, "curriculum", "examples", examples, "it must be at least 1")
    check(0 < start <= 1, "curriculum", "start", start, "it must be a fraction of the length range in (0, 1]")

    def short_first(task: Task) -> Task:
        plain = task.source
        return replace(task, source=lambda split: growing(plain(split), examples, start) if split == "train" else plain(split))

    return Treatment(task=short_first, name="curriculum")


def growing(source: Source, examples: int, start: float) -> Source:
    """Returns the split with lengths limited by the curriculum.

    Each scheduled length is mapped to the length at the same relative position in the range that is allowed so far. Raises UserError if
    the split is finite or has a single length.
    """
    first, last = source.lengths
    if source.size is not None:
        raise UserError(
            f"the treatment 'curriculum' needs an unlimited split whose lengths can be chosen, but {source.name!r} has "
            f"{source.size:,} examples. Change --config.task.name or --config.treatments."
        )

    if first == last:
        raise UserError(
            f"the treatment 'curriculum' needs several lengths, but every example of {source.name!r} has length {first}. "
            "Change --config.task or --config.treatments."
        )

    def index_of(ordinals: np.ndarray, length: int) -> np.ndarray:
        ordinals = np.asarray(ordinals, np.int64)
        place = first + (length - first) * (longest(ordinals, first, last, examples, start) - first + 1) // (last - first + 1)
        indices = np.empty(len(ordinals), np.int64)
        for value in np.unique(place):
            indices[place == value] = source.index_of(ordinals[place == value], int(value))
        return indices

    return replace(source, index_of=index_of)


def longest(ordinals: np.ndarray, first: int, last: int, examples: int, start: float) -> np.ndarray:
    """Returns the maximum length allowed for each example index [n], int64."""
    share = np.minimum(1.0, start + (1.0 - start) * ordinals / examples)
    return first + np.round(share * (last - first)).astype(np.int64)
