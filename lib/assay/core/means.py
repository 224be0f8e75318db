"""Confidence intervals of a mean, over examples or groups of examples, for values in [0, 1] and for values without bounds.

    units = units_of(losses, groups=files)
    mean_interval(units), shares_interval(units), difference_interval(units, largest=1.0)

A mean is a ratio: the sum of the values over their number, or over their weights. Its standard error is that of a ratio of sums over units
(Cochran 1977, chapter 6), so that groups of unequal size are treated as what they are. A percentile bootstrap is too narrow for few units
and for skewed values; it covers a mean of five normal values in 82 % of cases.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from assay.core.stats import CHUNK, normal, wilson

LEAST = 10  # units below which there is no interval of values other than right and wrong
SURE_SHARES, SURE = 20, 200  # units from which intervals of values in [0, 1], and of values without bounds, cover what they claim
LEAST_GROUPS = 5
ROUNDING = 1e-12  # relative difference below which values are equal: sums of equal values differ by less
DOMINANT = 0.4  # skewness over sqrt(units), at most 1, above which a few values determine the mean


class Units(NamedTuple):
    """The resampling units of a mean: single examples, or groups of them."""

    total: Float[np.ndarray, "units"]  # sum of values, each times its weight
    size: Float[np.ndarray, "units"]  # number of values, or the sum of their weights
    grouped: bool  # whether a unit holds several examples


def units_of(
    values: Sequence[float] | np.ndarray, groups: Sequence[Any] | np.ndarray | None = None, weights: np.ndarray | None = None
) -> Units:
    """Returns the units of a mean of values, [examples], resampled in whole groups where `groups` names one for each example."""
    values = np.asarray(values, np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, np.float64)
    return ratio_units(values * weights, weights, groups)


def ratio_units(totals: np.ndarray, sizes: np.ndarray, groups: Sequence[Any] | np.ndarray | None = None) -> Units:
    """Returns the units of a ratio of sums, such as nats per byte, from both terms of each example."""
    if groups is None:
        return Units(np.asarray(totals, np.float64), np.asarray(sizes, np.float64), False)
    number = np.unique(np.asarray(groups), return_inverse=True)[1]
    if number.shape != np.shape(totals):
        raise ValueError(f"groups name one group for each of {len(totals)} examples, got shape {number.shape}")
    return Units(np.bincount(number, weights=totals), np.bincount(number, weights=sizes), True)


def spread(units: Units) -> tuple[float, float]:
    """Returns the standard error of the mean and its degrees of freedom.

    Groups of unequal size count as fewer: (sum of sizes)^2 / sum of squared sizes (Kish 1965).
    """
    total, size = units.total, units.size
    n = len(total)
    if n < 2:
        return math.nan, 0.0
    left = _deviations(total, total.sum() / size.sum() * size)
    return math.sqrt(n / (n - 1) * float(left @ left)) / float(size.sum()), float(size.sum() ** 2 / (size @ size)) - 1


def shares_interval(units: Units, confidence: float = 0.95) -> tuple[float, float]:
    """Returns an interval of the mean of values in [0, 1].

    It is Wilson's for the number of independent right or wrong answers that would have the same standard error, with Student's quantile
    (Korn and Graubard 1998, with Wilson's interval in place of the exact one). Equal values in all units count as one answer per unit.
    NaN for fewer than LEAST examples or LEAST_GROUPS groups.
    """
    if len(units.total) < (LEAST_GROUPS if units.grouped else LEAST):
        return math.nan, math.nan
    mean, (error, freedom) = float(units.total.sum() / units.size.sum()), spread(units)
    n, z = freedom + 1, normal(confidence)
    if error > 0 and 0 < mean < 1:
        n = mean * (1 - mean) / error**2
        if units.grouped:
            n = min(n, float(units.size.sum()))
    return wilson(mean, n * (z / _student(freedom, confidence)) ** 2, z)


def mean_interval(units: Units, confidence: float = 0.95, seed: int = 0, resamples: int = 1000) -> tuple[float, float]:
    """Returns an interval of a mean of values without bounds: by bootstrap-t, which follows skewed values (Efron and Tibshirani 1993,
    chapter 12), or Student's t for fewer than SURE_SHARES units.

    NaN for fewer than LEAST examples or LEAST_GROUPS groups, and for equal values.
    """
    n, (error, freedom) = len(units.total), spread(units)
    if n < (LEAST_GROUPS if units.grouped else LEAST) or not error > 0:
        return math.nan, math.nan
    mean = float(units.total.sum() / units.size.sum())
    if n < SURE_SHARES:
        half = _student(freedom, confidence) * error
        return mean - half, mean + half
    means, errors = _resampled(units, np.random.default_rng(seed), resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.nan_to_num((means - mean) / errors, nan=0.0, posinf=math.inf, neginf=-math.inf)
    low, high = np.quantile(away, [(1 - confidence) / 2, (1 + confidence) / 2], method="closest_observation")
    if not np.isfinite([low, high]).all():
        return math.nan, math.nan
    return mean - float(high) * error, mean - float(low) * error


def difference_interval(units: Units, largest: float, confidence: float = 0.95) -> tuple[float, float]:
    """Returns an interval of a mean of paired differences, the largest of which can be `largest` in size.

    Student's interval after adding two examples that differ by +-`largest` / sqrt(2), as Agresti and Min (2005) do for right and wrong
    answers: equal values in all units leave room for a difference in others. NaN for fewer than LEAST examples or LEAST_GROUPS groups.
    """
    n, (error, freedom) = len(units.total), spread(units)
    if n < (LEAST_GROUPS if units.grouped else LEAST):
        return math.nan, math.nan
    mean = float(units.total.sum() / units.size.sum())
    half = _student(freedom, confidence) * math.hypot(error, largest / (freedom + 3))
    return mean - half, mean + half


def caution(units: Units, bounded: bool) -> str:
    """Returns why the interval of a mean is missing or may be too narrow, or ""."""
    n, what = len(units.total), "groups" if units.grouped else "examples"
    if n < (LEAST_GROUPS if units.grouped else LEAST):
        return f"too few {what} for an interval: {n}"
    if n < (SURE_SHARES if bounded or units.grouped else SURE):
        return f"{n} {what}: the interval may be too narrow"
    left = units.total - units.total.sum() / units.size.sum() * units.size
    scale = float(np.mean(left**2)) ** 0.5
    if not bounded and scale > 0 and abs(float(np.mean((left / scale) ** 3))) > DOMINANT * math.sqrt(n):
        return f"a few {what} determine the mean: the interval may be too narrow"
    return ""


# -- private --------------------------------------------------------------------------------------------------------------


def _deviations(totals: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Returns the differences, exactly 0 where only rounding separates the two: equal values have no spread."""
    left = totals - expected
    return np.where(np.abs(left) <= ROUNDING * np.abs(expected), 0.0, left)


def _student(freedom: float, confidence: float) -> float:
    from scipy.special import stdtrit  # slow to import

    return float(stdtrit(max(freedom, 1e-3), (1 + confidence) / 2))


def _resampled(units: Units, generator: np.random.Generator, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and its standard error in each resample of the units, [resamples] each."""
    total, size, n = units.total, units.size, len(units.total)
    means, errors = np.empty(resamples), np.empty(resamples)
    rows = max(1, CHUNK // n)
    for start in range(0, resamples, rows):
        chosen = generator.integers(0, n, (min(rows, resamples - start), n), dtype=np.int32)
        drawn, sizes = total[chosen], size[chosen]
        whole = sizes.sum(axis=1)
        mean = drawn.sum(axis=1) / whole
        left = _deviations(drawn, mean[:, None] * sizes)
        part = slice(start, start + len(chosen))
        means[part], errors[part] = mean, np.sqrt(n / (n - 1) * np.square(left).sum(axis=1)) / whole
    return means, errors
