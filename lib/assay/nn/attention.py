"""Attention(Q, K, V) = softmax(Q K^T / sqrt(d) + bias) V (Vaswani et al. 2017), as one pure function, and the module around it.

Activations are two-dimensional, (batch * seq, dim), between matrix products: on XLA:CPU a Dense on three-dimensional arrays was
measured to cost 1.4 to 1.7 times as much. Decoding keeps keys and values in a `Cache`, a plain record that is passed and returned.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from assay.nn.positions import Positions
from assay.nn.tap import tap


class Cache(NamedTuple):
    """Keys and values of one layer, [batch, heads, max_length, head_dim]; slots from the current length on are not yet written."""

    key: jax.Array
    value: jax.Array


def attend(
    query: Float[Array, "batch heads query dim"],
    key: Float[Array, "batch heads key dim"],
    value: Float[Array, "batch heads key dim"],
    bias: Float[Array, "#heads query key"] | None,
    allowed: Bool[Array, "#batch 1 query key"] | None,
) -> tuple[Float[Array, "batch heads query dim"], Float[Array, "batch heads query key"]]:
    """The attended values and the weights. `bias` is added to the logits; where `allowed` is False no attention goes.

    The softmax is taken in float32. A query that may see nothing attends evenly, which keeps padded rows finite.
    """
    logits = jnp.einsum("bhqd,bhkd->bhqk", query * np.float32(1 / np.sqrt(query.shape[-1])).astype(query.dtype), key).astype(jnp.float32)
    if bias is not None:
        logits = logits + bias[None]
    if allowed is not None:
        logits = jnp.where(allowed, logits, -1e30)
    weights = jax.nn.softmax(logits, axis=-1)
    return jnp.einsum("bhqk,bhkd->bhqd", weights.astype(value.dtype), value), weights


class SelfAttention(nn.Module):
    """Multi-head self-attention over (batch * seq, width) activations."""

    heads: int
    positions: Positions
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows width"],
        index: Int[Array, " seq"],
        allowed: Bool[Array, "#batch 1 seq key"] | None,
        cache: Cache | None = None,
    ) -> tuple[Float[Array, "rows width"], Cache | None]:
        """`index`: the position of each token. With a cache the new keys are written at `index[0]` and all slots are attended to,
        so `allowed` must exclude those that are not yet written."""
        (rows, width), seq = x.shape, index.shape[0]
        shape = (rows // seq, seq, self.heads, width // self.heads)

        def project(name: str) -> jax.Array:
            return nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)(x).reshape(shape)

        query, key = (self.positions.rotate(project(name), index) for name in ("query", "key"))
        value = project("value")
        query, key, value = (jnp.swapaxes(array, 1, 2) for array in (query, key, value))  # [batch, heads, seq, head_dim]
        key_index = index
        if cache is not None:
            start = (0, 0, index[0], 0)
            cache = Cache(*(jax.lax.dynamic_update_slice(old, new, start) for old, new in zip(cache, (key, value), strict=True)))
            (key, value), key_index = cache, jnp.arange(cache.key.shape[2])
        out, weights = attend(query, key, value, self.positions.bias(index, key_index, self.heads), allowed)
        tap(self, "weights", weights)
        out = jnp.swapaxes(out, 1, 2).reshape(rows, width)
        return nn.Dense(width, use_bias=False, dtype=self.dtype, name="out")(out), cache
