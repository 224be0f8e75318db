"""Confidence intervals and paired tests. Every number comes with its n and its interval; two models are compared on the same examples.

Use `wilson` for the interval of a share, `at_least` for an exact bound of one, the functions of means.py for any other mean, `over_seeds`
over seeds, `quantile_interval` and `auroc_interval` for those statistics, and `bootstrap` for any other statistic. To compare two models,
use `mcnemar(*discordant(first, second))` for right or wrong answers and `difference_of` (paired.py) for any score. Then apply `holm` to all
comparisons made. Resampling uses its own generator, created from `seed`.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

Z = 1.959963984540054  # standard normal quantile of a two-sided 95 % interval
CHUNK = 1 << 22  # rows drawn at a time, about 50 MB with their values


class Interval(NamedTuple):
    """Statistic with its confidence interval."""

    value: float  # the statistic on the original data
    low: float
    high: float


class Difference(NamedTuple):
    """Paired difference with its confidence interval and p-value."""

    value: float  # mean of the first minus mean of the second
    low: float
    high: float
    p_value: float  # two-sided, of no difference


def wilson(mean: float, n: float, z: float = Z) -> tuple[float, float]:
    """Returns Wilson's score interval for a mean of n values in [0, 1] (Wilson 1927); 95 % unless `z` is given.

    It is meant for 0/1 values and conservative for fractions, whose variance is at most p(1 - p). `n` may be an effective number.
    """
    if n <= 0:
        raise ValueError(f"an interval needs at least one example, got n={n}")
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))  # at 0 and 1, rounding would exclude the mean


def normal(confidence: float) -> float:
    """Returns the standard normal quantile of a two-sided interval: 1.96 for confidence 0.95."""
    from scipy.special import ndtri  # slow to import

    return float(ndtri((1 + confidence) / 2))


def at_least(hits: int, n: int, confidence: float = 0.95) -> float:
    """Returns the exact one-sided lower confidence bound of a proportion (Clopper and Pearson 1934). The upper one is
    1 - at_least(n - hits, n). Raises ValueError for impossible counts."""
    if n <= 0 or not 0 <= hits <= n:
        raise ValueError(f"a bound needs at least one example and no more hits than examples, got {hits} of {n}")
    if hits == 0:
        return 0.0
    from scipy.special import betaincinv  # slow to import

    return float(betaincinv(hits, n - hits + 1, 1 - confidence))


def student(values: Float[np.ndarray, "examples"], confidence: float = 0.95) -> tuple[float, float] | None:
    """Returns Student's t interval of the mean, or None for fewer than two values."""
    if len(values) < 2:
        return None
    from scipy.special import stdtrit  # scipy is slow to import, and most runs never need it

    deviation = float(np.std(values, ddof=1)) if np.ptp(values) else 0.0  # rounding gives equal values one above 0
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * deviation / math.sqrt(len(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def quantile_interval(values: Float[np.ndarray, "examples"], at: float, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the distribution-free interval of a quantile from the order statistics (David and Nagaraja 2003, section 7.1).

    An end is infinite if there are too few values to bound it.
    """
    from scipy.special import bdtr  # slow to import

    ordered, n = np.sort(values), len(values)
    below = bdtr(np.arange(n, dtype=float), n, at)  # P(at most k of n lie below it)
    low, high = np.flatnonzero(below <= (1 - confidence) / 2), np.flatnonzero(below >= (1 + confidence) / 2)
    return float(ordered[low[-1]]) if len(low) else -math.inf, float(ordered[high[0]]) if len(high) else math.inf


def auroc_interval(value: float, positives: int, negatives: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns Newcombe's interval of an AUROC (2006, Statistics in Medicine 25:559, method 5).

    It inverts the standard errors of Hanley and McNeil (1982) with the mean sample size. Its width is positive even at 0 and 1, where
    resampling gives none.
    """
    if positives < 1 or negatives < 1 or not 0 <= value <= 1:
        raise ValueError(f"an AUROC is in [0, 1] and needs a positive and a negative example; got {value}, {positives} and {negatives}")
    z, more = normal(confidence), (positives + negatives) / 2 - 1

    def beyond(true: float) -> bool:
        spread = true * (1 - true) * (1 + more * ((1 - true) / (2 - true) + true / (1 + true))) / (positives * negatives)
        return abs(value - true) > z * math.sqrt(spread)

    return _border(beyond, value, 0.0), _border(beyond, value, 1.0)


def over_seeds(values: Sequence[float], bounds: tuple[float, float] = (0.0, 1.0)) -> tuple[float, float] | None:
    """Returns Student's 95 % interval of the mean over seeds, clipped to the metric's range (`bounds`), or None for a single seed."""
    if len(values) < 2:
        return None
    low, high = student(np.asarray(values, np.float64)) or (-math.inf, math.inf)
    return max(bounds[0], low), min(bounds[1], high)


def discordant(
    first: Shaped[np.ndarray, "examples"] | Sequence[float], second: Shaped[np.ndarray, "examples"] | Sequence[float]
) -> tuple[int, int]:
    """Counts the examples that only the first model has right, and those that only the second has right. Scores must be 0 or 1."""
    pair = _paired(first, second)
    if not np.isin(pair, (0.0, 1.0)).all():
        raise ValueError("McNemar's test compares answers that are right (1) or wrong (0); for other scores use difference_of")
    return int(((pair[0] == 1) & (pair[1] == 0)).sum()), int(((pair[0] == 0) & (pair[1] == 1)).sum())


def mcnemar(only_first: int, only_second: int, mid_p: bool = False) -> float:
    """Returns the exact two-sided p-value of McNemar's test from its discordant counts (McNemar 1947).

    It is the probability that n = b + c fair coins land at least as far from n / 2 heads as b does. `mid_p` counts half the probability of
    those exactly as far (Fagerland et al. 2013), which is less conservative.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"discordant counts must not be negative, got {only_first} and {only_second}")
    n, least = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    from scipy.special import betainc, gammaln  # slow to import

    # P(X <= k) = I_{1/2}(n - k, k + 1); by symmetry both tails have the same probability, and the middle point of an even n belongs to both
    tails = min(1.0, 2.0 * float(betainc(n - least, least + 1, 0.5)))
    if not mid_p:
        return tails
    point = math.exp(float(gammaln(n + 1) - gammaln(least + 1) - gammaln(n - least + 1)) - n * math.log(2.0))
    return tails - point * (0.5 if 2 * least == n else 1.0)


def bootstrap(
    statistic: Callable[..., float],
    *arrays: Shaped[np.ndarray, "examples ..."],
    groups: Shaped[np.ndarray, "examples"] | Sequence[object] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Returns the percentile interval of `statistic(*arrays)`, whose rows are resampled together, singly or in whole `groups`.

    Example: `bootstrap(f1_macro, predictions, targets, groups=files)`. Only one resample is in memory at a time.
    """
    _check(resamples, confidence)
    n = len(arrays[0]) if arrays else 0
    if n == 0 or any(len(array) != n for array in arrays):
        raise ValueError(f"a bootstrap needs arrays of the same non-zero length, got {[len(array) for array in arrays]}")
    number = np.arange(n) if groups is None else _group_numbers(groups, n)
    order, sizes = np.argsort(number, kind="stable"), np.bincount(number)
    starts, generator = np.cumsum(sizes) - sizes, np.random.default_rng(seed)
    values = np.empty(resamples)
    for i in range(resamples):
        drawn = generator.integers(0, len(sizes), len(sizes))
        ends = np.cumsum(sizes[drawn])
        rows = order[np.arange(ends[-1]) + np.repeat(starts[drawn] - ends + sizes[drawn], sizes[drawn])]
        values[i] = statistic(*(array[rows] for array in arrays))
    return Interval(float(statistic(*arrays)), *percentiles(values, confidence))


def holm(p_values: Sequence[float] | Float[np.ndarray, "comparisons"]) -> Float[np.ndarray, "comparisons"]:
    """Returns adjusted p-values in the order given (Holm 1979).

    Rejecting all comparisons with an adjusted value below a level keeps the family-wise error rate at most at that level. The i-th smallest
    of m p-values is multiplied by m - i + 1 and is never below the previous one.
    """
    values = np.asarray(p_values, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values must lie in [0, 1], got {values.tolist()}")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted


def percentiles(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the central interval that holds a share `confidence` of the values, or NaN if a value is not finite."""
    if not np.isfinite(values).all():
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


# -- private --------------------------------------------------------------------------------------------------------------


def _border(beyond: Callable[[float], bool], inside: float, end: float) -> float:
    """Finds by bisection the value between `inside` and `end` where `beyond` becomes true; `end` if it never does."""
    if not beyond(end):
        return end
    for _ in range(60):
        middle = (inside + end) / 2
        inside, end = (inside, middle) if beyond(middle) else (middle, end)
    return inside


def _paired(first: object, second: object) -> np.ndarray:
    pair = [np.asarray(values, np.float64) for values in (first, second)]
    if pair[0].shape != pair[1].shape or pair[0].ndim != 1 or pair[0].size == 0:
        raise ValueError(f"a paired comparison needs the same examples twice, at least one; got shapes {pair[0].shape} and {pair[1].shape}")
    if not np.isfinite(pair).all():
        raise ValueError("a paired comparison needs finite scores")
    return np.stack(pair)


def _group_numbers(groups: object, n: int) -> np.ndarray:
    names = np.asarray(groups)
    if names.shape != (n,):
        raise ValueError(f"groups name one group for each of {n} examples, got shape {names.shape}")
    return np.unique(names, return_inverse=True)[1]


def _check(resamples: int, confidence: float) -> None:
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(f"a bootstrap needs at least one resample and a confidence in (0, 1), got {resamples} and {confidence}")
