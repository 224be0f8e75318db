"""Statistics of rows: functions of columns with one entry per example, each with a suitable interval.

    statistic_of("auroc")({"members/signal": ..., "members/positive": ones, "others/signal": ..., "others/positive": zeros})
    statistic_of("quantile:0.9")({"test/radius": radii})                 # the number after the colon is an argument

Columns are named SET/WHAT; sets are drawn independently. A statistic reads the columns that its docstring names by WHAT, from all sets.
Intervals are two-sided, of any confidence; `one_sided` returns the finite end of a bound.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from assay.core.paired import Columns, Statistic, Together, interval_of, mean
from assay.core.stats import Interval, at_least, auroc_interval, normal, quantile_interval, student, wilson
from assay.evals import score

KEPT = 0.8  # coverage of selective accuracy


def gap(columns: Columns) -> float:
    """Returns the mean score on `train` (or `valid` if there is no `train`) minus the mean score on the other set."""
    own = "train/" if any(key.startswith("train/") for key in columns) else "valid/"
    (first,) = (values for key, values in columns.items() if key.startswith(own))
    (other,) = (values for key, values in columns.items() if not key.startswith(own))
    return float(first.mean() - other.mean())


def calibration_error(columns: Columns) -> float:
    """Returns the expected calibration error with 15 equal bins: the mean gap of confidence and accuracy (Guo et al. 2017)."""
    return score.calibration_error(_named(columns, "confidence"), _named(columns, "score"))


def selective_accuracy(columns: Columns) -> float:
    """Returns the score on the four fifths of the examples with the highest confidence (Geifman and El-Yaniv 2017)."""
    return score_at_coverage(_named(columns, "confidence"), _named(columns, "score"), KEPT)


def score_at_coverage(confidence: np.ndarray, right: np.ndarray, coverage: float) -> float:
    """Returns the mean score of the most confident examples, at least one.

    Of the examples that tie at the cut, which may be all, each counts in part: the order of examples has no effect.
    """
    kept = max(1, round(coverage * len(right)))
    cut = np.partition(confidence, len(confidence) - kept)[len(confidence) - kept]
    above, tied = confidence > cut, confidence == cut
    return float((right[above].sum() + (kept - above.sum()) * right[tied].mean()) / kept)


def half_length(columns: Columns) -> float:
    """Returns the length from which the score is at most half of that at the shortest tested lengths, both there and on average beyond.

    If the score never halves, returns the longest tested length plus one. The score at a length is averaged with neighbouring lengths,
    because single lengths have few examples. Subtract the baseline from the score before calling.
    """
    length, right = _named(columns, "length"), _named(columns, "score")
    order = np.argsort(length, kind="stable")
    parts = np.array_split(order, max(1, min(16, len(order) // 8)))
    means, ends = np.array([right[part].mean() for part in parts]), [length[part].min() for part in parts]
    half = means[0] / 2
    fallen = [k for k in range(1, len(parts)) if means[k] <= half and means[k:].mean() <= half]
    return float(ends[fallen[0]]) if fallen else float(length.max() + 1)


def largest(columns: Columns) -> float:
    """Returns the maximum of the only column."""
    (values,) = columns.values()
    return float(values.max())


def quantile(columns: Columns, at: float) -> float:
    """Returns the quantile `at` of the only column, with linear interpolation."""
    (values,) = columns.values()
    return float(np.quantile(values, at))


def auroc(columns: Columns) -> float:
    """Returns the probability that a positive example has a higher `signal` than a negative one; ties count half. `positive` is 1 or 0.

    Returns NaN if positives or negatives are missing. If both have fixed sizes, pass them as two sets, which resampling preserves.
    """
    positive, negative = _sides(columns)
    if not len(positive) or not len(negative):
        return math.nan
    ordered = np.sort(negative)
    twice = np.searchsorted(ordered, positive, side="left") + np.searchsorted(ordered, positive, side="right")
    return float(int(twice.sum()) / (2 * len(positive) * len(negative)))


def tpr_at_fpr(columns: Columns, at: float) -> float:
    """Returns the fraction of positives whose `signal` exceeds a threshold that at most a fraction `at` of the negatives exceeds.

    The threshold is the lowest possible, without interpolation (Carlini et al. 2022, arXiv 2112.03570). With fewer than 1 / `at`
    negatives, none may exceed it.
    """
    positive, negative = _sides(columns)
    if not len(positive) or not len(negative):
        return math.nan
    ordered = np.sort(negative)[::-1]
    allowed = math.floor(at * len(negative) + 1e-9)
    return float(np.mean(positive > ordered[allowed])) if allowed < len(negative) else 1.0


def worst_group(columns: Columns) -> float:
    """Returns the lowest mean `score` among the groups numbered by `group` (Sagawa et al. 2020, arXiv 1911.08731)."""
    return min(float(values.mean()) for values in _by_group(columns))


STATISTICS: Mapping[str, Callable[..., float]] = {  # a name that ends in a colon takes a number after it
    "mean": mean,
    "gap": gap,
    "calibration_error": calibration_error,
    "selective_accuracy": selective_accuracy,
    "half_length": half_length,
    "largest": largest,
    "quantile:": quantile,
    "auroc": auroc,
    "tpr_at_fpr:": tpr_at_fpr,
    "worst_group": worst_group,
}
WITHOUT = ("largest",)  # statistics whose uncertainty resampling cannot estimate


def statistic_of(name: str) -> Statistic:
    """Returns a statistic by name: a key of STATISTICS, or one with a number in [0, 1], such as "tpr_at_fpr:0.01". Raises ValueError
    otherwise."""
    kind, colon, number = name.partition(":")
    if kind + colon not in STATISTICS:
        raise ValueError(f"unknown statistic {name!r}; available: {', '.join(STATISTICS)}, with a number after a colon")
    if not colon:
        return STATISTICS[kind]
    at = float(number)
    if not 0 <= at <= 1:
        raise ValueError(f"the number of {name!r} must be in [0, 1]")
    return partial(STATISTICS[kind + colon], at=at)


def statistic_interval(
    name: str, columns: Columns, groups: Mapping[str, Together] = {}, right: Sequence[str] = (), confidence: float = 0.95
) -> Interval:
    """Returns a statistic with its two-sided interval.

    Args:
        groups: clusters of each set, which are resampled together.
        right: WHAT of the columns with right (1) or wrong (0) answers.

    Unknown ends are NaN; ends that too few examples leave unbounded are infinite.
    """
    own, statistic = INTERVALS.get(name.partition(":")[0]), statistic_of(name)
    if own is not None:
        return own(statistic, columns, groups, right, confidence)
    return interval_of(statistic, columns, groups, right=right, confidence=confidence)


def one_sided(
    name: str, columns: Columns, bound: str, groups: Mapping[str, Together] = {}, right: Sequence[str] = (), confidence: float = 0.95
) -> Interval:
    """Returns a statistic with a one-sided interval: `bound` is "lower" (at least) or "upper" (at most); the other end is infinite.

    Fractions of right answers use the exact bound of Clopper and Pearson (1934). Other statistics use one end of the two-sided interval
    of confidence 2 c - 1.
    """
    ((key, values), *_) = columns.items()
    if name == "mean" and key.rpartition("/")[2] in right and groups.get(key.rpartition("/")[0]) is None:
        n, hits = len(values), round(float(values.sum()))
        found = Interval(hits / n, at_least(hits, n, confidence), 1 - at_least(n - hits, n, confidence))
    else:
        found = statistic_interval(name, columns, groups, right, 2 * confidence - 1)
    return found._replace(**({"high": math.inf} if bound == "lower" else {"low": -math.inf}))


# -- private --------------------------------------------------------------------------------------------------------------


def _calibration_interval(
    statistic: Statistic, columns: Columns, groups: Mapping[str, Together], right: Sequence[str], confidence: float
) -> Interval:
    return calibration_interval(columns, groups, right, confidence)


def calibration_interval(
    columns: Columns,
    groups: Mapping[str, Together] = {},
    right: Sequence[str] = (),
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Interval:
    """Returns the calibration error, whose bias is upward with few examples and again under resampling.

    The low end is that of the basic bootstrap, which subtracts the bias twice (Davison and Hinkley 1997); the high end is the percentile.
    For right or wrong answers, the low end is 0 if a calibrated model of this confidence often has as large an error. This is consistency
    resampling (Broecker and Smith 2007).
    """
    found = interval_of(calibration_error, columns, groups, resamples=resamples, confidence=confidence)
    low = max(0.0, 2 * found.value - found.high)
    if "score" in right:
        sure = _named(columns, "confidence")
        draws = np.random.default_rng(0).random((resamples, len(sure))) < sure
        calibrated = [calibration_error({"confidence": sure, "score": draw.astype(float)}) for draw in draws]
        low = 0.0 if found.value <= np.quantile(calibrated, 0.95) else low
    return Interval(found.value, low, found.high)


def _no_interval(statistic: Statistic, columns: Columns, *_: Any) -> Interval:
    """Returns no interval: resampling cannot exceed a maximum."""
    return Interval(float(statistic(columns)), math.nan, math.nan)


def _of_quantile(
    statistic: Statistic, columns: Columns, groups: Mapping[str, Together], right: Sequence[str], confidence: float
) -> Interval:
    """Uses the distribution-free interval from order statistics; the bootstrap for grouped examples."""
    if _grouped(columns, groups):
        return interval_of(statistic, columns, groups, right=right, confidence=confidence)
    (values,) = columns.values()
    return Interval(float(statistic(columns)), *quantile_interval(values, statistic.keywords["at"], confidence))  # type: ignore[attr-defined]


def _of_auroc(statistic: Statistic, columns: Columns, groups: Mapping[str, Together], right: Sequence[str], confidence: float) -> Interval:
    """Uses Newcombe's interval, which has positive width even for separated sides, where every resample is 1; the bootstrap for groups."""
    if _grouped(columns, groups):
        return interval_of(statistic, columns, groups, right=right, confidence=confidence)
    value, (positive, negative) = float(statistic(columns)), _sides(columns)
    return Interval(value, *(auroc_interval(value, len(positive), len(negative), confidence) if math.isfinite(value) else (math.nan,) * 2))


