"""Relative positions with parameters: T5 buckets (Raffel et al. 2020), Transformer-XL (Dai et al. 2019), and direction (Csordas et al.
2021).

A row of n queries and m keys with consecutive indices has only n + m - 1 distances. Terms that depend on the distance are computed for
these, and `shift` arranges them as [query, key] without a gather. The calling attention owns the parameters, one set per layer (T5 itself
shares one table among its layers).
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from assay.core.tree import widened
from assay.nn.product import Dense

BUCKETS, FARTHEST = 32, 128  # as in T5: one bucket holds all distances from FARTHEST onward


def sinusoids(index: Int[Array, "*rows seq"], dim: int) -> Float[Array, "*rows seq dim"]:
    """Returns sines, then cosines, of geometric wavelengths from 2 pi to 10000 x 2 pi (Vaswani et al. 2017)."""
    frequencies = jnp.exp(-np.log(10_000.0) * jnp.arange((dim + 1) // 2) / max((dim + 1) // 2 - 1, 1))
    angles = index[..., None].astype(jnp.float32) * frequencies.reshape((1,) * index.ndim + (-1,))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[..., :dim]


def distances(query_index: Int[Array, " query"], key_index: Int[Array, " key"]) -> Int[Array, " distances"]:
    """Returns all distinct values of query index minus key index, descending, in the order that `shift` expects."""
    return query_index[-1] - key_index[0] - jnp.arange(len(query_index) + len(key_index) - 1)


def shift(x: Float[Array, "*rows query distances"]) -> Float[Array, "*rows query key"]:
    """Maps columns by distance to columns by key: out[..., i, j] = x[..., i, query - 1 - i + j] (Dai et al. 2019, appendix B)."""
    *rows, queries, count = x.shape
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(1, 0)]).reshape(*rows, count + 1, queries)
    return padded[..., 1:, :].reshape(*rows, queries, count)[..., : count + 1 - queries]


def bucket(distance: Int[Array, "*rows distances"], causal: bool) -> Int[Array, "*rows distances"]:
    """Returns the T5 bucket of a distance.

    Small distances have one bucket each; larger ones share buckets on a logarithmic scale. Keys after the query, which causal attention
    does not see, use the upper half.
    """
    buckets = BUCKETS if causal else BUCKETS // 2
    after = jnp.where(distance < 0, 0 if causal else buckets, 0)
    distance = jnp.maximum(distance, 0) if causal else jnp.abs(distance)
    exact = buckets // 2
    share = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact) / np.log(FARTHEST / exact)
    wide = jnp.minimum(exact + (share * (buckets - exact)).astype(jnp.int32), buckets - 1)
    return after + jnp.where(distance < exact, distance, wide)


def bucket_bias(
    module: nn.Module,
    query: Float[Array, "batch heads query dim"],
    key: Float[Array, "batch kv_heads dim key"],
    distance: Int[Array, "rows distances"],
    causal: bool,
) -> Float[Array, "rows heads query key"]:
    """Returns a learned bias for each head and bucket."""
    del key
    _, heads, queries, _ = query.shape
    table = module.param("relative_bias", nn.initializers.normal(0.02), (BUCKETS, heads))
    by_distance = jnp.swapaxes(table[bucket(distance, causal)], 1, 2)[:, :, None, :]
    return shift(jnp.broadcast_to(by_distance, (*by_distance.shape[:2], queries, by_distance.shape[3])))


def transformer_xl(
    module: nn.Module,
    query: Float[Array, "batch heads query dim"],
    key: Float[Array, "batch kv_heads dim key"],
    distance: Int[Array, "rows distances"],
    causal: bool,
) -> Float[Array, "batch heads query key"]:
    """Returns (u k_j + (q_i + v) W r_(i-j)) / sqrt(dim), with sinusoids r of the distance: the terms that the paper adds to q_i k_j."""
    del causal
    _, heads, _, dim = query.shape
    content, position = (module.param(name, nn.initializers.normal(0.02), (heads, dim)) for name in ("content_bias", "position_bias"))
    waves = sinusoids(distance, heads * dim)
    projected = Dense(heads * dim, use_bias=False, dtype=query.dtype, name="relative")(waves.reshape(-1, heads * dim))
    projected = projected.reshape(*distance.shape, heads, dim)
    if len(distance) == 1:  # one row for all examples: do not copy it per example
        projected = projected[0]
    places = "mhd" if projected.ndim == 3 else "bmhd"
    by_distance = jnp.einsum(f"bhqd,{places}->bhqm", query + position.astype(query.dtype)[None, :, None, :], projected)
    groups = content.astype(query.dtype).reshape(key.shape[1], -1, dim)  # heads that share a key
    by_key = jnp.einsum("grd,bgdk->bgrk", groups, key).reshape(key.shape[0], heads, 1, -1)
    return (shift(widened(by_distance)) + widened(by_key)) * np.float32(1 / np.sqrt(dim))


def direction(
    module: nn.Module,
    query: Float[Array, "batch heads query dim"],
    key: Float[Array, "batch kv_heads dim key"],
    distance: Int[Array, "rows distances"],
    causal: bool,
) -> Float[Array, "batch heads query key"]:
    """Returns two biases per head, computed from the query: one for keys on its left, one for keys on its right (Csordas et al. 2021).

    They do not depend on the distance, so no distance is out of range.
    """
    del key, causal
    _, heads, _, dim = query.shape
    sides = module.param("direction", nn.initializers.normal(dim**-0.5), (heads, dim, 2)).astype(query.dtype)
    bias = module.param("direction_bias", nn.initializers.zeros_init(), (heads, 2))
    by_side = widened(jnp.einsum("bhqd,hds->bhqs", query, sides)) + bias[None, :, None, :]
    left = (distance >= 0)[:, None, None, :]
    return shift(jnp.where(left, by_side[..., :1], by_side[..., 1:]))
