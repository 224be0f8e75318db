"""A curriculum by length (Bengio et al. 2009): training begins with short examples, and the longest allowed grows until all are.

After n examples the lengths first ... first + c (last - first) are drawn as evenly as all are without it, where c rises linearly from
`start` to 1 over the first `examples` of them. It is a function of an example's number, so that a run that is stopped goes on as it would
have.

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
    check(examples >= 1, "curriculum", "examples", examples, "at least 1")
    check(0 < start <= 1, "curriculum", "start", start, "a share of the lengths, above 0, at most 1")

    def short_first(task: Task) -> Task:
        plain = task.source
        return replace(task, source=lambda split: growing(plain(split), examples, start) if split == "train" else plain(split))

    return Treatment(task=short_first, name="curriculum")


def growing(source: Source, examples: int, start: float) -> Source:
    """The split whose examples of a length are, while lengths are held back, those at the same place in the range that is allowed."""
    first, last = source.lengths
    if source.size is not None:
        raise UserError(
            f"the treatment curriculum needs a split that does not end, whose lengths can be chosen, and {source.name!r} has "
            f"{source.size:,} examples. Change --config.task.name or --config.treatments."
        )

    if first == last:
        raise UserError(
            f"the treatment curriculum needs several lengths to begin with the short ones, and {source.name!r} has length {first} only. "
            "Change config.task or --config.treatments."
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
    """The longest length that the example of each number may have."""
    share = np.minimum(1.0, start + (1.0 - start) * ordinals / examples)
    return first + np.round(share * (last - first)).astype(np.int64)
