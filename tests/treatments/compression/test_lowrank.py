"""Low rank: the error of the best approximation, in every family, and dense layers that really multiply less."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.core.errors import UserError
from assay.core.tree import count, paths
from assay.models.families import build
from assay.models.model import Model, Vocabulary
from assay.models.precision import PrecisionConfig
from assay.train.experiment import assemble
from assay.train.step import make_step
from assay.treatments.compression.lowrank import factorised, factors, lowrank
from assay.treatments.compression.rounding import Spec, quantized

KEY = jax.random.key(0)
RECURRENT = {"depth": 1, "width": 32, "embedding": 0, "dropout": 0.0}
FAMILIES = {
    "lstm": RECURRENT,
    "gru": RECURRENT,
    "cnn": {"filters": (8, 8), "kernel": 3, "pools": 2, "padding": "same", "dense": 8, "dropout": 0.0},
    "mlp": {"depth": 2, "width": 32, "activation": "relu", "dropout": 0.0},
}


@functools.cache
def family(name: str, compute: str = "float32") -> tuple[Model, dict, dict]:
    images = name in ("cnn", "mlp")
    vocabulary = Vocabulary(0, 5, pooled=True) if images else Vocabulary(7, 5)
    model = build({"name": name, **FAMILIES[name]}, vocabulary, PrecisionConfig("float32", compute, "float32"))
    random = np.random.default_rng(0)
    inputs = random.standard_normal((4, 8, 8, 1)).astype(np.float32) if images else random.integers(0, 7, (4, 6)).astype(np.int32)
    batch = {"inputs": inputs, "length": np.full(4, 6, np.int32), "weight": np.ones(4, np.float32)}
    return model, batch, jax.jit(model.init)(KEY, batch)


def logits_of(model, params, batch) -> np.ndarray:
    return np.asarray(jax.jit(lambda params, batch: model.apply(params, batch).logits)(params, batch))


def products(model, params, batch) -> float:
    return jax.jit(lambda params, batch: model.apply(params, batch).logits).lower(params, batch).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("shape", [(12, 7), (5, 20), (8, 8)])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_error_is_the_tail_of_the_singular_values(shape, rank):
    matrix = np.random.default_rng(rank).standard_normal(shape).astype(np.float32)
    first, second = factors(jnp.asarray(matrix), rank)
    assert first.shape == (shape[0], rank) and second.shape == (rank, shape[1])
    tail = np.linalg.svd(matrix, compute_uv=False)[rank:]
    assert float(np.linalg.norm(first @ second - matrix)) == pytest.approx(float(np.sqrt((tail**2).sum())), rel=1e-3, abs=1e-5)
    np.testing.assert_allclose(np.linalg.norm(first, axis=0), np.linalg.norm(second, axis=1), rtol=1e-4, err_msg="balanced")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_full_rank_is_the_model_itself(name):
    model, batch, params = family(name)
    whole, stored = factorised(model, params, 1000, always=True)
    assert {path.rsplit("/", 1)[1] for path in paths(stored)} >= {"factor_a", "factor_b"}
    np.testing.assert_allclose(logits_of(whole, stored, batch), logits_of(model, params, batch), rtol=1e-5, atol=2e-5)
    thin, fewer = factorised(model, params, 2)
    assert count(fewer) < count(params) and np.abs(logits_of(thin, fewer, batch) - logits_of(model, params, batch)).max() > 1e-3
    assert thin.settings is None and thin.remake is None
    again, shapes = jax.eval_shape(lambda params: factorised(model, params, 2), params)
    assert jax.tree.map(jnp.shape, fewer) == jax.tree.map(jnp.shape, shapes)
    assert (logits_of(again, fewer, batch) == logits_of(thin, fewer, batch)).all()


def test_dense_layers_multiply_less():
    model, batch, params = family("mlp")
    thin, fewer = factorised(model, params, 2)
    assert products(thin, fewer, batch) < 0.5 * products(model, params, batch)
    model, batch, params = family("mlp", "bfloat16")
    near, stored = factorised(model, params, 1000, always=True)
    np.testing.assert_allclose(logits_of(near, stored, batch), logits_of(model, params, batch), rtol=0.05, atol=0.05)


def test_matrices_that_would_not_become_smaller_stay():
    model, _, params = family("lstm")
    _, stored = factorised(model, params, 10)
    kept = {path for path in paths(stored) if path.endswith("kernel")}
    assert kept == {"head/kernel"} and "block_0/input/kernel/factor_a" in paths(stored)


def test_decoding_step_by_step_is_reading_at_once():
    model, batch, params = family("lstm")
    thin, stored = factorised(model, params, 4)
    cache, found, extend = thin.decode.init_cache(stored, batch, 6), [], jax.jit(thin.decode.extend)
    for place in range(6):
        logits, cache = extend(stored, cache, batch["inputs"][:, place : place + 1])
        found.append(logits[:, 0])
    np.testing.assert_allclose(np.stack(found, axis=1), logits_of(thin, stored, batch), rtol=1e-4, atol=1e-5)


def test_the_factors_are_trained_and_can_be_quantised(tiny):
    made = assemble(tiny("transformer"), [lowrank(rank=4)])
    state = jax.jit(made.init_state)(made.key, made.given(), made.first_batch())
    step = jax.jit(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer))
    after = state
    for i in range(2):
        after, _ = step(after, {name: array[0] for name, array in made.batches(i, 1).items()})
    before, now = (dict(zip(paths(tree), jax.tree.leaves(tree), strict=True)) for tree in (state.params, after.params))
    at = "model/block_0/up/kernel"
    assert at not in now and all((before[f"{at}/factor_{part}"] != now[f"{at}/factor_{part}"]).any() for part in "ab")
    params, batch = after.params["model"], made.first_batch()
    small, stored = quantized(made.model, params, Spec("int8", 0, "none", "round"))
    assert stored["block_0"]["up"]["kernel"]["factor_a"]["qvalue"].dtype == jnp.int8
    wanted = logits_of(made.model, params, batch)
    assert 0 < np.linalg.norm(logits_of(small, stored, batch) - wanted) < 0.05 * np.linalg.norm(wanted)


def test_mistakes_are_told():
    model, _, params = family("lstm")
    with pytest.raises(UserError, match=r"rank=0.*--config\.treatments"):
        lowrank(rank=0)
    with pytest.raises(UserError, match="rank=500, which makes no chosen matrix smaller"):
        factorised(model, params, 500)
    with pytest.raises(UserError, match=r"paths=nowhere.*model/block_0/input/kernel"):
        factorised(model, params, 2, "nowhere")
    with pytest.raises(UserError, match="before lora and quantize"):
        factorised(*quantized(model, params, Spec("int8", 0, "none", "round")), 2)
