"""The statistics that a row's value can be, of columns with one entry an example, each with the interval that is honest for it.

    statistic_of("auroc")({"members/signal": ..., "members/positive": ones, "others/signal": ..., "others/positive": zeros})
    statistic_of("quantile:0.9")({"test/radius": radii})                 # a number after the colon is handed over

Columns are named SET/WHAT; sets are drawn independently. A statistic reads those that its docstring names by WHAT, of all sets together.
Intervals are two-sided, of any confidence; `one_sided` gives the finite end of a bound.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from assay.core.paired import Columns, Statistic, Together, interval_of, mean
from assay.core.stats import Interval, at_least, auroc_interval, normal, quantile_interval, student, wilson

BINS = 15  # of confidence


def gap(columns: Columns) -> float:
    """How much higher the score is on the set `train`, or `valid` where that is not there, than on the other."""
    own = "train/" if any(key.startswith("train/") for key in columns) else "valid/"
    (first,) = (values for key, values in columns.items() if key.startswith(own))
    (other,) = (values for key, values in columns.items() if not key.startswith(own))
    return float(first.mean() - other.mean())


def calibration_error(columns: Columns) -> float:
    """Expected calibration error, 15 equal bins (Guo et al. 2017): how far confidence is from the share that is right."""
    confidence, right = _named(columns, "confidence"), _named(columns, "score")
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, weights=right - confidence, minlength=BINS)).sum() / len(right))


def selective_accuracy(columns: Columns) -> float:
    """The score on the four fifths of the examples that the model is surest of (Geifman and El-Yaniv 2017)."""
    confidence, right = _named(columns, "confidence"), _named(columns, "score")
    kept = np.argsort(-confidence, kind="stable")[: max(1, round(0.8 * len(right)))]
    return float(right[kept].mean())


def half_length(columns: Columns) -> float:
    """The length from which on at most half of the score at the shortest tested lengths is left, there and on average beyond; one more than
    the longest tested if it always is. The score of a length is a mean over it and its neighbours, as single lengths have few examples;
    a score that is to be halved has had its baseline taken off."""
    length, right = _named(columns, "length"), _named(columns, "score")
    order = np.argsort(length, kind="stable")
    parts = np.array_split(order, max(1, min(16, len(order) // 8)))
    means, ends = np.array([right[part].mean() for part in parts]), [length[part].min() for part in parts]
    half = means[0] / 2
    fallen = [k for k in range(1, len(parts)) if means[k] <= half and means[k:].mean() <= half]
    return float(ends[fallen[0]]) if fallen else float(length.max() + 1)


def largest(columns: Columns) -> float:
    """The maximum of the only column."""
    (values,) = columns.values()
    return float(values.max())


def quantile(columns: Columns, at: float) -> float:
    """The value that a share `at` of the only column lies below, interpolated linearly."""
    (values,) = columns.values()
    return float(np.quantile(values, at))


def auroc(columns: Columns) -> float:
    """The probability that a positive example has a higher `signal` than a negative one; a tie counts half. `positive`: 1 or 0.

    NaN where there are no positives or no negatives. Give the two sets of their own where each has a fixed size: a resample keeps it.
    """
    positive, negative = _sides(columns)
    if not len(positive) or not len(negative):
        return math.nan
    ordered = np.sort(negative)
    twice = np.searchsorted(ordered, positive, side="left") + np.searchsorted(ordered, positive, side="right")
    return float(int(twice.sum()) / (2 * len(positive) * len(negative)))


def tpr_at_fpr(columns: Columns, at: float) -> float:
    """The share of positives whose `signal` reaches the lowest threshold that at most a share `at` of the negatives reaches.

    Nothing is interpolated (Carlini et al. 2022, arXiv 2112.03570). With fewer than 1 / `at` negatives none of them may reach it.
    """
    positive, negative = _sides(columns)
    if not len(positive) or not len(negative):
        return math.nan
    ordered = np.sort(negative)[::-1]
    allowed = math.floor(at * len(negative) + 1e-9)
    return float(np.mean(positive > ordered[allowed])) if allowed < len(negative) else 1.0


def worst_group(columns: Columns) -> float:
    """The least mean `score` of the groups that `group` numbers (Sagawa et al. 2020, arXiv 1911.08731)."""
    return min(float(values.mean()) for values in _by_group(columns))


STATISTICS: Mapping[str, Callable[..., float]] = {  # a name with a colon stands for those with a number after it
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
WITHOUT = ("largest",)  # statistics that resampling says nothing of


def statistic_of(name: str) -> Statistic:
    """A statistic by name: an entry of STATISTICS, or one with a number in [0, 1], such as "tpr_at_fpr:0.01". Raises ValueError else."""
    kind, colon, number = name.partition(":")
    if kind + colon not in STATISTICS:
        raise ValueError(f"unknown statistic {name!r}; known are {', '.join(STATISTICS)}, with a number after a colon")
    if not colon:
        return STATISTICS[kind]
    at = float(number)
    if not 0 <= at <= 1:
        raise ValueError(f"the number of {name!r} is a share in [0, 1]")
    return partial(STATISTICS[kind + colon], at=at)


def statistic_interval(
    name: str, columns: Columns, groups: Mapping[str, Together] = {}, right: Sequence[str] = (), confidence: float = 0.95
) -> Interval:
    """A statistic with its two-sided interval. `groups`: of each set, what is drawn together; `right`: WHAT of columns of right (1) or
    wrong (0). Ends that are not known are NaN, and those that few examples cannot bound are infinite."""
    own, statistic = INTERVALS.get(name.partition(":")[0]), statistic_of(name)
    if own is not None:
        return own(statistic, columns, groups, right, confidence)
    return interval_of(statistic, columns, groups, right=right, confidence=confidence)


def one_sided(
    name: str, columns: Columns, bound: str, groups: Mapping[str, Together] = {}, right: Sequence[str] = (), confidence: float = 0.95
) -> Interval:
    """A statistic with a bound: `lower`, which it is at least, or `upper`, at most; the other end is infinite.

    Clopper and Pearson's exact bound (1934) of a share of right answers, else an end of the two-sided interval of confidence 2 c - 1.
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
    """The calibration error, which few examples make too large, and resampling again: its low end is that of the basic bootstrap, which
    takes that off twice (Davison and Hinkley 1997), its high end the percentile. Of right or wrong answers it begins at 0 where a
    calibrated model of this confidence would often have as much (consistency resampling, Broecker and Smith 2007)."""
    found = interval_of(calibration_error, columns, groups, resamples=resamples, confidence=confidence)
    low = max(0.0, 2 * found.value - found.high)
    if "score" in right:
        sure = _named(columns, "confidence")
        draws = np.random.default_rng(0).random((resamples, len(sure))) < sure
        calibrated = [calibration_error({"confidence": sure, "score": draw.astype(float)}) for draw in draws]
        low = 0.0 if found.value <= np.quantile(calibrated, 0.95) else low
    return Interval(found.value, low, found.high)


