"""Each diagnostic on a constructed model whose answer is known."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.config import chomsky, digits
from assay.diagnostics import calibration, generalisation, health, long_range, reasoning
from assay.diagnostics import table as diagnostics
from assay.diagnostics.bring import bring
from assay.diagnostics.cost import costs, energy, speeds
from assay.diagnostics.intervals import calibration_interval
from assay.diagnostics.measurement import GROUPS, Measurement, Plot
from assay.diagnostics.statistics import half_length
from assay.diagnostics.subject import Subject, choosing, farther, held_out, limited
from assay.models.model import Decode, Model, Output
from assay.tasks.table import build
from assay.verdicts.verdict import Pair, judge

N = 200


def by_name(rows):
    return {row.name: row for row in rows}


def told(right, confidence=0.9, classes=4):
    """A model and its data: it gives `confidence` to class 1, and the label is 1 where `right`."""
    logits = jnp.log(jnp.full(classes, (1 - confidence) / (classes - 1)).at[1].set(confidence))

    def apply(params, batch):
        return jnp.broadcast_to(params["logits"], (len(batch["inputs"]), classes))

    return apply, {"logits": logits}, np.where(right, 1, 0)


def numbers(n, width=3):
    return np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)


# -- generalisation and calibration --------------------------------------------------------------------------------------


def test_score_and_gap():
    apply, params, test = told(np.arange(N) < 120)
    _, _, train = told(np.arange(N) < 180)
    rows = by_name(generalisation.held_out(bring(apply, params, {"train": (numbers(N), train), "test": (numbers(N), test)})))
    assert rows["score"].value == pytest.approx(0.6) and rows["score"].n == N
    assert rows["score"].interval[0] < 0.6 < rows["score"].interval[1]
    assert rows["train_test_gap"].value == pytest.approx(0.3)
    assert rows["train_test_gap"].better == "lower"


def test_without_a_training_split_there_is_no_gap():
    apply, params, test = told(np.arange(N) < 120)
    gap = by_name(generalisation.held_out(bring(apply, params, {"test": (numbers(N), test)})))["train_test_gap"]
    assert not gap.applies and "train" in gap.reason and gap.value is None


def test_calibration_of_a_model_that_is_sure_and_often_wrong():
    apply, params, labels = told(np.arange(N) < 120, confidence=0.9)
    rows = by_name(calibration.calibration(bring(apply, params, {"test": (numbers(N), labels)})))
    assert rows["calibration_error"].value == pytest.approx(0.3, abs=1e-6)
    assert "30.0 points overconfident" in rows["calibration_error"].meaning
    assert rows["nll"].value == pytest.approx(-0.6 * np.log(0.9) - 0.4 * np.log(0.1 / 3), rel=1e-5)


def test_selective_accuracy_declines_what_the_model_is_least_sure_of():
    sure = np.arange(N) < 160  # and right; the others are wrong

    def apply(params, batch):
        return jnp.stack([jnp.zeros(len(batch["inputs"])), params["scale"] * batch["inputs"][:, 0]], axis=-1)

    inputs = np.where(sure, 5.0, 0.1)[:, None].astype(np.float32)
    rows = by_name(calibration.calibration(bring(apply, {"scale": jnp.ones(())}, {"test": (inputs, sure.astype(int))})))
    assert rows["selective_accuracy"].value == 1.0
    assert "against 80.0 % on all" in rows["selective_accuracy"].meaning


def test_indices_below_zero_are_refused_by_parts_of_a_split_too():
    part = limited(build({**chomsky("parity_check").to_dict()}, 0).source("iid"), 20)
    for call in (part.fetch, part.length_of):
        with pytest.raises(IndexError, match="index -1 of a split of 20 examples"):
            call(np.array([-1]))
    with pytest.raises(IndexError, match="index -1 among the examples of length 3"):
        part.index_of(np.array([-1]), 3)


def test_learning_curve_slope_in_nats_a_doubling():
    apply, params, labels = told(np.arange(N) < 100)
    subject = bring(apply, params, {"test": (numbers(N), labels)})
    history = [{"step": step, "loss": 3 - 0.1 * float(np.log2(step))} for step in range(10, 500, 10)]
    (row,) = generalisation.learning_curve(replace(subject, history=history))
    assert row.value == pytest.approx(-0.1, abs=1e-9) and "still falling" in row.meaning
    (none,) = generalisation.learning_curve(subject)
    assert not none.applies


def bright(images):
    """Classes: whether the mean of an image, from 0 to 1, is above a half."""
    return jnp.stack([jnp.zeros(len(images)), 100 * (images.mean(axis=(1, 2, 3)) - 0.5)], axis=-1)


def test_corruption_that_a_model_does_not_see_changes_nothing():
    generator = np.random.default_rng(1)
    images = generator.uniform(0.2, 0.3, (64, 8, 8, 1)) + (np.arange(64) % 2 * 0.5)[:, None, None, None]
    subject = bring(
        lambda params, batch: bright(batch["inputs"]) * params["one"], {"one": jnp.ones(())}, {"test": (images, np.arange(64) % 2)}
    )
    rows = by_name(generalisation.corruptions(subject))
    assert rows["corruption: blur"].value == 1.0  # a blur keeps the mean
    assert not rows["corruption: colour"].applies
    assert [len(row.plot.x) for row in rows.values() if row.applies] == [
        len(row.plot.lines["score"]) for row in rows.values() if row.applies
    ]


def test_corruption_that_hides_what_a_model_reads():
    images = np.zeros((64, 8, 8, 1))
    images[:, 3:5, 3:5] = 1.0
    images[::2] *= 0.4  # class 0 is dim

    def apply(params, batch):
        return jnp.stack([jnp.zeros(len(batch["inputs"])), params["one"] * 50 * (batch["inputs"].max(axis=(1, 2, 3)) - 0.7)], axis=-1)

    rows = by_name(generalisation.corruptions(bring(apply, {"one": jnp.ones(())}, {"test": (images, np.arange(64) % 2)})))
    assert rows["corruption: contrast"].value == pytest.approx(0.5)  # with a tenth of the contrast nothing is bright
    assert rows["corruption: contrast"].plot.lines["score"][0] == 100.0


def test_pixels_of_another_range_are_corrupted_within_it():
    images = np.random.default_rng(0).normal(size=(16, 8, 8, 1))
    rows = generalisation.corruptions(
        bring(lambda params, batch: bright(batch["inputs"]) * params["one"], {"one": jnp.ones(())}, {"test": (images, np.arange(16) % 2)})
    )
    said = f"for pixels from {images.min():.3g} to {images.max():.3g}"
    assert all(said in row.how for row in rows if row.applies) and sum(row.applies for row in rows) == 4


def test_domain_shift_of_a_model_that_reads_the_colour():
    """Right as often as the colour gives the class away: always on `valid`, by chance on `test`."""
    task = build({**digits(colour=1.0).to_dict()}, 0)
    hue = task.source("valid").fetch(np.arange(180))
    known = {int(label): _hue(hue.input[hue.target[:, 0] == label]) for label in range(10)}
    table = jnp.asarray([known[label] for label in range(10)])

    def apply(params, batch, *, key=None, train=False, edits=None):
        light = ((batch["inputs"] + 1) / 2).sum(axis=(1, 2))
        mean = light / jnp.linalg.norm(light, axis=-1, keepdims=True)
        return Output(params["sharp"] * mean @ table.T, {})

    subject = Subject(Model(lambda key, batch: {}, apply), {"sharp": jnp.full((), 100.0)}, task, "test")
    (row,) = generalisation.domain_shift(subject)
    assert row.plot.lines["score"][0] == 100.0 and 0.8 < row.value < 1.0
    plain = replace(subject, task=build({**digits().to_dict()}, 0), asked={})
    assert not generalisation.domain_shift(plain)[0].applies


def _hue(images):
    light = images.astype(float).sum(axis=(0, 1, 2))
    return light / np.linalg.norm(light)


# -- sequences -------------------------------------------------------------------------------------------------------------


def copied(distance, width=24, tokens=7, n=64):
    """A model of tokens that answers with the token `distance` places before the last; and its data."""
    inputs = np.random.default_rng(2).integers(0, tokens, (n, width))
    targets = np.full((n, width), -1)
    targets[:, -1] = inputs[:, width - 1 - distance]

    def apply(params, batch):
        moved = jnp.roll(batch["inputs"], distance, axis=1)
        return params["sharp"] * jax.nn.one_hot(moved, tokens)

    return apply, {"sharp": jnp.full((), 20.0)}, {"test": (inputs, targets)}


@pytest.mark.parametrize(
    ("distance", "width"), [(1, 24), (4, 24), (5, 24), (7, 24), (8, 24), (23, 24), (64, 200), (65, 200), (100, 200), (171, 200), (199, 200)]
)
def test_effective_context_is_how_far_back_the_answer_lies(distance, width):
    """Every distance, not only a few of them; the last too."""
    (row,) = long_range.effective_context(bring(*copied(distance, width)))
    assert row.value == distance and row.unit == "tokens"
    if distance <= 64:
        assert dict(zip(row.plot.x, row.plot.lines["change"], strict=True))[distance] > 0.99


@pytest.mark.parametrize(("reads", "least"), [(lambda token: token % 2, 5.0), (lambda token: (token == 7) * 1, 4.4)])
def test_a_function_of_a_token_needs_other_replacements(reads, least):
    """Half of the tokens have the same parity, and few are 7: one replacement does not tell that the token is read."""
    inputs = np.random.default_rng(0).integers(0, 10, (128, 40))

    def apply(params, batch):
        return params["sharp"] * jax.nn.one_hot(reads(batch["inputs"][:, 34]), 2)

    (row,) = long_range.effective_context(bring(apply, {"sharp": jnp.full((), 20.0)}, {"test": (inputs, reads(inputs[:, 34]))}))
    assert least <= row.value <= 5.0 and "replaced by up to 8" in row.how


def test_far_tokens_do_not_depend_on_the_order_of_examples():
    """Every distance occurs in all examples, half of which are right: a cut through one distance would take one half."""
    inputs = np.random.default_rng(0).integers(2, 6, (40, 4))
    inputs[:, 0] = np.arange(40) >= 20
    targets = np.where(np.arange(4) == 0, -1, inputs)

    def apply(params, batch):
        tokens = batch["inputs"]
        return params["sharp"] * jax.nn.one_hot(jnp.where(tokens[:, :1] == 1, tokens, (tokens + 1) % 6), 6)

    for order in (np.arange(40), np.arange(40)[::-1]):
        subject = bring(apply, {"sharp": jnp.full((), 20.0)}, {"test": (inputs[order], targets[order])})
        assert long_range.far_tokens(subject)[0].value == 0.5


def test_the_needed_token_follows_from_the_targets_and_not_from_a_name():
    inputs = np.random.default_rng(0).integers(0, 5, (32, 24))
    after = np.concatenate([inputs[:, 1:], np.full((32, 1), -1)], axis=1)
    told = {
        name: long_range.far_tokens(
            bring(lambda params, batch: params["w"][batch["inputs"]], {"w": jnp.eye(5)}, {"test": data}, name=name)
        )[0]
        for name, data in {"yours": (inputs, after), "recall/yours": (inputs, after), "recall/other": (inputs, inputs)}.items()
    }
    assert "previous occurrence" in told["yours"].how and told["yours"].value == told["recall/yours"].value
    assert "the first token of the input" in told["recall/other"].how


def test_far_tokens_that_cancel_are_found():
    """The answer is the parity of two tokens, 3 and 150 back: a change of both, in one way of two, changes nothing."""
    inputs = np.random.default_rng(3).integers(0, 2, (32, 180))

    def apply(params, batch):
        parity = (jnp.roll(batch["inputs"], 3, axis=1) + jnp.roll(batch["inputs"], 150, axis=1)) % 2
        return params["sharp"] * jax.nn.one_hot(parity, 2)

    targets = np.full((32, 180), -1)
    targets[:, -1] = (inputs[:, 176] + inputs[:, 29]) % 2
    (row,) = long_range.effective_context(bring(apply, {"sharp": jnp.full((), 20.0)}, {"test": (inputs, targets)}))
    assert row.value == 150


def test_rows_of_grouped_examples_resample_groups():
    """Passages of one file are alike: an interval over 64 of them would be too narrow."""
    rows = [long_range.attention_distance, long_range.effective_context, health.attention_entropy]
    subject = attending(3, n=40)
    files = [f"{i // 4}.py" for i in range(40)]
    grouped = {name: files for name in subject.task.splits}
    source = subject.task.source
    task = replace(subject.task, source=lambda split: replace(source(split), groups=grouped[split]))
    for measure in rows:
        (row,) = measure(replace(subject, task=task, asked={}))
        (together,) = row.groups.values()
        assert list(together) == files, row.name


def test_a_model_that_reads_nothing_has_no_context():
    apply, params, data = copied(4)
    (row,) = long_range.effective_context(bring(lambda p, b: 0 * apply(p, b), params, data))
    assert row.value == 0.0


def attending(back, width=12, n=8):
    """Every query attends to the token `back` places before it; the first ones to themselves."""
    at = np.arange(width)
    weights = np.eye(width)[np.where(at >= back, at - back, at)]

    def apply(params, batch):
        rows = len(batch["inputs"])
        return params["one"] * jnp.zeros((rows, width, 3)), {
            "block_0/attention/weights": jnp.broadcast_to(jnp.asarray(weights), (rows, 2, width, width))
        }

    data = {"test": (np.random.default_rng(0).integers(0, 3, (n, width)), np.zeros((n, width), int))}
    return bring(apply, {"one": jnp.ones(())}, data)


def test_attention_distance_and_entropy():
    (distance,) = long_range.attention_distance(attending(3))
    assert distance.value == pytest.approx(3 * 9 / 12)
    (entropy,) = health.attention_entropy(attending(3))
    assert entropy.value == pytest.approx(0.0, abs=1e-6)


def test_even_attention_has_all_the_entropy():
    def apply(params, batch):
        rows, seq = batch["inputs"].shape
        causal = jnp.tril(jnp.ones((seq, seq)))
        weights = causal / causal.sum(axis=1, keepdims=True)
        return params["one"] * jnp.zeros((rows, seq, 3)), {"attention/weights": jnp.broadcast_to(weights, (rows, 1, seq, seq))}

    data = {"test": (np.random.default_rng(0).integers(0, 3, (8, 10)), np.zeros((8, 10), int))}
    (row,) = health.attention_entropy(bring(apply, {"one": jnp.ones(())}, data))
    assert row.value == pytest.approx(1.0, abs=1e-5)


def test_far_tokens_of_a_model_that_knows_only_the_near_half():
    width = 16
    inputs = np.random.default_rng(0).integers(0, 4, (32, width))

    def apply(params, batch):
        known = jnp.arange(width) < width // 2  # the distance to the first token is the place
        return params["sharp"] * jax.nn.one_hot(jnp.where(known, batch["inputs"], 3), 5)

    inputs = np.where(inputs == 3, 0, inputs)
    subject = bring(apply, {"sharp": jnp.full((), 9.0)}, {"test": (inputs, inputs)})
    right, loss = long_range.far_tokens(subject)
    assert right.value == 0.0 and "100.0 % when it is nearby" in right.meaning  # its first 7 of 15 places
    assert loss.value == pytest.approx(9.0 + math.log(1 + 4 * math.exp(-9.0)), rel=1e-5) and loss.better == "lower"
    assert len(right.plot.x) == len(loss.plot.x) == 8 and right.plot.x == loss.plot.x and right.plot.lines["right"][-1] == 0

    def two(examples, width):  # an answer of a second sequence is as far from the first token as the first sequence is long, and its place
        return {**task.encode(examples, width), "decoder_inputs": np.zeros((len(examples.id), 16), np.int32)}

    task = subject.task
    right, _ = long_range.far_tokens(replace(subject, task=replace(task, encode=two), asked={}))
    assert right.value == 0.0 and right.plot.x[0] == 16.5 and right.plot.lines["right"][0] == 100.0


def test_half_length():
    length = np.repeat(np.arange(1, 41), 10)
    assert half_length({"a/length": length, "a/score": (length < 21).astype(float)}) in range(20, 24)
    assert half_length({"a/length": length, "a/score": np.ones(len(length))}) == 41
    guesses = np.random.default_rng(0).integers(0, 2, len(length))
    assert half_length({"a/length": length, "a/score": np.where(length < 21, 1, guesses) - 0.5}) in range(20, 26)


def test_reasoning_rows_of_a_model_that_is_right_up_to_a_length():
    inputs = np.random.default_rng(0).integers(0, 2, (64, 8))
    targets = np.full((64, 8), -1)
    targets[:, -1] = np.where(np.arange(64) < 48, inputs[:, -1], 1 - inputs[:, -1])
    subject = bring(lambda p, b: p["s"] * jax.nn.one_hot(b["inputs"], 2), {"s": jnp.full((), 5.0)}, {"test": (inputs, targets)})
    rows = by_name(reasoning.reasoning(subject))
    assert rows["in_distribution"].value == pytest.approx(0.75)
    assert rows["above_baseline"].value < 0.3
    assert not rows["out_of_distribution"].applies


# -- health ----------------------------------------------------------------------------------------------------------------


def tapped(values, labels=None):
    """A model whose representation of example i is values[i]."""

    def apply(params, batch):
        hidden = params["values"][batch["inputs"][:, 0].astype(jnp.int32)]
        return hidden[:, :2], {"block_0/mlp": hidden, "block_0/residual": hidden}

    inputs = np.arange(len(values), dtype=np.float32)[:, None]
    return bring(
        apply, {"values": jnp.asarray(values, jnp.float32)}, {"test": (inputs, np.zeros(len(values), int) if labels is None else labels)}
    )


def test_activations_come_by_example_however_a_family_lays_them_out():
    inputs = np.random.default_rng(0).integers(0, 2, (40, 40))  # as many tokens as examples

    def apply(params, batch):
        n, seq = batch["inputs"].shape
        by_example = jnp.broadcast_to(batch["inputs"][..., None] * 1.0, (n, seq, 3))
        places = jnp.arange(seq + 1)[:, None] * jnp.ones((1, 3))
        layouts = {"b/hidden": jnp.swapaxes(by_example, 0, 1), "c/hidden": by_example.reshape(n * seq, 3), "d/hidden": places}
        return params["one"] * jax.nn.one_hot(batch["inputs"], 2), {"a/hidden": by_example, **layouts}

    taps = bring(apply, {"one": jnp.ones(())}, {"test": (inputs, inputs)}).taps()
    assert {path: value.shape for path, value in taps.items()} == {path: (39, 40, 3) for path in ("a/hidden", "b/hidden", "c/hidden")}
    assert all(np.array_equal(value, taps["a/hidden"]) for value in taps.values())


def test_dead_units():
    values = np.random.default_rng(0).normal(size=(64, 8))
    values[:, [1, 4, 6]] = [0.0, 2.5, -1.0]  # constant, whatever it is
    (row,) = health.dead_units(tapped(values))
    assert row.value == pytest.approx(3 / 8) and "3 of 8" in row.meaning and row.n == 8


@pytest.mark.parametrize("directions", [1, 3, 8])
def test_effective_rank_of_as_many_even_directions(directions):
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))
    signs = np.array([[1 if (i >> k) & 1 else -1 for k in range(directions)] for i in range(256)])
    (row,) = health.effective_rank(tapped(signs @ basis[:directions]))
    assert row.value == pytest.approx(directions, rel=1e-5)
    if directions == 1:
        assert row.interval is None, "all parts agree"
    else:
        assert row.interval[0] <= row.value <= row.interval[1]


def test_gradient_norms_by_block():
    """loss = cross-entropy of logits (a + b) x: both blocks have one gradient, and the first is scaled by 10."""

    def apply(params, batch):
        logits = batch["inputs"] * (10 * params["block_0"]["w"] + params["block_1"]["w"])
        return jnp.concatenate([logits, jnp.zeros_like(logits)], axis=-1)

    x = np.ones((64, 1), np.float32)
    subject = bring(apply, {"block_0": {"w": jnp.zeros(())}, "block_1": {"w": jnp.zeros(())}}, {"test": (x, np.zeros(64, int))})
    rows = by_name(health.gradients(subject))
    assert rows["gradient_norm"].value == pytest.approx(0.5 * np.sqrt(101), rel=1e-5)  # 1 - p = 1/2
    assert rows["gradient_balance"].value == pytest.approx(1.0, rel=1e-5)


def test_the_largest_gradient_stands_out_from_those_before_it():
    apply, params, labels = told(np.arange(N) < 100)
    subject = bring(apply, params, {"test": (numbers(N), labels)})
    falling = [{"step": step, "grad_norm": 1 / step} for step in range(1, 101)]

    def with_history(lines):
        return replace(subject, history=lines)

    (row,) = health.largest_gradient(with_history(falling))
    assert row.value < 1.0
    (row,) = health.largest_gradient(with_history([*falling[:50], {"step": 51, "grad_norm": 2.0}, *falling[51:]]))
    assert row.value == pytest.approx(2.0 / (1 / 48))
    assert "step 51" in row.meaning
    (row,) = health.largest_gradient(with_history([*falling, {"step": 101, "grad_norm": float("nan")}]))
    assert row.value > 1e9


def test_the_largest_gradients_of_two_records_are_compared_step_by_step():
    """That one record has the ten largest of both is no accident; that it has the largest alone may be one."""

    def row(norms):
        lines = [{"step": i + 1, "grad_norm": float(norm)} for i, norm in enumerate(norms)]
        return health.largest_gradient(replace(bring(*copied(4)), history=lines))[0]

    calm = np.tile([1.0, 1.1, 0.9, 1.05], 25)
    wild, once = np.where(np.arange(100) % 10 == 9, 20.0 + np.arange(100) / 100, calm), np.where(np.arange(100) == 50, 20.0, calm)
    before, after, other = row(calm), row(wild), row(once)
    assert before.interval is None and before.statistic == "largest"
    many, one = (judge([Pair("", "", before, worse)])[0] for worse in (after, other))
    assert (many.verdict, one.verdict) == ("worse", "inconclusive") and one.p_value == pytest.approx(1.0)
    assert judge([Pair("", "", before, before)], one_program=True)[0].verdict == "no difference"
    assert judge([Pair("", "", before, row(calm[:50]))])[0].verdict == "inconclusive"


def test_update_norm_is_the_share_that_parameters_moved():
    apply, params, labels = told(np.arange(N) < 100)
    subject = bring(apply, params, {"test": (numbers(N), labels)})
    moved = replace(subject, started=lambda: {"logits": params["logits"] * 2})
    (row,) = health.update_norm(moved)
    assert row.value == pytest.approx(0.5, rel=1e-6)


# -- cost and speed ----------------------------------------------------------------------------------------------------------


def test_costs_of_a_product():
    subject = bring(lambda p, b: b["inputs"] @ p["w"], {"w": jnp.ones((3, 5))}, {"test": (numbers(8), np.arange(8) % 5)}, seconds=0.5)
    rows = by_name(costs.costs(subject))
    assert rows["parameters"].value == 15 and rows["bytes_on_disk"].value == 60 and rows["flops"].value == 30
    timed = by_name([*speeds.speeds(subject), *speeds.roofline(subject), *speeds.decoding(subject), *speeds.energy(subject)])
    assert all(row.timing for row in timed.values())
    assert 0 < timed["latency_p50"].value <= timed["latency_p90"].value
    assert timed["roofline"].value > 0
    assert not timed["tokens_per_second"].applies
    assert timed["energy"].applies or "not measured" in timed["energy"].reason
    assert all(row.plot is not None for row in [*rows.values(), *(row for row in timed.values() if row.applies)])
    assert rows["parameters"].interval == (15.0, 15.0) and timed["latency_p50"].interval is not None
    assert rows["flops"].plot.lines == {"operations": [30.0]} and rows["flops"].plot.labels == ["products"]


def test_costs_say_that_an_edit_runs_another_program():
    subject = bring(lambda p, b: b["inputs"] @ p["w"], {"w": jnp.ones((3, 5))}, {"test": (numbers(8), np.arange(8) % 5)})
    for scan, attention in ((False, "auto"), (True, "auto"), (False, "fused")):
        module, other = SimpleNamespace(config=SimpleNamespace(scan=scan, attention=attention)), scan or attention == "fused"
        rows = by_name(costs.costs(replace(subject, model=replace(subject.model, module=module), asked={})))
        assert ("measured without edits" in rows["xla_flops"].how) == other and "edits" not in rows["parameters"].how


def test_energy_is_what_the_counter_says(tmp_path, monkeypatch):
    """A counter that gains a joule at each reading: a joule for the batches of a turn."""
    monkeypatch.setattr(energy, "DOMAIN", tmp_path)
    assert energy.joules() is None
    readings = itertools.count(5_000_000, 1_000_000)
    monkeypatch.setattr(energy, "_number", lambda name: next(readings) if name == "energy_uj" else 0)
    subject = bring(lambda p, b: b["inputs"] @ p["w"], {"w": jnp.ones((3, 5))}, {"test": (numbers(8), np.arange(8) % 5)}, seconds=0.5)
    (row,) = speeds.energy(subject)
    calls = 1 / (64 * row.value)
    assert row.applies and row.unit == "joules" and calls == pytest.approx(round(calls)) and calls > 1


def test_a_counter_that_wraps_round(monkeypatch):
    readings = iter((100, 1000, 50, 1000, 60, 1000))
    monkeypatch.setattr(energy, "_number", lambda name: next(readings))
    monkeypatch.setattr(energy.Path, "exists", lambda path: True)
    assert energy.spent(energy.joules()) == pytest.approx(950e-6)


def test_a_language_model_is_timed_as_it_writes():
    """Half of a text is read, and the other half written."""
    inputs = np.random.default_rng(0).integers(0, 2, (64, 10))
    subject = bring(
        lambda p, b: p["sharp"] * jax.nn.one_hot(b["inputs"], 2), {"sharp": jnp.ones(())}, {"test": (inputs, inputs)}, seconds=0.5
    )
    assert not speeds.decoding(subject)[0].applies
    decode = Decode(lambda p, batch, most: jnp.zeros(()), lambda p, cache, tokens: (p["sharp"] * jax.nn.one_hot(tokens, 2), cache))
    task = replace(subject.task, metrics=("perplexity", *subject.task.metrics))
    writes = replace(subject, model=replace(subject.model, decode=decode), task=task)
    assert not speeds.decoding(replace(writes, task=subject.task, asked={}))[0].applies, "one that tags tokens writes nothing"
    (row,) = speeds.decoding(replace(writes, asked={}))
    assert row.applies and row.unit == "tokens/s" and "5 tokens" in row.how and row.value > 0


def test_a_model_that_fails_to_write_is_timed_all_the_same():
    inputs = np.random.default_rng(0).integers(0, 2, (64, 10))
    subject = bring(
        lambda p, b: p["sharp"] * jax.nn.one_hot(b["inputs"], 2), {"sharp": jnp.ones(())}, {"test": (inputs, inputs)}, seconds=0.5
    )
    broken = replace(subject.model, decode=Decode(lambda p, batch, most: 1 / 0, lambda p, cache, tokens: (tokens, cache)))
    subject = replace(subject, model=broken, task=replace(subject.task, metrics=("perplexity",)))
    rows = by_name(diagnostics.examine(subject, ("energy", "speeds", "decoding", "roofline")))
    assert [name for name, row in rows.items() if row.crashed] == ["tokens_per_second"]
    assert rows["tokens_per_second"].timing and rows["energy"].timing and rows["latency_p50"].value > 0


def test_pictures_hold_no_numbers_that_are_none(monkeypatch):
    odd = Measurement("cost", "odd", 1.0, plot=Plot("line", [0, 1], {"a": [float("nan"), 2.0]}, "", ""))
    monkeypatch.setitem(diagnostics.DIAGNOSTICS, "odd", diagnostics.Diagnostic("cost", ("odd",), lambda subject: [odd]))
    (row,) = diagnostics.examine(bring(*copied(4)), ("odd",))
    assert row.plot.lines == {"a": [None, 2.0]}


def test_each_token_of_a_text_is_an_answer_of_its_own():
    """Of a text, confidence is that of a token, and not the mean of a passage's."""
    inputs = np.random.default_rng(0).integers(0, 2, (64, 10))

    def apply(params, batch):  # sure of the right answer at even places, and as sure of the wrong one at odd places
        wrong = jnp.where(jnp.arange(10) % 2 == 0, batch["inputs"], 1 - batch["inputs"])
        return params["sharp"] * jax.nn.one_hot(wrong, 2)

    subject = bring(apply, {"sharp": jnp.full((), 9.0)}, {"test": (inputs, inputs)})
    error, nll, selective = calibration.calibration(subject)
    assert error.n == nll.n == 640 and error.value == pytest.approx(0.5, abs=1e-3) and selective.value == pytest.approx(0.5, abs=0.01)
    assert nll.value == pytest.approx(4.5, abs=1e-2) and "tokens" in nll.how
    assert all(row.plot is not None for row in (error, nll, selective))


