"""Dropout and early stopping as treatments, class weights, and the temperature of a trained classifier."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from assay.core.errors import Inapplicable, UserError
from assay.data.loader import Drawn
from assay.data.source import in_memory
from assay.evals.cut import shift_of
from assay.models.model import Decode, Model, Output
from assay.tasks.datasets import classify
from assay.tasks.evidence import of_numbers
from assay.train.experiment import assemble
from assay.train.state import all_params
from assay.train.treatment import Treatment
from assay.treatments.pipeline.load import treatments
from assay.treatments.training.balance import balanced
from assay.treatments.training.choices import larger
from assay.treatments.training.temperature import fitted, tempered


def test_settings_are_those_of_the_treatments(tiny):
    made = assemble(tiny("lstm"), treatments(["dropout:rate=0.25", "early_stopping:patience=3,every=7"]))
    assert made.settings.model["dropout"] == 0.25
    assert (made.settings.train.patience, made.settings.train.validate_every) == (3, 7)
    for spec, word in (
        ("dropout:rate=1", "fraction"),
        ("early_stopping:patience=0", "at least 1"),
        ("early_stopping:every=0", "at least 1"),
    ):
        with pytest.raises(UserError, match=word):
            treatments([spec])


def test_a_larger_model_is_wider(tiny):
    plain, made = (assemble(tiny("lstm"), treatments(specs)) for specs in ([], ["larger:times=3"]))
    assert made.settings.model["width"] == 3 * plain.settings.model["width"]
    shape = jax.eval_shape(lambda: made.init_state(jax.random.key(0), made.given(), made.first_batch()))
    assert max(leaf.shape[-1] for leaf in jax.tree.leaves(all_params(shape)) if leaf.ndim) >= made.settings.model["width"]
    train, cut = larger(2).settings(None, {"name": "cnn", "filters": [8, 16], "dense": 0, "kernel": 3})
    assert cut == {"name": "cnn", "filters": [16, 32], "dense": 0, "kernel": 3} and train is None
    assert larger(2).settings(None, {"name": "mlp", "depth": 0, "width": 64})[1] == {"name": "mlp", "depth": 1, "width": 128}
    with pytest.raises(Inapplicable, match="'ngram' has no width"):
        larger().settings(None, {"name": "ngram", "order": 3})
    with pytest.raises(UserError, match="at least 2"):
        treatments(["larger:times=1"])


def source_of(labels: list[int], known: list[bool] | None = None):
    known = None if known is None else np.array(known)
    return in_memory("train", classify.labelled(np.array(labels), np.zeros((len(labels), 2), np.float32), known=known))


def test_each_class_has_the_same_total_weight():
    labels = [0, 0, 0, 0, 0, 0, 1, 1, 2]
    weigh = balanced(lambda step: np.arange(9) + 9 * step, source_of(labels), 1.0)
    for step in (0, 3):  # an index beyond the split is the same example in a later epoch
        np.testing.assert_allclose(weigh(step).weight, [0.5] * 6 + [1.5] * 2 + [3.0])
    half = balanced(lambda step: np.arange(9), source_of(labels), 0.5)(0).weight
    np.testing.assert_allclose(half, np.sqrt([0.5] * 6 + [1.5] * 2 + [3.0]), rtol=1e-6)


def test_weights_of_a_sample_and_missing_labels_stay():
    drawn = lambda step: Drawn(np.array([0, 1, 2, 3]), np.array([1.0, 0.0, 2.0, 1.0]))  # noqa: E731
    weight = balanced(drawn, source_of([0, 1, 1, 0], [True, True, True, False]), 1.0)(0).weight
    np.testing.assert_allclose(weight, [1.5, 0.0, 1.5, 1.0])
    with pytest.raises(Inapplicable, match="no classes"):
        balanced(drawn, in_memory("train", classify.labelled(np.zeros(4), np.zeros((4, 2)))._replace(target=np.zeros((4, 2)))), 1.0)


@pytest.fixture(scope="module")
def planted():
    """Classes drawn with the probabilities softmax(inputs), in a split of 3,000, and a model that multiplies the inputs by a factor."""
    random = np.random.default_rng(0)
    inputs = random.standard_normal((3000, 4)).astype(np.float32) * 1.5
    shares = np.exp(inputs) / np.exp(inputs).sum(axis=1, keepdims=True)
    labels = (random.random((3000, 1)) > np.cumsum(shares, axis=1)).sum(axis=1)
    examples = classify.labelled(labels, inputs)

    def encode(examples, width):
        return {"inputs": examples.input, "targets": examples.target[:, 0], "weight": np.ones(len(examples.id), np.float32)}

    task = classify.task("planted", {"valid": partial(in_memory, "valid", examples)}, [0, 1, 2, 3], encode)

    def apply(params, batch, *, key=None, train=False, edits=None):
        return Output(batch["inputs"] * params["factor"], {})

    def extend(params, cache, tokens):
        return tokens * params["factor"], cache

    return Model(lambda key, batch: {"factor": jnp.ones(())}, apply, Decode(lambda params, batch, most: (), extend)), task


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_the_temperature_is_the_factor_of_the_logits(planted, factor):
    model, task = planted
    params = {"factor": jnp.float32(factor)}
    found = fitted(model, params, task, 4096)
    assert found == pytest.approx(factor, rel=0.06)
    after, params = tempered(model, params)
    params = {**params, "temperature": jnp.float32(found)}
    batch = {"inputs": np.array([[1.0, 2.0, 3.0, 0.5]], np.float32)}
    logits = after.apply(params, batch).logits
    np.testing.assert_allclose(logits, batch["inputs"] * factor / found, rtol=1e-5)
    np.testing.assert_allclose(after.decode.extend(params, (), batch["inputs"])[0], logits, rtol=1e-6)
    with pytest.raises(Inapplicable, match="already"):
        tempered(after, params)


def test_few_examples_count_once_each(planted):
    """70 examples are two batches of 64, the second mostly of rows that do not count."""
    model, task = planted
    source = task.source("valid")
    seventy = source.indices(1)[np.linspace(0, 2999, 70).round().astype(int)]
    inputs, labels = source.fetch(seventy).input, source.fetch(seventy).target[:, 0]
    temperatures = np.linspace(0.5, 2.0, 1501)
    log = [jax.nn.log_softmax(inputs / one)[np.arange(70), labels].sum() - np.log(one) ** 2 / 2 for one in temperatures]
    assert fitted(model, {"factor": jnp.float32(1)}, task, 70) == pytest.approx(temperatures[int(np.argmax(log))], abs=0.005)


def test_a_few_right_answers_do_not_make_a_model_sure_of_everything(planted):
    """Of 30 examples that are all right, the likelihood has no maximum: it grows as the temperature falls."""
    model, _ = planted
    inputs = np.random.default_rng(2).standard_normal((30, 4)).astype(np.float32)
    examples = classify.labelled(inputs.argmax(axis=1), inputs)

    def encode(examples, width):
        return {
            "inputs": examples.input,
            "targets": examples.target[:, 0],
            "weight": np.ones(len(examples.id), np.float32),
        }

    task = classify.task("right", {"valid": partial(in_memory, "valid", examples)}, [0, 1, 2, 3], encode)
    assert 0.1 < fitted(model, {"factor": jnp.float32(1)}, task, 30) < 0.6


def test_without_valid_there_is_nothing_to_fit(planted):
    model, task = planted
    made = classify.task("none", {"test": lambda: task.source("valid")}, [0, 1, 2, 3], task.encode)
    with pytest.raises(Inapplicable, match="no split `valid`"):
        fitted(model, {"factor": jnp.float32(1)}, made, 10)


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "balanced_accuracy"])
def test_the_threshold_is_the_best_of_all_by_the_metric(metric):
    """Against every possible cut, with scikit-learn's metrics; a tenth of the examples are of the second class, with margins too low."""
    random = np.random.default_rng(3)
    second = random.random(400) < 0.15
    margins = random.standard_normal(400) + np.where(second, 1.5, -1.5) - 2.0
    score = {"accuracy": accuracy_score, "f1_macro": partial(f1_score, average="macro"), "balanced_accuracy": balanced_accuracy_score}[
        metric
    ]
    best = max(score(second, margins > cut) for cut in margins)
    assert score(second, margins + shift_of(margins, second, metric) > 0) >= best - 0.01 > score(second, margins > 0)


