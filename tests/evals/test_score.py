"""Metrics against scikit-learn, sacrebleu and hand results; what every one of them promises about masks, shapes and empty splits."""

import math
import sys

import numpy as np
import pytest
import sacrebleu
from sklearn import metrics

from assay.core.errors import UserError
from assay.evals import score

CLOSE = {"abs": 1e-6, "rel": 1e-6}
WORDS = ["the", "cat", "sat", "on", "a", "mat", ",", "dogs", "ran", "home", "."]


def answers(seed, n=200, classes=7, high=None):
    """Random predictions and targets, right in about half; with `high` below `classes` some classes never occur."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, high or classes, n)
    return (
        np.where(random.random(n) < 0.5, targets, random.integers(0, high or classes, n)),
        targets,
        random.integers(0, 4, n).astype(float),
    )


def logits(seed, n=200, classes=7):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, classes)).astype(np.float32), random.integers(0, classes, n), random.integers(0, 4, n).astype(float)


def softmax(values):
    exponent = np.exp(values.astype(np.float64) - values.max(axis=-1, keepdims=True))
    return exponent / exponent.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("high", [1, 2, 4, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_classes_agree_with_scikit_learn(seed, high):
    """`high` 1 is a split of one class; below 7 there are classes that never occur."""
    predictions, targets, weights = answers(seed, high=high)
    kept = weights > 0
    for weight, keep in ((None, np.ones(len(targets), bool)), (weights, kept)):
        given = {"sample_weight": None if weight is None else weight[keep]}
        truth, answer, every = targets[keep], predictions[keep], list(range(7))
        assert score.accuracy(predictions, targets, weight) == pytest.approx(metrics.accuracy_score(truth, answer, **given), **CLOSE)
        expected = metrics.confusion_matrix(truth, answer, labels=every, **given)
        assert score.confusion_matrix(predictions, targets, 7, weight) == pytest.approx(expected, **CLOSE)
        expected = metrics.f1_score(truth, answer, labels=every, average=None, zero_division=0, **given)
        assert score.f1_per_class(predictions, targets, 7, weight) == pytest.approx(expected, **CLOSE)
        expected = metrics.f1_score(truth, answer, labels=every, average="macro", zero_division=0, **given)
        assert score.f1_macro(predictions, targets, 7, weight) == pytest.approx(expected, **CLOSE)
        expected = metrics.f1_score(truth, answer, average="macro", zero_division=0, **given)
        assert score.f1_macro(predictions, targets, weights=weight) == pytest.approx(expected, **CLOSE)
        gaps = score.f1_macro(3 * predictions, 3 * targets, weights=weight)
        assert gaps == pytest.approx(expected, **CLOSE), "ids between those that occur are no classes"
        expected = metrics.f1_score(truth, answer, average="micro", zero_division=0, **given)
        assert score.f1_micro(predictions, targets, weight) == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize("k", [1, 2, 5, 7, 9])
def test_top_k_agrees_with_scikit_learn(k):
    values, targets, weights = logits(3)
    if k < 7:
        expected = metrics.top_k_accuracy_score(targets, values, k=k, labels=np.arange(7))
        assert score.top_k_accuracy(values, targets, k) == pytest.approx(expected, **CLOSE)
        kept = weights > 0
        expected = metrics.top_k_accuracy_score(targets[kept], values[kept], k=k, labels=np.arange(7), sample_weight=weights[kept])
        assert score.top_k_accuracy(values, targets, k, weights) == pytest.approx(expected, **CLOSE)
    else:
        assert score.top_k_accuracy(values, targets, k) == 1.0


def test_ties_go_to_the_lower_id_as_with_argmax():
    values = np.array([[1, 1, 0], [0, 0, 0], [2, 3, 3]])
    targets = np.array([1, 2, 2])
    assert [score.top_k_accuracy(values, targets, k) for k in (1, 2, 3)] == pytest.approx([0, 2 / 3, 1])
    tied = np.random.default_rng(0).integers(0, 3, (300, 5))
    targets = np.random.default_rng(1).integers(0, 5, 300)
    assert score.top_k_accuracy(tied, targets, 1) == score.accuracy(tied.argmax(axis=1), targets)


def test_likelihood_agrees_with_scikit_learn():
    values, targets, weights = logits(5)
    kept = weights > 0
    expected = metrics.log_loss(targets, softmax(values), labels=np.arange(7))
    assert score.negative_log_likelihood(values, targets) == pytest.approx(expected, **CLOSE)
    assert score.negative_log_likelihood(np.log(softmax(values)), targets) == pytest.approx(expected, **CLOSE)
    assert score.negative_log_likelihood(values + 1000, targets) == pytest.approx(expected, rel=1e-4)  # shifted in float32
    expected = metrics.log_loss(targets[kept], softmax(values)[kept], labels=np.arange(7), sample_weight=weights[kept])
    assert score.negative_log_likelihood(values, targets, weights) == pytest.approx(expected, **CLOSE)
    nats = np.full(200, score.negative_log_likelihood(values, targets))
    assert score.perplexity(nats, np.ones(200)) == pytest.approx(math.exp(nats[0]), **CLOSE)


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary():
    assert score.negative_log_likelihood(np.zeros((6, 16)), np.arange(6)) == pytest.approx(math.log(16), **CLOSE)
    assert score.perplexity(10 * math.log(16), 10) == pytest.approx(16, **CLOSE)
    assert score.bits_per_byte(10 * math.log(256), 10) == pytest.approx(8, **CLOSE)
    assert score.perplexity(1e6, 1) == math.inf
    # sums before the quotient: a mean over examples would weigh the short one as much as the long one
    assert score.bits_per_byte(np.array([8.0, 0.0]) * math.log(2), np.array([1, 3])) == pytest.approx(2, **CLOSE)
    assert score.bits_per_byte(np.array([8.0, 9.0]) * math.log(2), np.array([1, 3]), np.array([1, 0])) == pytest.approx(8, **CLOSE)


def plain_ece(probabilities, targets, weights, bins):
    """Guo et al.'s formula, bin by bin."""
    confidence, total = probabilities.max(axis=1), 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if weights[inside].sum() > 0:
            right = np.average(probabilities.argmax(axis=1)[inside] == targets[inside], weights=weights[inside])
            mean = np.average(confidence[inside], weights=weights[inside])
            total += weights[inside].sum() / weights.sum() * abs(right - mean)
    return total


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_error_is_the_formula(bins):
    values, targets, weights = logits(9, n=500)
    probabilities = softmax(3 * values)
    for weight in (None, weights):
        expected = plain_ece(probabilities, targets, np.ones(500) if weight is None else weight, bins)
        assert score.expected_calibration_error(probabilities, targets, bins, weight) == pytest.approx(expected, **CLOSE)


