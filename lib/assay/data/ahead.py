"""Prefetches batches: Grain's threads read record files while the device computes.

A batch depends on the step alone, so prefetching has no state to save: a resumed run requests the remaining calls. Data in memory and
generated data are sliced faster than threads could pass them on; with `threads=0` each batch is built when it is requested.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

Call = tuple[int, int]  # (first step, number of steps) of one compiled call
PART = 10_000  # calls that Grain is given at a time; a run may have billions


def ahead(calls: Iterable[Call], make: Callable[[int, int], Any], threads: int) -> Iterator[Any]:
    """Yields `make(*call)` for each call, in order. `threads` calls run concurrently; as many more results may be buffered."""
    if not threads:
        return (make(*call) for call in calls)
    import grain  # takes seconds to import, and most runs never need it

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)

    def read() -> Iterator[Any]:
        left = iter(calls)
        while part := list(islice(left, PART)):
            yield from grain.MapDataset.source(part).map(lambda call: make(*call)).to_iter_dataset(read_options=options)

    return read()
