"""NumPy functions that only answer: the answers are measured, and whatever needs a gradient or a program says why it does not apply."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import assay
from assay.core.errors import UserError
from assay.diagnostics.table import examine

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(80, 4))
LABELS = (INPUTS[:, 0] > 0).astype(int)
DATA = {"train": (INPUTS[:40], LABELS[:40]), "test": (INPUTS[40:], LABELS[40:])}


def probabilities(inputs):
    assert isinstance(inputs, np.ndarray)
    assert threading.current_thread() is threading.main_thread(), "inside a program it could wait for its own thread"
    right = 1 / (1 + np.exp(-3 * inputs[:, 0]))
    return np.stack([1 - right, right], axis=1)


def test_answers_are_measured_and_the_rest_says_why():
    subject = assay.from_predict(probabilities, DATA, seconds=0.1)
    rows = {row.name: row for row in examine(subject)}
    assert not [row.reason for row in rows.values() if row.crashed]
    own = np.where(LABELS[40:] == 1, probabilities(INPUTS[40:])[:, 1], probabilities(INPUTS[40:])[:, 0])
    assert rows["score"].value == 1.0 and rows["nll"].value == pytest.approx(-np.log(own).mean(), rel=1e-4)
    for name in ("gradient_norm", "parameters", "flops", "peak_memory", "compile_seconds", "roofline"):
        assert rows[name].reason.startswith("does not apply: from_predict gives answers, no gradients"), name
    assert rows["latency_p50"].applies


def test_logits_numbers_and_labels():
    scaled = assay.from_predict(lambda inputs: np.stack([0 * inputs[:, 0], 3 * inputs[:, 0]], axis=1), {"test": DATA["test"]})
    sure = assay.from_predict(probabilities, {"test": DATA["test"]})
    np.testing.assert_allclose(scaled.answers("test").columns["loss"], sure.answers("test").columns["loss"], rtol=1e-3, atol=1e-5)
    numbers = assay.from_predict(lambda inputs: inputs[:, 0] + 1, {"test": (INPUTS, INPUTS[:, 0])}, target="numbers")
    assert numbers.answers("test").mean == pytest.approx(1.0, rel=1e-5)
    both = np.stack([LABELS, 1 - LABELS], axis=1)
    labels = assay.from_predict(lambda inputs: probabilities(inputs)[:, ::-1], {"test": (INPUTS, both)}, target="labels")
    assert labels.answers("test").mean == 1.0


def test_it_cannot_be_trained():
    subject = assay.from_predict(probabilities, DATA)
    with pytest.raises(UserError, match="from_predict gives answers, no gradients, so this model cannot be trained"):
        subject.model.apply({}, subject.first(4), train=True)
    with pytest.raises(UserError, match="from_predict gives answers, no gradients"):
        jax.grad(lambda inputs: subject.model.apply({}, {"inputs": inputs}).logits.sum())(jnp.ones((2, 4)))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda inputs: inputs @ np.ones(3), r"function fails on inputs of 'train', float64 \[16, 4\]: ValueError: matmul"),
        (lambda inputs: np.ones((1, 2)), "return one row per example"),
        (lambda inputs: np.ones(len(inputs)), "as predict_proba does"),
        (None, "from_predict takes a function, not NoneType"),
    ],
)
def test_what_it_must_return_is_told(function, words):
    with pytest.raises(UserError, match=words):
        assay.from_predict(function, DATA)
