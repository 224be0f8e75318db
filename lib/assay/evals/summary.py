"""Metrics of a whole split that are not a mean over examples, such as macro F1, computed from the records of its predictions.

A record's `scores` hold the inputs: `accuracy` and `confidence` for calibration; `nll`, the mean nats per token, and `tokens` for
perplexity. The bytes of a text are counted by its tokens (`bytes`), or in runs of older versions in its `target`.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.core.errors import UserError
from assay.evals import score

LONE_BYTE = re.compile("[\udc80-\udcff]")
Record = Mapping[str, Any]  # a line of predictions/SPLIT.jsonl


class Summary(NamedTuple):
    """Computes `value(*columns(records))`; each column has a leading axis of records, so that they can be resampled."""

    columns: Callable[[Sequence[Record]], tuple[np.ndarray, ...]]
    value: Callable[..., float]
    unit: str = "fraction"
    interval: bool = True  # False if resampling takes too long (BLEU), or biases the metric upwards (ECE)
    of_ratio: Callable[[float], float] | None = None  # increasing: value = of_ratio(sum of column 0 / sum of column 1)
    registered: bool = False  # True for a metric of the user's own, which any task may be scored by
    lower: bool = False  # True if lower values are better
    undefined: str = "it is not finite for these examples"  # why it has no value, where it is NaN or infinite


def _classes(records: Sequence[Record]) -> tuple[np.ndarray, ...]:
    """Returns the predicted and true class of each record, numbered in the order of the class names. Raises UserError for other values."""
    if any(isinstance(record[key], list | dict) for record in records[:1] for key in ("prediction", "target")):
        one, other = records[0]["prediction"], records[0]["target"]
        raise UserError(
            f"f1_macro compares classes, but the prediction is {one!r} and the target {other!r}. The task must give each as one class, the "
            "target in Source.describe and the prediction in Task.read."
        )
    names = sorted({name for record in records for name in (record["prediction"], record["target"])}, key=str)
    number = {name: i for i, name in enumerate(names)}
    return tuple(np.array([number[record[key]] for record in records]) for key in ("prediction", "target"))


def _confidences(records: Sequence[Record]) -> tuple[np.ndarray, ...]:
    return tuple(np.array([record["scores"][name] for record in records]) for name in ("confidence", "accuracy"))


def _tokens(records: Sequence[Record]) -> tuple[np.ndarray, ...]:
    """Returns the nats and tokens of each record."""
    tokens = np.array([record["scores"]["tokens"] for record in records])
    return np.array([record["scores"]["nll"] for record in records]) * tokens, tokens


def _bytes(records: Sequence[Record]) -> tuple[np.ndarray, ...]:
    nats, _ = _tokens(records)
    return nats, np.array([record["bytes"] if "bytes" in record else _size(record["target"]) for record in records])


def _size(text: str) -> int:
    """Counts UTF-8 bytes. A window of bytes may start or end inside a character, whose bytes are then surrogates U+DC80 to U+DCFF."""
    return len(text.encode("utf-8", "surrogatepass")) - 2 * len(LONE_BYTE.findall(text))


def _strings(records: Sequence[Record]) -> tuple[np.ndarray, ...]:
    return tuple(np.array([record[key] for record in records], dtype=object) for key in ("prediction", "target"))


def _bleu(predictions: np.ndarray, references: np.ndarray) -> float:
    return score.bleu(predictions.tolist(), references.tolist(), tokenize="none")


def _numbers(records: Sequence[Record]) -> tuple[np.ndarray, ...]:
    return tuple(np.array([record[key] for record in records], float) for key in ("prediction", "target"))


def _root(predictions: np.ndarray, targets: np.ndarray) -> float:
    return math.sqrt(np.square(predictions - targets).mean())


def _ranked(records: Sequence[Record]) -> tuple[np.ndarray, ...]:
    """Returns the probability of the second of two classes, in the order of their names, and whether it is the target."""
    names = sorted({name for record in records for name in (record["prediction"], record["target"])}, key=str)
    confidence = np.array([record["scores"]["confidence"] for record in records])
    predicted, target = (np.array([record[key] == names[-1] for record in records]) for key in ("prediction", "target"))
    return np.where(predicted, confidence, 1 - confidence), target


def _determination(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Returns 1 - squared error / squared distance from the mean, averaged over outputs.

    If all targets are equal, it is 1 for exact predictions and 0 otherwise.
    """
    left, all_of_it = np.square(predictions - targets).sum(axis=0), np.square(targets - targets.mean(axis=0)).sum(axis=0)
    all_of_it = np.where(np.ptp(targets, axis=0) > 0, all_of_it, 0.0)  # the mean of equal numbers may differ from them by rounding
    return float(np.where(all_of_it > 0, 1 - left / np.where(all_of_it > 0, all_of_it, 1.0), left == 0).mean())


def _labels(records: Sequence[Record]) -> tuple[np.ndarray, ...]:
    """Returns the predicted and true labels of each record, 1 or 0 [n, labels]."""
    return tuple(np.array([record[key] for record in records], np.int64) for key in ("prediction", "target"))


def _f1_labels(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Returns the mean over labels of F1 = 2 TP / (2 TP + FP + FN), of the labels that occur as target or answer; NaN if none does."""
    total = predictions.sum(axis=0) + targets.sum(axis=0)
    meant = total > 0
    return float((2 * (predictions * targets).sum(axis=0)[meant] / total[meant]).mean()) if meant.any() else math.nan


def of_predictions(
    function: Callable[[list[Any], list[Any]], float], unit: str = "fraction", lower: bool = False, interval: bool = True
) -> Summary:
    """Returns the summary of a function of (predictions, targets): two lists, as `prediction` and `target` of the records show them."""

    def value(predictions: np.ndarray, targets: np.ndarray) -> float:
        name = getattr(function, "__name__", "metric")
        try:
            return float(function(predictions.tolist(), targets.tolist()))
        except Exception as error:  # the function is the user's own
            raise UserError(
                f"the metric {name!r} raised {type(error).__name__}: {error}. It takes the lists of predictions and of targets of a split, "
                "and returns a number. Fix it, or choose another --config.train.metric."
            ) from error

    return Summary(_any, value, unit, interval, registered=True, lower=lower)


def _any(records: Sequence[Record]) -> tuple[np.ndarray, ...]:
    """Returns predictions and targets of any kind, such as lists of tokens, one object per record."""
    columns = []
    for key in ("prediction", "target"):
        column = np.empty(len(records), object)
        for i, record in enumerate(records):
            column[i] = record[key]
        columns.append(column)
    return tuple(columns)


SUMMARIES: dict[str, Summary] = {
    "f1_macro": Summary(_classes, score.f1_macro),
    "f1_labels": Summary(_labels, _f1_labels, undefined="no label occurs as target or answer"),
    "f1_micro": Summary(_classes, score.f1_micro),
    "ece": Summary(_confidences, score.calibration_error, interval=False),
    "perplexity": Summary(_tokens, score.perplexity, unit="", of_ratio=math.exp),
    "bits_per_byte": Summary(_bytes, score.bits_per_byte, unit="bits", of_ratio=lambda nats: nats / math.log(2)),
    "r2": Summary(_numbers, _determination, unit=""),
    "rmse": Summary(_numbers, _root, unit=""),
    "auroc": Summary(_ranked, score.auroc, undefined="all targets are of one class"),
    "bleu": Summary(_strings, _bleu, unit="BLEU", interval=False),
}
