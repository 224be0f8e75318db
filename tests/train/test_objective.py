"""The supervised objective: which examples its logged metrics average over."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.evals.evaluate import ASKED, make_answer
from assay.models.model import Model, Output, Vocabulary
from assay.tasks.datasets.classify import score_classes
from assay.tasks.datasets.language import score_language
from assay.tasks.sequence import score_tokens
from assay.tasks.task import Task
from assay.train.objective import supervised

KEY, CLASSES = jax.random.key(0), 6


def no(*_):
    raise AssertionError("no test reads the task's data")


def echo() -> Model:
    """Answers each token with itself."""
    return Model(lambda key, batch: {}, lambda params, batch, **kwargs: Output(20.0 * jax.nn.one_hot(batch["inputs"], CLASSES), {}))


def logged(score, batch) -> dict[str, float]:
    _, aux = supervised(score).loss(echo(), {"model": {}}, batch, KEY, jnp.zeros((), jnp.int32))
    return {name: float(total / count) for name, (total, count) in aux.sums.items()}


def tokens(wrong: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    """Eight inputs; in every other one nothing is asked, and in one of the rest a single token. `wrong`: rows with wrong targets."""
    inputs = np.random.default_rng(0).integers(0, CLASSES, (8, 4), np.int32)
    targets = inputs.copy()
    targets[list(wrong)] = (targets[list(wrong)] + 1) % CLASSES
    mask = np.ones((8, 4), np.float32) * (np.arange(8) % 2 == 0)[:, None]
    mask[2, 1:] = 0
    return {"inputs": inputs, "targets": targets, "mask": mask, "weight": np.ones(8, np.float32)}


@pytest.mark.parametrize("score", [score_language, partial(score_tokens, metrics=("token_accuracy",))])
def test_an_example_in_which_nothing_is_asked_does_not_count_as_wrong(score):
    assert logged(score, tokens())["token_accuracy"] == 1
    assert logged(score, tokens(wrong=(2,)))["token_accuracy"] == 0.75, "each of the four that are asked counts once, not by its tokens"
    padded = {**tokens(wrong=(2,)), "weight": np.array([1, 1, 1, 1, 0, 0, 0, 0], np.float32)}
    assert logged(score, padded)["token_accuracy"] == 0.5


def test_training_averages_over_the_examples_that_evaluation_scores():
    score, batch = partial(score_tokens, metrics=("token_accuracy",)), tokens(wrong=(0, 1))
    task = Task("echo", Vocabulary(CLASSES, CLASSES), (), no, no, no, score, ("token_accuracy",), 1 / CLASSES)
    metrics, _ = make_answer(echo(), task)({}, batch)
    asked = np.asarray(metrics[ASKED]) > 0
    assert asked.sum() == 4 and logged(score, batch)["token_accuracy"] == np.asarray(metrics["token_accuracy"])[asked].mean() == 0.75


def test_an_example_without_a_label_weighs_nothing():
    inputs = np.arange(4, dtype=np.int32)
    batch = {
        "inputs": inputs,
        "targets": np.array([0, 1, 0, 0], np.int32),
        "weight": np.ones(4, np.float32),
        "labelled": np.array([1, 1, 0, 0.0]),
    }
    assert logged(score_classes, batch)["accuracy"] == 1
