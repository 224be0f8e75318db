"""Statistics of rows: functions of columns with one entry per example, each with a suitable interval.

    statistic_of("auroc")({"members/signal": ..., "members/positive": ones, "others/signal": ..., "others/positive": zeros})
    statistic_of("quantile:0.9")({"test/radius": radii})                 # the number after the colon is an argument

Columns are named SET/WHAT; sets are drawn independently. A statistic reads the columns that its docstring names by WHAT, from all sets.
Their intervals and paired tests are those of intervals.py.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from assay.core.paired import Columns, Statistic, by_row, mean
from assay.evals import score

KEPT = 0.8  # coverage of selective accuracy


def _token_means(columns: Columns) -> np.ndarray:
    tokens = named(columns, "tokens")
    return (named(columns, "score") * tokens).sum(axis=-1) / tokens.sum(axis=-1)


@by_row(_token_means)
def token_mean(columns: Columns) -> float:
    """Returns the mean of `score` over all tokens, where the score of an example is a mean over its `tokens`."""
    return float(_token_means(columns))


def _gaps(columns: Columns) -> np.ndarray:
    own = "train/" if any(key.startswith("train/") for key in columns) else "valid/"
    sides = ({key: values for key, values in columns.items() if key.startswith(own) == inside} for inside in (True, False))
    first, other = (_token_means(side) if len(side) > 1 else named(side, "score").mean(axis=-1) for side in sides)
    return first - other


@by_row(_gaps)
def gap(columns: Columns) -> float:
    """Returns the mean `score` on `train` (or `valid` if there is no `train`) minus that on the other set; over tokens if there are
    `tokens`."""
    return float(_gaps(columns))


def _calibration_errors(columns: Columns) -> np.ndarray:
    sure, right = named(columns, "confidence"), named(columns, "score")
    place = score.bin_of(sure, score.BINS) + score.BINS * np.arange(len(sure))[:, None]
    gaps = np.bincount(place.ravel(), weights=(right - sure).ravel(), minlength=score.BINS * len(sure))
    return np.abs(gaps.reshape(len(sure), -1)).sum(axis=-1) / sure.shape[-1]


@by_row(_calibration_errors)
def calibration_error(columns: Columns) -> float:
    """Returns the expected calibration error with 15 equal bins: the mean gap of confidence and accuracy (Guo et al. 2017)."""
    return score.calibration_error(named(columns, "confidence"), named(columns, "score"))


@by_row(lambda columns: _at_coverage(named(columns, "confidence"), named(columns, "score"), KEPT))
def selective_accuracy(columns: Columns) -> float:
    """Returns the score on the four fifths of the examples with the highest confidence (Geifman and El-Yaniv 2017)."""
    return score_at_coverage(named(columns, "confidence"), named(columns, "score"), KEPT)


def score_at_coverage(confidence: np.ndarray, right: np.ndarray, coverage: float) -> float:
    """Returns the mean score of the most confident examples, at least one.

    Of the examples that tie at the cut, which may be all, each counts in part: the order of examples has no effect. NaN if a confidence is.
    """
    return float(_at_coverage(confidence, right, coverage))


def _at_coverage(confidence: np.ndarray, right: np.ndarray, coverage: float) -> np.ndarray:
    kept, n = max(1, round(coverage * right.shape[-1])), right.shape[-1]
    cut = np.partition(confidence, n - kept, axis=-1)[..., n - kept, None]
    above, tied = confidence > cut, confidence == cut
    of_tied = (right * tied).sum(axis=-1) / np.maximum(tied.sum(axis=-1), 1)  # NaN ties with nothing
    found = ((right * above).sum(axis=-1) + (kept - above.sum(axis=-1)) * of_tied) / kept
    return np.where(np.isnan(confidence).any(axis=-1), np.nan, found)


def _determinations(columns: Columns) -> np.ndarray:
    error, target = named(columns, "score"), named(columns, "target")
    spread = np.square(target - target.mean(axis=-1, keepdims=True)).sum(axis=-1)
    known = np.ptp(target, axis=-1) > 0  # rounding gives equal targets a spread above 0
    return np.where(known, 1 - error.sum(axis=-1) / np.where(known, spread, 1.0), np.nan)


@by_row(_determinations)
def determination(columns: Columns) -> float:
    """Returns R2: 1 minus the squared errors, `score`, over the squared distances of `target` from its mean. NaN for equal targets."""
    return float(_determinations(columns))


def half_length(columns: Columns) -> float:
    """Returns the length from which the score is at most half of that at the shortest tested lengths, both there and on average beyond.

    If the score never halves, returns the longest tested length plus one. The score at a length is averaged with neighbouring lengths,
    because single lengths have few examples; the order of examples of one length has no effect. Subtract the baseline from the score
    before calling. NaN if a score is not finite.
    """
    length, right = named(columns, "length"), named(columns, "score")
    if not np.isfinite(right).all():
        return math.nan
    number = np.unique(length, return_inverse=True)[1]
    right = (np.bincount(number, weights=right) / np.bincount(number))[number]  # a length may be cut in two below
    order = np.argsort(length, kind="stable")
    parts = np.array_split(order, max(1, min(16, len(order) // 8)))
    means, ends = np.array([right[part].mean() for part in parts]), [length[part].min() for part in parts]
    half = means[0] / 2
    fallen = [k for k in range(1, len(parts)) if means[k] <= half and means[k:].mean() <= half]
    return float(ends[fallen[0]]) if fallen else float(length.max() + 1)


def parts_of(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Returns the indices of at most `count` parts of about the same size, by ascending value; equal values are in one part.

    The order of the examples thus has no effect. Two different values always make two parts.
    """
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order]) > 0) + 1  # where a part may begin
    wanted = len(order) * np.arange(1, count) / count
    cuts = {int(starts[np.abs(starts - place).argmin()]) for place in wanted} if len(starts) else set()
    return np.split(order, sorted(cuts))


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

    Returns NaN if positives or negatives are missing or a signal is NaN. If both have fixed sizes, pass them as two sets, which resampling
    preserves.
    """
    positive, negative = sides(columns)
    if not len(positive) or not len(negative) or np.isnan(positive).any() or np.isnan(negative).any():
        return math.nan
    return score.auroc(np.concatenate([positive, negative]), np.arange(len(positive) + len(negative)) < len(positive))


def tpr_at_fpr(columns: Columns, at: float) -> float:
    """Returns the fraction of positives whose `signal` exceeds a threshold that at most a fraction `at` of the negatives exceeds.

    The threshold is the lowest possible, without interpolation (Carlini et al. 2022, arXiv 2112.03570). With fewer than 1 / `at`
    negatives, none may exceed it. NaN if a signal is.
    """
    positive, negative = sides(columns)
    if not len(positive) or not len(negative) or np.isnan(positive).any() or np.isnan(negative).any():
        return math.nan
    ordered = np.sort(negative)[::-1]
    allowed = math.floor(at * len(negative) + 1e-9)
    return float(np.mean(positive > ordered[allowed])) if allowed < len(negative) else 1.0


def worst_group(columns: Columns) -> float:
    """Returns the lowest mean `score` among the groups numbered by `group` (Sagawa et al. 2020, arXiv 1911.08731)."""
    return min(float(values.mean()) for values in by_group(columns))


STATISTICS: Mapping[str, Callable[..., float]] = {  # a name that ends in a colon takes a number after it
    "mean": mean,
    "token_mean": token_mean,
    "gap": gap,
    "calibration_error": calibration_error,
    "selective_accuracy": selective_accuracy,
    "determination": determination,
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


def named(columns: Columns, what: str) -> np.ndarray:
    (found,) = (values for key, values in columns.items() if key.rpartition("/")[2] == what)
    return found


def joined(columns: Columns, what: str) -> np.ndarray:
    """Concatenates the columns of this name over all sets."""
    return np.concatenate([values for key, values in sorted(columns.items()) if key.rpartition("/")[2] == what])


def sides(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Returns the signals of the positives and of the negatives."""
    signal, positive = joined(columns, "signal"), joined(columns, "positive") > 0
    return signal[positive], signal[~positive]


def by_group(columns: Columns) -> list[np.ndarray]:
    score, group = joined(columns, "score"), joined(columns, "group")
    return [score[group == one] for one in np.unique(group)]
