"""The difference of two recipes, from runs of several seeds on the same examples: a test over seeds and examples together.

    two_levels(after - before)             # [seeds, examples]; the seeds are paired

A test over examples alone treats the seeds as fixed: it asks about these sets of weights, and calls another seed of the same recipe better
or worse in a third of cases. A test over seeds alone treats the examples as fixed.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from assay.core.means import ROUNDING, spread, units_of
from assay.core.paired import FEW, flip_test
from assay.core.stats import Difference


def two_levels(
    delta: Float[np.ndarray, "seeds examples"],
    groups: Sequence[Any] | np.ndarray | None = None,
    largest: float = 0.0,
    confidence: float = 0.95,
    weights: Float[np.ndarray, "examples"] | None = None,
) -> Difference:
    """Returns the mean difference over seeds and examples with its interval and the two-sided p-value of no difference.

    Seeds and examples are two crossed random factors: the variance of the mean is that over seeds plus that over examples minus that of
    their interaction, which both contain; Student's t with Satterthwaite's degrees of freedom (Clark 1973, Satterthwaite 1946), but at most
    2 (seeds - 1), and one for two seeds: few seeds may happen to differ little. Where few examples differ, the p-value is at least that of
    all their signs, which is exact.

    Args:
        delta: difference of each seed and example.
        groups: the group of each example, resampled together.
        largest: the largest possible difference of one example, as in `difference_interval`; no end lies beyond it. 0: unknown.
        confidence: of the interval.
        weights: the number of tokens that each score is a mean of.

    The ends are NaN if nothing varies. Raises ValueError for fewer than two seeds or units, and for values that are not finite.
    """
    delta = np.asarray(delta, np.float64)
    if delta.ndim != 2 or min(delta.shape) < 2:
        raise ValueError(f"a test over seeds and examples needs at least two of each, got an array of shape {delta.shape}")
    if not np.isfinite(delta).all():
        raise ValueError("a test over seeds and examples needs finite scores")
    seeds = len(delta)
    units = [units_of(row, groups, weights) for row in delta]
    if len(units[0].total) < 2:
        raise ValueError("a test over seeds and examples needs at least two groups of examples")
    totals, size = np.stack([one.total for one in units]), units[0].size
    by_seed = totals.sum(axis=1) / size.sum()
    value = float(by_seed.mean())
    alike = float(np.ptp(by_seed)) <= ROUNDING * float(np.abs(by_seed).max())
    over_seeds = 0.0 if alike else float(np.var(by_seed, ddof=1)) / seeds
    error, freedom = spread(units[0]._replace(total=totals.mean(axis=0)))
    over_examples = error**2 + (largest / (freedom + 3)) ** 2
    n = len(size)
    left = (totals - totals.mean(axis=0)) - (by_seed - by_seed.mean())[:, None] * size
    both = n / (n - 1) * float(np.square(left).sum()) / ((seeds - 1) * seeds * size.sum() ** 2)
    variance = max(over_seeds + over_examples - both, over_seeds, over_examples)
    by_unit = totals.mean(axis=0)
    exact = flip_test(by_unit) if variance == 0 or np.count_nonzero(by_unit) <= FEW else 0.0
    if variance == 0:
        return Difference(value, math.nan, math.nan, exact)
    parts = ((over_seeds, seeds - 1), (over_examples, freedom))
    satterthwaite = variance**2 / sum(part**2 / many for part, many in parts if part > 0)
    freedom = min(satterthwaite, 2.0 * (seeds - 1)) if seeds > 2 else 1.0
    from scipy.special import stdtr, stdtrit  # slow to import

    error = math.sqrt(variance)
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    low, high = value - half, value + half
    if largest > 0:  # a difference of fractions
        low, high = max(low, -largest), min(high, largest)
    return Difference(value, low, high, max(exact, float(2 * stdtr(freedom, -abs(value) / error))))
