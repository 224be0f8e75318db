"""Penalties, smoothing, accumulation, averages and rates: each against a formula, through the links and the one step."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from assay.core import rng
from assay.core.errors import UserError
from assay.models.model import Model, Output
from assay.train.objective import supervised
from assay.train.state import final_params, init_params, init_state
from assay.train.step import make_step
from assay.train.treatment import compose
from assay.treatments.pipeline.load import treatments
from assay.treatments.table import FACTORIES, joined

ROWS, SEQ, FEATURES, CLASSES = 8, 6, 4, 3
KEY = jax.random.key(0)


@functools.cache
def linear(noise: float = 0.0) -> Model:
    """inputs @ kernel + bias, with noise in training; reads [batch, features] and [batch, seq, features] alike."""

    def init(key, batch):
        return {"head": {"kernel": jax.random.normal(key, (FEATURES, CLASSES)), "bias": jnp.zeros(CLASSES)}}

    def apply(params, batch, *, key=None, train=False, edits=None):
        inputs = batch["inputs"]
        if train and noise:
            inputs = inputs + noise * jax.random.normal(rng.stream(key, "noise"), inputs.shape)
        flat = inputs.reshape(-1, FEATURES) @ params["head"]["kernel"] + params["head"]["bias"][None]
        return Output(flat.reshape(*inputs.shape[:-1], CLASSES), {})

    return Model(init, apply)


def score(output, batch):
    nll = -jnp.take_along_axis(jax.nn.log_softmax(output.logits), batch["targets"][..., None], axis=-1)[..., 0]
    if nll.ndim == 1:
        return nll, batch["weight"], {"nll": nll}
    count = batch["mask"].sum(axis=1)
    mean = (nll * batch["mask"]).sum(axis=1) / jnp.maximum(count, 1.0)
    return mean, count * batch["weight"], {"nll": mean}


def toy_batch(seed: int = 0, tokens: bool = False) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shape = (ROWS, SEQ) if tokens else (ROWS,)
    batch = {"inputs": random.standard_normal((*shape, FEATURES)).astype(np.float32), "targets": random.integers(0, CLASSES, shape)}
    batch["weight"] = np.r_[np.ones(ROWS - 1), 0].astype(np.float32)
    if tokens:
        batch["mask"] = (np.arange(SEQ)[None] < random.integers(1, SEQ + 1, ROWS)[:, None]).astype(np.float32)
    return batch


def toy(specs, optimizer=None, noise=0.0, batch=None):
    """(state, jitted step, treatment) of the linear model under treatments by their specs."""
    treatment, batch = compose(treatments(specs)), batch or toy_batch()
    objective, optimizer = treatment.objective(supervised(score)), treatment.optimizer(optimizer or optax.sgd(1.0))
    state = jax.jit(lambda: init_state(KEY, {}, linear(noise), objective, optimizer, treatment, batch))()
    model, _ = jax.eval_shape(lambda key: init_params(key, linear(noise), treatment, batch), KEY)
    return state, jax.jit(make_step(model, objective, treatment.gradient, optimizer)), treatment


def close(first, second, tolerance: float = 1e-5) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), first, second)


# -- penalties --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "norm", "slope"), [("l1", np.abs, np.sign), ("l2", lambda w: w**2 / 2, lambda w: w)])
def test_a_penalty_adds_its_own_gradient_where_its_paths_say(name, norm, slope):
    state, step, _ = toy([])
    (plain, told), (treated, figures) = step(state, toy_batch()), toy([f"{name}:weight=0.1,paths=kernel$"])[1](state, toy_batch())
    kernel = np.asarray(state.params["model"]["head"]["kernel"])
    close(treated.params["model"]["head"]["kernel"], plain.params["model"]["head"]["kernel"] - 0.1 * slope(kernel))
    close(treated.params["model"]["head"]["bias"], plain.params["model"]["head"]["bias"])
    assert float(figures[name]) == pytest.approx(0.1 * norm(kernel).sum(), rel=1e-5)
    assert float(figures["loss"] - figures[name]) == pytest.approx(float(told["loss"]), rel=1e-5)
    twice = toy([f"{name}:weight=0.1", f"{name}:weight=0.2"])[1](state, toy_batch())[1]
    assert float(twice[name]) == pytest.approx(0.3 * norm(kernel).sum(), rel=1e-5)


def test_a_penalty_on_nothing_is_told():
    for paths in ("kernels", ""):
        state, step, _ = toy([f"l1:paths={paths}"])
        with pytest.raises(UserError, match=r"'l1'.*model/head/bias.*--config\.treatments"):
            step(state, toy_batch())


# -- label smoothing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [False, True])
def test_smoothing_is_cross_entropy_against_smoothed_labels(tokens):
    batch = toy_batch(1, tokens)
    state, step, _ = toy(["smooth:share=0.2"], batch=batch)
    after, figures = step(state, batch)

    def smoothed(params):
        logits = linear().apply(params["model"], batch).logits
        labels = 0.8 * jax.nn.one_hot(batch["targets"], CLASSES) + 0.2 / CLASSES
        weights = batch["weight"] if not tokens else batch["weight"][:, None] * batch["mask"]
        return (optax.softmax_cross_entropy(logits, labels) * weights).sum() / weights.sum()

    loss, grads = jax.value_and_grad(smoothed)(state.params)
    assert float(figures["loss"]) == pytest.approx(float(loss), rel=1e-5)
    close(after.params, jax.tree.map(jnp.subtract, state.params, grads))
    assert float(figures["cross_entropy"]) == pytest.approx(float(toy([], batch=batch)[1](state, batch)[1]["loss"]), rel=1e-6)


def test_an_example_without_a_label_has_none_to_smooth():
    batch = toy_batch(1) | {"labelled": np.array([1, 1, 0, 0, 1, 0, 0, 1], np.float32)}
    state, step, _ = toy(["smooth:share=0.2"], batch=batch)
    everywhere = -jax.nn.log_softmax(linear().apply(state.params["model"], batch).logits).mean(axis=-1)
    weights = batch["weight"] * batch["labelled"]
    figures = step(state, batch)[1]
    uniform = (everywhere * weights).sum() / weights.sum()
    assert float(figures["loss"]) == pytest.approx(0.8 * float(figures["cross_entropy"]) + 0.2 * float(uniform), rel=1e-5)
    assert weights.sum() < batch["weight"].sum()


# -- accumulation -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
@pytest.mark.parametrize("tokens", [False, True])
def test_parts_are_the_large_batch(parts, tokens):
    batch = toy_batch(2, tokens) | {
        "weight": np.array([1, 0, 3, 0, 0.5, 2, 0, 1], np.float32)
    }  # a part of two weighs nothing, others differ
    specs = ["l2:weight=0.1", "smooth"]
    state, step, _ = toy(specs, batch=batch)
    whole, told = step(state, batch)
    apart, figures = toy([*specs, f"accumulate:parts={parts}"], batch=batch)[1](state, batch)
    close(apart.params, whole.params)
    close(dict(figures), dict(told))


def test_parts_draw_their_own_noise_and_a_batch_of_no_weight_moves_nothing():
    same = {name: np.repeat(array[:1], ROWS, axis=0) for name, array in toy_batch().items()}
    state, step, _ = toy(["accumulate:parts=8"], noise=1.0)
    (one, _), (other, _) = step(state, same), toy([], noise=1.0)[1](state, {name: array[:1] for name, array in same.items()})
    assert np.abs(one.params["model"]["head"]["kernel"] - other.params["model"]["head"]["kernel"]).max() > 1e-2
    still, _ = step(state, same | {"weight": np.zeros(ROWS, np.float32)})
    close(still.params, state.params, 0)


def test_a_batch_that_does_not_divide_is_told():
    state, step, _ = toy(["accumulate:parts=3"])
    with pytest.raises(UserError, match=r"8 examples.*3 equal parts.*--config\.treatments.*--config\.train\.batch_size"):
        step(state, toy_batch())


# -- clipping ---------------------------------------------------------------------------------------------------------------


def test_a_long_gradient_is_shortened_and_a_short_one_keeps_its_bits():
    state, step, _ = toy([])
    plain, told = step(state, toy_batch())
    length = float(told["grad_norm"])
    for norm in (0.1, 0.999 * length):
        after, figures = toy([f"clip:norm={norm}"])[1](state, toy_batch())
        moved = jax.tree.map(jnp.subtract, state.params, after.params)
        close(moved, jax.tree.map(lambda p, q, norm=norm: (p - q) * norm / length, state.params, plain.params), 1e-4)
        assert float(figures["grad_norm"]) == pytest.approx(norm, rel=1e-5) and float(figures["unclipped_norm"]) == pytest.approx(length)
    for norm in (1.001 * length, 1e6):
        after, figures = toy([f"clip:norm={norm}"])[1](state, toy_batch())
        assert jax.tree.all(jax.tree.map(lambda a, b: (np.asarray(a) == np.asarray(b)).all(), after.params, plain.params))
        assert float(figures["grad_norm"]) == float(figures["unclipped_norm"]) == pytest.approx(length)


def test_clipping_is_the_optimizers_own():
    """As `optimizer.clip_norm` does it."""
    clipped = toy(["clip:norm=0.2"])[1](toy([])[0], toy_batch())[0]
    state, step, _ = toy([], optax.chain(optax.clip_by_global_norm(0.2), optax.sgd(1.0)))
    close(clipped.params, step(state, toy_batch())[0].params)
    parts = toy(["accumulate:parts=4", "clip:norm=0.2"])[1](toy([])[0], toy_batch())[0]
    close(parts.params, clipped.params)


# -- average ----------------------------------------------------------------------------------------------------------------


def test_the_average_is_what_evaluation_reads():
    decay, trail = 0.7, []
    state, step, treatment = toy([f"average:decay={decay}"])
    close(final_params(state, treatment), state.params, 0)  # a run without steps
    plain, bare, _ = toy([])
    for i in range(5):
        (state, _), (plain, _) = step(state, toy_batch(i)), bare(plain, toy_batch(i))
        trail.append(state.params)
    close(state.params, plain.params, 0)  # training does not notice
    shares = decay ** np.arange(4, -1, -1)
    wanted = jax.tree.map(lambda *leaves: sum(s * leaf for s, leaf in zip(shares, leaves, strict=True)) / shares.sum(), *trail)
    close(final_params(state, treatment), wanted)
    frozen = {"model": {"head": {"scale": jnp.ones(1)}}}
    assert final_params(state._replace(frozen=frozen), treatment)["model"]["head"].keys() == {"kernel", "bias", "scale"}


def test_a_parameter_that_happens_to_be_zero_is_averaged_like_any_other():
    state, step, treatment = toy(["average:decay=0.5"])
    for i in range(3):
        state, _ = step(state, toy_batch(i))
    zero = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
    close(final_params(zero, treatment), final_params(state, treatment), 0)


def test_the_first_step_of_a_slow_average_counts_whole():
    state, step, treatment = toy(["average:decay=0.99999"])
    state, _ = step(state, toy_batch())
    close(final_params(state, treatment), state.params, 1e-6)


# -- augmentation -----------------------------------------------------------------------------------------------------------


def test_training_alone_sees_changed_images():
    images = {"inputs": jax.random.normal(KEY, (ROWS, 2, 2, FEATURES // 4)), "targets": jnp.zeros(ROWS, int), "weight": jnp.ones(ROWS)}

    def apply(params, batch, *, key=None, train=False, edits=None):
        return linear().apply(params, {**batch, "inputs": batch["inputs"].reshape(-1, FEATURES)})

    model, seen = replace(linear(), apply=apply), []
    for specs in ([], ["augment:images=crop:0+cutout:0"], ["augment:images=crop:1"], ["augment:images=crop:1+cutout:2"]):
        objective = compose(treatments(specs)).objective(supervised(score))
        losses = [
            float(objective.loss(model, {"model": model.init(KEY, images)}, images, jax.random.key(seed), jnp.int32(0))[0])
            for seed in (0, 0, 1)
        ]
        assert losses[0] == losses[1]
        seen.append((losses[0], losses[2]))
    assert seen[0] == seen[1] and seen[0][0] == seen[0][1], "strength 0 is the identity"
    assert len({loss for pair in seen[2:] for loss in pair}) == 4, "other keys and other specs change them otherwise"
    with pytest.raises(UserError, match=r"'augment'.*\[8, 4\].*--config\.treatments"):
        toy(["augment"])[1](toy([])[0], toy_batch())


# -- rate -------------------------------------------------------------------------------------------------------------------


def test_a_rate_multiplies_what_its_paths_name():
    state, step, _ = toy([], optax.adamw(0.1))
    (plain, _), (treated, _) = step(state, toy_batch()), toy(["rate:paths=bias$,times=0.25"], optax.adamw(0.1))[1](state, toy_batch())
    moved = [jax.tree.map(jnp.subtract, after.params["model"]["head"], state.params["model"]["head"]) for after in (plain, treated)]
    close(moved[1]["bias"], 0.25 * moved[0]["bias"])
    close(moved[1]["kernel"], moved[0]["kernel"], 0)
    with pytest.raises(UserError, match="'rate'"):
        toy(["rate:paths=nowhere"])


# -- the table --------------------------------------------------------------------------------------------------------------


def test_options_are_read_by_their_type():
    for spec, words in {
        "l1:weight=much": ["'l1'", "weight=much", "float"],
        "l1:weight=-1": ["'l1'", "weight=-1", "at least 0"],
        "l1:weihgt=1": ["'l1'", "'weihgt'", "weight, paths"],
        "l1:weight": ["'l1'", "no value", "'weight'"],
        "l1:weight=1,weight=2": ["'l1'", "two values"],
        "l1:paths=a(": ["'l1'", "paths=a(", "regular expression"],
        "smooth:share=1": ["'smooth'", "share=1"],
        "smooth:share=nan": ["'smooth'", "share=nan"],
        "accumulate:parts=0": ["'accumulate'", "parts=0"],
        "clip:norm=0": ["'clip'", "norm=0"],
        "clip:norm=inf": ["'clip'", "norm=inf"],
        "accumulate:parts=1.5": ["'accumulate'", "parts=1.5", "int"],
        "average:decay=1": ["'average'", "decay=1"],
        "rate:times=-1": ["'rate'", "times=-1"],
        "ensemble:members=0": ["'ensemble'", "members=0"],
        "ensemble:combine=vote": ["'ensemble'", "combine=vote", "probabilities, outputs"],
        "init": ["'init'", "needs from"],
        "init:from=x,map=a": ["'init'", "map=a", "regex->replacement"],
        "scratchpad:size=3": ["'scratchpad'", "'size'", "no options"],
        "augment:images=flop": ["'flop'", "'flip'"],
        "augment:images=crop:4+mixup": ["'augment'", "mixup needs soft targets"],
        "smoth": ["'smoth'", "'smooth'"],
    }.items():
        with pytest.raises(UserError) as told:
            treatments([spec])
        for word in [*words, "--config.treatments"]:
            assert word in str(told.value), (spec, word, str(told.value))


def test_options_that_a_command_line_cut_are_joined():
    cut = ["l1:weight=1e-4", "paths=kernel$", "smooth", "accumulate:parts=2"]
    assert joined(cut) == ["l1:weight=1e-4,paths=kernel$", "smooth", "accumulate:parts=2"]
    assert [treatment.name for treatment in treatments(cut)] == joined(cut)
    assert joined(["init:from=a=b", "map=x->y"]) == ["init:from=a=b,map=x->y"] and joined([]) == []


@pytest.mark.parametrize("name", sorted({*FACTORIES} - {"distill", "inherit", "init", "lora", "lowrank", "merge", "prune", "scratchpad"}))
def test_objectives_start_under_a_trace_and_add_no_known_name(name):
    treatment, given = compose(treatments([name])), replace(linear())
    model, params = jax.eval_shape(lambda key: init_params(key, given, treatment, toy_batch()), KEY)
    shapes = jax.eval_shape(
        lambda key, params: treatment.objective(supervised(score)).init(key, model, {"model": params}, toy_batch()), KEY, params
    )
    assert shapes == {}
