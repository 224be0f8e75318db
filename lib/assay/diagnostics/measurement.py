"""What a diagnostic finds: a number of one model, with all that is needed to set it against the same number of another.

    sample("generalisation", "score", "mean", {"test/score": right}, {"test": files}, right=("score",), unit="fraction")

A value is a statistic of columns, one entry an example, so that two models are compared example by example. A column is named SET/WHAT,
and the examples of a set are those of `Diagnosis.sets`. Numbers that no sample stands behind, such as a size, have no columns.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.core.paired import Columns, Together
from assay.diagnostics.statistics import one_sided, statistic_interval

GROUPS = ("reasoning", "long range", "generalisation", "calibration", "cost", "speed", "optimisation health")  # the first, in this order
HIGHER, LOWER, NEITHER = "higher", "lower", ""
POINT, NATS, SHARE = 0.01, 0.01, 0.05  # margins within which two models do not differ: of accuracies, of nats, of sizes and times
PLOTTED = ("kind", "x", "lines", "x_label", "y_label", "labels")  # fields of a plot that every kind has
BOUNDS = ("", "lower", "upper")


class Plot(NamedTuple):
    """A small picture, as data. `kind` is one of these, with what it needs:

    line, bar, scatter, reliability   y against x, a line (or set of points) with a name each; a reliability has the diagonal
    heat      `values` [row][column], named by `rows` and `labels`
    tokens    a text: `labels` are its tokens, `values` has one row, a signed number for each
    picture   `image` [height][width] or [height][width][3] from 0 to 1, and over it the map `values` [height][width], which may be coarser
    graph     an automaton or circuit: `labels` are its nodes, `rows` says of each "", "start", "accept" or "start accept"; `edges`

    Data are lists, not arrays; what is missing is None.
    """

    kind: str
    x: Sequence[float] = ()
    lines: Mapping[str, Sequence[float]] = {}
    x_label: str = ""
    y_label: str = ""
    labels: Sequence[str] = ()  # of the places of x, where they are no numbers; of columns, tokens or nodes
    rows: Sequence[str] = ()  # labels of rows; roles of nodes
    values: Sequence[Sequence[float | None]] = ()
    image: Sequence[Sequence[Any]] = ()
    edges: Sequence[tuple[int, int, str, float | None]] = ()  # (from, to, label, signed weight or None), by places in `labels`
    scale: str = ""  # of colours: "zero", from 0 up; "diverging", to both sides of 0; "": diverging where a value is negative


class Measurement(NamedTuple):
    """A row of a diagnosis. `value` is None where it does not apply, and `reason` says why."""

    group: str
    name: str  # one of a kind in its group
    value: float | None
    unit: str = ""
    n: int = 0
    interval: tuple[float, float] | None = None  # 95 %, or as `confidence` says; of a bound one end is infinite
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
    right: Sequence[str] = ()  # WHAT of columns of answers that are right (1) or wrong (0)
    bound: str = ""  # "lower": the quantity is at least the finite end of the interval (without one, the value); "upper": at most
    confidence: float = 0.95  # of the interval


def sample(
    group: str,
    name: str,
    statistic: str,
    columns: Columns,
    groups: Mapping[str, Together] = {},
    right: Sequence[str] = (),
    bound: str = "",
    confidence: float = 0.95,
    **more: Any,
) -> Measurement:
    """A measurement whose value is a statistic of columns, with its interval.

    `groups`: of each set, what is drawn together. `right`: WHAT of the columns of right (1) or wrong (0) answers. `bound`: "lower" or
    "upper" for a one-sided interval of this confidence; where few examples give none, the row has no interval and is no bound.
    """
    columns = {key: np.asarray(values, np.float64) for key, values in columns.items()}
    if bound not in BOUNDS:
        raise ValueError(f"bound is {bound!r}, and can be {', '.join(map(repr, BOUNDS))}")
    if bound:
        found = one_sided(statistic, columns, bound, groups, right, confidence)
        known = math.isfinite(found.low if bound == "lower" else found.high)
    else:
        found = statistic_interval(statistic, columns, groups, right, confidence)
        known = bool(np.isfinite([found.low, found.high]).all())
    n, interval = max(len(values) for values in columns.values()), (found.low, found.high) if known else None
    row = Measurement(group, name, found.value, n=n, interval=interval, statistic=statistic, columns=columns, groups=groups, **more)
    return row._replace(right=tuple(right), bound=bound if known else "", confidence=confidence)


def limit(row: Measurement) -> float | None:
    """What a bound says: the finite end of the interval, or the value where there is none. None of a row that is no bound."""
    if not row.bound or row.value is None:
        return None
    return row.value if row.interval is None else row.interval[0 if row.bound == "lower" else 1]


def ordered(groups: Iterable[str]) -> list[str]:
    """Groups, each once: those of GROUPS in their order, then any other as they come."""
    found = dict.fromkeys(groups)
    return [*(one for one in GROUPS if one in found), *(one for one in found if one not in GROUPS)]


def plain(plot: Plot) -> dict[str, Any]:
    """A plot as JSON holds it, without the fields that its kind does not need."""
    said = {key: value for key, value in plot._asdict().items() if key in PLOTTED or len(value)}
    said["lines"] = {name: list(values) for name, values in plot.lines.items()}
    return {**said, "x": list(plot.x), "labels": list(plot.labels)}


def inapplicable(group: str, name: str, reason: str, **more: Any) -> Measurement:
    """A row that says why there is no number."""
    return Measurement(group, name, None, applies=False, reason=reason, **more)
