"""An ensemble trains its members as if each were alone, and answers with their mean probability."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from assay.core import rng
from assay.core.errors import UserError
from assay.models.model import Model, Output
from assay.train.experiment import assemble
from assay.train.objective import Objective, supervised
from assay.train.state import final_params, init_params, init_state
from assay.train.step import make_step
from assay.train.treatment import Treatment, compose
from assay.treatments.pipeline.load import treatments

KEY = jax.random.key(0)
ROWS, FEATURES, CLASSES = 6, 4, 3
POOLED = {"inputs": (ROWS, FEATURES), "targets": (ROWS,)}
TOKENS = {"inputs": (ROWS, 5, FEATURES), "targets": (ROWS, 5)}


@functools.cache
def model() -> Model:
    def init(key, batch):
        del batch
        return {"kernel": jax.random.normal(key, (FEATURES, CLASSES)), "bias": jnp.zeros(CLASSES)}

    def apply(params, batch, *, key=None, train=False, edits=None):
        inputs = batch["inputs"]
        if train:
            inputs = inputs * jax.random.bernoulli(rng.stream(key, "dropout"), 0.5, inputs.shape)
        return Output(jnp.einsum("...f,fc->...c", inputs, params["kernel"]) + params["bias"].reshape((1,) * (inputs.ndim - 1) + (-1,)), {})

    return Model(init, apply)


def score(output, batch):
    nll = -jnp.take_along_axis(jax.nn.log_softmax(output.logits), batch["targets"][..., None], axis=-1)[..., 0]
    rows = nll.reshape(len(nll), -1).mean(axis=1)
    return rows, batch["weight"] * (nll.size // len(nll)), {"nll": rows}


def make_batch(shapes, seed=0):
    random = np.random.default_rng(seed)
    batch = {"inputs": random.standard_normal(shapes["inputs"]).astype(np.float32)}
    batch |= {"targets": random.integers(0, CLASSES, shapes["targets"]), "weight": np.ones(ROWS, np.float32)}
    return batch | ({"mask": np.ones(shapes["targets"], np.float32)} if len(shapes["targets"]) == 2 else {})


def make(treated, batch, optimizer):
    treatment = compose(treated)
    objective, optimizer = treatment.objective(supervised(score)), treatment.optimizer(optimizer)
    whole, _ = jax.eval_shape(lambda key: init_params(key, model(), treatment, batch), KEY)
    state = jax.jit(lambda: init_state(KEY, {}, model(), objective, optimizer, treatment, batch))()
    return state, make_step(whole, objective, treatment.gradient, optimizer), whole, treatment


def as_member(objective):
    """The objective of a run alone, with the randomness that member batch["member"] has in its ensemble."""

    def loss(model, params, batch, key, step):
        return objective.loss(model, params, batch, rng.stream(key, "member", batch["member"]), step)

    return Objective(objective.init, loss)


def with_scale(objective):
    """An objective that owns a parameter."""

    def init(key, model, params, batch):
        return {"scale": 1 + jax.random.uniform(key, (1,))}

    def loss(model, params, batch, key, step):
        mean, aux = objective.loss(model, params, batch, key, step)
        return mean * params["scale"][0], aux

    return Objective(init, loss)


@pytest.mark.parametrize(
    ("shapes", "optimizer"),
    [(POOLED, optax.sgd(1.0)), (TOKENS, optax.chain(optax.clip_by_global_norm(0.1), optax.scale_by_param_block_rms(), optax.adam(0.1)))],
    ids=["pooled, SGD", "tokens, clipped by norm and scaled by size"],
)
def test_a_step_of_two_is_a_step_of_each_alone(shapes, optimizer):
    batch, inner = make_batch(shapes), [*treatments(["l2:weight=0.1", "smooth"]), Treatment(objective=with_scale)]
    state, step, _, _ = make([*inner, *treatments(["ensemble:members=2"])], batch, optimizer)
    assert not np.array_equal(*state.params["model"]["kernel"]) and not np.array_equal(*state.params["scale"]), "drawn apart"
    after, figures = jax.jit(step)(state, batch)
    alone, single, _, _ = make([*inner, Treatment(objective=as_member)], batch, optimizer)
    single, told = jax.jit(single), []
    for i in range(2):
        params = jax.tree.map(lambda leaf, i=i: leaf[i], state.params)
        one, metrics = single(alone._replace(params=params), batch | {"member": np.int32(i)})
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6), after.params, one.params)
        assert all(np.abs(np.subtract(a, b)).max() > 1e-3 for a, b in zip(*map(jax.tree.leaves, (params, one.params)), strict=True))
        told.append(metrics)
    for name in ("loss", "nll", "l2", "cross_entropy"):
        assert float(figures[name]) == pytest.approx(float(np.mean([metrics[name] for metrics in told])), rel=1e-5)


def test_members_draw_other_dropout():
    batch = make_batch(POOLED)
    state, step, _, _ = make(treatments(["ensemble:members=2"]), batch, optax.sgd(1.0))
    same = jax.tree.map(lambda leaf: jnp.stack([leaf[0], leaf[0]]), state.params)
    after, _ = jax.jit(step)(state._replace(params=same), batch)
    assert np.abs(np.subtract(*after.params["model"]["kernel"])).max() > 1e-3


@pytest.mark.parametrize("shapes", [POOLED, TOKENS], ids=["pooled", "tokens"])
def test_the_answer_is_the_mean_probability(shapes):
    batch = make_batch(shapes)
    for combine, read, unread in (("probabilities", jax.nn.softmax, jnp.exp), ("outputs", jnp.asarray, jnp.asarray)):
        state, _, whole, _ = make(treatments([f"ensemble:members=3,combine={combine}"]), batch, optax.sgd(1.0))
        params = state.params["model"]
        each = [model().apply(jax.tree.map(lambda leaf, i=i: leaf[i], params), batch).logits for i in range(3)]
        mean = np.mean([read(logits) for logits in each], axis=0)
        np.testing.assert_allclose(unread(whole.apply(params, batch).logits), mean, rtol=1e-5)
        one = whole.apply(jax.tree.map(lambda leaf: leaf[1], params), batch).logits
        np.testing.assert_array_equal(one, each[1], err_msg="the parameters of one member")


def test_it_composes_with_averages_and_parts():
    batch = make_batch(POOLED)
    for specs in (["average:decay=0.5", "ensemble:members=2"], ["ensemble:members=2", "accumulate:parts=2", "average:decay=0.5"]):
        state, step, whole, treatment = make(treatments(specs), batch, optax.adam(0.1))
        first, _ = jax.jit(step)(state, batch)
        second, _ = jax.jit(step)(first, batch)
        mean = final_params(second, treatment)["model"]
        wanted = jax.tree.map(lambda a, b: (a + 2 * b) / 3, first.params["model"], second.params["model"])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), mean, wanted)
        assert whole.apply(mean, batch).logits.shape == (ROWS, CLASSES)


def test_an_order_that_cannot_be_is_told():
    batch = make_batch(POOLED)
    with pytest.raises(UserError, match=r"List ensemble after.*--config\.treatments"):
        make([*treatments(["ensemble:members=2"]), Treatment(objective=with_scale)], batch, optax.sgd(1.0))
    state, step, _, _ = make(treatments(["ensemble:members=2", "smooth"]), batch, optax.sgd(1.0))
    with pytest.raises(UserError, match="List it before ensemble"):
        jax.jit(step)(state, batch)


@pytest.mark.parametrize("variant", ["lstm", "transformer"])
def test_decoding_step_by_step_is_reading_at_once(tiny, variant):
    made = assemble(tiny(variant, {"treatments": "ensemble:members=2"}), treatments(["ensemble:members=2"]))
    params = jax.jit(made.init_state)(KEY, {}, made.first_batch()).params["model"]
    tokens = made.first_batch()["inputs"][:2, :6]
    batch = {"inputs": tokens, "length": np.full(2, 6), "weight": np.ones(2, np.float32)}
    cache = made.model.decode.init_cache(params, batch, 6)
    extend, found = jax.jit(made.model.decode.extend), []
    for place in range(6):
        logits, cache = extend(params, cache, tokens[:, place : place + 1])
        found.append(logits[:, 0])
    np.testing.assert_allclose(np.stack(found, axis=1), jax.jit(made.model.apply)(params, batch).logits, rtol=1e-4, atol=1e-5)