def _no_interval(statistic: Statistic, columns: Columns, *_: Any) -> Interval:
    """A maximum, which resampling cannot exceed."""
    return Interval(float(statistic(columns)), math.nan, math.nan)


def _of_quantile(
    statistic: Statistic, columns: Columns, groups: Mapping[str, Together], right: Sequence[str], confidence: float
) -> Interval:
    """Of order statistics, whatever the distribution; the bootstrap where examples come in groups."""
    if _grouped(columns, groups):
        return interval_of(statistic, columns, groups, right=right, confidence=confidence)
    (values,) = columns.values()
    return Interval(float(statistic(columns)), *quantile_interval(values, statistic.keywords["at"], confidence))  # type: ignore[attr-defined]


def _of_auroc(statistic: Statistic, columns: Columns, groups: Mapping[str, Together], right: Sequence[str], confidence: float) -> Interval:
    """Newcombe's, which has a width where the two sides do not overlap and every resample is 1; the bootstrap of groups."""
    if _grouped(columns, groups):
        return interval_of(statistic, columns, groups, right=right, confidence=confidence)
    value, (positive, negative) = float(statistic(columns)), _sides(columns)
    return Interval(value, *(auroc_interval(value, len(positive), len(negative), confidence) if math.isfinite(value) else (math.nan,) * 2))


def _of_rate(statistic: Statistic, columns: Columns, groups: Mapping[str, Together], right: Sequence[str], confidence: float) -> Interval:
    """The bootstrap, which draws the threshold too, and at least as wide as Wilson's of the positives alone, with a width at 0 and 1."""
    found = interval_of(statistic, columns, groups, right=right, confidence=confidence)
    low, high = wilson(found.value, len(_sides(columns)[0]), normal(confidence)) if math.isfinite(found.value) else (math.nan, math.nan)
    return Interval(found.value, min(found.low, low), max(found.high, high))


def _of_worst(statistic: Statistic, columns: Columns, groups: Mapping[str, Together], right: Sequence[str], confidence: float) -> Interval:
    """The least of the low ends of all groups, and the least of their high ends, those at a confidence that holds for all at once: the
    least of several means lies below each by chance, and resampling lowers it again."""
    if _grouped(columns, groups):
        return interval_of(statistic, columns, groups, right=right, confidence=confidence)
    each, miss = _by_group(columns), (1 - confidence) / 2
    ends = [
        [_ends_of_mean(values, "score" in right, 1 - 2 * share)[side] for values in each]
        for side, share in ((0, miss), (1, miss / len(each)))
    ]
    return Interval(float(statistic(columns)), min(ends[0]), min(ends[1]))


def _ends_of_mean(values: np.ndarray, right: bool, confidence: float) -> tuple[float, float]:
    """Wilson's of right or wrong, else Student's; infinite of a single value."""
    if right:
        return wilson(float(values.mean()), len(values), normal(confidence))
    return student(values, confidence) or (-math.inf, math.inf)


INTERVALS: Mapping[str, Callable[..., Interval]] = {  # of statistics with one of their own
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
    """The columns of this name of all sets, one after the other."""
    return np.concatenate([values for key, values in sorted(columns.items()) if key.rpartition("/")[2] == what])


def _sides(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """The signals of the positives, and of the negatives."""
    signal, positive = _joined(columns, "signal"), _joined(columns, "positive") > 0
    return signal[positive], signal[~positive]


def _by_group(columns: Columns) -> list[np.ndarray]:
    score, group = _joined(columns, "score"), _joined(columns, "group")
    return [score[group == one] for one in np.unique(group)]


def _grouped(columns: Columns, groups: Mapping[str, Together]) -> bool:
    return any(groups.get(key.rpartition("/")[0]) is not None for key in columns)