def test_the_error_of_confidences_is_the_same_number():
    """Confidences at the edges of bins, from classes and from columns."""
    edges = np.concatenate([np.arange(1, 16) / 15, np.arange(1, 16) / 15 - 1e-9, [0.4, 0.39]])
    edges = edges[edges >= 0.5]
    right = np.arange(len(edges)) % 3 == 0
    probabilities = np.stack([edges, 1 - edges], axis=1)
    expected = score.expected_calibration_error(probabilities, np.where(right, 0, 1))
    assert score.calibration_error(edges, right.astype(float)) == pytest.approx(expected, **CLOSE)
    assert score.calibration_error(np.array([0.4, 0.39]), np.array([1.0, 0.0])) == pytest.approx(0.105)
    assert score.bin_of(np.array([0.0, 1.0, 1.0000001]), 10).tolist() == [0, 9, 9]


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    targets = np.array([0, 1, 1, 1])  # right half the time at 0.9, always at 0.6
    assert score.expected_calibration_error(probabilities, targets, 10) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4, **CLOSE)
    diagram = score.reliability(probabilities, targets, 10)
    assert np.flatnonzero(diagram.weight).tolist() == [5, 8]  # 0.6 and 0.9 are the upper ends of their bins
    assert score.expected_calibration_error(np.eye(3)[[0, 1, 2]], np.array([0, 1, 2])) == 0.0


def sentences(seed, n, changed=0.3):
    random = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        truth = random.choice(WORDS, random.integers(1, 12)).tolist()
        made.append((" ".join(word if random.random() > changed else str(random.choice(WORDS)) for word in truth), " ".join(truth)))
    return [list(part) for part in zip(*made, strict=True)]


@pytest.mark.parametrize("tokenize", ["13a", "none", "char"])
def test_bleu_is_sacrebleus(tokenize):
    predictions, references = sentences(0, 40)
    _, others = sentences(1, 40)
    expected = sacrebleu.corpus_bleu(predictions, [references], tokenize=tokenize, force=True).score
    assert 0 < expected < 100
    assert score.bleu(predictions, references, tokenize=tokenize) == pytest.approx(expected, **CLOSE)
    expected = sacrebleu.corpus_bleu(predictions, [references, others], tokenize=tokenize, force=True).score
    assert score.bleu(predictions, list(zip(references, others, strict=True)), tokenize=tokenize) == pytest.approx(expected, **CLOSE)
    mask = (np.arange(40) % 3 > 0).astype(np.float32)
    kept = [list(np.array(part, object)[mask > 0]) for part in (predictions, references)]
    assert score.bleu(predictions, references, mask, tokenize) == pytest.approx(
        sacrebleu.corpus_bleu(kept[0], [kept[1]], tokenize=tokenize, force=True).score, **CLOSE
    )
    assert score.bleu(references, references, tokenize=tokenize) == pytest.approx(100, **CLOSE)


def test_bleu_reads_examples_with_different_numbers_of_references():
    found = score.bleu(
        ["the cat sat on a mat", "dogs ran home again ."], [["the cat sat on a mat"], ["dogs ran home .", "dogs ran home again ."]]
    )
    assert found == pytest.approx(100, **CLOSE)


