"""Attention(Q, K, V) = softmax(Q K^T / sqrt(d) + bias) V (Vaswani et al. 2017), as one pure function, and the module around it.

Activations are two-dimensional, (batch * seq, dim), between matrix products: on XLA:CPU a Dense on three-dimensional arrays was
measured to cost 1.4 to 1.7 times as much. Decoding keeps keys and values in a `Cache`, a plain record that is passed and returned.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from assay.nn.positions import Positions
from assay.nn.tap import tap


class Cache(NamedTuple):
    """Keys and values of one layer, [batch, kv_heads, head_dim, max_length]: with the length last, a decoding step reads them at twice
    the speed. Slots from the current length on are not yet written."""

    key: jax.Array
    value: jax.Array


def attend(
    query: Float[Array, "batch heads query dim"],
    key: Float[Array, "batch kv_heads dim key"],
    value: Float[Array, "batch kv_heads dim key"],
    bias: Float[Array, "#heads query key"] | None,
    allowed: Bool[Array, "#batch 1 #query key"] | None,
    edit: Callable[[jax.Array], jax.Array] = lambda weights: weights,
) -> tuple[Float[Array, "batch heads query dim"], Float[Array, "batch heads query key"]]:
    """The attended values and the weights. `bias` is added to the logits; where `allowed` is False no attention goes; `edit` may read or
    replace the weights before they are used.

    Fewer key/value heads than heads are shared by groups of consecutive heads (multi-query: Shazeer 2019; grouped: Ainslie et al. 2023).
    The softmax is taken in float32. A query that may see nothing attends evenly, which keeps padded rows finite.
    """
    batch, heads, queries, dim = query.shape
    groups = (batch, key.shape[1], heads // key.shape[1] * queries, dim)  # the heads of a group are more rows of one matrix product
    scale = np.float32(1 / np.sqrt(dim)).astype(query.dtype)
    logits = jnp.einsum("bgrd,bgdk->bgrk", (query * scale).reshape(groups), key).astype(jnp.float32)
    logits = logits.reshape(batch, heads, queries, -1)
    if bias is not None:
        logits = logits + bias[None]
    if allowed is not None:
        logits = jnp.where(allowed, logits, -1e30)
    weights = edit(jax.nn.softmax(logits, axis=-1))
    rows = weights.astype(value.dtype).reshape(*groups[:3], -1)
    return jnp.einsum("bgrk,bgdk->bgrd", rows, value).reshape(query.shape), weights


def visible(query_index: Int[Array, " query"], key_index: Int[Array, " key"], window: int, causal: bool) -> Bool[Array, "1 1 query key"]:
    """Which keys a query may see: causal, those not after it; with a window, those nearer than it."""
    distance = query_index[:, None] - key_index[None, :]
    allowed = distance >= 0 if causal else jnp.ones_like(distance, bool)
    if window:
        allowed = allowed & (jnp.abs(distance) < window)
    return allowed[None, None]


class SelfAttention(nn.Module):
    """Multi-head self-attention over (batch * seq, width) activations."""

    heads: int
    kv_heads: int
    window: int  # how many tokens back a token sees, itself included; 0: all
    causal: bool
    positions: Positions
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows width"],
        index: Int[Array, " seq"],
        valid: Bool[Array, "batch seq"] | None = None,
        cache: Cache | None = None,
    ) -> tuple[Float[Array, "rows width"], Cache | None]:
        """`index`: the position of each token; `valid`: which tokens are no padding. With a cache, which only causal attention has, the new
        keys are written at `index[0]`, and what the window reaches is read."""
        (rows, width), seq = x.shape, index.shape[0]
        head_dim = width // self.heads

        def project(name: str, heads: int) -> jax.Array:
            projected = nn.Dense(heads * head_dim, use_bias=False, dtype=self.dtype, name=name)(x)
            return projected.reshape(rows // seq, seq, heads, head_dim)

        query = jnp.swapaxes(self.positions.rotate(project("query", self.heads), index), 1, 2)  # [batch, heads, seq, head_dim]
        key = jnp.moveaxis(self.positions.rotate(project("key", self.kv_heads), index), 1, 3)  # [batch, kv_heads, head_dim, seq]
        value = jnp.moveaxis(project("value", self.kv_heads), 1, 3)
        key_index = index
        if cache is not None:
            start = (0, 0, 0, index[0])
            cache = Cache(*(jax.lax.dynamic_update_slice(old, new, start) for old, new in zip(cache, (key, value), strict=True)))
            length = cache.key.shape[3]
            reach = min(length, self.window + seq - 1) if self.window else length
            first = jnp.clip(index[-1] + 1 - reach, 0, length - reach)
            key, value = (jax.lax.dynamic_slice_in_dim(array, first, reach, axis=3) for array in cache)
            key_index = first + jnp.arange(reach)
        allowed = visible(index, key_index, self.window, self.causal)
        if valid is not None:
            allowed = allowed & valid[:, None, None, :]
        bias = self.positions.bias(index, key_index, self.heads)
        out, _ = attend(query, key, value, bias, allowed, lambda weights: tap(self, "weights", weights))
        out = jnp.swapaxes(out, 1, 2).reshape(rows, width)
        return nn.Dense(width, use_bias=False, dtype=self.dtype, name="out")(out), cache
