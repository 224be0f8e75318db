"""What a diagnostic finds: a number of one model, with all that is needed to set it against the same number of another.

    mean("generalisation", "score", {"test": Examples(ids, groups)}, ..., columns={"test/score": right})

A value is a statistic of columns, one entry an example, so that two models are compared example by example. A column is named SET/WHAT,
and the examples of a set are those of `Diagnosis.sets`. Numbers that no sample stands behind, such as a size, have no columns.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from assay.core.paired import Columns, Together, interval_of, mean
from assay.core.stats import Interval

GROUPS = ("reasoning", "long range", "generalisation", "calibration", "cost", "speed", "optimisation health")
HIGHER, LOWER, NEITHER = "higher", "lower", ""
POINT, NATS, SHARE = 0.01, 0.01, 0.05  # margins within which two models do not differ: of accuracies, of nats, of sizes and times
BINS = 15  # of confidence


class Plot(NamedTuple):
    """A small picture: y against x, a line with a name each; `kind` is line, bar or reliability (y against x, with the diagonal)."""

    kind: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    x_label: str
    y_label: str
    labels: Sequence[str] = ()  # of the places of x, where they are no numbers


class Measurement(NamedTuple):
    """A row of a diagnosis. `value` is None where it does not apply, and `reason` says why."""

    group: str
    name: str  # one of a kind in its group
    value: float | None
    unit: str = ""
    n: int = 0
    interval: tuple[float, float] | None = None  # 95 %
    how: str = ""  # how it was measured
    meaning: str = ""  # what it means, in a sentence
    applies: bool = True
    reason: str = ""
    timing: bool = False  # it differs from one diagnosis to the next
    better: str = NEITHER  # which direction is
    margin: float = 0.0  # within which two models do not differ
    relative: bool = False  # whether the margin is a share of the value
    statistic: str = ""  # of STATISTICS, of the columns; "": a number without columns
    columns: Mapping[str, np.ndarray] = {}
    ids: Mapping[str, np.ndarray] = {}  # uint64, of sets whose examples are other things than those of a split, such as tokens
    groups: Mapping[str, Any] = {}  # of each set, what is drawn together
    measures: str = ""  # what is scored, where one name may stand for several; rows are compared where it is the same
    exact: bool = False  # whether it is a count, behind which no sample stands
    plot: Plot | None = None
    crashed: bool = False


def sample(group: str, name: str, statistic: str, columns: Columns, groups: Mapping[str, Together] = {}, **more: Any) -> Measurement:
    """A measurement whose value is a statistic of columns, with its 95 % interval. `groups`: of each set, what is drawn together."""
    columns = {key: np.asarray(values, np.float64) for key, values in columns.items()}
    found = INTERVALS.get(statistic, partial(interval_of, STATISTICS[statistic]))(columns, groups)
    n = max(len(values) for values in columns.values())
    interval = (found.low, found.high) if np.isfinite([found.low, found.high]).all() else None
    return Measurement(group, name, found.value, n=n, interval=interval, statistic=statistic, columns=columns, groups=groups, **more)


def inapplicable(group: str, name: str, reason: str, **more: Any) -> Measurement:
    """A row that says why there is no number."""
    return Measurement(group, name, None, applies=False, reason=reason, **more)


# -- statistics of columns: {WHAT or SET/WHAT: [examples]} -> a number ------------------------------------------------------


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
    """Of the only column."""
    (values,) = columns.values()
    return float(values.max())


STATISTICS: Mapping[str, Callable[[Columns], float]] = {
    "mean": mean,
    "gap": gap,
    "calibration_error": calibration_error,
    "selective_accuracy": selective_accuracy,
    "half_length": half_length,
    "largest": largest,
}


def calibration_interval(columns: Columns, groups: Mapping[str, Together] = {}, resamples: int = 1000) -> Interval:
    """Of the calibration error, which few examples make too large, and resampling again: its low end is that of the basic bootstrap, which
    takes that off twice (Davison and Hinkley 1997), its high end the percentile. It begins at 0 where a calibrated model of this confidence
    would often have as much (consistency resampling, Broecker and Smith 2007)."""
    found = interval_of(calibration_error, columns, groups, resamples=resamples)
    low = max(0.0, 2 * found.value - found.high)
    confidence, right = _named(columns, "confidence"), _named(columns, "score")
    if np.isin(right, (0.0, 1.0)).all():
        draws = np.random.default_rng(0).random((resamples, len(right))) < confidence
        calibrated = [calibration_error({"confidence": confidence, "score": draw.astype(float)}) for draw in draws]
        low = 0.0 if found.value <= np.quantile(calibrated, 0.95) else low
    return Interval(found.value, low, found.high)


def no_interval(columns: Columns, groups: Mapping[str, Together] = {}) -> Interval:
    """Of a maximum, which resampling cannot exceed."""
    return Interval(largest(columns), math.nan, math.nan)


WITHOUT = ("largest",)  # statistics that resampling says nothing of
INTERVALS: Mapping[str, Callable[..., Interval]] = {  # of statistics with one of their own
    "calibration_error": calibration_interval,
    "largest": no_interval,
}


# -- private --------------------------------------------------------------------------------------------------------------


def _named(columns: Columns, what: str) -> np.ndarray:
    (found,) = (values for key, values in columns.items() if key.rpartition("/")[2] == what)
    return found
