"""Intervals. A number counts with its n and its interval; these are the ones that results.json names in `interval_method`."""

import math
from collections.abc import Sequence

import numpy as np


def wilson(mean: float, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval for a mean of n values in [0, 1] (Wilson 1927); 95 % unless `z` is given.

    Exact in spirit for 0/1 values and conservative for fractions, whose variance is at most p(1 - p).
    """
    if n <= 0:
        raise ValueError(f"an interval needs at least one example, got n={n}")
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def over_seeds(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean over seeds, clipped to [0, 1]; None for a single seed."""
    if len(values) < 2:
        return None
    from scipy.special import stdtrit  # scipy is slow to import, and most runs never need it

    half = float(stdtrit(len(values) - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return max(0.0, mean - half), min(1.0, mean + half)
