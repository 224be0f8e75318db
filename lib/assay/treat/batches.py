"""Examples of the training and validation splits for treatments that need some: to calibrate scales, to weigh parts by their gradients."""

from collections.abc import Iterator
from typing import Any

from assay.data.loader import bucket_ends, sampler
from assay.tasks.task import Task


def training_batches(task: Task, count: int, rows: int) -> Iterator[dict[str, Any]]:
    """`count` batches of so many training examples of all lengths, padded to one width; the same whenever they are asked for."""
    source = task.source("train")
    ends = bucket_ends(source.lengths, 1)
    sample = sampler(source, 0, rows, ends, 1)
    for step in range(count):
        yield dict(task.encode(source.fetch(sample(step)), task.width(ends[-1])))
