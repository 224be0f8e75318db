"""What is predicted from a user's files: one class, any number of labels, or a number, as the fields of a Task.

classes    cross-entropy; accuracy, f1_macro, nll, ece, and with two classes auroc
labels     binary cross-entropy, averaged over labels; exact_match (all are right), jaccard (shared / present or predicted), label_accuracy
number     squared error of the standardized number; r2, rmse, mae
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from assay.data.files.table import Table
from assay.tasks.datasets import classify, labels
from assay.tasks.datasets.regression import Scale, score_numbers, standard
from assay.tasks.evidence import of_numbers
from assay.tasks.files.opened import Opened
from assay.tasks.task import Task, likeliest

CLASSES, BINARY = classify.METRICS, (*classify.METRICS, "auroc")
LABELS, NUMBER = ("exact_match", "jaccard", "label_accuracy"), ("r2", "rmse", "mae", "mse")


class Answers(NamedTuple):
    """The part of a task that depends on what is predicted."""

    outputs: int
    targets: Callable[[Table], np.ndarray]  # -> [rows, 1] class, [rows, labels] of 0 and 1, or [rows, 1] number
    shown: Callable[[np.ndarray], Any]  # one row of targets -> as written in predictions
    encode: Callable[[np.ndarray], np.ndarray]  # targets -> batch["targets"]
    fields: Mapping[str, Any]  # of the Task


def answers_of(found: Opened) -> Answers:
    """Returns what a data set asks for."""
    return MAKERS[found.roles.kind](found)


# -- private --------------------------------------------------------------------------------------------------------------


def _classes(found: Opened) -> Answers:
    ids = {name: i for i, name in enumerate(found.classes)}
    target = found.roles.target

    def targets(table: Table) -> np.ndarray:
        return np.array([[ids[name]] for name in table.columns[target].tolist()], np.int32).reshape(-1, 1)

    fields = {
        "score": classify.score_classes,
        "metrics": BINARY if len(ids) == 2 else CLASSES,
        "chance": 1.0 / len(ids),
        "units": {"nll": "nats"},
        "answer": likeliest,
        "read": lambda answer, batch: found.classes[int(answer)],
        "classes": found.classes,
    }
    return Answers(len(ids), targets, lambda row: found.classes[int(row[0])], lambda targets: targets[:, 0], fields)


def _labels(found: Opened) -> Answers:
    target, names = found.roles.target, np.array(found.classes, object)

    def targets(table: Table) -> np.ndarray:
        return np.array([np.isin(names, cell) for cell in table.columns[target].tolist()], np.int32).reshape(-1, len(names))

    def listed(row: np.ndarray) -> list[str]:
        return names[np.asarray(row) > 0].tolist()

    fields = {
        "score": labels.score_labels,
        "metrics": LABELS,
        "chance": 0.5 ** len(names),
        "answer": lambda logits: logits > 0,
        "read": lambda answer, batch: listed(answer),
    }
    return Answers(len(names), targets, listed, lambda targets: targets, fields)


def _number(found: Opened) -> Answers:
    target = found.roles.target

    def targets(table: Table) -> np.ndarray:
        return np.array([[float(cell)] for cell in table.columns[target].tolist()], np.float64).reshape(-1, 1)

    scale: Scale = standard(targets(found.parts["train"]))
    fields = {
        "score": partial(score_numbers, scale=scale.deviation),
        "metrics": NUMBER,
        "chance": 0.0,
        "units": {name: "" for name in NUMBER[1:]},
        "answer": lambda logits: logits,
        "read": lambda answer, batch: float(scale.back(np.asarray(answer, np.float64))[0]),
        "evidence": of_numbers,
    }
    return Answers(1, targets, lambda row: float(row[0]), scale.to, fields)


MAKERS: Mapping[str, Callable[[Opened], Answers]] = {"classes": _classes, "labels": _labels, "number": _number}


def task_of(found: Opened, answers: Answers, source: Callable[[str], Any], **fields: Any) -> Task:
    """Returns the task of a data set, named "TARGET of FILE"; `fields` are those that depend on its inputs."""
    name = f"{found.roles.target} of {Path(found.found.source).name}"
    splits = tuple(split for split in ("train", "valid", "test") if split in found.parts)
    return Task(name=name, splits=splits, source=source, width=lambda length: length, shown=splits[-1], **answers.fields, **fields)
