"""From records to the rows of results.json: each value with its n, its interval and what stands beside it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.stats import over_seeds, wilson
from assay.tasks.task import Task

WILSON = "value: mean over lengths; interval: Wilson 95 % over examples"
SAME = ("experiment", "task", "model", "treatment", "split", "metric", "steps")  # what the runs of a mean share
STUDENT = "value: mean over seeds; interval: Student t 95 % over seeds"


def rows(records: Sequence[Mapping[str, Any]], task: Task, split: str, labels: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a metric. `labels`: experiment, model, treatment, seed, steps."""
    lengths = np.array([record["length"] for record in records])
    found = []
    for metric in task.metrics:
        values = np.array([record["scores"][metric] for record in records])
        by_length = {str(length): float(values[lengths == length].mean()) for length in np.unique(lengths).tolist()}
        value = float(np.mean(list(by_length.values())))
        beside = [cell for cell in task.published if (cell.metric, cell.split) == (metric, split) and labels["model"] in cell.models]
        note = "; ".join(dict.fromkeys(text for text in (task.note, *(cell.note for cell in beside)) if text))
        row = {
            "experiment": labels["experiment"],
            "task": task.name,
            "model": labels["model"],
            "treatment": labels["treatment"],
            "split": split,
            "metric": metric,
            "value": value,
            "unit": "fraction",
            "n": len(records),
            "seed": labels["seed"],
            "steps": labels["steps"],
            "interval": list(wilson(value, len(records))),
            "interval_method": WILSON,
            "by_length": by_length,
            "published": [{name: getattr(cell, name) for name in ("value", "spread", "statistic", "source", "tag")} for cell in beside],
            "baselines": _baselines(records, task, metric),
        }
        if note:
            row["note"] = note
        found.append(row)
    return found


def mean_rows(every: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of several seeds, joined: for each group that differs in nothing but the seed, its mean. Single seeds give none."""
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in every:
        groups.setdefault(tuple(row[key] for key in SAME), []).append(row)
    means = []
    for group in groups.values():
        if len(group) < 2:
            continue
        values = [row["value"] for row in group]
        interval = over_seeds(values)
        mean = dict(group[0])
        mean |= {"value": float(np.mean(values)), "n": sum(row["n"] for row in group), "seed": [row["seed"] for row in group]}
        mean |= {"interval": list(interval) if interval else None, "interval_method": STUDENT}
        if "seen_in_training" in mean:
            mean["seen_in_training"] = float(np.mean([row["seen_in_training"] for row in group]))
        if "by_length" in mean:
            mean["by_length"] = {length: float(np.mean([row["by_length"][length] for row in group])) for length in mean["by_length"]}
        means.append(mean)
    return means


def _baselines(records: Sequence[Mapping[str, Any]], task: Task, metric: str) -> dict[str, float]:
    """Chance, and the best single answer given to everything. No baseline is known for a whole sequence."""
    if metric == "exact_match":
        return {}
    targets = [record["target"][-1:] if metric == "answer_accuracy" else record["target"] for record in records]
    counts = Counter(token for target in targets for token in target)
    best = counts.most_common(1)[0][0]
    return {"chance": task.chance, "majority": float(np.mean([np.mean(np.array(target) == best) for target in targets]))}
