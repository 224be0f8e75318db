"""Metrics of a whole split, in float64 on the host: computed once from all answers, so that batching cannot change them.

Arrays have one entry per answer, in any shape: [examples], or [examples, seq] with the batch's mask. `weights` (a mask, or the weight of
each answer) has the shape of the answers, or of the examples alone. Answers of weight 0 are ignored, whatever they contain. Shares are
fractions in [0, 1]; logarithms are natural. A split without any counted answer raises ValueError: it has no accuracy, rather than accuracy
0. Classes follow scikit-learn: rows of the confusion matrix are targets, columns are predictions, and F1 is 0 where it is 0 / 0.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer, Num, Shaped

from assay.core.errors import UserError

BINS = 15  # bins of confidence
Weights = Shaped[np.ndarray, "..."] | None


def accuracy(predictions: Shaped[np.ndarray, "*answers"], targets: Shaped[np.ndarray, "*answers"], weights: Weights = None) -> float:
    """Returns the share of correct answers."""
    _same_shape(predictions, targets)
    kept, weight = _counted(targets.shape, weights)
    return float(np.average(predictions[kept] == targets[kept], weights=weight))


def exact_match(
    predictions: Shaped[np.ndarray, "examples ..."],
    targets: Shaped[np.ndarray, "examples ..."],
    mask: Shaped[np.ndarray, "examples ..."] | None = None,
    weights: Shaped[np.ndarray, "examples"] | None = None,
) -> float:
    """Returns the share of examples whose entries are all correct, counting only entries with `mask` > 0; an example without any is
    correct.
    """
    _same_shape(predictions, targets)
    right = predictions == targets
    if mask is not None:
        _same_shape(mask, targets)
        right = right | (mask <= 0)
    kept, weight = _counted((len(targets),), weights)
    return float(np.average(right.reshape(len(right), -1).all(axis=1)[kept], weights=weight))


def top_k_accuracy(
    scores: Num[np.ndarray, "*answers classes"],
    targets: Integer[np.ndarray, "*answers"],
    k: int,
    weights: Weights = None,
) -> float:
    """Returns the share of answers whose target is among the k highest-scoring classes.

    Ties go to the lower id, as in argmax, so k = 1 gives the accuracy of the argmax. (scikit-learn ranks the higher id first; without ties
    the two agree.)
    """
    if k < 1:
        raise ValueError(f"top-k accuracy needs k of at least 1, got {k}")
    weight, scores, targets = _by_class(scores, targets, weights)
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1])[None, :] < targets[:, None]))
    return float(np.average(before.sum(axis=1) < k, weights=weight))


def confusion_matrix(
    predictions: Integer[np.ndarray, "*answers"],
    targets: Integer[np.ndarray, "*answers"],
    classes: int | None = None,
    weights: Weights = None,
) -> Float[np.ndarray, "classes classes"]:
    """Returns the matrix whose entry [t, p] is the weight of answers p with target t. `classes` defaults to the highest id that occurs plus
    one.
    """
    _same_shape(predictions, targets)
    kept, weight = _counted(targets.shape, weights)
    predictions, targets = predictions[kept].astype(np.int64), targets[kept].astype(np.int64)
    lowest, highest = min(int(predictions.min()), int(targets.min())), max(int(predictions.max()), int(targets.max()))
    size = highest + 1 if classes is None else classes
    if lowest < 0 or highest >= size:
        raise ValueError(f"class ids must lie in [0, {size}), got ids from {lowest} to {highest}")
    return np.bincount(targets * size + predictions, weights=weight, minlength=size * size).reshape(size, size)


def f1_per_class(
    predictions: Integer[np.ndarray, "*answers"],
    targets: Integer[np.ndarray, "*answers"],
    classes: int | None = None,
    weights: Weights = None,
) -> Float[np.ndarray, "classes"]:
    """Returns F1 = 2 TP / (2 TP + FP + FN) of each class; 0 for a class that is neither a target nor an answer."""
    matrix = confusion_matrix(predictions, targets, classes, weights)
    total = matrix.sum(axis=0) + matrix.sum(axis=1)
    return np.divide(2 * np.diag(matrix), total, out=np.zeros_like(total), where=total > 0)


def f1_macro(
    predictions: Integer[np.ndarray, "*answers"],
    targets: Integer[np.ndarray, "*answers"],
    classes: int | None = None,
    weights: Weights = None,
) -> float:
    """Returns the mean F1 over the classes that occur as target or answer, or over all `classes` if given."""
    matrix = confusion_matrix(predictions, targets, classes, weights)
    total = matrix.sum(axis=0) + matrix.sum(axis=1)
    meant = total > 0 if classes is None else np.ones(classes, bool)
    return float((2 * np.diag(matrix)[meant] / np.where(total[meant] > 0, total[meant], 1.0)).mean())


def f1_micro(predictions: Integer[np.ndarray, "*answers"], targets: Integer[np.ndarray, "*answers"], weights: Weights = None) -> float:
    """Returns F1 of the pooled counts. With one answer per example each mistake is one FP and one FN, so it equals accuracy."""
    return accuracy(predictions, targets, weights)


def auroc(scores: Num[np.ndarray, "examples"], positive: Shaped[np.ndarray, "examples"]) -> float:
    """Returns the probability that a positive example scores higher than a negative one; ties count half. NaN if one kind is absent.

    It is the area under the ROC curve (Hanley and McNeil 1982).
    """
    _same_shape(scores, positive)
    positive = positive.astype(bool)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return math.nan
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # mean rank of equal scores, from 1
    return float((ranks[place][positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def negative_log_likelihood(
    logits: Num[np.ndarray, "*answers classes"], targets: Integer[np.ndarray, "*answers"], weights: Weights = None
) -> float:
    """Returns the mean of -log softmax(logits)[target] in nats. Log-probabilities are also valid logits: softmax leaves them unchanged."""
    weight, logits, targets = _by_class(logits, targets, weights)
    highest = logits.max(axis=1, keepdims=True)
    normaliser = np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0]
    return float(np.average(normaliser - np.take_along_axis(logits, targets[:, None], axis=1)[:, 0], weights=weight))


def perplexity(nats: Num[np.ndarray, "..."] | float, tokens: Num[np.ndarray, "..."] | float, weights: Weights = None) -> float:
    """Returns exp(sum of nats / number of tokens), from sums and counts per example or for the whole split. It is infinite on overflow."""
    rate = _rate(nats, tokens, weights)
    return math.exp(rate) if rate < 709 else math.inf


def bits_per_byte(nats: Num[np.ndarray, "..."] | float, bytes_: Num[np.ndarray, "..."] | float, weights: Weights = None) -> float:
    """Returns sum of nats / (number of bytes x ln 2).

    `bytes_` counts the UTF-8 bytes of the text, whatever its tokens, so values are comparable across tokenizers.
    """
    return _rate(nats, bytes_, weights) / math.log(2)


class Reliability(NamedTuple):
    """A reliability diagram: equal-width bins of confidence, ascending."""

    weight: Float[np.ndarray, "bins"]  # share of answers in the bin
    confidence: Float[np.ndarray, "bins"]  # mean confidence; 0 in an empty bin
    accuracy: Float[np.ndarray, "bins"]  # share of correct answers; 0 in an empty bin


def bin_of(confidence: Float[np.ndarray, "*answers"], bins: int = BINS) -> Int[np.ndarray, "*answers"]:
    """Returns the bin of each confidence, ((b - 1) / bins, b / bins], from 0; a confidence of 0 is in the first."""
    return np.minimum(np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:], confidence, side="left"), bins - 1)


def reliability(
    probabilities: Num[np.ndarray, "*answers classes"],
    targets: Integer[np.ndarray, "*answers"],
    bins: int = BINS,
    weights: Weights = None,
) -> Reliability:
    """Compares confidence (the highest probability) with the accuracy of the argmax, in the bins of `bin_of`."""
    if bins < 1:
        raise ValueError(f"calibration needs at least one bin, got {bins}")
    weight, probabilities, targets = _by_class(probabilities, targets, weights)
    if probabilities.min() < 0 or probabilities.max() > 1 + 1e-5:  # float32 rows exceed 1 by about 1e-7
        raise ValueError("calibration needs probabilities in [0, 1]; apply a softmax to logits first")
    confidence = np.minimum(probabilities.max(axis=1), 1.0)
    at = bin_of(confidence, bins)
    right = probabilities.argmax(axis=1) == targets
    total, believed, hit = (np.bincount(at, weights=values, minlength=bins) for values in (weight, weight * confidence, weight * right))
    filled = np.where(total > 0, total, 1.0)
    return Reliability(total / total.sum(), believed / filled, hit / filled)


def expected_calibration_error(
    probabilities: Num[np.ndarray, "*answers classes"],
    targets: Integer[np.ndarray, "*answers"],
    bins: int = BINS,
    weights: Weights = None,
) -> float:
    """Returns ECE = sum over bins of |B| / n x |accuracy(B) - confidence(B)| (Guo et al. 2017), with the bins of `bin_of`."""
    diagram = reliability(probabilities, targets, bins, weights)
    return float((diagram.weight * np.abs(diagram.accuracy - diagram.confidence)).sum())


def calibration_error(confidence: Float[np.ndarray, "answers"], right: Num[np.ndarray, "answers"], bins: int = BINS) -> float:
    """Returns the same ECE from the confidence in each answer and whether it is right."""
    gaps = np.bincount(bin_of(confidence, bins), weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(right))


def bleu(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    mask: Shaped[np.ndarray, "examples"] | None = None,
    tokenize: str = "13a",
) -> float:
    """Returns corpus BLEU (Papineni et al. 2002) by sacrebleu (Post 2018) in [0, 100], its usual scale, with exponential smoothing.

    `references` has one string per prediction, or several. `tokenize` is "13a"; "none" for token strings joined by spaces; "zh" or "char".
    Raises UserError if sacrebleu is missing.
    """
    try:
        from sacrebleu.metrics import BLEU  # an optional dependency, and slow to import
    except ModuleNotFoundError as error:
        raise UserError("BLEU needs sacrebleu. Install it with: pip install 'assay[text]', or leave bleu out of the metrics.") from error
    if len(predictions) != len(references):
        raise ValueError(f"BLEU needs references for each prediction, got {len(predictions)} predictions and {len(references)} references")
    kept, _ = _counted((len(predictions),), mask)
    chosen = np.flatnonzero(kept).tolist()
    several = [[given] if isinstance(given, str) else list(given) for given in (references[i] for i in chosen)]
    depth = max(map(len, several))
    if min(map(len, several)) == 0:
        raise ValueError("BLEU needs at least one reference for each prediction")
    # sacrebleu expects one list per reference position, with None where an example has fewer references
    by_place: list[Any] = [[given[place] if place < len(given) else None for given in several] for place in range(depth)]
    return float(BLEU(tokenize=tokenize, force=True).corpus_score([predictions[i] for i in chosen], by_place).score)


# -- private --------------------------------------------------------------------------------------------------------------


def _same_shape(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:  # NumPy would broadcast them and return a wrong result
        raise ValueError(f"answers and targets must have the same shape, got {first.shape} and {second.shape}")


def _counted(shape: tuple[int, ...], weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns which answers count [*shape], and their weights [counted]."""
    weight = np.ones(shape) if weights is None else np.asarray(weights, np.float64)
    if weight.shape != shape[: weight.ndim]:
        raise ValueError(f"weights must have the shape of the answers {shape} or of their leading axes, got {weight.shape}")
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError("weights must be finite and not negative")
    weight = np.broadcast_to(weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim)), shape)
    kept = weight > 0
    if not kept.any():
        raise ValueError("no answer counts: the split is empty, or every weight is 0")
    return kept, weight[kept]


