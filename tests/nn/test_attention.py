"""The fused kernel and the plain function are one attention, and who decides between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.nn.attention import BAND_FROM, KERNELS, SMALLEST_BLOCK, Case, SelfAttention, attend, attend_banded, attend_fused, visible
from assay.nn.positions import POSITIONS


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("with_bias", [False, True])
def test_fused_equals_plain(kv_heads, with_bias):
    random, (batch, heads, queries, dim) = np.random.default_rng(0), (2, 4, 5, 8)
    draw = lambda *shape: jnp.asarray(random.standard_normal(shape), jnp.float32)  # noqa: E731
    query, key, value = draw(batch, heads, queries, dim), draw(batch, kv_heads, dim, queries), draw(batch, kv_heads, dim, queries)
    bias = draw(heads, queries, queries) if with_bias else None
    allowed = jnp.asarray(random.random((batch, 1, queries, queries)) < 0.6).at[..., 0].set(True)
    plain, _ = attend(query, key, value, bias, allowed)
    fused = attend_fused(query, key, value, bias, allowed, implementation="xla")
    np.testing.assert_allclose(fused, plain, rtol=1e-5, atol=1e-5)
    causal, _ = attend(query, key, value, bias, visible(jnp.arange(queries), jnp.arange(queries), 0, True))
    np.testing.assert_allclose(attend_fused(query, key, value, bias, None, True, "xla"), causal, rtol=1e-5, atol=1e-5)
    assert np.abs(np.asarray(causal) - np.asarray(plain)).max() > 0.1, "the mask matters here"


def test_who_decides_about_the_kernel():
    half = Case("gpu", jnp.bfloat16, 64, False)
    assert KERNELS["auto"](half) == KERNELS["fused"](half) == "cudnn"
    others = [half._replace(**change) for change in ({"device": "cpu"}, {"dtype": jnp.float32}, {"head_dim": 12}, {"learned_bias": True})]
    assert {KERNELS["auto"](case) for case in others} == {None}, "nothing that cuDNN refuses, and nothing on a CPU"
    assert {KERNELS["fused"](case) for case in others} == {"xla"}
    assert KERNELS["plain"](half) is None


@pytest.mark.parametrize(("seq", "window"), [(1, 1), (15, 4), (16, 16), (17, 16), (50, 3), (64, 20), (65, 30)])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_a_band_equals_the_square_that_a_window_hides(seq, window, kv_heads):
    random, (batch, heads, dim) = np.random.default_rng(seq), (3, 2, 8)
    draw = lambda *shape: jnp.asarray(random.standard_normal(shape), jnp.float32)  # noqa: E731
    query, key, value = draw(batch, heads, seq, dim), draw(batch, kv_heads, dim, seq), draw(batch, kv_heads, dim, seq)
    plain, _ = attend(query, key, value, None, visible(jnp.arange(seq), jnp.arange(seq), window, True))
    np.testing.assert_allclose(attend_banded(query, key, value, window), plain, rtol=1e-5, atol=1e-5)


def test_long_sequences_take_the_band_and_say_the_same():
    """The square is never made, and the first tokens of a long sequence answer as those of a short one, which takes the square."""
    module = SelfAttention(heads=2, kv_heads=1, window=5, causal=True, positions=POSITIONS["rotary"])
    long, short = BAND_FROM * SMALLEST_BLOCK, BAND_FROM * SMALLEST_BLOCK - 1
    x = jnp.asarray(np.random.default_rng(0).standard_normal((long, 8)), jnp.float32)
    variables = module.init(jax.random.key(0), x, jnp.arange(long))
    run = jax.jit(lambda x, index: module.apply(variables, x, index)[0])
    np.testing.assert_allclose(run(x, jnp.arange(long))[:short], run(x[:short], jnp.arange(short)), rtol=1e-4, atol=1e-6)
    whole = run.lower(x, jnp.arange(long)).compile().as_text()
    assert f"{long},{long}" not in whole, "all pairs of tokens"
    assert f"{short},{short}" in run.lower(x[:short], jnp.arange(short)).compile().as_text()
