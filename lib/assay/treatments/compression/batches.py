"""Examples for treatments that need some: to calibrate scales, to weigh parts by their gradients. The split `test` is not for these."""

from collections.abc import Iterator
from typing import Any

from assay.data.loader import bucket_ends, sampler, stacked
from assay.tasks.task import Task

ROWS, BUCKETS = 32, 4  # examples that are read at once; padded shapes


def batches(task: Task, split: str, examples: int) -> Iterator[dict[str, Any]]:
    """So many examples of a split, rounded up to whole batches, in the order of training: the same whenever they are asked for."""
    source = task.source(split)
    ends, rows = bucket_ends(source.lengths, BUCKETS), min(ROWS, examples)
    sample = sampler(source, 0, rows, ends, 1)
    for step in range(-(-examples // rows)):
        batch = stacked(source, sample, task.encode, task.width, ends, step, 1, 1)
        yield {name: array[0] for name, array in batch.items()}
