"""Linen and NNX models that people bring: one call, their own state and randomness, and a treatment composed on top of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import assay
from assay.core.errors import UserError
from assay.core.tree import paths
from assay.diagnostics.bring import bring
from assay.diagnostics.table import examine
from assay.models.model import STATE
from assay.train.objective import supervised
from assay.train.state import all_params, init_state
from assay.train.step import make_step
from assay.train.treatment import compose
from assay.treatments.training.average import average
from assay.treatments.training.penalty import l2

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(64, 6)).astype(np.float32)
LABELS = INPUTS[:, :3].argmax(axis=1)
DATA = {"train": (INPUTS[:32], LABELS[:32]), "test": (INPUTS[32:], LABELS[32:])}
ROWS = ("held_out", "costs", "gradients", "calibration")


class Linen(nn.Module):
    """What people write: the mode is an argument of its own name, normalisation keeps statistics, dropout draws."""

    @nn.compact
    def __call__(self, x, deterministic: bool):
        x = nn.BatchNorm(use_running_average=deterministic, momentum=0.5)(nn.Dense(8)(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=deterministic)(nn.relu(x)))


class NNX(nnx.Module):
    """The same, with a counter; the object holds parameters, statistics and random streams."""

    def __init__(self, rngs: nnx.Rngs):
        self.first, self.norm = nnx.Linear(6, 8, rngs=rngs), nnx.BatchNorm(8, momentum=0.5, rngs=rngs)
        self.dropout, self.last = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
        self.calls = nnx.Variable(jnp.int32(0))

    def __call__(self, x):
        self.calls[...] = self.calls[...] + 1
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


@pytest.fixture(scope="module")
def linen():
    variables = Linen().init(jax.random.key(0), INPUTS, True)
    return variables, assay.from_linen(Linen(), variables, DATA, seconds=0.1)


@pytest.fixture(scope="module")
def of_nnx():
    model = NNX(nnx.Rngs(0))
    return model, assay.from_nnx(model, DATA, seconds=0.1)


def logits_of(subject, **more):
    return subject.model.apply(subject.params, {"inputs": INPUTS[:8]}, **more).logits


def trained(subject, treatment, steps=3):
    """A few steps of the one step function, from the brought parameters."""
    one = compose([treatment])
    objective, optimizer = one.objective(supervised(subject.task.score)), one.optimizer(optax.sgd(0.1))
    batch = subject.first(32, "train")
    state = init_state(jax.random.key(0), {}, subject.model, objective, optimizer, one, batch, {"model": subject.params})
    step, seen = jax.jit(make_step(subject.model, objective, one.gradient, optimizer)), []
    for _ in range(steps):
        state, metrics = step(state, batch)
        seen.append(metrics)
    return all_params(state)["model"], seen, one.final(state, all_params(state))["model"]


def test_linen_answers_as_it_does_itself(linen):
    variables, subject = linen
    np.testing.assert_allclose(logits_of(subject), Linen().apply(variables, INPUTS[:8], True), rtol=1e-5, atol=1e-6)
    rows = examine(subject, ROWS)
    assert not [row.name for row in rows if row.crashed]
    assert {row.name: row.value for row in rows}["parameters"] == 6 * 8 + 8 + 2 * 8 + 8 * 3 + 3  # not the statistics


def test_nnx_answers_in_eval_mode_and_is_not_changed(of_nnx):
    model, subject = of_nnx
    assert not model.dropout.deterministic, "the caller's object is in train mode, as NNX makes it"
    copy = nnx.clone(model)
    copy.eval()
    np.testing.assert_allclose(logits_of(subject), copy(INPUTS[:8]), rtol=1e-5, atol=1e-6)
    rows = examine(subject, ROWS)
    assert not [row.name for row in rows if row.crashed]
    assert {row.name: row.value for row in rows}["parameters"] == 6 * 8 + 8 + 2 * 8 + 8 * 3 + 3
    assert not model.dropout.deterministic and int(model.calls[...]) == 0 and float(jnp.abs(model.norm.mean[...]).max()) == 0
    assert {path.partition("/")[2] for path in paths(subject.params) if path.startswith(STATE)} == {"calls", "norm/mean", "norm/var"}


@pytest.mark.parametrize("which", ["linen", "of_nnx"])
def test_a_treatment_composes_with_a_brought_model(which, request):
    """L2 with BatchNorm and dropout: the penalty is its formula, the loss falls, and statistics move as the library moves them."""
    _, subject = request.getfixturevalue(which)
    params, seen, _ = trained(subject, l2(weight=0.1))
    kernels = [leaf for path, leaf in zip(paths(subject.params), jax.tree.leaves(subject.params), strict=True) if path.endswith("kernel")]
    assert float(seen[0]["l2"]) == pytest.approx(0.1 * sum(float((kernel**2).sum()) for kernel in kernels) / 2, rel=1e-5)
    before, after = subject.params[STATE], params[STATE]
    norm = (lambda state: state["batch_stats"]["BatchNorm_0"]) if which == "linen" else lambda state: state["norm"]
    hidden = logits_free_of(subject, which)
    assert np.abs(norm(before)["mean"]).max() == 0
    once = trained(subject, l2(weight=0.0), steps=1)[0][STATE]
    np.testing.assert_allclose(norm(once)["mean"], 0.5 * hidden.mean(axis=0), rtol=1e-4, atol=1e-5)
    if which == "of_nnx":
        assert int(after["calls"]) == 3 and after["calls"].dtype == jnp.int32


def logits_free_of(subject, which):
    """What the normalisation reads: the first layer's output on the training batch."""
    first = subject.params["Dense_0" if which == "linen" else "first"]
    return INPUTS[:32] @ np.asarray(first["kernel"]) + np.asarray(first["bias"])


