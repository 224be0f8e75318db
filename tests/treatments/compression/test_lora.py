"""LoRA: nothing changes at first, its matrices alone are trained, and merging gives the plain model back."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from assay.core.errors import UserError
from assay.core.tree import paths
from assay.models.families import build
from assay.models.model import Model, Output, Vocabulary
from assay.models.precision import PrecisionConfig
from assay.train.experiment import assemble
from assay.train.state import all_params
from assay.train.step import make_step
from assay.train.treatment import Treatment
from assay.treatments.compression.lora import adapted, lora, merge, merged
from assay.treatments.compression.quantize import quantize
from assay.treatments.compression.rounding import Spec, quantized

KEY = jax.random.key(0)
FAMILIES = {
    "lstm": {"depth": 1, "width": 16, "embedding": 0, "dropout": 0.5},
    "cnn": {"filters": (4, 6), "kernel": 3, "pools": 2, "padding": "same", "dense": 8, "dropout": 0.5},
}


@functools.cache
def family(name: str) -> tuple[Model, dict, dict]:
    vocabulary = Vocabulary(0, 5, pooled=True) if name == "cnn" else Vocabulary(7, 5)
    model = build({"name": name, **FAMILIES[name]}, vocabulary, PrecisionConfig("float32", "float32", "float32"))
    random = np.random.default_rng(0)
    inputs = random.standard_normal((4, 8, 8, 1)).astype(np.float32) if name == "cnn" else random.integers(0, 7, (4, 6)).astype(np.int32)
    batch = {"inputs": inputs, "length": np.full(4, 6, np.int32), "weight": np.ones(4, np.float32)}
    return model, batch, jax.jit(model.init)(KEY, batch)


def logits_of(model, params, batch, **keywords) -> np.ndarray:
    return np.asarray(jax.jit(lambda params, batch: model.apply(params, batch, **keywords).logits)(params, batch))


def by_path(tree) -> dict:
    return dict(zip(paths(tree), map(np.asarray, jax.tree.leaves(tree)), strict=True))


def moved(params, random=0):
    """The tree with other values in all matrices of LoRA."""
    draw = np.random.default_rng(random)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + draw.standard_normal(leaf.shape).astype(leaf.dtype) / 4 if "lora_" in str(path[-1]) else leaf, params
    )


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("paths_of", [r"/kernel$", r"/(kernel|recurrent|embedding)$"])
def test_at_first_nothing_changes_and_merged_is_unmerged(name, paths_of):
    model, batch, params = family(name)
    whole, stored = adapted(model, params, 2, 16.0, paths_of)
    plain = logits_of(model, params, batch)
    np.testing.assert_allclose(logits_of(whole, stored, batch), plain, rtol=1e-6, atol=1e-6)
    other = moved(stored)
    found = logits_of(whole, other, batch)
    assert np.abs(found - plain).max() > 0.01
    again, together = merged(whole, other)
    assert again is model and jax.tree.map(jnp.shape, together) == jax.tree.map(jnp.shape, params)
    np.testing.assert_allclose(logits_of(again, together, batch), found, rtol=1e-5, atol=1e-5)
    assert again.settings is not None and whole.settings is None


def test_the_change_is_alpha_over_rank_times_the_product():
    def apply(params, batch, *, key=None, train=False, edits=None):
        return Output(batch["inputs"] @ params["up"]["kernel"], {})

    model = Model(lambda key, batch: {"up": {"kernel": jnp.eye(4)}}, apply)
    whole, stored = adapted(model, model.init(KEY, {}), 2, 6.0)
    other, x = moved(stored), np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    up = other["up"]["kernel"]
    np.testing.assert_allclose(whole.apply(other, {"inputs": x}).logits, x + 3 * (x @ up["lora_a"]) @ up["lora_b"], rtol=1e-5, atol=1e-5)
    assert (
        stored["up"]["kernel"]["lora_a"] != adapted(model, {"up": {"kernel": jnp.eye(4)}}, 2, 6.0, seed=1)[1]["up"]["kernel"]["lora_a"]
    ).any()


def test_apply_passes_keywords_on_and_decoding_is_reading():
    model, batch, params = family("lstm")
    whole, stored = adapted(model, params, 2, 16.0)
    stored = moved(stored)
    plain = logits_of(whole, stored, batch)
    for keywords in ({"key": KEY, "train": True}, {"edits": {"block_0/hidden": Partial(jnp.zeros_like)}}):
        assert (logits_of(whole, stored, batch, **keywords) != plain).any(), keywords
    cache, found, extend = whole.decode.init_cache(stored, batch, 6), [], jax.jit(whole.decode.extend)
    for place in range(6):
        logits, cache = extend(stored, cache, batch["inputs"][:, place : place + 1])
        found.append(logits[:, 0])
    np.testing.assert_allclose(np.stack(found, axis=1), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("before", [[], ["int8"], ["nf4"]], ids=["plain", "int8", "nf4"])
def test_only_its_matrices_are_trained(tiny, before):
    """A run goes on from another's parameters; QLoRA where those were quantised."""
    plain = assemble(tiny("transformer"), [])
    params = jax.jit(plain.untreated.init)(KEY, plain.first_batch())
    inherit = Treatment(inherit=lambda: (plain.untreated, params), name="inherit")
    made = assemble(tiny("transformer"), [inherit, *(quantize(form, block=8) for form in before), lora(rank=2)])
    start = made.init_state(made.key, made.given(), made.first_batch(), made.started())
    step, state = jax.jit(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer)), start
    for i in range(3):
        state, metrics = step(state, {name: array[0] for name, array in made.batches(i, 1).items()})
    assert {path.rsplit("/", 1)[1] for path in paths(start.params)} == {"lora_a", "lora_b"}
    first, last = by_path(all_params(start)), by_path(all_params(state))
    changed = {path for path in first if (first[path] != last[path]).any()}
    assert changed == set(paths(start.params)) and float(metrics["grad_norm"]) > 0
    assert any(path.endswith("kernel/base/qvalue" if before else "kernel/base") for path in paths(state.frozen))
    batch, stored = made.first_batch(), all_params(state)["model"]
    again, together = merged(made.model, stored)
    np.testing.assert_allclose(logits_of(again, together, batch), logits_of(made.model, stored, batch), rtol=1e-5, atol=1e-5)
    assert (bool(before) or again is made.untreated) and not [path for path in paths(together) if "kernel/" in path]