def _of_rate(statistic: Statistic, columns: Columns, groups: Mapping[str, Together], right: Sequence[str], confidence: float) -> Interval:
    """Uses the bootstrap, which resamples the threshold too, widened to Wilson's interval of the positives alone for width at 0 and 1."""
    found = interval_of(statistic, columns, groups, right=right, confidence=confidence)
    low, high = wilson(found.value, len(_sides(columns)[0]), normal(confidence)) if math.isfinite(found.value) else (math.nan, math.nan)
    return Interval(found.value, min(found.low, low), max(found.high, high))


def _of_worst(statistic: Statistic, columns: Columns, groups: Mapping[str, Together], right: Sequence[str], confidence: float) -> Interval:
    """Takes the lowest of the groups' low ends and the lowest of their high ends, the latter at a confidence that holds for all groups.

    The lowest of several means is biased downward by chance, and resampling lowers it again.
    """
    if _grouped(columns, groups):
        return interval_of(statistic, columns, groups, right=right, confidence=confidence)
    each, miss = _by_group(columns), (1 - confidence) / 2
    ends = [
        [_ends_of_mean(values, "score" in right, 1 - 2 * share)[side] for values in each]
        for side, share in ((0, miss), (1, miss / len(each)))
    ]
    return Interval(float(statistic(columns)), min(ends[0]), min(ends[1]))


