"""What a diagnostic finds: a number of one model, with all that is needed to set it against the same number of another.

    mean("generalisation", "score", {"test": Examples(ids, groups)}, ..., columns={"test/score": right})

A value is a statistic of columns, one entry an example, so that two models are compared example by example. A column is named SET/WHAT,
and the examples of a set are those of `Diagnosis.sets`. Numbers that no sample stands behind, such as a size, have no columns.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.core.paired import Columns, Together, interval_of, mean

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
    statistic: str = ""  # of STATISTICS, of the columns; "": a number without a sample
    columns: Mapping[str, np.ndarray] = {}
    plot: Plot | None = None
    crashed: bool = False


def sample(group: str, name: str, statistic: str, columns: Columns, groups: Mapping[str, Together] = {}, **more: Any) -> Measurement:
    """A measurement whose value is a statistic of columns, with its 95 % interval. `groups`: of each set, what is drawn together."""
    columns = {key: np.asarray(values, np.float64) for key, values in columns.items()}
    found = interval_of(STATISTICS[statistic], columns, groups)
    n = max(len(values) for values in columns.values())
    interval = (found.low, found.high) if np.isfinite([found.low, found.high]).all() else None
    return Measurement(group, name, found.value, n=n, interval=interval, statistic=statistic, columns=columns, **more)


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
    """The length from which on the score stays at most half of that at the shortest tested lengths; one more than the longest tested if
    it never does. The score of a length is a mean over it and its neighbours, as single lengths have few examples."""
    length, right = _named(columns, "length"), _named(columns, "score")
    order = np.argsort(length, kind="stable")
    parts = np.array_split(order, max(1, min(16, len(order) // 8)))
    means, ends = np.array([right[part].mean() for part in parts]), [length[part].min() for part in parts]
    below = means <= means[0] / 2
    if means[0] == 0:
        return float(length.min())
    first = len(below)
    while first and below[first - 1]:
        first -= 1
    return float(length.max() + 1) if first == len(below) else float(ends[first])


STATISTICS: Mapping[str, Callable[[Columns], float]] = {
    "mean": mean,
    "gap": gap,
    "calibration_error": calibration_error,
    "selective_accuracy": selective_accuracy,
    "half_length": half_length,
}


# -- private --------------------------------------------------------------------------------------------------------------


def _named(columns: Columns, what: str) -> np.ndarray:
    (found,) = (values for key, values in columns.items() if key.rpartition("/")[2] == what)
    return found
