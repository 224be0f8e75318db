"""Models that people bring: labels that are no classes, examples that ask nothing, values that are not finite, pixels of any scale."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.core.errors import UserError
from assay.diagnostics import generalisation, health, long_range
from assay.diagnostics.bring import bring
from assay.diagnostics.table import examine

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(100, 8)).astype(np.float32)
PARAMS = {"w": RANDOM.normal(size=(8, 3)).astype(np.float32)}
LABELS = (INPUTS @ PARAMS["w"]).argmax(axis=1)


def linear(params, batch):
    return batch["inputs"] @ params["w"]


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        (np.where(LABELS > 0, 1, -1), "contain class -1, but the logits have 3 classes"),
        (np.where(LABELS > 0, 0.9, 0.2), "hold 0.2|hold 0.9"),
        (np.full(100, -5), "contain class -5"),
        (np.where(np.arange(100) == 3, -100, LABELS), "contain class -100"),
        (np.where(np.arange(100) == 3, np.nan, LABELS), "hold 1 values that are not finite"),
        (np.array([f"class {i}" for i in LABELS]), "are <U7, such as 'class"),
        (np.array([None] * 100, object), "are object"),
        (LABELS + 1j, "are complex128"),
        (LABELS + 1, "contain class 3"),
    ],
)
def test_labels_that_are_no_classes_are_told(labels, word):
    with pytest.raises(UserError, match="the targets of 'test'") as told:
        bring(linear, PARAMS, {"test": (INPUTS, labels)})
    assert "pass the number of each class, from 0 to 2" in str(told.value)
    assert any(part in str(told.value) for part in word.split("|"))


def test_whole_numbers_of_any_type_are_classes():
    wanted = generalisation.held_out(bring(linear, PARAMS, {"test": (INPUTS, LABELS)}))[0].value
    for labels in (LABELS.astype(np.float32), LABELS.astype(np.uint8), LABELS.tolist()):
        assert generalisation.held_out(bring(linear, PARAMS, {"test": (INPUTS, labels)}))[0].value == wanted == 1.0
    with pytest.raises(UserError, match=r"the inputs of 'test' are <U1: pass numbers"):
        bring(linear, PARAMS, {"test": (np.array([["a"] * 8] * 100), LABELS)})


def test_a_single_one_in_each_row_is_a_class_unless_it_is_said():
    """Read as numbers, a perfect classifier has a large error."""
    marked = np.eye(3)[LABELS]
    for rows in (marked, marked.astype(int)):
        with pytest.raises(UserError, match=r"a single 1 in each row of 3: pass targets.argmax\(axis=1\)"):
            bring(linear, PARAMS, {"test": (INPUTS, rows)})
    assert bring(linear, PARAMS, {"test": (INPUTS, marked)}, target="numbers").task.metrics[0] == "r2"
    assert bring(linear, PARAMS, {"test": (INPUTS, marked + 0.5)}).task.metrics[0] == "r2"


IDS = np.arange(20).reshape(4, 5) % 7
TABLE = np.zeros((7, 3), np.float32)
FOUR, HALF = (INPUTS[:4], LABELS[:4]), (INPUTS[:4, :4], LABELS[:4])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([INPUTS, LABELS], "data is list: pass data="),
        ({"test": None}, r"data\['test'\] is None: pass a pair"),
        ({"test": (INPUTS, LABELS, LABELS)}, r"data\['test'\] is tuple of 3: pass a pair"),
        ({0: FOUR}, "data has the split 0: name splits by texts"),
        ({"test": ([[1.0, 2.0], [3.0]], [0, 1])}, "the inputs of 'test' are no array .*pass rows of one shape"),
        ({"test": (INPUTS, 3)}, "the targets of 'test' are int '3'"),
        ({"test": (INPUTS[:, :0], LABELS)}, "the inputs of 'test' have shape .100, 0., so they are empty"),
        ({"test": (INPUTS[:4], np.ma.array(LABELS[:4], mask=[0, 1, 0, 0]))}, "the targets of 'test' hold masked values"),
        ({"test": (INPUTS[:4], np.arange(4).astype("timedelta64[s]"))}, "the targets of 'test' are timedelta64"),
        ({"train": FOUR, "test": (INPUTS[:4], LABELS[:4, None])}, r"the targets of 'test' have shape \(4, 1\): pass classes \[n\]"),
        ({"train": FOUR, "test": HALF}, r"apply fails on inputs of 'test', float32 \[2, 4\]: TypeError"),
        ({"train": (IDS, IDS % 3), "test": (IDS, IDS[:, :2] % 3)}, r"the targets of 'test' have shape \(4, 2\)"),
        ({"train": (IDS, IDS[:, 0] % 3), "test": (IDS + 0.5, IDS[:, 0] % 3)}, "the inputs of 'test' are float64 .*pass one kind"),
        ({"test": (IDS - 1, IDS[:, 0] % 3)}, "the inputs of 'test' hold -1, but integers .*pass numbers as floats"),
        ({"test": (IDS + 2**40, IDS[:, 0] % 3)}, "the inputs of 'test' hold 10995"),
    ],
)
def test_examples_that_do_not_fit_are_told(data, words):
    """One message in place of a traceback, or of labels and ids that are read as others."""

    def apply(params, batch):
        if batch["inputs"].dtype == np.float32:
            return batch["inputs"] @ PARAMS["w"]
        logits = jnp.asarray(TABLE)[batch["inputs"]]
        return logits if "mask" in batch else logits.mean(axis=1)

    with pytest.raises(UserError, match=words):
        bring(apply, {}, data)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda logits: None, "apply returns None: apply.params, batch. must be a JAX function"),
        (lambda logits: {"a": logits, "b": logits}, "apply returns 'a', 'b': name the entry that holds the logits with output="),
        (lambda logits: (None, logits), "apply returns None"),
        (lambda logits: logits[:, 0], r"the logits have shape \[2\] for inputs of 'test' \[2, 8\]: return \[n, classes\]"),
        (lambda logits: logits.mean(axis=0, keepdims=True), r"the logits have shape \[1, 3\]"),
        (lambda logits: logits[:, None], r"the logits have shape \[2, 1, 3\]"),
        (lambda logits: logits[:, :1], "one logit per class; for a single logit z, return"),
        (lambda logits: logits > 0, "the logits are bool"),
        (lambda logits: np.asarray(logits), "apply fails on inputs of 'test', float32 .*TracerArrayConversionError"),
    ],
)
def test_answers_that_are_no_logits_are_told(answer, words):
    with pytest.raises(UserError, match=words):
        bring(lambda params, batch: answer(linear(params, batch)), PARAMS, {"test": (INPUTS, LABELS)})


def test_sizes_that_are_none_are_told():
    for more in ({"examples": 0}, {"examples": 1.5}, {"bounds": (0, np.inf)}, {"bounds": (0, 1, 2)}):
        with pytest.raises(UserError, match=f"{next(iter(more))}="):
            bring(linear, PARAMS, {"test": (INPUTS, LABELS)}, **more)


def test_examples_in_which_nothing_is_asked_weigh_nothing():
    """Half of the rows have no target: a model that is always right is right in all of the others, in every row of the page."""
    inputs = RANDOM.integers(0, 5, (40, 12))
    targets = np.where(np.arange(40)[:, None] % 2 == 0, -1, np.where(np.arange(12)[None, :] > 6, inputs, -1))

    def copy(params, batch):
        return params["sharp"] * jax.nn.one_hot(batch["inputs"], 5)

    subject = bring(copy, {"sharp": jnp.full((), 20.0)}, {"train": (inputs, targets), "test": (inputs, targets)}, seconds=0.2)
    rows = {row.name: row for row in examine(subject) if row.applies}
    assert (rows["score"].value, rows["score"].n) == (1.0, 20)
    assert rows["in_distribution"].value == rows["selective_accuracy"].value == 1.0
    assert rows["train_test_gap"].value == 0.0 and rows["nll"].value < 1e-3 and rows["effective_context"].n == 20
    with pytest.raises(UserError, match="all -1, so nothing is asked"):
        bring(copy, {"sharp": jnp.ones(())}, {"test": (inputs, np.full((40, 12), -1))})


def test_one_input_that_is_not_finite_breaks_no_row():
    inputs = INPUTS.copy()
    inputs[7, 3] = np.nan
    rows = {row.name: row for row in examine(bring(linear, PARAMS, {"train": (inputs, LABELS), "test": (inputs, LABELS)}, seconds=0.2))}
    assert not [row.name for row in rows.values() if row.crashed]
    assert rows["score"].value == 0.99
    for name in ("nll", "calibration_error", "selective_accuracy"):
        assert rows[name].reason == "the value is not finite: 1 of 100 values are not finite."
    json.dumps([row.value for row in rows.values()], allow_nan=False)


def test_values_inside_a_model_that_are_not_finite_are_told():
    """Each row says so: none crashes, and none takes NaN for a living unit, a focused head or a token without effect."""
    spoiled = np.where(np.arange(8)[:, None] == 2, np.nan, PARAMS["w"])  # in all activations
    told = "the value is not finite"

    def layers(params, batch):
        hidden = batch["inputs"] @ params["w"]
        return hidden, {"block_0/mlp": hidden, "block_0/residual": hidden}

    subject = bring(layers, {"w": spoiled}, {"train": (INPUTS, LABELS), "test": (INPUTS, LABELS)})
    assert health.effective_rank(subject)[0].reason == f"{told}: 100 of 100 representations are not finite."
    rows = {row.name: row for row in examine(subject, ["dead_units", "calibration", "gradients"])}
    assert {row.reason for row in rows.values() if "balance" not in row.name} == {
        f"{told}: {counted} values are not finite." for counted in ("3 of 3", "100 of 100", "16 of 16")
    }

    table = np.where(np.arange(7)[:, None] == 3, np.nan, np.eye(7, 3))  # in some answers

    def attends(params, batch):
        read = params["table"][batch["inputs"]]
        n, length = batch["inputs"].shape
        return jnp.cumsum(read, axis=1), {"attention/weights": jnp.full((n, 2, length, length), jnp.nan)}

    subject = bring(attends, {"table": jnp.asarray(table)}, {"test": (IDS, IDS % 3)}, seconds=0.1)
    rows = {row.name: row for row in examine(subject, ["effective_context", "attention_entropy"])}
    assert rows["attention_entropy"].reason == f"{told}: 4 of 4 values are not finite."
    assert rows["effective_context"].reason == f"{told}: 3 of 4 values are not finite."
    lost = replace(subject, params={"table": jnp.full((7, 3), jnp.nan)}, asked={})
    assert long_range.effective_context(lost)[0].reason == f"{told}: the answers to all 4 examples are not finite."


def test_a_loss_without_a_gradient_is_told():
    (row, _) = health.gradients(bring(lambda p, b: 0 * linear(p, b), PARAMS, {"test": (INPUTS, LABELS)}))
    assert row.value == 0 and row.meaning == "No batch has a gradient: the loss does not depend on the parameters there."


def test_nothing_is_relative_to_zero():
    """A block without a gradient, norms of 0 before the first one, and parameters that begin at 0."""

    def frozen(params, batch):
        return 0 * params["block_0"]["w"] + batch["inputs"] @ params["block_1"]["w"]

    begun = {"block_0": {"w": jnp.zeros(())}, "block_1": {"w": jnp.asarray(PARAMS["w"])}}
    subject = bring(frozen, begun, {"test": (INPUTS, LABELS)})
    assert health.gradients(subject)[1].reason == "not measured: block_0 has no gradient in 16 of 16 batches."
    lines = [{"step": step, "grad_norm": norm} for step, norm in enumerate([0.0] * 8 + [1.0] * 8 + [3.0])]
    (row,) = health.largest_gradient(replace(subject, history=lines))
    assert row.value == 3.0 and row.meaning.startswith("At step 16 the gradient norm was 3 times")
    (row,) = health.largest_gradient(replace(subject, history=lines[:8]))
    assert row.reason == "does not apply: the logged gradient norms are 0, so there is no baseline."
    (row,) = health.update_norm(replace(subject, started=lambda: jax.tree.map(lambda leaf: leaf / 2, begun)))
    assert row.value == pytest.approx(1.0) and np.isnan(row.plot.lines["moved"][0])
    (row,) = health.update_norm(replace(subject, started=lambda: jax.tree.map(jnp.zeros_like, begun)))
    assert row.reason == "does not apply: the initial parameters are all 0, so nothing is relative to them."


def test_pixels_of_any_scale_are_corrupted_alike():
    """Grey levels 0 to 16 as bytes, as fractions, and normalized, in a task of any name."""
    levels = RANDOM.integers(0, 17, (60, 8, 8, 1)).astype(np.uint8)
    labels = (levels.mean(axis=(1, 2, 3)) > 8).astype(int)
    scales = {
        "bytes": (levels, {}),
        "digits": (levels / 16.0, {}),
        "normalized": ((levels / 16.0 - 0.5) / 0.3, {}),
        "one negative": (np.where(np.arange(60)[:, None, None, None] == 3, np.minimum(levels, 15) / 16 - 0.01, levels / 16.0), {}),
        "stated": (levels.astype(np.float32), {"bounds": (0, 16)}),
    }
    found = {}
    for name, (images, more) in scales.items():

        def apply(params, batch):
            return jnp.stack(
                [jnp.zeros(len(batch["inputs"])), params["a"] * (batch["inputs"].mean(axis=(1, 2, 3)) - params["at"])], axis=-1
            )

        params = {"a": jnp.float32(10 / images.std()), "at": jnp.float32(images.mean())}
        rows = generalisation.corruptions(bring(apply, params, {"test": (images, labels)}, name=name, **more))
        assert not [row for row in rows if row.crashed]
        found[name] = {row.name: row.value for row in rows if row.applies}
    for name in ("digits", "normalized", "stated"):
        assert found[name] == pytest.approx(found["bytes"], abs=0.04), name
    assert found["one negative"] == pytest.approx(found["bytes"], abs=0.1)
    flat = bring(apply, params, {"test": (np.full((10, 8, 8, 1), 3.0), labels[:10])})
    assert generalisation.corruptions(flat)[0].reason == "does not apply: all pixels are 3."


def test_pictures_that_corruptions_would_misread_are_told():
    def apply(params, batch):
        return jnp.broadcast_to(params["a"], (len(batch["inputs"]), 2))

    def told(images, **more):
        subject = bring(apply, {"a": jnp.zeros(2)}, {"test": (images, np.arange(len(images)) % 2)}, **more)
        return {row.name.partition(": ")[2]: row.reason for row in generalisation.corruptions(subject) if not row.applies}

    images = RANDOM.random((60, 8, 8, 3))
    assert told(images) == {}
    assert "the images have 4 channels" in told(RANDOM.random((20, 8, 8, 4)))["colour"] and "grayscale" in told(images[..., :1])["colour"]
    first = told(np.moveaxis(images, -1, 1))
    assert len(first) == 5 and all("their channels come first" in reason for reason in first.values())
    one = images.copy()
    one[3, 2, 2, 0] = 300.0
    assert all("to 300, but nearly all in " in reason for reason in told(one).values()) and len(told(one)) == 5
    assert told(one, bounds=(0, 300)) == {}, "a range that is stated is taken"


@pytest.mark.parametrize(
    ("slope", "noise", "words"),
    [
        (-0.1, 0.0, "it is still falling"),
        (-0.0002, 0.0, "it has levelled off"),
        (0.1, 0.0, "it is rising"),
        (-0.14, 1.0, "whether it still falls is not clear"),
    ],
)
def test_words_about_the_loss_follow_its_interval(slope, noise, words):
    step = np.arange(10, 500, 10)
    loss = 3 + slope * np.log2(step) + noise * np.random.default_rng(1).normal(size=len(step))
    subject = bring(linear, PARAMS, {"test": (INPUTS, LABELS)})
    object.__setattr__(subject, "history", [{"step": int(at), "loss": float(value)} for at, value in zip(step, loss, strict=True)])
    (row,) = generalisation.learning_curve(subject)
    assert words in row.meaning
