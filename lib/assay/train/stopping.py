"""Early stopping: the best value of a validation metric so far, and how many looks without a better one are left.

    stopping = begin(patience)
    stopping = look(stopping, value, step, patience, smallest, higher)      # after each evaluation
    if stopping.patience_left == 0: ...                                     # end, and go back to the parameters of stopping.step

A pure record of three numbers, so a run that goes on after a kill carries it in its checkpoint: `Stopping(**json)`, `_asdict()`.
"""

from typing import NamedTuple


class Stopping(NamedTuple):
    best: float | None  # the best value seen; None before the first finite one
    step: int  # at which it was seen
    patience_left: int  # looks without a better value that are still waited for; 0: stop


def begin(patience: int) -> Stopping:
    """Before the first look. `patience` is at least 1."""
    return Stopping(None, 0, patience)


def look(stopping: Stopping, value: float, step: int, patience: int, smallest: float = 0.0, higher: bool = True) -> Stopping:
    """The record after the metric was `value` at `step`. Better is more than `smallest` above the best (below it, unless `higher`).

    A value that is not a number is never better. Once patience has run out the record stays as it is.
    """
    if stopping.patience_left == 0:
        return stopping
    sign = 1 if higher else -1
    if value == value and (stopping.best is None or sign * (value - stopping.best) > smallest):
        return Stopping(value, step, patience)
    return stopping._replace(patience_left=stopping.patience_left - 1)
