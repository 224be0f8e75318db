"""Knobs that other families of pretrained models need: biases, how a variance is computed, and no norm at all."""

import re

import jax
import numpy as np
import pytest
from test_transformer import CONFIG, batch_of, logits_of, make, near, start, written

from assay.config.models import transformer
from assay.config.older import MODELS
from assay.core.errors import UserError
from assay.core.tree import map_with_path, paths

NEW = {"norm_variance": "fast", "attention_bias": "none", "mlp_bias": True, "head_bias": True}

NORMED = {f"{norm}/{part}" for norm in ("block_0/norm_attention", "block_0/norm_mlp", "norm") for part in ("scale", "bias")}


def paths_of(family: str = "decoder", **changes) -> set[str]:
    return set(paths(jax.eval_shape(make(family, **changes).init, jax.random.key(0), batch_of())))


def test_a_config_of_an_older_version_means_what_it_did():
    for family in ("decoder", "encoder", "encoder_decoder"):
        assert MODELS[family].items() >= NEW.items()
        assert {name: transformer(family)[name] for name in NEW} == NEW
        assert paths_of(family) == paths_of(family, **NEW)


@pytest.mark.parametrize(
    ("changes", "added", "removed"),
    [
        ({"attention_bias": "qkv"}, {"query", "key", "value"}, set()),
        ({"attention_bias": "qkvo"}, {"query", "key", "value", "out"}, set()),
        ({"mlp_bias": False, "activation": "swiglu"}, set(), {"block_0/up/bias", "block_0/up_gate/bias", "block_0/down/bias"}),
        ({"head_bias": False}, set(), {"head/bias"}),
        ({"norm": "none"}, set(), NORMED),
    ],
)
def test_parameters_that_a_knob_adds_or_removes(changes, added, removed):
    before = paths_of(**({"activation": "swiglu"} if "activation" in changes else {}))
    after = paths_of(**changes)
    assert after - before == {f"block_0/attention/{name}/bias" for name in added}
    assert before - after == removed


@pytest.mark.parametrize("family", ["decoder", "encoder_decoder"])
def test_biases_enter_the_equation(family):
    """They move the taps that they are added to; zeros change nothing; and decoding has them too."""
    plain, biased, batch = make(family, positions="none"), make(family, positions="none", attention_bias="qkvo"), batch_of()
    params = start(biased)
    zero = map_with_path(lambda path, leaf: 0 * leaf if re.search(r"(attention|cross)/\w+/bias$", path) else leaf, params)
    bare = _only(zero, jax.eval_shape(plain.init, jax.random.key(0), batch))
    near(logits_of(biased, zero, batch), logits_of(plain, bare, batch))
    half = "decoder/" if family == "encoder_decoder" else ""
    own = params["decoder"] if half else params
    taps, without = biased.apply(params, batch).taps, biased.apply(zero, batch).taps
    for name, axis in (("query", 4), ("key", 2), ("value", 2)):
        bias = np.asarray(own["block_0"]["attention"][name]["bias"]).reshape(1, axis, 1, -1)
        path = f"{half}block_0/attention/{name}"
        if not half:
            near(taps[path], np.asarray(without[path]) + bias)
        assert np.abs(np.asarray(taps[path]) - np.asarray(without[path])).max() > 1e-2
    tokens = batch["decoder_inputs"] if half else batch["inputs"]
    near(written(biased, params, batch, tokens), logits_of(biased, params, batch))


def test_a_head_without_a_bias():
    model, bare, batch = make("decoder"), make("decoder", head_bias=False), batch_of()
    params = start(model)
    found = logits_of(bare, {**params, "head": {"kernel": params["head"]["kernel"]}}, batch)
    near(found + np.asarray(params["head"]["bias"])[None, None], logits_of(model, params, batch))


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_a_variance_in_two_passes_is_exact_where_the_mean_is_large(norm):
    fast, exact, batch = make("encoder", norm=norm), make("encoder", norm=norm, norm_variance="two_pass"), batch_of()
    params = start(exact)
    near(logits_of(fast, params, batch), logits_of(exact, params, batch))
    table = params["embed"]["embedding"] + 1000.0
    far = {**params, "embed": {"embedding": table}}
    expected = np.asarray(params["block_0"]["norm_attention"]["scale"])[None, None]
    x = np.asarray(table, np.float64)[batch["inputs"]]
    errors = {}
    for name, model in (("fast", fast), ("exact", exact)):
        out = np.asarray(model.apply(far, batch).taps["block_0/attention/value"])
        centred = x - x.mean(axis=-1, keepdims=True) if norm == "layernorm" else x
        normed = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6) * expected
        normed = normed + (np.asarray(params["block_0"]["norm_attention"]["bias"])[None, None] if norm == "layernorm" else 0.0)
        value = normed @ np.asarray(params["block_0"]["attention"]["value"]["kernel"], np.float64)
        errors[name] = np.abs(out.swapaxes(1, 2).reshape(value.shape) - value).max() / np.abs(value).max()
    assert errors["exact"] < 1e-3
    assert errors["fast"] > 10 * errors["exact"] if norm == "layernorm" else errors["fast"] < 1e-3


def test_without_a_norm_the_stream_is_a_sum():
    model, batch = make("decoder", depth=2, norm="none", activation="relu"), batch_of()
    params = start(model)
    taps = {path: np.asarray(value) for path, value in model.apply(params, batch).taps.items()}
    assert not any("norm" in path for path in paths(params))
    near(taps["norm"], taps["block_1/residual"])
    kernel, bias = (np.asarray(params["block_0"]["up"][name]) for name in ("kernel", "bias"))
    near(taps["block_0/mlp"], np.maximum(taps["block_0/middle"] @ kernel + bias[None], 0))
    near(logits_of(make("decoder", depth=2, norm="none", activation="relu", scan=True), params, batch), logits_of(model, params, batch))


@pytest.mark.parametrize(("key", "value"), [("norm_variance", "slow"), ("attention_bias", "q"), ("norm", "batchnorm")])
def test_a_wrong_name_lists_the_right_ones(key, value):
    with pytest.raises(UserError, match=rf"{value}.*config\.model\.{key}"):
        make("decoder", **{key: value})
    assert key == "norm" or key not in CONFIG


def _only(tree, kept):
    return {name: _only(tree[name], child) if isinstance(child, dict) else tree[name] for name, child in kept.items()}
