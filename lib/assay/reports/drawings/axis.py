"""An axis of a small plot: scale from values to pixels, round end points, and tick labels."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from assay.core.number import number


class Scale(NamedTuple):
    """Maps values to pixels along one axis, from `start` to `stop`."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(end) if self.log else end for end in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.stop - self.start)


def ends_of(values: Sequence[float], log: bool, zero: bool = False) -> tuple[float, float]:
    """Returns round end points of an axis. `zero`: the axis includes zero, for bars."""
    low, high = min(values), max(values)
    if log:
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        return (low / (10 if zero else 1), high) if low < high else (low / 10, high * 10)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        half = abs(low) / 2 or 0.5
        return low - half, high + half
    step = _round(high - low)
    return min(low, math.floor(low / step + 1e-9) * step), max(high, math.ceil(high / step - 1e-9) * step)


def tick(value: float, percent: bool = False) -> str:
    """Formats a value on an axis, without its unit except `%`. With `percent`, the value is already in per cent."""
    if percent:
        return f"{value:.3g} %".replace("-", "\u2212")
    if value and not 1e-3 <= abs(value) < 1e5:
        return number(value, "").replace("1.0 \u00d7 ", "").replace(".00 ", " ")
    return f"{value:.4g}".replace("-", "\u2212") if abs(value) < 1000 else f"{value:,.0f}".replace("-", "\u2212")


# -- private --------------------------------------------------------------------------------------------------------------


def _round(span: float) -> float:
    """Returns 1, 2 or 5 times a power of ten, such that two to ten steps cover the span."""
    power = 10.0 ** math.floor(math.log10(span))
    return next((power * factor for factor in (0.1, 0.2, 0.5) if span / (power * factor) <= 10), power)
