"""Intervals and paired tests of statistics: each with the method that suits it.

    statistic_interval("auroc", columns, groups)
    statistic_difference("calibration_error", after, before, groups)

Intervals are two-sided, of any confidence; `one_sided` returns the finite end of a bound.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.means import LEAST, LEAST_GROUPS, caution, difference_interval, mean_interval, shares_interval, units_of
from assay.core.paired import (
    Columns,
    Statistic,
    Together,
    difference_of,
    ends_of,
    flip_test,
    interval_of,
    mean,
    resampled_differences,
    spread_out,
    swap_test,
)
from assay.core.stats import Difference, Interval, at_least, auroc_interval, normal, quantile_interval, student, wilson
from assay.diagnostics.statistics import KEPT, WITHOUT, by_group, calibration_error, half_length, named, sides, statistic_of, token_mean
from assay.evals import score


def statistic_interval(
    name: str,
    columns: Columns,
    groups: Mapping[str, Together] = {},
    right: Sequence[str] = (),
    confidence: float = 0.95,
    bounded: bool = False,
) -> Interval:
    """Returns a statistic with its two-sided interval.

    Args:
        groups: clusters of each set, which are resampled together.
        right: WHAT of the columns with right (1) or wrong (0) answers.
        bounded: whether the values of a mean, or of the worst of several, lie in [0, 1]; then the ends do, too.

    Unknown ends are NaN; ends that too few examples leave unbounded are infinite.
    """
    own, statistic = INTERVALS.get(name.partition(":")[0]), statistic_of(name)
    if own is not None:
        if not math.isfinite(value := float(statistic(columns))):
            return Interval(value, math.nan, math.nan)
        if own is _of_tokens:
            return own(statistic, columns, groups, right, confidence, bounded)
        found = own(statistic, columns, groups, right, confidence)
        return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0)) if bounded and own is _of_worst else found
    return interval_of(statistic, columns, groups, right=right, bounded=bounded, confidence=confidence)


def statistic_difference(
    name: str,
    first: Columns,
    second: Columns,
    groups: Mapping[str, Together] = {},
    right: Sequence[str] = (),
    bounded: bool = False,
    resamples: int = 2000,
    flips: int = 10_000,
) -> Difference:
    """Returns statistic(first) - statistic(second) on the same examples, with its interval and p-value: those of `difference_of`, but
    for statistics on which swaps of the two models or resampling mislead. The arguments are those of `statistic_interval`."""
    own = DIFFERENCES.get(name)
    if own is not None:
        return own(first, second, groups, resamples, flips, bounded)
    return difference_of(statistic_of(name), first, second, groups, resamples=resamples, flips=flips, right=right, bounded=bounded)


def caution_of(name: str, columns: Columns, groups: Mapping[str, Together] = {}, right: Sequence[str] = (), bounded: bool = False) -> str:
    """Returns why the interval of a statistic is missing or may be too narrow, or ""."""
    for key, values in columns.items():
        own, group = key.rpartition("/")[2] in right, groups.get(key.rpartition("/")[0])
        if not np.isfinite(values).all():
            return f"{int((~np.isfinite(values)).sum()):,} of {len(values):,} values are not finite"
        if name not in WITHOUT and not (own and group is None and name == "mean"):
            found = caution(units_of(values, group), bounded or own or name not in ("mean", "token_mean"))
            if found:
                return found
    return ""


def units_in(name: str, columns: Columns, groups: Mapping[str, Together] = {}) -> float:
    """Returns how many examples, or groups of them, a statistic averages over: the fewest where it has several sides."""
    kind = name.partition(":")[0]
    if kind in ("auroc", "tpr_at_fpr") and not _grouped(columns, groups):
        return min(map(len, sides(columns)))
    if kind == "worst_group" and not _grouped(columns, groups):
        return min(map(len, by_group(columns)))
    sizes = {key.rpartition("/")[0]: values for key, values in columns.items()}
    many = [len(values) if groups.get(one) is None else len(np.unique(np.asarray(groups[one]))) for one, values in sizes.items()]
    if kind == "gap":
        return 1 / sum(1 / size for size in many)
    return min(many) * (KEPT if kind == "selective_accuracy" else 1.0)


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
    value = calibration_error(columns)
    few = units_in("mean", columns, groups) < (LEAST_GROUPS if _grouped(columns, groups) else LEAST)
    if few or not math.isfinite(value):
        return Interval(value, math.nan, math.nan)
    sure, own = named(columns, "confidence"), named(columns, "score")
    kind, generator = score.bin_of(sure, score.BINS), np.random.default_rng(0)
    high = float(np.quantile(_resampled_errors(sure - own, kind, _together(columns, groups), generator, resamples), (1 + confidence) / 2))
    low = max(0.0, 2 * value - high)
    if "score" in right:
        bins = np.eye(score.BINS)[kind]
        draws = (generator.random((resamples, len(sure))) < sure).astype(float)
        calibrated = np.abs(sure @ bins - draws @ bins).sum(axis=1) / len(sure)
        low = 0.0 if value <= np.quantile(calibrated, 0.95) else low
    return Interval(value, low, max(value, high))


def _resampled_errors(
    over: np.ndarray, kind: np.ndarray, together: np.ndarray | None, generator: np.random.Generator, resamples: int
) -> np.ndarray:
    """Returns calibration errors of resamples of the units, from confidence minus score and the bin of each example: [resamples]."""
    unit = np.arange(len(over)) if together is None else np.unique(together, return_inverse=True)[1]
    many = int(unit.max()) + 1
    table = np.zeros((many, score.BINS + 1))  # sums by bin, and sizes
    np.add.at(table, (unit, kind), over)
    table[:, -1] = np.bincount(unit, minlength=many)
    sums = generator.multinomial(many, np.full(many, 1 / many), resamples) @ table
    return np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]


def _calibration_difference(
    first: Columns, second: Columns, groups: Mapping[str, Together], resamples: int, flips: int, bounded: bool
) -> Difference:
    """Allows for the bias of both errors, which is upward and larger where accuracy is lower.

    The bias is at most that of a calibrated model of the same confidence. The p-value is that of the smallest difference that any bias up
    to this one leaves, and the interval contains the differences with and without it.
    """
    value, bias = calibration_error(first) - calibration_error(second), _calibrated_error(first) - _calibrated_error(second)
    low, high = ends_of(resampled_differences(calibration_error, first, second, groups, resamples=resamples), first, groups)
    both = sorted((value, value - bias))
    least = 0.0 if both[0] <= 0 <= both[1] else min(both, key=abs)
    p_value = 1.0 if least == 0 else swap_test(calibration_error, first, second, groups, resamples=resamples, observed=least)
    return Difference(value, min(low, low - bias), max(high, high - bias), p_value)


def _calibrated_error(columns: Columns) -> float:
    """Returns the expected calibration error of as many right or wrong answers from a calibrated model with the same confidences: the
    absolute mean of a normal variable, bin by bin."""
    confidence = np.clip(named(columns, "confidence"), 0.0, 1.0)
    variance = np.bincount(score.bin_of(confidence, score.BINS), weights=confidence * (1 - confidence))
    return float(np.sqrt(2 / math.pi * variance).sum() / len(confidence))


def _half_length_difference(
    first: Columns, second: Columns, groups: Mapping[str, Together], resamples: int, flips: int, bounded: bool
) -> Difference:
    """Tests the scores within lengths, and the lengths by the bootstrap; the p-value is the larger of both.

    Swaps mix the two models at every length. Where one has failed and the other has not, the mixture's score is near half everywhere, and
    its half length arbitrary.
    """
    score, length = (next(key for key in first if key.rpartition("/")[2] == what) for what in ("score", "length"))
    by_length = np.unique(first[length], return_inverse=True)[1]
    weight = 1 / np.bincount(by_length)[by_length]  # lengths count alike, as they do along the curve
    scores = difference_of(mean, {score: first[score] * weight}, {score: second[score] * weight}, groups, flips=flips).p_value
    drawn = resampled_differences(half_length, first, second, groups, resamples=resamples)
    side = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p_value = max(scores, min(1.0, 2 * (1 + side) / (1 + len(drawn))))
    return Difference(half_length(first) - half_length(second), *ends_of(drawn, first, groups), p_value)


def _token_difference(
    first: Columns, second: Columns, groups: Mapping[str, Together], resamples: int, flips: int, bounded: bool
) -> Difference:
    """Uses sign flips and `difference_interval` of the units' sums over tokens, as `difference_of` does for a mean over examples."""
    delta = named(first, "score") - named(second, "score")
    value = token_mean(first) - token_mean(second)
    if not math.isfinite(value):
        return Difference(value, math.nan, math.nan, 1.0)
    units = units_of(delta, _together(first, groups), named(first, "tokens"))
    low, high = spread_out(difference_interval(units, 1.0 if bounded else float(np.abs(delta).max())))
    if bounded:
        low, high = max(low, -1.0), min(high, 1.0)
    return Difference(value, low, high, flip_test(units.total, flips=flips))


