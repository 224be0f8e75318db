"""Batches of examples for treatments that need data, such as calibration and gradient-based importance. Never use the split `test`."""

from collections.abc import Iterator
from typing import Any

from assay.data.loader import bucket_ends, sampler, stacked
from assay.tasks.task import Task

ROWS, BUCKETS = 32, 4  # examples per batch; number of padded lengths


def batches(task: Task, split: str, examples: int) -> Iterator[dict[str, Any]]:
    """Yields `examples` examples of a split in training order, rounded up to whole batches. Every call yields the same batches."""
    source = task.source(split)
    ends, rows = bucket_ends(source.lengths, BUCKETS), min(ROWS, examples)
    sample = sampler(source, 0, rows, ends, 1)
    for step in range(-(-examples // rows)):
        batch = stacked(source, sample, task.encode, task.width, ends, step, 1, 1)
        yield {name: array[0] for name, array in batch.items()}
