"""The convolution of training against XLA's own, values and both gradients; GroupNorm against Linen's."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.models.convnet import CNNConfig, ResNetConfig, cnn, resnet
from assay.models.model import Vocabulary
from assay.nn.conv import PLAIN, WIDEST, conv3x3, conv_as_product, max_pool_2x2, trained_conv
from assay.nn.normalisation import GroupNorm


def plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), **PLAIN)


def drawn(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(("height", "width", "channels", "out"), [(8, 8, 3, 16), (5, 7, 4, 2), (1, 1, 2, 3), (2, 9, 1, 1)])
def test_gradients_are_those_of_xla(height, width, channels, out):
    x, kernel, weights = drawn(0, 3, height, width, channels), drawn(1, 3, 3, channels, out), drawn(2, 3, height, width, out)
    np.testing.assert_array_equal(conv3x3(x, kernel), plain(x, kernel))

    def gradients(conv):
        return jax.grad(lambda x, kernel: (conv(x, kernel) * weights).sum(), (0, 1))(x, kernel)

    mine, wanted = gradients(conv3x3), gradients(plain)
    for found, true in zip(mine, wanted, strict=True):
        np.testing.assert_allclose(found, true, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 7, 2), (3, 2, 3, 1)])
def test_max_pooling_is_that_of_linen(shape):
    x = drawn(0, *shape)
    wanted = nn.max_pool(x, (2, 2), (2, 2))
    np.testing.assert_array_equal(max_pool_2x2(x), wanted)
    weights = drawn(1, *wanted.shape)
    mine, theirs = (
        jax.grad(lambda x, pool=pool: (pool(x) * weights).sum())(x) for pool in (max_pool_2x2, lambda x: nn.max_pool(x, (2, 2), (2, 2)))
    )
    np.testing.assert_array_equal(mine, theirs)
    assert np.isnan(max_pool_2x2(x.at[0, 0, 0, 0].set(jnp.nan))).sum() == 1


def test_per_example_and_second_gradients():
    x, kernel = drawn(0, 4, 6, 6, 2), drawn(1, 3, 3, 2, 3)

    def each(conv):
        return jax.vmap(jax.grad(lambda kernel, x: (conv(x[None], kernel) ** 2).sum()), (None, 0))(kernel, x)

    np.testing.assert_allclose(each(conv3x3), each(plain), rtol=1e-4, atol=1e-3)

    def sharpness(conv):
        return jax.grad(lambda kernel: (jax.grad(lambda kernel: (conv(x, kernel) ** 2).sum())(kernel) ** 2).sum())(kernel)

    np.testing.assert_allclose(sharpness(conv3x3), sharpness(plain), rtol=1e-3)


@pytest.mark.parametrize(
    ("shape", "strides", "padding", "channels", "quick"),
    [
        ((3, 3), (1, 1), ((1, 1), (1, 1)), 8, True),
        ((3, 3), (2, 2), ((1, 1), (1, 1)), 8, False),
        ((1, 1), (1, 1), ((0, 0), (0, 0)), 8, False),
        ((3, 3), (1, 1), ((0, 0), (0, 0)), 8, False),
        ((3, 3), (1, 1), ((1, 1), (1, 1)), WIDEST + 1, False),
    ],
)
def test_what_is_computed_quickly(monkeypatch, shape, strides, padding, channels, quick):
    asked = []
    monkeypatch.setattr("assay.nn.conv.conv3x3", lambda x, kernel: asked.append(1) or plain(x, kernel))
    x, kernel = drawn(0, 2, 8, 8, 4), drawn(1, *shape, 4, channels)
    found = trained_conv(x, kernel, strides, padding, **PLAIN)
    np.testing.assert_array_equal(found, jax.lax.conv_general_dilated(x, kernel, strides, padding, **PLAIN))
    assert bool(asked) == (quick and jax.default_backend() == "cpu")


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (8, 1), (6, 6)])
def test_group_norm_is_linens(channels, groups):
    x = 3 + 2 * drawn(0, 4, 5, 7, channels)
    mine, theirs = GroupNorm(groups), nn.GroupNorm(groups)
    params = {"params": {"scale": drawn(1, channels), "bias": drawn(2, channels)}}
    assert jax.tree.map(jnp.shape, mine.init(jax.random.key(0), x)) == jax.tree.map(jnp.shape, theirs.init(jax.random.key(0), x))
    np.testing.assert_allclose(mine.apply(params, x), theirs.apply(params, x), rtol=1e-4, atol=1e-4)
    half = GroupNorm(groups, jnp.bfloat16).apply(params, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (1, 1)), ((0, 2), (3, 1))], ids=str)
@pytest.mark.parametrize(("side", "strides"), [((3, 3), (1, 1)), ((3, 3), (2, 2)), ((1, 1), (2, 2)), ((5, 2), (1, 3))], ids=str)
def test_a_product_of_patches_is_the_convolution(padding, side, strides):
    x, kernel = drawn(0, 2, 9, 7, 3), drawn(1, *side, 3, 4)
    wanted, pull = jax.vjp(lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, strides, padding, **PLAIN), x, kernel)
    found, back = jax.vjp(lambda x, kernel: conv_as_product(x, kernel, strides, padding, **PLAIN), x, kernel)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    for mine, theirs in zip(back(jnp.ones_like(found)), pull(jnp.ones_like(wanted)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_it_has_no_dilation():
    with pytest.raises(ValueError, match="no dilation"):
        conv_as_product(drawn(0, 1, 5, 5, 1), drawn(1, 3, 3, 1, 1), (1, 1), "SAME", rhs_dilation=(2, 2))
    with pytest.raises(ValueError, match="groups"):
        conv_as_product(drawn(0, 1, 5, 5, 2), drawn(1, 3, 3, 1, 2), (1, 1), "SAME", feature_group_count=2)


@pytest.mark.parametrize(
    ("build", "settings"),
    [
        (cnn, CNNConfig(filters=(4, 8), kernel=3, pools=1, padding="same", dense=0, dropout=0.0)),
        (resnet, ResNetConfig(layout="cifar", depth=8, width=4, groups=2, stem="small", dropout=0.0)),
    ],
    ids=["cnn", "resnet"],
)
def test_models_have_the_same_parameters_and_answers_by_products(build, settings):
    batch = {"inputs": drawn(0, 3, 8, 8, 1), "weight": jnp.ones(3)}
    models = [build(replace(settings, convolution=name), Vocabulary(0, 10, pooled=True), jnp.float32) for name in ("xla", "product")]
    params = [model.init(jax.random.key(0), batch) for model in models]
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, params), strict=True))
    first, second = (model.apply(params[0], batch).logits for model in models)
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-4)
    assert models[0].convolves and not models[1].convolves
    assert "conv_general_dilated" not in str(jax.make_jaxpr(lambda params: models[1].apply(params, batch).logits)(params[0]))