def test_a_threshold_that_gains_nothing_certain_stays():
    random = np.random.default_rng(4)
    second = random.random(60) < 0.5
    margins = np.where(second, 1.0, -1.0) + random.standard_normal(60)
    assert shift_of(margins, second, "accuracy") == 0.0
    assert shift_of(margins, np.zeros(60, bool), "accuracy") == 0.0  # one class only


def test_what_cannot_be_fitted_is_said_before_training(tiny):
    for spec, task, said in (
        ("threshold", lambda task: task, "has no classes, and a threshold is between two"),
        ("threshold", lambda task: replace(task, classes=("a", "b", "c")), "has 3 classes"),
        ("calibrate", lambda task: replace(task, evidence=of_numbers), "have no temperature"),
        ("calibrate", lambda task: replace(task, splits=("iid", "test")), "calibrate needs the split 'valid', and .* has iid, test"),
    ):
        with pytest.raises(Inapplicable, match=said):
            assemble(tiny("lstm"), [Treatment(task=task), *treatments([spec])])
    assemble(tiny("lstm"), treatments(["calibrate"]))


def test_a_stage_trains_with_neutral_values(tiny):
    """Those that the run before fitted would be part of its loss."""
    base = assemble(tiny("lstm"), treatments(["calibrate"]))
    params = all_params(jax.jit(base.init_state)(base.key, base.given(), base.first_batch()))["model"]
    before = Treatment(inherit=lambda: (base.model, {**params, "temperature": jnp.float32(3)}))
    stage = assemble(tiny("lstm"), [*treatments(["calibrate"]), before])
    state = jax.jit(stage.init_state)(stage.key, stage.given(), stage.first_batch(), stage.started())
    assert all_params(state)["model"]["temperature"] == 1.0