def test_merging_is_a_stage(tiny):
    """`lora,inherit,merge`: shapes are replayed, and the inherited values merged."""
    trained = assemble(tiny("lstm"), [lora(rank=2)])
    params = jax.jit(trained.untreated.init)(KEY, trained.first_batch())
    stored = moved(adapted(trained.untreated, params, 2, 16.0)[1])
    inherit = Treatment(inherit=lambda: (trained.model, stored), name="inherit")
    made = assemble(tiny("lstm"), [lora(rank=2), inherit, merge()])
    state = made.init_state(made.key, made.given(), made.first_batch(), made.started())
    params, batch = all_params(state)["model"], made.first_batch()
    assert paths(params) == paths(jax.eval_shape(made.untreated.init, KEY, batch))
    np.testing.assert_allclose(logits_of(made.untreated, params, batch), logits_of(trained.model, stored, batch), rtol=1e-5, atol=1e-5)


def test_mistakes_are_told():
    model, _, params = family("lstm")
    for options, wrong in (({"rank": 0}, "rank=0"), ({"alpha": float("inf")}, "alpha=inf"), ({"seed": -1}, "seed=-1")):
        with pytest.raises(UserError, match=wrong):
            lora(**options)
    with pytest.raises(UserError, match=r"paths=nowhere.*model/block_0/input/kernel.*--config\.treatments"):
        adapted(model, params, 2, 1.0, "nowhere")
    with pytest.raises(UserError, match="adapted already"):
        adapted(*adapted(model, params, 2, 1.0), 2, 1.0)
    with pytest.raises(UserError, match="'merge' has no adapted model"):
        merged(model, params)
    with pytest.raises(UserError, match="list quantize before lora, or after merge"):
        quantized(*adapted(model, params, 2, 1.0), Spec("int8", 0, "none", "round"))
    with pytest.raises(UserError, match="does not apply"):
        adapted(replace(model, fit=lambda params, batches: params), params, 2, 1.0)