def test_an_average_of_a_brought_model_is_what_is_evaluated(of_nnx):
    _, subject = of_nnx
    last, _, averaged = trained(subject, average(decay=0.5))
    assert jax.tree.structure(last) == jax.tree.structure(averaged)
    assert float(jnp.abs(last["last"]["kernel"] - averaged["last"]["kernel"]).max()) > 0


@pytest.mark.parametrize("which", ["linen", "of_nnx"])
def test_dropout_follows_the_key_of_the_step(which, request):
    _, subject = request.getfixturevalue(which)
    one, again, other = (logits_of(subject, key=jax.random.key(seed), train=True) for seed in (0, 0, 1))
    assert jnp.array_equal(one, again) and not jnp.allclose(one, other)


def test_linen_starts_anew_and_nnx_from_what_it_holds(linen, of_nnx):
    for (_, subject), same in ((linen, False), (of_nnx, True)):
        fresh = jax.jit(subject.model.init)(jax.random.key(5), subject.first(2))
        assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, subject.params)
        kernels = [(a, b) for a, b in zip(jax.tree.leaves(fresh), jax.tree.leaves(subject.params), strict=True) if a.ndim == 2]
        assert all(jnp.array_equal(a, b) == same for a, b in kernels)


def test_bring_takes_a_modules_apply_with_its_variables(linen):
    variables, subject = linen
    brought = bring(Linen().apply, variables, DATA)
    np.testing.assert_array_equal(logits_of(brought), logits_of(subject))
    by_hand = bring(lambda variables, batch: Linen().apply(variables, batch["inputs"], True), variables, DATA)
    np.testing.assert_array_equal(logits_of(by_hand), logits_of(subject))
    assert set(by_hand.params[STATE]) == {"batch_stats"} and not [row for row in examine(by_hand, ROWS) if row.crashed]


def test_taps_of_linen_are_those_that_are_named(linen):
    variables, _ = linen
    every = assay.from_linen(Linen(), variables, DATA, taps=True).taps("test")
    assert {"Dense_0", "BatchNorm_0", "Dense_1"} <= set(every) and every["Dense_0"].shape == (32, 8)
    named = assay.from_linen(Linen(), variables, DATA, taps={"block_0/hidden": "Dense_0"})
    assert set(named.taps("test")) == {"block_0/hidden"}
    (row,) = examine(named, ["dead_units"])
    assert row.value == 0.0
    with pytest.raises(UserError, match=r"taps names 'Dense_9', which is no submodule. Known: .*Dense_0"):
        assay.from_linen(Linen(), variables, DATA, taps={"hidden": "Dense_9"}).taps("test")


def test_what_cannot_be_called_is_told_once(of_nnx, linen):
    model, _ = of_nnx
    with pytest.raises(UserError, match=r"model fails on inputs of 'test', float32 \[2, 5\]: TypeError: dot_general .*Pass call="):
        assay.from_nnx(model, {"test": (INPUTS[:, :5], LABELS)})
    with pytest.raises(UserError, match=r"apply is a model, NNX, not a function .* call assay.from_nnx\(model, data\)"):
        bring(model, None, DATA)
    with pytest.raises(UserError, match=r"call assay.from_linen\(model, variables, data\)"):
        bring(Linen(), linen[0], DATA)
    with pytest.raises(UserError, match=r"unknown option 'outptu'. Did you mean 'output'"):
        assay.from_nnx(model, DATA, outptu="logits")
    with pytest.raises(UserError, match="from_nnx takes an NNX model, not Linen"):
        assay.from_nnx(Linen(), DATA)
    with pytest.raises(UserError, match="has variables but no data"):
        assay.from_linen(Linen(), linen[0])


def test_a_call_of_ones_own(linen):
    variables, subject = linen

    class Odd(nn.Module):
        @nn.compact
        def __call__(self, x, mode):
            return Linen(name="net")(x, mode == "answer")

    params = {name: {"net": tree} for name, tree in variables.items()}
    with pytest.raises(UserError, match=r"missing 1 required positional argument: 'mode'.*Pass call="):
        assay.from_linen(Odd(), params, DATA)
    called = assay.from_linen(Odd(), params, DATA, call=lambda model, inputs, train: model(inputs, "learn" if train else "answer"))
    np.testing.assert_array_equal(logits_of(called), logits_of(subject))
    once = trained(called, l2(weight=0.0), steps=1)[0][STATE]
    assert float(jnp.abs(once["batch_stats"]["net"]["BatchNorm_0"]["mean"]).max()) > 0