def _of_tokens(
    statistic: Statistic, columns: Columns, groups: Mapping[str, Together], right: Sequence[str], confidence: float, bounded: bool = False
) -> Interval:
    """Uses the intervals of a ratio of sums, as results.json does for a mean over tokens; `bounded`: of fractions."""
    values, value = named(columns, "score"), float(statistic(columns))
    if not np.isfinite(values).all():
        return Interval(value, math.nan, math.nan)
    units = units_of(values, _together(columns, groups), named(columns, "tokens"))
    return Interval(value, *(shares_interval(units, confidence) if bounded else mean_interval(units, confidence)))


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
    value, (positive, negative) = float(statistic(columns)), sides(columns)
    return Interval(value, *(auroc_interval(value, len(positive), len(negative), confidence) if math.isfinite(value) else (math.nan,) * 2))


def _of_rate(statistic: Statistic, columns: Columns, groups: Mapping[str, Together], right: Sequence[str], confidence: float) -> Interval:
    """Uses the bootstrap, which resamples the threshold too, widened to Wilson's interval of the positives alone for width at 0 and 1."""
    found = interval_of(statistic, columns, groups, right=right, confidence=confidence)
    low, high = wilson(found.value, len(sides(columns)[0]), normal(confidence)) if math.isfinite(found.value) else (math.nan, math.nan)
    return Interval(found.value, float(np.fmin(found.low, low)), float(np.fmax(found.high, high)))  # resamples that are equal have no ends


