"""Rows of a diagnosis: a value measured on one model, with what is needed to compare it with another model's.

    sample("generalisation", "score", "mean", {"test/score": right}, {"test": files}, right=("score",), unit="fraction")

A value is a statistic of columns with one entry per example, so that two models are compared example by example. A column is named
SET/WHAT; the examples of a set are those of `Diagnosis.sets`. Deterministic quantities, such as a size, have no columns.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.core.paired import Columns, Together
from assay.diagnostics.intervals import caution_of, one_sided, statistic_interval

GROUPS = ("reasoning", "long range", "generalisation", "calibration", "cost", "speed", "optimisation health")  # shown first, in this order
HIGHER, LOWER, NEITHER = "higher", "lower", ""
POINT, NATS, SHARE = 0.01, 0.01, 0.05  # equivalence margins: for accuracies, for nats, and relative ones for sizes and times
PLOTTED = ("kind", "x", "lines", "x_label", "y_label", "labels")  # fields that every kind of plot has
BOUNDS = ("", "lower", "upper")


class Plot(NamedTuple):
    """Plot as plain data. `kind` is one of these, with the fields it needs:

    line, bar, scatter, reliability   y against x, one named line (or point set) each; a reliability plot includes the diagonal
    heat      `values` [row][column], named by `rows` and `labels`
    tokens    a text: `labels` are its tokens, `values` has one row, a signed number per token
    picture   `image` [height][width] or [height][width][3] from 0 to 1, overlaid with the map `values` [height][width], possibly coarser
    graph     an automaton or circuit: `labels` are its nodes, `rows` their roles "", "start", "accept" or "start accept"; `edges`

    Data are lists, not arrays; missing values are None.
    """

    kind: str
    x: Sequence[float] = ()
    lines: Mapping[str, Sequence[float]] = {}
    x_label: str = ""
    y_label: str = ""
    labels: Sequence[str] = ()  # names of non-numeric x positions, columns, tokens or nodes
    rows: Sequence[str] = ()  # labels of rows; roles of nodes
    values: Sequence[Sequence[float | None]] = ()
    image: Sequence[Sequence[Any]] = ()
    edges: Sequence[tuple[int, int, str, float | None]] = ()  # (from, to, label, signed weight or None), by indices into `labels`
    scale: str = ""  # colour scale: "zero" starts at 0; "diverging" is centred on 0; "" is diverging if any value is negative


class Attention(NamedTuple):
    """Weights [layers, heads, query, key] in [0, 1] for one input, with its tokens and a caption."""

    weights: np.ndarray
    tokens: list[str]
    caption: str


class Measurement(NamedTuple):
    """Row of a diagnosis. If it does not apply, `value` is None and `reason` says why."""

    group: str
    name: str  # unique within its group
    value: float | None
    unit: str = ""
    n: int = 0
    interval: tuple[float, float] | None = None  # 95 %, or at level `confidence`; for a bound one end is infinite
    how: str = ""  # how it was measured
    meaning: str = ""  # interpretation in one sentence
    applies: bool = True
    reason: str = ""
    timing: bool = False  # True if it varies between diagnoses
    better: str = NEITHER  # direction that is better
    margin: float = 0.0  # equivalence margin for comparing two models
    relative: bool = False  # True if the margin is a fraction of the value
    statistic: str = ""  # name in STATISTICS, applied to the columns; "": a number without columns
    columns: Mapping[str, np.ndarray] = {}
    ids: Mapping[str, np.ndarray] = {}  # uint64, for sets whose entries are not examples of a split, such as tokens
    groups: Mapping[str, Any] = {}  # clusters of each set, which are resampled together
    measures: str = ""  # what is scored, if one name may stand for several quantities; only rows with equal `measures` are compared
    exact: bool = False  # True for a deterministic quantity, such as a count
    plot: Plot | None = None
    crashed: bool = False
    right: Sequence[str] = ()  # WHAT of the columns with right (1) or wrong (0) answers
    bound: str = ""  # "lower": the quantity is at least the finite end of the interval (without one, the value); "upper": at most
    confidence: float = 0.95  # confidence level of the interval
    caution: str = ""  # why the interval is missing or may be too narrow
    fact: str = ""  # rows of one fact, such as the same answers or two counts of the operations, count once in a comparison


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
    """Returns a measurement whose value is a statistic of columns, with its interval.

    Args:
        groups: clusters of each set, which are resampled together.
        right: WHAT of the columns with right (1) or wrong (0) answers.
        bound: "lower" or "upper" for a one-sided interval at level `confidence`. If too few examples give none, the row has no interval
            and is not a bound.
    """
    columns = {key: np.asarray(values, np.float64) for key, values in columns.items()}
    if bound not in BOUNDS:
        raise ValueError(f"bound is {bound!r}; it must be one of {', '.join(map(repr, BOUNDS))}")
    bounded = in_bounds(more.get("unit", ""), columns)
    if bound:
        found = one_sided(statistic, columns, bound, groups, right, confidence)
        known = math.isfinite(found.low if bound == "lower" else found.high)
    else:
        found = statistic_interval(statistic, columns, groups, right, confidence, bounded)
        known = bool(np.isfinite([found.low, found.high]).all())
    n, interval = max(len(values) for values in columns.values()), (found.low, found.high) if known else None
    row = Measurement(group, name, found.value, n=n, interval=interval, statistic=statistic, columns=columns, groups=groups, **more)
    caution = caution_of(statistic, columns, groups, right, bounded)
    return row._replace(right=tuple(right), bound=bound if known else "", confidence=confidence, caution=caution)


def in_bounds(unit: str, columns: Columns) -> bool:
    """Returns True for fractions: values in [0, 1], apart from counts of tokens."""
    fractions = (values for key, values in columns.items() if key.rpartition("/")[2] != "tokens")
    return unit == "fraction" and all(values.min() >= 0 and values.max() <= 1 for values in fractions)


def limit(row: Measurement) -> float | None:
    """Returns the bound: the finite end of the interval, or the value if there is no interval; None if the row is not a bound."""
    if not row.bound or row.value is None:
        return None
    return row.value if row.interval is None else row.interval[0 if row.bound == "lower" else 1]


def ordered(groups: Iterable[str]) -> list[str]:
    """Returns each group once: those of GROUPS in their order, then the others as they come."""
    found = dict.fromkeys(groups)
    return [*(one for one in GROUPS if one in found), *(one for one in found if one not in GROUPS)]


def plain(plot: Plot) -> dict[str, Any]:
    """Returns a plot as JSON data, without fields that its kind does not need."""
    said = {key: value for key, value in plot._asdict().items() if key in PLOTTED or len(value)}
    said["lines"] = {name: list(values) for name, values in plot.lines.items()}
    return {**said, "x": list(plot.x), "labels": list(plot.labels)}


def inapplicable(group: str, name: str, reason: str, **more: Any) -> Measurement:
    """Returns a row without a value that states the reason."""
    return Measurement(group, name, None, applies=False, reason=reason, **more)
