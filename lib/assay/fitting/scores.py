"""A metric of some answers, its interval, and the difference between two models: `value("f1_macro", records)`.

Answers are records as predictions/SPLIT.jsonl has them, in the order of rows: {"target", "prediction", "scores": {...}}. A metric is the
mean of a score, or a summary of all records such as macro F1.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.number import change, limits, number
from assay.core.paired import Columns, Statistic, difference_of, interval_of, mean
from assay.core.stats import Difference, Interval
from assay.evals.rows import LOWER_IS_BETTER, RIGHT
from assay.evals.summary import SUMMARIES

TITLES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "exact_match": "share of rows with all labels right",
    "jaccard": "Jaccard index",
    "f1_macro": "macro F1",
    "auroc": "AUROC",
    "nll": "cross-entropy",
    "ece": "calibration error",
    "rmse": "root mean squared error",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "r2": "R²",
}
HEADLINES: Mapping[str, str] = {"classes": "accuracy", "labels": "exact_match", "number": "rmse"}  # kind of target -> metric
UNITS: Mapping[str, str] = {**dict.fromkeys(("accuracy", "exact_match", "jaccard", "f1_macro", "ece"), "fraction"), "nll": "nats"}
WORK = 40_000_000  # rows that all resamples of an interval draw together at most
FEWEST, MOST = 100, 1000  # resamples

Records = Sequence[Mapping[str, Any]]


def title_of(metric: str) -> str:
    """Returns the name of a metric in sentences; a registered one has its own."""
    return TITLES.get(metric, metric)


def lower(metric: str) -> bool:
    """Returns True if lower values are better."""
    return metric in LOWER_IS_BETTER


def value(metric: str, records: Records) -> float:
    """Returns the metric of the records."""
    statistic, (columns,) = _statistic(metric, [records])
    return float(statistic(columns))


def interval(metric: str, records: Records) -> Interval:
    """Returns the metric with its 95 % interval; the ends are NaN where it has none."""
    statistic, (columns,) = _statistic(metric, [records])
    if not _resampled(metric, records):
        return Interval(float(statistic(columns)), math.nan, math.nan)
    return interval_of(statistic, columns, right=_right(metric), resamples=_resamples(records))


def difference(metric: str, first: Records, second: Records) -> Difference:
    """Returns metric(first) - metric(second) on the same rows, with its 95 % interval and p-value; NaN where it has none."""
    statistic, (own, theirs) = _statistic(metric, [first, second])
    if not _resampled(metric, first):
        return Difference(float(statistic(own)) - float(statistic(theirs)), math.nan, math.nan, 1.0)
    return difference_of(statistic, own, theirs, right=_right(metric), resamples=_resamples(first))


def shown(metric: str, amount: float) -> str:
    """Returns a value of a metric as text."""
    return number(amount, unit_of(metric))


def shown_with_interval(metric: str, records: Records) -> str:
    """Returns the metric of the records with its interval, if it has one, as text."""
    return shown_interval(metric, interval(metric, records)._asdict())


def shown_interval(metric: str, found: Mapping[str, float]) -> str:
    """Returns {value, low, high} as text."""
    value, low, high = (found[name] for name in ("value", "low", "high"))
    return shown(metric, value) + (f" ({limits((low, high), unit_of(metric))})" if low == low and high == high else "")


def shown_change(metric: str, found: Difference) -> str:
    """Returns a difference with its interval, if it has one, as text."""
    ends = f" (95 %: {limits((found.low, found.high), unit_of(metric), signed=True)})" if found.low == found.low else ""
    return change(found.value, unit_of(metric)) + ends


def unit_of(metric: str) -> str:
    """Returns the unit of a metric, as `core.number` reads it."""
    summary = SUMMARIES.get(metric)
    return summary.unit if summary is not None and summary.registered else UNITS.get(metric, "")


# -- private --------------------------------------------------------------------------------------------------------------


def _statistic(metric: str, every: Sequence[Records]) -> tuple[Statistic, list[Columns]]:
    """Returns the metric as a function of columns, and the columns of each list of records, which number classes alike."""
    if metric in every[0][0]["scores"]:
        return mean, [{f"rows/{metric}": np.array([_score(record, metric) for record in records], float)} for records in every]
    summary = SUMMARIES[metric]
    joined = summary.columns([record for records in every for record in records])
    names, size = [f"rows/{i}" for i in range(len(joined))], len(every[0])
    places = [slice(i * size, (i + 1) * size) for i in range(len(every))]
    parts: list[Columns] = [dict(zip(names, (column[place] for column in joined), strict=True)) for place in places]

    def statistic(columns: Columns) -> float:
        return float(summary.value(*(columns[name] for name in names)))

    return statistic, parts


def _score(record: Mapping[str, Any], metric: str) -> float:
    found = record["scores"][metric]
    return math.nan if found is None else found


def _right(metric: str) -> tuple[str, ...]:
    return (metric,) if metric in RIGHT else ()


def _resampled(metric: str, records: Records) -> bool:
    return metric in records[0]["scores"] or SUMMARIES[metric].interval


def _resamples(records: Records) -> int:
    return int(np.clip(WORK // len(records), FEWEST, MOST))