def _by_class(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns weights [counted], float64 scores [counted, classes] and targets [counted] of the answers that count."""
    if scores.shape[:-1] != targets.shape:
        raise ValueError(f"scores [*answers, classes] and targets [*answers] do not fit: {scores.shape} and {targets.shape}")
    kept, weight = _counted(targets.shape, weights)
    scores, targets = scores[kept].astype(np.float64), targets[kept].astype(np.int64)
    if np.isnan(scores).any():  # comparisons with NaN are false, which would rank the target first
        raise ValueError("scores hold NaN")
    if targets.min() < 0 or targets.max() >= scores.shape[1]:
        raise ValueError(f"class ids must lie in [0, {scores.shape[1]}), got ids from {targets.min()} to {targets.max()}")
    return weight, scores, targets


def _rate(sums: np.ndarray | float, counts: np.ndarray | float, weights: np.ndarray | None) -> float:
    sums, counts = np.atleast_1d(np.asarray(sums, np.float64)), np.atleast_1d(np.asarray(counts, np.float64))
    _same_shape(sums, counts)
    kept, weight = _counted(sums.shape, weights)
    total = float((counts[kept] * weight).sum())
    if total <= 0:
        raise ValueError("nothing was counted: a rate needs at least one token or byte")
    return float((sums[kept] * weight).sum()) / total
