"""The precision policy: what is kept, computed and handed on in which dtype, and that float32 is the model untouched."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from assay.core.errors import UserError
from assay.core.tree import floats_as
from assay.models import families
from assay.models.families import FAMILIES, build
from assay.models.model import Vocabulary
from assay.models.precision import PrecisionConfig, with_precision
from assay.tasks.datasets.classify import score_classes
from assay.train.experiment import assemble
from assay.train.state import init_state
from assay.train.step import make_step, repeat
from assay.treatments.pipeline.load import treatments
from assay.treatments.training.accumulate import accumulated

KEY = jax.random.key(0)
LSTM = {"name": "lstm", "depth": 1, "width": 16, "embedding": 0, "dropout": 0.0}
BATCH = {"inputs": np.arange(24, dtype=np.int32).reshape(4, 6) % 7, "length": np.full(4, 6, np.int32), "weight": np.ones(4, np.float32)}


def lstm(params="float32", compute="float32", output="float32"):
    return build(LSTM, Vocabulary(7, 5), PrecisionConfig(params, compute, output))


def dtypes(tree) -> set:
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


def test_float32_is_the_model_untouched():
    plain = FAMILIES["lstm"].build(families.typed(FAMILIES["lstm"].config, {k: v for k, v in LSTM.items() if k != "name"}, "model"),
                                   Vocabulary(7, 5), jnp.float32)  # fmt: skip
    assert with_precision(plain, PrecisionConfig("float32", "float32", "float32")) is plain
    assert with_precision(plain, PrecisionConfig("float32", "bfloat16", "float32")) is plain, "the family itself takes `compute`"


@pytest.mark.parametrize("params", ["float32", "bfloat16"])
@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("output", ["float32", "bfloat16"])
def test_each_part_has_its_dtype_and_answers_stay_near(params, compute, output):
    model = lstm(params, compute, output)
    kept, exact = model.init(KEY, BATCH), lstm().init(KEY, BATCH)
    assert dtypes(kept) == {jnp.dtype(params)}
    logits, expected = jax.jit(model.apply)(kept, BATCH).logits, lstm().apply(exact, BATCH).logits
    assert logits.dtype == output
    np.testing.assert_allclose(np.asarray(logits, np.float32), expected, atol=0.03)
    if "bfloat16" in (params, compute, output):
        assert (np.asarray(logits, np.float32) != expected).any()
    cache = model.decode.init_cache(kept, BATCH, 6)
    stepped, _ = jax.jit(model.decode.extend)(kept, cache, BATCH["inputs"])
    assert stepped.dtype == output
    np.testing.assert_allclose(np.asarray(stepped, np.float32), np.asarray(logits, np.float32), atol=0.03)


def test_a_score_reads_logits_of_any_dtype_in_float32():
    logits, batch = jnp.asarray([[3.0, 1.0], [0.5, 2.0]]), {"targets": jnp.array([0, 0]), "weight": jnp.ones(2)}
    output = lstm().apply(lstm().init(KEY, BATCH), BATCH)
    found = [score_classes(output._replace(logits=logits.astype(dtype)), batch)[0] for dtype in (jnp.float32, jnp.bfloat16)]
    assert found[1].dtype == jnp.float32 and np.array_equal(*found), "these logits are the same in both"


def test_counts_are_left_alone():
    settings = {"order": 2, "smoothing": "add_k", "add": 1.0, "discount": 0.0, "capacity": 50}
    ngram = build({"name": "ngram", **settings}, Vocabulary(7, 7), PrecisionConfig("bfloat16", "float32", "bfloat16"))
    params = ngram.init(KEY, BATCH)
    assert jnp.bfloat16 not in dtypes(params) and ngram.apply(params, BATCH).logits.dtype == jnp.float32


@pytest.mark.parametrize("key", ["params", "compute", "output"])
def test_an_unknown_dtype_names_its_key(key):
    with pytest.raises(UserError, match=f"'int8'.*bfloat16, float32.*--config.precision.{key}"):
        PrecisionConfig(**{"params": "float32", "compute": "float32", "output": "float32", key: "int8"})


# -- training -------------------------------------------------------------------------------------------------------------


def trained(tiny, specs=(), steps=4, **precision):
    config = tiny("lstm", {f"precision.{key}": value for key, value in precision.items()})
    made = assemble(config, treatments(specs))
    state = jax.jit(made.init_state)(made.key, {}, made.first_batch())
    call = jax.jit(repeat(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer), made.schedule))
    after, metrics = call(state, made.batches(0, steps), np.int32(steps))
    return made, state, after, metrics


@pytest.mark.parametrize("specs", [(), ("accumulate:parts=2",), ("average:decay=0.9", "l2:weight=1e-3")])
def test_training_keeps_bfloat16_parameters_and_a_float32_optimiser(tiny, specs):
    _, before, after, metrics = trained(tiny, specs, params="bfloat16")
    assert dtypes(before.params) == dtypes(after.params) == {jnp.dtype(jnp.bfloat16)}
    assert jnp.bfloat16 not in dtypes(after.opt_state), "second moments in bfloat16 would never decay"
    assert dtypes(metrics) == {jnp.dtype(jnp.float32)} and np.isfinite(metrics["loss"]).all()
    _, _, _, exact = trained(tiny, specs)
    np.testing.assert_allclose(metrics["loss"][:4], exact["loss"][:4], rtol=0.01)


def test_an_optimiser_is_given_float32(tiny):
    made, before, _, _ = trained(tiny, params="bfloat16")
    seen = []

    def init(params):
        seen.append(params)
        return ()

    def update(grads, state, params):
        seen.extend((grads, params))
        return grads, state

    spy = optax.GradientTransformation(init, update)
    state = jax.eval_shape(lambda: init_state(KEY, {}, made.untreated, made.objective, spy, made.treatment, made.first_batch()))
    after, _ = jax.eval_shape(make_step(made.model, made.objective, made.treatment.gradient, spy), state, made.first_batch())
    assert [dtypes(tree) for tree in seen] == [{jnp.dtype(jnp.float32)}] * 3
    assert dtypes(after.params) == dtypes(before.params)


def test_accumulated_gradients_add_up_in_float32(tiny):
    made, before, _, _ = trained(tiny, params="bfloat16")

    def gradient(params, batch, key, step, carried):
        loss = lambda params: made.objective.loss(made.model, params, batch, key, step)  # noqa: E731
        return *jax.grad(loss, has_aux=True)(params), carried

    grads, _, _ = gradient(before.params, made.first_batch(), KEY, jnp.int32(0), {})
    summed, _, _ = accumulated(gradient, 2)(before.params, made.first_batch(), KEY, jnp.int32(0), {})
    assert dtypes(grads) == {jnp.dtype(jnp.bfloat16)} and dtypes(summed) == {jnp.dtype(jnp.float32)}
    for whole, parts in zip(jax.tree.leaves(floats_as(jnp.float32, grads)), jax.tree.leaves(summed), strict=True):
        np.testing.assert_allclose(whole, parts, atol=0.02 * float(jnp.abs(whole).max()) + 1e-6)


def test_casting_leaves_whole_numbers_and_float32_as_they_are():
    tree = {"count": jnp.int32(3), "value": jnp.float32(0.1)}
    cast = floats_as(jnp.bfloat16, tree)
    assert cast["count"].dtype == jnp.int32 and cast["value"].dtype == jnp.bfloat16
    assert "convert" not in str(jax.make_jaxpr(partial(floats_as, jnp.float32))(tree)), "float32 costs nothing"
