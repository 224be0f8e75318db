"""Early stopping: the best value of a validation metric so far, and the number of validations without improvement still allowed.

    stopping = begin(patience)
    stopping = look(stopping, value, step, patience, smallest, higher)      # after each validation
    if stopping.patience_left == 0: ...                                     # stop, and restore the parameters of stopping.step

The state is an immutable record of three numbers. A checkpoint stores it so that a resumed run continues with it: `Stopping(**json)`,
`_asdict()`.
"""

from typing import NamedTuple


class Stopping(NamedTuple):
    best: float | None  # the best value seen; None before the first finite one
    step: int  # step of the best value
    patience_left: int  # validations without improvement still allowed; 0: stop


def begin(patience: int) -> Stopping:
    """Returns the state before the first validation. `patience` must be at least 1."""
    return Stopping(None, 0, patience)


def look(stopping: Stopping, value: float, step: int, patience: int, smallest: float = 0.0, higher: bool = True) -> Stopping:
    """Returns the state after the metric was `value` at `step`.

    A value improves if it exceeds the best by more than `smallest` (falls below it, unless `higher`). NaN never improves. Once patience
    has run out, the state no longer changes.
    """
    if stopping.patience_left == 0:
        return stopping
    sign = 1 if higher else -1
    if value == value and (stopping.best is None or sign * (value - stopping.best) > smallest):
        return Stopping(value, step, patience)
    return stopping._replace(patience_left=stopping.patience_left - 1)