def _of_worst(statistic: Statistic, columns: Columns, groups: Mapping[str, Together], right: Sequence[str], confidence: float) -> Interval:
    """Takes the lowest of the groups' low ends and the lowest of their high ends, the latter at a confidence that holds for all groups.

    The lowest of several means is biased downward by chance, and resampling lowers it again.
    """
    if _grouped(columns, groups):
        return interval_of(statistic, columns, groups, right=right, confidence=confidence)
    each, miss = by_group(columns), (1 - confidence) / 2
    ends = [
        [_ends_of_mean(values, "score" in right, 1 - 2 * share)[side] for values in each]
        for side, share in ((0, miss), (1, miss / len(each)))
    ]
    return Interval(float(statistic(columns)), min(ends[0]), min(ends[1]))


def _ends_of_mean(values: np.ndarray, right: bool, confidence: float) -> tuple[float, float]:
    """Uses Wilson's interval for right or wrong answers, else Student's t; infinite for a single value, and for equal ones."""
    if right:
        return wilson(float(values.mean()), len(values), normal(confidence))
    ends = student(values, confidence)
    return (-math.inf, math.inf) if ends is None or ends[0] == ends[1] else ends


INTERVALS: Mapping[str, Callable[..., Interval]] = {  # statistics with a dedicated interval
    "calibration_error": _calibration_interval,
    "token_mean": _of_tokens,
    "largest": _no_interval,
    "quantile": _of_quantile,
    "auroc": _of_auroc,
    "tpr_at_fpr": _of_rate,
    "worst_group": _of_worst,
}


DIFFERENCES: Mapping[str, Callable[..., Difference]] = {  # statistics with a dedicated paired test
    "calibration_error": _calibration_difference,
    "token_mean": _token_difference,
    "half_length": _half_length_difference,
}


def _together(columns: Columns, groups: Mapping[str, Together]) -> np.ndarray | None:
    """Returns the group of each example of the only set."""
    (name,) = {key.rpartition("/")[0] for key in columns}
    found = groups.get(name)
    return None if found is None else np.asarray(found)


def _grouped(columns: Columns, groups: Mapping[str, Together]) -> bool:
    return any(groups.get(key.rpartition("/")[0]) is not None for key in columns)
