"""Quantisation: errors within each format's bound, every family, data only where they may be read, and what is stored comes back."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial

from assay.core.errors import UserError
from assay.core.tree import map_with_path, paths
from assay.models.families import build
from assay.models.model import Model, Output, Vocabulary
from assay.models.precision import PrecisionConfig
from assay.train.checkpoint import CheckpointConfig, Checkpointer
from assay.train.experiment import assemble
from assay.train.state import all_params
from assay.train.step import make_step
from assay.train.treatment import Treatment
from assay.treatments.compression import calibrate
from assay.treatments.compression.calibrate import awq, gptq, statistics
from assay.treatments.compression.quantize import quantize
from assay.treatments.compression.rounding import (
    Rounded,
    Spec,
    applies,
    dequantized,
    fitting,
    quantized,
    quantized_array,
    straight_through,
)

KEY = jax.random.key(0)
INT8 = Spec("int8", 0, "none", "round")
TRANSFORMER = {"depth": 2, "width": 16, "heads": 4, "kv_heads": 2, "window": 0, "mlp": 24, "positions": "alibi", "norm": "layernorm"}
TRANSFORMER |= {"activation": "gelu", "dropout": 0.5, "max_length": 12, "loops": 1, "randomised": 0, "norm_place": "pre", "gate": False}
TRANSFORMER |= {"mixers": ("attention",), "attention_weights": "softmax", "test_loops": 0, "stack_cell": 8, "stack_depth": 0}
TRANSFORMER |= {"local_window": 2, "local_positions": "rotary", "residual_init": "plain", "tied": False, "attention": "auto"}
RECURRENT = {"depth": 1, "width": 16, "embedding": 0, "dropout": 0.5}
FAMILIES = {
    "decoder": TRANSFORMER,
    "encoder": TRANSFORMER,
    "decoder scan": TRANSFORMER | {"scan": True},
    "lstm": RECURRENT,
    "gru": RECURRENT,
    "bilstm": RECURRENT,
    "cnn": {"filters": (4, 6), "kernel": 3, "pools": 2, "padding": "same", "dense": 8, "dropout": 0.5},
    "resnet": {"layout": "cifar", "depth": 8, "width": 4, "groups": 2, "stem": "small", "dropout": 0.5},
}


@functools.cache
def family(name: str, compute: str = "float32") -> tuple[Model, dict, dict]:
    """(model, batch, parameters) with large rows in all inputs."""
    images, values = name in ("cnn", "resnet"), FAMILIES[name]
    vocabulary = Vocabulary(0, 5, pooled=True) if images else Vocabulary(7, 5)
    model = build({"name": name.split()[0], **values}, vocabulary, PrecisionConfig("float32", compute, "float32"))
    random = np.random.default_rng(0)
    inputs = random.standard_normal((4, 8, 8, 1)).astype(np.float32) if images else random.integers(0, 7, (4, 6)).astype(np.int32)
    batch = {"inputs": inputs, "length": np.full(4, 6, np.int32), "weight": np.ones(4, np.float32)}
    return model, batch, jax.jit(model.init)(KEY, batch)


def logits_of(model, params, batch, **keywords) -> np.ndarray:
    return np.asarray(jax.jit(lambda params, batch: model.apply(params, batch, **keywords).logits)(params, batch))


def bits(tree) -> dict[str, bytes]:
    data = jax.tree.map(lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf, tree)
    return {
        path: f"{leaf.dtype}".encode() + np.asarray(leaf).tobytes() for path, leaf in zip(paths(tree), jax.tree.leaves(data), strict=True)
    }


def error(found, wanted) -> float:
    return float(np.linalg.norm(np.asarray(found) - wanted) / np.linalg.norm(wanted))


# -- arrays -----------------------------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    form=st.sampled_from(["int8", "int4", "nf4", "fp8"]),
    block=st.sampled_from([0, 4]),
    shape=st.sampled_from([(8, 6), (12, 5), (3, 3, 8, 6), (7, 3)]),
    name=st.sampled_from(["kernel", "embedding"]),
    seed=st.integers(0, 2**30),
    size=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_the_error_is_within_the_format_bound(form, block, shape, name, seed, size):
    array = size * np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    stored = quantized_array(jnp.asarray(array), f"model/{name}", Spec(form, block, "none", "round"))
    tiled, axis = np.moveaxis(array, -1, 0) if name == "kernel" else array, array.ndim - 1
    blocked = block and array.shape[axis if name == "embedding" else axis - 1] % block == 0
    groups = tiled.reshape(*tiled.shape[:-1], -1, block) if blocked else tiled.reshape(len(tiled), -1) if name == "kernel" else tiled
    largest = np.abs(groups).max(axis=-1, keepdims=True)
    share = {"int8": 1 / 255, "int4": 1 / 15, "nf4": 0.1520, "fp8": 0.0}[form]
    bound = largest * share + (np.abs(groups) / 16 + largest / 448 / 1024 if form == "fp8" else 0)
    found = np.asarray(dequantized(stored))
    gap = np.abs((np.moveaxis(found, -1, 0) if name == "kernel" else found) - tiled).reshape(groups.shape)
    assert (gap <= bound * (1 + 1e-4)).all()
    assert gap.max() > 0


@pytest.mark.parametrize(("form", "half_bytes"), [("int8", 2), ("int4", 1), ("nf4", 1), ("fp8", 2)])
def test_records_are_small(form, half_bytes):
    stored = quantized_array(jax.random.normal(KEY, (128, 32)), "model/kernel", Spec(form, 64, "none", "round"))
    qvalue = stored["qvalue"]
    width = (jnp.finfo if jnp.issubdtype(qvalue.dtype, jnp.floating) else jnp.iinfo)(qvalue.dtype).bits
    assert width == 4 * half_bytes and stored["qscale_nf4" if form == "nf4" else "qscale"].shape == (2, 32)
    compiled = jax.jit(lambda x: x + jnp.ones((), x.dtype)).lower(qvalue).compile().memory_analysis()
    assert compiled.argument_size_in_bytes == 128 * 32 * half_bytes // 2, "XLA stores two of four bits in a byte"


def test_scales_belong_to_what_is_summed_over():
    random = np.random.default_rng(0)
    for name, wanted in (("kernel", (1, 6)), ("recurrent", (1, 6)), ("embedding", (8, 1))):
        stored = quantized_array(jnp.asarray(random.standard_normal((8, 6)), jnp.float32), f"model/x/{name}", INT8)
        assert stored["qscale"].shape == wanted
    assert quantized_array(jnp.ones((3, 3, 8, 6)), "model/kernel", replace(INT8, block=4))["qscale"].shape == (3, 3, 2, 6)
    assert quantized_array(jnp.ones((7, 6)), "model/kernel", replace(INT8, block=4))["qscale"].shape == (1, 6), "4 does not divide 7"


# -- models -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_computes_with_the_rounded_matrices(name):
    model, batch, params = family(name)
    for form, far in (("int8", 0.05), ("int4", 0.6)):
        arrow = functools.partial(quantized, spec=Spec(form, 0, "none", "round"))
        small, stored = arrow(model, params)
        again, shapes = jax.eval_shape(functools.partial(arrow, model), params)
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), stored) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes)
        near = map_with_path(lambda path, leaf: leaf, params)
        for path in {path.removesuffix("/qvalue") for path in paths(stored) if path.endswith("/qvalue")}:
            *outer, last = path.split("/")
            place, source = near, stored
            for part in outer:
                place, source = place[part], source[part]
            place[last] = dequantized(source[last])
        found, wanted, plain = logits_of(again, stored, batch), logits_of(model, near, batch), logits_of(model, params, batch)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
        assert 1e-4 < error(found, plain) < far
    assert not [path for path in paths(stored) if path.endswith(("bias/qvalue", "scale/qvalue"))]
    assert small.settings is None and small.remake is None


@pytest.mark.parametrize("name", ["decoder", "lstm", "cnn"])
@pytest.mark.parametrize("activations", ["none", "dynamic"])
def test_apply_passes_keywords_on(name, activations):
    model, batch, params = family(name)
    small, stored = quantized(model, params, replace(INT8, activations=activations))
    plain = logits_of(small, stored, batch)
    tap = next(iter(small.apply(stored, batch).taps))
    for keywords in ({"key": KEY, "train": True}, {"edits": {tap: Partial(jnp.zeros_like)}}):
        assert (logits_of(small, stored, batch, **keywords) != plain).any(), keywords
    assert (logits_of(small, stored, batch, key=KEY) == plain).all()


@pytest.mark.parametrize("name", ["decoder", "lstm"])
@pytest.mark.parametrize("activations", ["none", "dynamic"])
def test_decoding_step_by_step_is_reading_at_once(name, activations):
    model, batch, params = family(name)
    small, stored = quantized(model, params, replace(INT8, activations=activations))
    cache, found, extend = small.decode.init_cache(stored, batch, 6), [], jax.jit(small.decode.extend)
    for place in range(6):
        logits, cache = extend(stored, cache, batch["inputs"][:, place : place + 1])
        found.append(logits[:, 0])
    wanted = logits_of(small, stored, batch)
    # Where inputs are rounded, a difference in the last bit may become one of a whole step.
    np.testing.assert_allclose(np.stack(found, axis=1), wanted, rtol=1e-4, atol=1e-5 if activations == "none" else 0.05)
    assert np.abs(wanted - logits_of(model, params, batch)).max() > 1e-3


@pytest.mark.parametrize("name", ["decoder", "encoder", "decoder scan", "lstm", "gru", "bilstm", "cnn"])
def test_rounded_activations_stay_close(name):
    model, batch, params = family(name)
    wanted = logits_of(model, params, batch)
    small, stored = quantized(model, params, replace(INT8, activations="dynamic"))
    found = logits_of(small, stored, batch)
    assert 1e-4 < error(found, wanted) < 0.05
    weights_only = logits_of(*quantized(model, params, INT8), batch)
    assert (found != weights_only).any(), "the inputs are rounded too"
    program = jax.jit(lambda params, batch: small.apply(params, batch).logits).lower(stored, batch).as_text()
    assert "tensor<" in program and any("dot_general" in line and "xi8>" in line and "xi32>" in line for line in program.splitlines())


def test_one_compute_type_is_as_good_as_another():
    model, batch, params = family("decoder", "bfloat16")
    for activations in ("none", "dynamic"):
        small, stored = quantized(model, params, replace(INT8, activations=activations))
        found = logits_of(small, stored, batch)
        assert found.dtype == np.float32 and error(found, logits_of(model, params, batch)) < 0.06


def toy() -> Model:
    """A model without a module."""

    def apply(params, batch, *, key=None, train=False, edits=None):
        return Output(batch["inputs"] @ params["up"]["kernel"], {})

    return Model(lambda key, batch: {"up": {"kernel": jax.random.normal(key, (4, 3))}}, apply)


def test_a_model_without_a_module_has_small_weights_too():
    params, batch = toy().init(KEY, {}), {"inputs": np.ones((2, 4), np.float32)}
    small, stored = quantized(toy(), params, INT8)
    assert stored["up"]["kernel"]["qvalue"].dtype == jnp.int8
    assert 0 < error(small.apply(stored, batch).logits, toy().apply(params, batch).logits) < 0.02
    with pytest.raises(UserError, match=r"does not apply.*dense layers of this library"):
        quantized(toy(), params, replace(INT8, activations="dynamic"))


# -- mistakes ---------------------------------------------------------------------------------------------------------------


def test_mistakes_are_told():
    model, _, params = family("decoder")
    shapes = jax.eval_shape(lambda: params)
    with pytest.raises(UserError, match=r"paths=nowhere.*model/block_0/attention/key/kernel.*--config\.treatments"):
        jax.eval_shape(lambda params: quantized(model, params, INT8, "nowhere")[1], shapes)
    with pytest.raises(UserError, match="already quantized: model/block_0"):
        quantized(*quantized(model, params, INT8), INT8)
    for options, wrong in (
        ({"form": "int3"}, "form=int3"),
        ({"form": "nf4", "activations": "dynamic"}, "nf4 is not an integer format"),
        ({"form": "fp8", "method": "gptq"}, "fp8 is not an integer format"),
        ({"train": True, "activations": "static"}, "static scales are not available in training"),
        ({"train": True, "method": "awq"}, "training always rounds"),
        ({"block": -1}, "block=-1"),
    ):
        with pytest.raises(UserError, match=wrong):
            quantize(**options)
    counting = replace(model, fit=lambda params, batches: params)
    assert applies(model) == applies(model, "int4", "static", "gptq") == ""
    assert "counting" in applies(counting) and "integer format, not nf4" in applies(model, "nf4", "dynamic")
    with pytest.raises(UserError, match="does not apply to Transformer"):
        quantized(counting, params, INT8)
    with pytest.raises(UserError, match=r"does not apply.*inputs of dense layers"):
        quantized(model, params, replace(INT8, activations="dynamic"), "embedding$")


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "qwix", None)
    with pytest.raises(UserError, match=r'pip install "assay\[compress\]"'):
        quantize()


# -- in runs ----------------------------------------------------------------------------------------------------------------


def run(made, steps: int):
    start = jax.jit(made.init_state)(made.key, made.given(), made.first_batch())
    started = made.started()
    start = made.init_state(made.key, made.given(), made.first_batch(), started) if started else start
    step, state = jax.jit(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer)), start
    for i in range(steps):
        state, _ = step(state, {name: array[0] for name, array in made.batches(i, 1).items()})
    return start, state


def inheriting(made, params) -> Treatment:
    return Treatment(inherit=lambda: (made.untreated, params), name="inherit")


@pytest.mark.parametrize("activations", ["none", "dynamic"])
def test_whole_numbers_are_frozen_and_the_rest_trains(tiny, activations):
    made = assemble(tiny("lstm"), [quantize("int8", activations=activations)])
    start, state = run(made, 2)
    assert not [path for path in paths(start.params) if "/q" in path] and any(path.endswith("/qvalue") for path in paths(start.frozen))
    before, after = bits(all_params(start)), bits(all_params(state))
    moved = {path for path in before if before[path] != after[path]}
    assert moved == set(paths(start.params)) >= {"model/head/bias", "model/block_0/input/bias"}, "gradients pass rounded products"


@pytest.mark.parametrize("variant", ["lstm", "transformer"])
def test_training_with_rounded_weights_answers_as_the_quantised_model(tiny, variant):
    made = assemble(tiny(variant), [quantize("int4", train=True)])
    start, state = run(made, 3)
    assert paths(start.params["model"]) == paths(jax.eval_shape(made.untreated.init, KEY, made.first_batch())), (
        "parameters stay as they are"
    )
    moved = [path for path, one in bits(start.params).items() if one != bits(state.params)[path]]
    assert any(path.endswith("kernel") for path in moved)
    params, batch = state.params["model"], made.first_batch()
    small, stored = quantized(made.untreated, params, Spec("int4", 0, "none", "round"))
    np.testing.assert_allclose(logits_of(made.model, params, batch), logits_of(small, stored, batch), rtol=1e-5, atol=1e-5)
    assert error(logits_of(made.model, params, batch), logits_of(made.untreated, params, batch)) > 0.01


def test_training_with_rounded_activations_follows_them(tiny):
    made = assemble(tiny("transformer"), [quantize("int8", train=True, activations="dynamic")])
    _, state = run(made, 1)
    params, batch = state.params["model"], made.first_batch()
    small, stored = quantized(made.untreated, params, replace(INT8, activations="dynamic"))
    found, wanted, plain = logits_of(made.model, params, batch), logits_of(small, stored, batch), logits_of(made.untreated, params, batch)
    # Both round the same numbers, computed in another order: most rows agree to float32's precision. Where a number lies on the border
    # between two steps, one rounds it up and the other down, and the row differs by less than rounding itself changes it.
    assert np.median(np.abs(np.asarray(found) - wanted).max(axis=-1)) < 1e-5
    assert error(found, wanted) < 0.5 * error(plain, wanted)
    gradient = jax.grad(lambda params: jnp.square(made.model.apply(params, batch).logits).sum())(params)
    assert all(
        float(jnp.abs(leaf).max()) > 0 for path, leaf in zip(paths(gradient), jax.tree.leaves(gradient), strict=True) if "up" in path
    )


@pytest.mark.parametrize("form", ["int8", "int4", "nf4", "fp8"])
def test_a_quantised_state_comes_back_bit_by_bit(tiny, tmp_path, form):
    made = assemble(tiny("lstm"), [quantize(form, block=8)])
    state = jax.jit(made.init_state)(made.key, made.given(), made.first_batch())
    with Checkpointer(tmp_path / "checkpoints", CheckpointConfig(1, 1)) as checkpointer:
        checkpointer.save(1, state, {})
        checkpointer.finished()
        found, _ = checkpointer.restore(1, made.abstract())
    assert bits(found) == bits(state) and any(str(leaf.dtype) in ("int8", "int4", "float8_e4m3fn") for leaf in jax.tree.leaves(found))


# -- with data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "splits"), [({"activations": "static"}, {"valid"}), ({"method": "gptq"}, {"train"}), ({"method": "awq"}, {"train"})]
)
def test_data_are_read_where_they_may_be(tiny, options, splits):
    """Inherited parameters are converted by data; the shapes are those of the arrow; no other split is read."""
    plain, read = assemble(tiny("lstm"), []), []

    def noting(task):
        return replace(task, source=lambda split: (read.append(split), task.source(split))[1])

    params = jax.jit(plain.untreated.init)(KEY, plain.first_batch())
    treated = [Treatment(task=noting), inheriting(plain, params), quantize("int8", examples=40, **options)]
    made = assemble(tiny("lstm"), treated)
    read.clear()
    _, stored = made.treatment.inherit()
    assert set(read) == splits
    _, state = run(made, 0)
    stored_again = all_params(state)["model"]
    assert bits(stored_again) == bits(stored)
    wanted, batch = logits_of(plain.untreated, params, made.first_batch()), made.first_batch()
    assert error(logits_of(made.model, stored, batch), wanted) < 0.05


def test_a_static_scale_is_that_of_the_largest_input(tiny):
    made = assemble(tiny("lstm"), [])
    params = jax.jit(made.untreated.init)(KEY, made.first_batch())
    spec = replace(INT8, activations="static")
    stored = calibrate.calibrated(made.untreated, params, made.task, spec, "kernel$", 64)
    read = list(calibrate.batches(made.task, "valid", 64))
    largest = max(np.abs(made.untreated.apply(params, batch).taps["block_0/hidden"]).max() for batch in read)
    assert len(read) == 2 and stored["head"]["kernel"]["qinput"].shape == (1, 1)
    np.testing.assert_allclose(stored["head"]["kernel"]["qinput"][0, 0] * 127, largest, rtol=1e-5)
    small, _ = quantized(made.untreated, params, spec, "kernel$")
    for batch in read:
        assert error(logits_of(small, stored, batch), logits_of(made.untreated, params, batch)) < 0.05


def test_a_loop_over_blocks_is_looked_into():
    scanned, batch, params = family("decoder scan")
    plain, _, _ = family("decoder")
    at = fitting(scanned, params, INT8, "kernel$")
    ours, wanted = (statistics(model, params, at, iter([batch, batch])) for model in (scanned, plain))
    assert ours.keys() == wanted.keys() and len(ours) == 13
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), dict(ours), dict(wanted))
    stuck = replace(scanned, remake=None)
    with pytest.raises(UserError, match=r"does not apply.*model\.scan=False|does not apply.*scan=false"):
        statistics(stuck, params, at, iter([batch]))


@functools.cache
def correlated(inputs: int = 24, outputs: int = 10, rows: int = 400) -> tuple[jax.Array, jax.Array]:
    random = np.random.default_rng(0)
    mixed = random.standard_normal((rows, 4)) @ random.standard_normal((4, inputs)) + 0.1 * random.standard_normal((rows, inputs))
    mixed = mixed * np.geomspace(0.1, 10, inputs)
    return jnp.asarray(mixed, jnp.float32), jnp.asarray(random.standard_normal((inputs, outputs)), jnp.float32)


@pytest.mark.parametrize("block", [0, 8])
def test_what_is_read_makes_the_outputs_better(block):
    x, kernel = correlated()
    spec = Spec("int4", block, "none", "round")
    off = {
        name: error(x @ dequantized(stored), np.asarray(x @ kernel))
        for name, stored in {
            "round": quantized_array(kernel, "kernel", spec),
            "gptq": gptq(kernel, x.T @ x, replace(spec, method="gptq")),
            "awq": awq(kernel, jnp.abs(x).mean(axis=0), replace(spec, method="awq")),
        }.items()
    }
    assert off["gptq"] < 0.7 * off["round"] and off["awq"] < off["round"] and off["gptq"] > 1e-4


def test_gptq_is_that_of_qwix():
    from qwix.contrib import gptq_core

    x, kernel = correlated(8, 5)
    how = gptq_core.qarray.HowToQuantize(qtype=jnp.int4, channelwise_axes=(0,))
    with jax.numpy_rank_promotion("allow"):
        wanted, _ = gptq_core.quantize_weight(kernel.T, x.T @ x, how)
    found = gptq(kernel, x.T @ x, Spec("int4", 0, "none", "gptq"))
    np.testing.assert_array_equal(np.asarray(found["qvalue"], np.int32), np.asarray(wanted.qvalue, np.int32).T)
    np.testing.assert_allclose(found["qscale"], wanted.scale.T, rtol=1e-6)


def test_an_input_that_is_always_zero_does_no_harm():
    x, kernel = correlated()
    silent = x.at[:, 3].set(0.0)
    for stored in (gptq(kernel, silent.T @ silent, Spec("int4", 0, "none", "gptq")), awq(kernel, jnp.abs(silent).mean(axis=0), INT8)):
        assert np.isfinite(dequantized(stored)).all()
    assert error(silent @ dequantized(gptq(kernel, silent.T @ silent, Spec("int8", 0, "none", "gptq"))), silent @ kernel) < 0.02


@pytest.mark.parametrize("activations", ["none", "dynamic"])
def test_gradients_pass_the_rounding_by(activations):
    """Those of a kernel and of its inputs are those of the rounded product, as if it were a plain one (the straight-through estimator)."""
    x, kernel = correlated()
    kernel_of = jax.jit(lambda kernel: dequantized(quantized_array(kernel, "model/kernel", INT8)))
    weight = jnp.asarray(np.random.default_rng(2).standard_normal((len(x), kernel.shape[1])), jnp.float32)

    def product(kernel, x):
        near = straight_through(kernel, kernel_of(kernel))
        return (weight * (Rounded(near).product(x) if activations == "dynamic" else x @ near)).sum()

    of_kernel, of_x = jax.grad(product, (0, 1))(kernel, x)
    rows = qwix.dequantize(qwix.quantize(x, jnp.int8, channelwise_axes=(0,))) if activations == "dynamic" else x
    assert error(of_kernel, rows.T @ weight) < 0.01  # the largest input lies half-way between two whole numbers, and either will do
    np.testing.assert_allclose(of_x, weight @ kernel_of(kernel).T, rtol=1e-4, atol=1e-3)