# -- the table ---------------------------------------------------------------------------------------------------------------


def test_every_diagnostic_answers_and_one_that_fails_takes_no_other_with_it(monkeypatch):
    apply, params, labels = told(np.arange(N) < 100)
    subject = bring(apply, params, {"test": (numbers(N), labels)}, seconds=0.5)

    def fails(subject):
        raise RuntimeError("the probe\n broke")

    monkeypatch.setitem(diagnostics.DIAGNOSTICS, "dead_units", diagnostics.DIAGNOSTICS["dead_units"]._replace(measure=fails))
    rows = diagnostics.examine(subject)
    (row,) = [row for row in rows if row.name == "dead_units"]
    assert row.crashed and row.reason == "crashed: RuntimeError: the probe broke" and row.value is None
    assert [row.group for row in rows] == sorted((row.group for row in rows), key=GROUPS.index)
    assert {one.group for one in diagnostics.DIAGNOSTICS.values()} == {row.group for row in rows}
    names = [(row.group, row.name) for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
        assert row.applies == (row.value is not None) and bool(row.meaning) == row.applies and (row.applies or row.reason)


def test_two_examinations_are_the_same():
    rows = [diagnostics.examine(bring(*copied(4), seconds=0.2)) for _ in range(2)]
    for first, second in zip(*rows, strict=True):
        if not first.timing:
            bare = {"columns": {}, "groups": {}, "ids": {}}
            assert first._replace(**bare) == second._replace(**bare)
            assert first.columns.keys() == second.columns.keys()
            assert all(np.array_equal(first.columns[key], second.columns[key]) for key in first.columns)


def test_the_splits_of_tasks():
    parity = build({**chomsky("parity_check").to_dict()}, 0)
    assert (held_out(parity), choosing(parity)) == ("iid", "valid")
    assert farther(parity) == ["41-160"]
    images = build({**digits().to_dict()}, 0)
    assert (held_out(images), choosing(images), farther(images)) == ("test", "valid", [])


def test_a_share_of_a_split_is_spread_over_its_lengths():
    parity = build({**chomsky("parity_check").to_dict()}, 0)
    part = limited(parity.source("iid"), 20)
    assert part.size == 20 and part.lengths[0] == 1 and part.lengths[1] == 40
    whole = limited(build({**digits().to_dict()}, 0).source("test"), 5000)
    assert whole.size == 899


def _told_by(error, n, generator):
    """Confidences, and answers that are right less often by `error`, as a calibrated model's less a constant would be."""
    confidence = generator.uniform(0.55, 0.95, n)
    return {"a/confidence": confidence, "a/score": (generator.random(n) < confidence - error).astype(float)}


@pytest.mark.parametrize(("error", "n"), [(0.0, 128), (0.05, 128), (0.1, 128), (0.0, 512), (0.05, 512), (0.1, 512)])
def test_the_interval_of_the_calibration_error_covers_it(error, n):
    generator = np.random.default_rng(n + int(100 * error))
    held = 0
    for _ in range(200):
        found = calibration_interval(_told_by(error, n, generator), right=("score",), resamples=200)
        held += found.low <= error <= found.high
    assert held / 200 >= 0.9, held / 200


def test_choices_are_made_by_other_examples_than_those_judged_by():
    parity = build({**chomsky("parity_check").to_dict()}, 0)
    for split in ("iid", "41-160"):
        source = parity.source(split)
        one, other = (limited(source, 64, again) for again in (False, True))
        ids = [set(part.fetch(part.indices(1)).id.tolist()) for part in (one, other)]
        assert len(ids[0]) == len(ids[1]) == 64 and not ids[0] & ids[1]
