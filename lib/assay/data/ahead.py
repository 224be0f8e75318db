"""Batches made ahead of time: Grain's threads read record files while the device computes.

What is made depends on the step alone, so nothing of this needs to be saved: a run that goes on asks for the calls that are left. Data in
memory, and generated data, are sliced faster than threads could hand them over; `threads=0` makes each batch when it is asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Call = tuple[int, int]  # (first step, how many steps) of one compiled call


def ahead(calls: Sequence[Call], make: Callable[[int, int], Any], threads: int) -> Iterator[Any]:
    """`make(*call)` for each call, in order. `threads` calls are made at once, and as many wait."""
    if not threads:
        return (make(*call) for call in calls)
    import grain  # takes seconds to import, and most runs never need it

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(grain.MapDataset.source(calls).map(lambda call: make(*call)).to_iter_dataset(read_options=options))