def test_bleu_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(UserError, match=r"assay\[text\]"):
        score.bleu(["a"], ["a"])


def test_exact_match():
    targets = np.array([[1, 2, 3], [4, 5, 0], [6, 0, 0]])
    predictions = np.array([[1, 2, 3], [4, 5, 9], [7, 8, 8]])
    mask = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)
    assert score.exact_match(predictions, targets) == pytest.approx(1 / 3)
    assert score.exact_match(predictions, targets, mask) == pytest.approx(2 / 3)
    assert score.exact_match(predictions, targets, mask, np.array([0, 1, 3])) == pytest.approx(1 / 4)
    assert score.exact_match(np.array(["a", "b"]), np.array(["a", "c"])) == 0.5


def test_token_arrays_count_by_mask_or_by_example():
    predictions, targets, _ = answers(2, n=60)
    table = (predictions.reshape(10, 6), targets.reshape(10, 6))
    mask = np.arange(6)[None, :] < np.arange(1, 11)[:, None]
    assert score.accuracy(*table, mask) == pytest.approx(metrics.accuracy_score(table[1][mask], table[0][mask]), **CLOSE)
    rows = (np.arange(10) < 4).astype(np.float32)
    assert score.f1_macro(*table, weights=rows) == pytest.approx(score.f1_macro(predictions[:24], targets[:24]), **CLOSE)


WITH_SCORES = {
    "top_k": lambda values, targets, weights: score.top_k_accuracy(values, targets, 2, weights),
    "nll": score.negative_log_likelihood,
    "ece": lambda values, targets, weights: score.expected_calibration_error(softmax(np.nan_to_num(values)), targets, 15, weights),
}
WITH_ANSWERS = {
    "accuracy": score.accuracy,
    "exact_match": lambda predictions, targets, weights: score.exact_match(predictions, targets, None, weights),
    "f1_micro": score.f1_micro,
    "f1_macro": lambda predictions, targets, weights: score.f1_macro(predictions, targets, None, weights),
    "f1_per_class": lambda predictions, targets, weights: score.f1_per_class(predictions, targets, None, weights),
    "confusion": lambda predictions, targets, weights: score.confusion_matrix(predictions, targets, None, weights),
}


@pytest.mark.parametrize("name", [*WITH_SCORES, *WITH_ANSWERS])
def test_rows_that_do_not_count_change_nothing_whatever_they_hold(name):
    """The last batch of a split is filled up with rows of weight 0."""
    metric = {**WITH_SCORES, **WITH_ANSWERS}[name]
    first, targets, weights = logits(4, 50) if name in WITH_SCORES else answers(4, 50)
    alone = metric(first, targets, weights)
    rubbish = np.full((7, *first.shape[1:]), np.nan if name in WITH_SCORES else -9).astype(first.dtype)
    filled = metric(np.concatenate([first, rubbish]), np.concatenate([targets, np.full(7, 99)]), np.concatenate([weights, np.zeros(7)]))
    assert np.array_equal(alone, filled)
    order = np.random.default_rng(0).permutation(50)
    assert metric(first[order], targets[order], weights[order]) == pytest.approx(alone, abs=1e-12)


@pytest.mark.parametrize("name", [*WITH_SCORES, *WITH_ANSWERS])
def test_nothing_to_count_is_an_error(name):
    metric = {**WITH_SCORES, **WITH_ANSWERS}[name]
    first, targets, _ = logits(4, 5) if name in WITH_SCORES else answers(4, 5)
    with pytest.raises(ValueError, match="no answer counts"):
        metric(first, targets, np.zeros(5))
    with pytest.raises(ValueError, match="no answer counts"):
        metric(first[:0], targets[:0], None)
    with pytest.raises(ValueError, match="must be finite and not negative"):
        metric(first, targets, -np.ones(5))


def test_an_auroc_of_one_class_has_no_value():
    for positive in (np.ones(4), np.zeros(4)):
        assert math.isnan(score.auroc(np.arange(4.0), positive))


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="no answer counts"):
        score.bleu([], [])
    with pytest.raises(ValueError, match="2 predictions and 1 references"):
        score.bleu(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="at least one token"):
        score.perplexity(1.0, 0)
    with pytest.raises(ValueError, match=r"\[0, 3\), got ids from 0 to 5"):
        score.confusion_matrix(np.array([0, 5]), np.array([1, 2]), 3)
    with pytest.raises(ValueError, match=r"\[0, 2\)"):
        score.negative_log_likelihood(np.zeros((1, 2)), np.array([-1]))
    with pytest.raises(ValueError, match="NaN"):
        score.top_k_accuracy(np.array([[np.nan, 1.0]]), np.array([0]), 1)
    with pytest.raises(ValueError, match="softmax"):
        score.expected_calibration_error(np.array([[2.0, -1.0]]), np.array([0]))
    with pytest.raises(ValueError, match="k of at least 1"):
        score.top_k_accuracy(np.zeros((1, 2)), np.array([0]), 0)
