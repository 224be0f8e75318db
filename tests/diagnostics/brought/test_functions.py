"""Functions that people bring: parameters of any tree, inputs of several arrays, results of any form, and targets that are no classes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import assay
from assay.core.errors import UserError
from assay.diagnostics.bring import bring
from assay.diagnostics.table import examine
from assay.evals.rows import value_of
from assay.infer.export import as_tree, export, exported_bytes, load_exported
from assay.models.model import STATE
from assay.train.objective import supervised
from assay.train.state import init_state
from assay.train.step import make_step
from assay.train.treatment import Treatment

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(64, 4)).astype(np.float32)
WEIGHTS = RANDOM.normal(size=(4, 3)).astype(np.float32)
LOGITS = INPUTS @ WEIGHTS
LABELS = LOGITS.argmax(axis=1)
DATA = {"train": (INPUTS[:32], LABELS[:32]), "test": (INPUTS[32:], LABELS[32:])}


def linear(params, inputs):
    return inputs @ params["w"]


def score_of(subject, name="score"):
    (row,) = [row for row in examine(subject, ["held_out"]) if row.name == name]
    return row.value


def stepped(subject, steps=2):
    """Parameters after a few steps of plain gradient descent."""
    objective, optimizer, none = supervised(subject.task.score), optax.sgd(0.5), Treatment()
    batch = subject.first(32, "train")
    state = init_state(jax.random.key(0), {}, subject.model, objective, optimizer, none, batch, {"model": subject.params})
    step = jax.jit(make_step(subject.model, objective, none.gradient, optimizer))
    for _ in range(steps):
        state, metrics = step(state, batch)
    return state, metrics


class Pair(NamedTuple):
    w: jax.Array
    more: list


TREES = {
    "python floats": ({"w": jnp.asarray(WEIGHTS), "scale": 1.0}, lambda p, x: x @ p["w"] * p["scale"]),
    "integers": ({"w": jnp.asarray(WEIGHTS), "steps": jnp.int32(7), "power": 1}, lambda p, x: (x @ p["w"]) ** p["power"] + 0 * p["steps"]),
    "none": ({"w": jnp.asarray(WEIGHTS), "bias": None}, lambda p, x: x @ p["w"] + (0 if p["bias"] is None else p["bias"])),
    "other nodes": (Pair(jnp.asarray(WEIGHTS), [np.float32(1.0), "relu"]), lambda p, x: x @ p.w * p.more[0] + len(p.more[1]) * 0),
    "one array": (jnp.asarray(WEIGHTS), lambda p, x: x @ p),
    "bfloat16": ({"w": jnp.asarray(WEIGHTS, jnp.bfloat16)}, lambda p, x: x.astype(jnp.bfloat16) @ p["w"]),
    "float16": ({"w": jnp.asarray(WEIGHTS, jnp.float16)}, lambda p, x: x.astype(jnp.float16) @ p["w"]),
    "a part called state": ({"state": jnp.asarray(WEIGHTS)}, lambda p, x: x @ p["state"]),
    "a random key": ({"w": jnp.asarray(WEIGHTS), "key": jax.random.key(0)}, lambda p, x: x @ p["w"]),
}


@pytest.mark.parametrize("name", TREES)
def test_parameters_of_any_tree(name, tmp_path):
    params, apply = TREES[name]
    subject = assay.from_function(apply, params, DATA)
    assert score_of(subject) > 0.9
    costly = name in ("python floats", "integers")
    rows = {row.name: row for row in examine(subject, ["gradients", *(["costs"] if costly else [])])}
    assert not [row.reason for row in rows.values() if row.crashed]
    assert rows["gradient_norm"].value > 0
    assert not costly or rows["parameters"].value == 12 + (name == "python floats")
    state, metrics = stepped(subject, 1)
    assert np.isfinite(float(metrics["loss"]))
    if name == "integers":
        assert int(state.carried["model"]["steps"]) == 7
    export(subject.params, tmp_path / "exported")
    kept = as_tree(load_exported(tmp_path / "exported"), subject.params)
    assert all(map(np.array_equal, jax.tree.leaves(kept), jax.tree.leaves(subject.params)))


def test_python_numbers_are_exported_as_jax_stores_them(tmp_path):
    params = {"w": np.ones(2, np.float32), "scale": 0.5, "n": 3, "on": True}
    export(params, tmp_path)
    found = load_exported(tmp_path)
    assert (found["scale"].dtype, float(found["scale"]), int(found["n"]), bool(found["on"])) == (np.float32, 0.5, 3, True)
    assert exported_bytes(params) == 8 + 4 + 4 + 1
    assert float(as_tree(found, params)["scale"]) == 0.5


class Answer:
    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize(
    ("answer", "more"),
    [
        (lambda logits: (logits, jnp.zeros(3)), {}),
        (lambda logits: (logits, {"steps": 1}), {}),
        (lambda logits: {"logits": logits, "aux": logits}, {}),
        (lambda logits: {"predictions": logits}, {}),
        (lambda logits: {"a": -logits, "b": logits}, {"output": "b"}),
        (lambda logits: Answer(logits), {}),
        (lambda logits: [logits], {}),
        (lambda logits: assay.models.model.Output(logits, {}), {}),
    ],
)
def test_results_of_any_form(answer, more):
    subject = assay.from_function(lambda params, inputs: answer(linear(params, inputs)), {"w": WEIGHTS}, DATA, **more)
    np.testing.assert_allclose(subject.model.apply(subject.params, {"inputs": INPUTS}).logits, LOGITS, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("apply", "more"),
    [
        (lambda params, batch: batch["inputs"] @ params["w"], {}),
        (lambda params, x, train: x @ params["w"] + 9 * train, {}),
        (lambda params, x, key=None, is_training=True: x @ params["w"] + 9 * is_training, {}),
        (lambda params, x, *, deterministic: x @ params["w"] + 9 * (not deterministic), {}),
        (lambda params, *given, **modes: given[0] @ params["w"] + 9 * modes["training"], {}),
        (lambda params, x, mode: x @ params["w"] + 9 * (mode == "train"), {"call": lambda f, x, train: f(x, "train" if train else "eval")}),
    ],
)
def test_functions_are_called_as_they_say(apply, more):
    """Answers are those of evaluation, whatever the mode is called."""
    subject = assay.from_function(apply, {"w": jnp.asarray(WEIGHTS)}, DATA, **more)
    np.testing.assert_allclose(subject.model.apply(subject.params, {"inputs": INPUTS}).logits, LOGITS, rtol=1e-5, atol=1e-5)
    if "batch" not in apply.__code__.co_varnames:
        trained = subject.model.apply(subject.params, {"inputs": INPUTS}, key=jax.random.key(0), train=True).logits
        np.testing.assert_allclose(trained, LOGITS + 9, rtol=1e-5, atol=1e-5)


IDS = RANDOM.integers(1, 9, (64, 6))
LENGTH = RANDOM.integers(2, 7, 64)
MASK = (np.arange(6)[None, :] < LENGTH[:, None]).astype(np.int64)


def masked(params, input_ids, attention_mask):
    """The class is the last token that is no padding, modulo 3."""
    last = jnp.take_along_axis(input_ids, attention_mask.sum(axis=1, keepdims=True) - 1, axis=1)[:, 0]
    return params["sharp"] * jax.nn.one_hot(last % 3, 3)


def test_inputs_by_name_reach_the_model_and_the_rows():
    """A wrong row order or a lost mask would change the answers; padding is no token that could matter."""
    targets = np.take_along_axis(IDS, LENGTH[:, None] - 1, axis=1)[:, 0] % 3
    inputs = {"attention_mask": MASK, "input_ids": IDS * MASK}
    parts = {"train": slice(32), "test": slice(32, 64)}
    data = {split: ({name: array[part] for name, array in inputs.items()}, targets[part]) for split, part in parts.items()}
    subject = assay.from_function(masked, {"sharp": jnp.float32(20.0)}, data, seconds=0.1)
    rows = {row.name: row for row in examine(subject, ["held_out", "effective_context", "gradients", "costs", "calibration"])}
    assert not [row.reason for row in rows.values() if row.crashed]
    assert rows["score"].value == 1.0 and rows["effective_context"].value == 0.0
    of_batch = bring(lambda params, batch: masked(params, **batch["inputs"]), {"sharp": jnp.float32(20.0)}, data)
    assert score_of(of_batch) == 1.0
    assert sorted(name for name in subject.first(2) if name.startswith("inputs")) == ["inputs", "inputs/attention_mask"]
    pair = {"test": ((INPUTS, INPUTS[:, :1]), LABELS)}
    assert score_of(assay.from_function(lambda p, x, y: x @ p["w"] + 0 * y, {"w": jnp.asarray(WEIGHTS)}, pair)) == 1.0
    with pytest.raises(UserError, match=r"data\['test'\] has 3 inputs 'attention_mask' and 64 targets"):
        bring(linear, {}, {"test": ({"input_ids": IDS, "attention_mask": MASK[:3]}, targets)})
    with pytest.raises(UserError, match=r"apply fails on inputs of 'test', .input_ids: int32 \[2, 6\], attention_mask: int32 \[2, 6\].: "):
        assay.from_function(lambda p, x: x["nothing"], {}, {"test": ({"input_ids": IDS, "attention_mask": MASK}, targets)})


def test_numbers_are_a_regression():
    """The score is the mean squared error; R2 and the absolute error stand beside it, and rows of classes say why they do not apply."""
    one = LOGITS[:, 0]
    data = {"train": (INPUTS[:32], one[:32]), "test": (INPUTS[32:], one[32:] + 0.5)}
    subject = assay.from_function(lambda p, x: x @ p["w"], {"w": jnp.asarray(WEIGHTS[:, 0])}, data, seconds=0.1)
    rows = {row.name: row for row in examine(subject)}
    assert not [row.reason for row in rows.values() if row.crashed]
    assert rows["score"].value == pytest.approx(0.25, rel=1e-4) and rows["score"].better == "lower"
    assert rows["mae"].value == pytest.approx(0.5, rel=1e-4)
    assert rows["r2"].value == pytest.approx(1 - 0.25 / np.var(one[32:]), rel=1e-4)
    assert rows["train_test_gap"].value == pytest.approx(-0.25, rel=1e-3)
    assert "answers with numbers" in rows["nll"].reason
    several = assay.from_function(linear, {"w": jnp.asarray(WEIGHTS)}, {"test": (INPUTS, LOGITS + np.float32([0, 0, 3]))})
    assert score_of(several) == pytest.approx(3.0, rel=1e-4) and score_of(several, "mae") == pytest.approx(1.0, rel=1e-4)
    whole = assay.from_function(lambda p, x: x @ p["w"], {"w": jnp.ones((4, 1))}, {"test": (INPUTS, LABELS)}, target="numbers")
    assert score_of(whole) == pytest.approx(float(np.square(INPUTS.sum(axis=1) - LABELS).mean()), rel=1e-4)
    missing = np.where(LABELS == 0, np.nan, 1.0)
    for bad, words in ((missing, "values that are not finite"), (LOGITS, r"logits have shape \[2\].*return \[n, 3\]")):
        with pytest.raises(UserError, match=words):
            assay.from_function(lambda p, x: x @ p["w"], {"w": jnp.ones(4)}, {"test": (INPUTS, bad)}, target="numbers")


def test_errors_of_pictures_are_no_fractions():
    pictures = RANDOM.random((40, 4, 4, 1)).astype(np.float32)
    target = 10 * pictures.mean(axis=(1, 2, 3))
    data = {"test": (pictures, target)}
    subject = assay.from_function(lambda p, x: p["a"] * x.mean(axis=(1, 2, 3)), {"a": jnp.float32(10)}, data, examples=40)
    row = next(row for row in examine(subject, ["corruptions"]) if row.name == "corruption: contrast")
    assert (row.unit, row.better) == ("", "lower") and row.value > 0 and "%" not in row.meaning


def test_several_labels():
    labels = (LOGITS > 0).astype(int)
    wrong = np.where(np.arange(64)[:, None] % 4 == 0, labels ^ np.array([1, 0, 0]), labels)  # the first label of every fourth example
    data = {"train": (INPUTS, labels), "test": (INPUTS, wrong)}
    subject = assay.from_function(linear, {"w": jnp.asarray(WEIGHTS)}, data, target="labels", seconds=0.1)
    rows = {row.name: row for row in examine(subject)}
    assert not [row.reason for row in rows.values() if row.crashed]
    assert rows["score"].value == 0.75 and rows["label_accuracy"].value == pytest.approx(1 - 0.25 / 3)
    assert "several labels" in rows["calibration_error"].reason and "train_test_gap" in rows
    records = subject.answers("test").records
    by_label = [2 * (labels[:, k] & wrong[:, k]).sum() / (labels[:, k].sum() + wrong[:, k].sum()) for k in range(3)]
    assert value_of(records, "f1_labels", False) == pytest.approx(np.mean(by_label))
    loss, _, _ = subject.task.score(subject.model.apply(subject.params, batch := subject.first(64)), batch)
    probability = 1 / (1 + np.exp(-np.asarray(batch["inputs"] @ WEIGHTS, np.float64)))
    own = np.where(batch["targets"] > 0, probability, 1 - probability)
    np.testing.assert_allclose(loss, -np.log(own).mean(axis=1), rtol=1e-4)
    with pytest.raises(UserError, match="pass target='labels' if each is 0 or 1, or target='numbers'"):
        assay.from_function(linear, {"w": WEIGHTS}, {"test": (INPUTS, labels)})
    with pytest.raises(UserError, match="the targets of 'test' hold 2, which is no label: pass 1 or 0"):
        assay.from_function(linear, {"w": WEIGHTS}, {"test": (INPUTS, labels * 2)}, target="labels")
    with pytest.raises(UserError, match=r"unknown target 'label'. Did you mean 'labels'"):
        assay.from_function(linear, {"w": WEIGHTS}, {"test": (INPUTS, labels)}, target="label")


def test_a_loss_of_ones_own_is_minimized_and_the_scores_remain():
    def margin(logits, batch):
        own = jnp.take_along_axis(logits, batch["targets"][:, None], axis=1)
        return jax.nn.relu(1 - own + logits).sum(axis=1) - 1

    plain = assay.from_function(linear, {"w": jnp.asarray(WEIGHTS)}, DATA)
    hinge = assay.from_function(linear, {"w": jnp.asarray(WEIGHTS)}, DATA, loss=margin)
    _, metrics = stepped(hinge, 1)
    batch = hinge.first(32, "train")
    assert float(metrics["loss"]) == pytest.approx(float(margin(batch["inputs"] @ WEIGHTS, batch).mean()), rel=1e-5)
    for name in ("score", "nll"):
        ours, theirs = ({row.name: row.value for row in examine(one, ["held_out", "calibration"])}[name] for one in (hinge, plain))
        assert ours == theirs


def test_names_of_classes_are_those_of_the_targets():
    subject = assay.from_function(linear, {"w": WEIGHTS}, DATA, classes=["cat", "dog", "owl"])
    record = subject.answers("test").records[0]
    assert record["target"] in ("cat", "dog", "owl") and record["prediction"] == record["target"]
    assert value_of(subject.answers("test").records, "f1_macro", False) == 1.0


def test_variables_beside_the_parameters_are_not_trained():
    def normalised(variables, inputs):
        return (inputs - variables["stats"]["mean"][None]) @ variables["params"]["w"]

    variables = {"params": {"w": jnp.asarray(WEIGHTS)}, "stats": {"mean": jnp.zeros(4)}}
    subject = assay.from_function(normalised, variables, DATA)
    assert set(subject.params) == {"w", STATE} and score_of(subject) == 1.0
    state, _ = stepped(subject)
    assert not jnp.array_equal(state.params["model"]["w"], WEIGHTS)
    assert jnp.array_equal(state.carried["model"]["stats"]["mean"], jnp.zeros(4))