def _ends_of_mean(values: np.ndarray, right: bool, confidence: float) -> tuple[float, float]:
    """Uses Wilson's interval for right or wrong answers, else Student's t; infinite for a single value."""
    if right:
        return wilson(float(values.mean()), len(values), normal(confidence))
    return student(values, confidence) or (-math.inf, math.inf)


INTERVALS: Mapping[str, Callable[..., Interval]] = {  # statistics with a dedicated interval
    "calibration_error": _calibration_interval,
    "largest": _no_interval,
    "quantile": _of_quantile,
    "auroc": _of_auroc,
    "tpr_at_fpr": _of_rate,
    "worst_group": _of_worst,
}


def _named(columns: Columns, what: str) -> np.ndarray:
    (found,) = (values for key, values in columns.items() if key.rpartition("/")[2] == what)
    return found


def _joined(columns: Columns, what: str) -> np.ndarray:
    """Concatenates the columns of this name over all sets."""
    return np.concatenate([values for key, values in sorted(columns.items()) if key.rpartition("/")[2] == what])


def _sides(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Returns the signals of the positives and of the negatives."""
    signal, positive = _joined(columns, "signal"), _joined(columns, "positive") > 0
    return signal[positive], signal[~positive]


def _by_group(columns: Columns) -> list[np.ndarray]:
    score, group = _joined(columns, "score"), _joined(columns, "group")
    return [score[group == one] for one in np.unique(group)]


def _grouped(columns: Columns, groups: Mapping[str, Together]) -> bool:
    return any(groups.get(key.rpartition("/")[0]) is not None for key in columns)
