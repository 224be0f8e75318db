"""The fused kernel and the plain function are one attention, and who decides between them."""

import jax.numpy as jnp
import numpy as np
import pytest

from assay.nn.attention import KERNELS, Case, attend, attend_fused, visible


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
