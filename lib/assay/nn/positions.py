"""Positions by name. A kind of position is three functions, each the identity unless given, so no model asks which one it has.

add(module, x, index, max_length)   at the bottom: what is added to the embeddings; may make parameters in `module`
rotate(x, index)                    at each attention: what is done to queries and keys
bias(query_index, key_index, heads) at each attention: what is added to the logits, or None
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def _keep(module: nn.Module, x: jax.Array, index: jax.Array, max_length: int) -> jax.Array:
    return x


class Positions(NamedTuple):
    add: Callable[[nn.Module, jax.Array, jax.Array, int], jax.Array] = _keep
    rotate: Callable[[jax.Array, jax.Array], jax.Array] = lambda x, index: x
    bias: Callable[[jax.Array, jax.Array, int], jax.Array | None] = lambda query_index, key_index, heads: None
    bounded: bool = False  # True where a sequence cannot be longer than max_length


def sinusoids(index: Int[Array, " seq"], dim: int) -> Float[Array, "seq dim"]:
    """Sines, then cosines, of geometric wavelengths from 2 pi to 10000 x 2 pi (Vaswani et al. 2017)."""
    frequencies = jnp.exp(-np.log(10_000.0) * jnp.arange((dim + 1) // 2) / max((dim + 1) // 2 - 1, 1))
    angles = index[:, None].astype(jnp.float32) * frequencies[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[:, :dim]


def rotary(x: Float[Array, "batch seq heads dim"], index: Int[Array, " seq"]) -> Float[Array, "batch seq heads dim"]:
    """Turns each half-pair of features by an angle that grows with the position (RoPE, Su et al. 2021)."""
    half = x.shape[-1] // 2
    frequencies = jnp.exp(-np.log(10_000.0) * jnp.arange(half) / half)
    angles = (index[:, None].astype(jnp.float32) * frequencies[None, :])[None, :, None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    turned = [first * cos - second * sin, second * cos + first * sin, rest]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def alibi(query_index: Int[Array, " query"], key_index: Int[Array, " key"], heads: int) -> Float[Array, "heads query key"]:
    """A penalty linear in the distance, with slopes 2^(-8 (h + 1) / heads) (ALiBi, Press et al. 2022); symmetric for encoders."""
    slopes = jnp.exp2(-8.0 * jnp.arange(1, heads + 1) / heads)
    distance = jnp.abs(query_index[:, None] - key_index[None, :]).astype(jnp.float32)
    return -slopes[:, None, None] * distance[None, :, :]


def _add_sinusoids(module: nn.Module, x: jax.Array, index: jax.Array, max_length: int) -> jax.Array:
    return x + sinusoids(index, x.shape[-1]).astype(x.dtype)[None]


def _add_learned(module: nn.Module, x: jax.Array, index: jax.Array, max_length: int) -> jax.Array:
    table = module.param("positions", nn.initializers.normal(0.02), (max_length, x.shape[-1]))
    return x + table[index].astype(x.dtype)[None]


POSITIONS: Mapping[str, Positions] = {
    "none": Positions(),  # causal attention alone can tell positions apart (NoPE, Kazemnejad et al. 2023)
    "sinusoidal": Positions(add=_add_sinusoids),
    "learned": Positions(add=_add_learned, bounded=True),
    "rotary": Positions(rotate=rotary),
    "alibi": Positions(bias=alibi),
}
