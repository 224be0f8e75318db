"""Relative positions with parameters: the buckets of T5 (Raffel et al. 2020), the two terms of Transformer-XL (Dai et al. 2019), and the
direction alone (Csordas et al. 2021).

A row of n queries and m keys whose indices count up has n + m - 1 distances only. What depends on the distance is computed for these, and
`shift` lays it out as [query, key] without a gather. Parameters stand in the attention that calls, one set for each layer (T5 itself
shares one table among its layers).
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from assay.core.tree import widened
from assay.nn.product import Dense

BUCKETS, FARTHEST = 32, 128  # T5's: one bucket holds all distances from FARTHEST on


def sinusoids(index: Int[Array, "*rows seq"], dim: int) -> Float[Array, "*rows seq dim"]:
    """Sines, then cosines, of geometric wavelengths from 2 pi to 10000 x 2 pi (Vaswani et al. 2017)."""
    frequencies = jnp.exp(-np.log(10_000.0) * jnp.arange((dim + 1) // 2) / max((dim + 1) // 2 - 1, 1))
    angles = index[..., None].astype(jnp.float32) * frequencies.reshape((1,) * index.ndim + (-1,))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[..., :dim]


def distances(query_index: Int[Array, " query"], key_index: Int[Array, " key"]) -> Int[Array, " distances"]:
    """Query index minus key index, every value that occurs, descending: the order that `shift` takes."""
    return query_index[-1] - key_index[0] - jnp.arange(len(query_index) + len(key_index) - 1)


def shift(x: Float[Array, "*rows query distances"]) -> Float[Array, "*rows query key"]:
    """out[..., i, j] = x[..., i, query - 1 - i + j]: from columns by distance to columns by key (Dai et al. 2019, appendix B)."""
    *rows, queries, count = x.shape
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(1, 0)]).reshape(*rows, count + 1, queries)
    return padded[..., 1:, :].reshape(*rows, queries, count)[..., : count + 1 - queries]


def bucket(distance: Int[Array, "*rows distances"], causal: bool) -> Int[Array, "*rows distances"]:
    """T5's bucket of a distance: small ones have one each, larger ones share by the logarithm. Keys that come after the query, which
    causal attention does not see, have the upper half."""
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
    """A learned number for each head and bucket."""
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
    """(u k_j + (q_i + v) W r_(i-j)) / sqrt(dim), with r the sinusoids of the distance: what the paper's equation adds to q_i k_j."""
    del causal
    _, heads, _, dim = query.shape
    content, position = (module.param(name, nn.initializers.normal(0.02), (heads, dim)) for name in ("content_bias", "position_bias"))
    waves = sinusoids(distance, heads * dim)
    projected = Dense(heads * dim, use_bias=False, dtype=query.dtype, name="relative")(waves.reshape(-1, heads * dim))
    projected = projected.reshape(*distance.shape, heads, dim)
    if len(distance) == 1:  # one row for all: no copies for the examples
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
    """Two numbers that the query makes for each head: one is added to keys on its left, the other to those on its right (Csordas et al.
    2021). It knows no distances, so none is too far."""
    del key, causal
    _, heads, _, dim = query.shape
    sides = module.param("direction", nn.initializers.normal(dim**-0.5), (heads, dim, 2)).astype(query.dtype)
    bias = module.param("direction_bias", nn.initializers.zeros_init(), (heads, 2))
    by_side = widened(jnp.einsum("bhqd,hds->bhqs", query, sides)) + bias[None, :, None, :]
    left = (distance >= 0)[:, None, None, :]
    return shift(jnp.where(left, by_side[..., :1], by_side[..., 1:]))
