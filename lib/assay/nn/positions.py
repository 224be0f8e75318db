"""Position encodings by name. Each is a record of four optional functions, so no model branches on the kind.

    add(module, x, index, max_length)             on the embeddings: returns them with positions added; may create parameters in `module`
    rotate(x, index)                              in each attention: transforms queries and keys
    bias(query_index, key_index, heads)           in each attention: returns a term added to the logits, or None; depends on distance only
    relate(module, query, key, distance, causal)  like bias, for kinds that have parameters or read the queries (nn/relative.py)

With randomized positions (Ruoss et al. 2023), they receive numbers from `draw_places` in place of 0, 1, 2, ...
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from assay.nn.relative import bucket_bias, direction, distances, shift, sinusoids, transformer_xl


def _keep(module: nn.Module, x: jax.Array, index: jax.Array, max_length: int) -> jax.Array:
    return x


class Positions(NamedTuple):
    add: Callable[[nn.Module, jax.Array, jax.Array, int], jax.Array] = _keep
    rotate: Callable[[jax.Array, jax.Array], jax.Array] = lambda x, index: x
    bias: Callable[[jax.Array, jax.Array, int], jax.Array | None] | None = None
    relate: Callable[[nn.Module, jax.Array, jax.Array, jax.Array, bool], jax.Array] | None = None
    bounded: bool = False  # True if a sequence cannot be longer than max_length

    @property
    def relative(self) -> bool:
        """True if the encoding depends on distances, which are then randomized in place of positions."""
        return self.bias is not None or self.relate is not None


def rotary(x: Float[Array, "batch seq heads dim"], index: Int[Array, "*rows seq"]) -> Float[Array, "batch seq heads dim"]:
    """Rotates each pair of features by an angle that grows with the position (RoPE, Su et al. 2021).

    `index`: one row for all examples, or one per example.
    """
    half = x.shape[-1] // 2
    frequencies = jnp.exp(-np.log(10_000.0) * jnp.arange(half) / half)
    angles = (index.reshape(-1, index.shape[-1])[..., None].astype(jnp.float32) * frequencies[None, None, :])[:, :, None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    turned = [first * cos - second * sin, second * cos + first * sin, rest]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def alibi(query_index: Int[Array, " query"], key_index: Int[Array, " key"], heads: int) -> Float[Array, "heads query key"]:
    """Returns a penalty linear in the distance, with slopes 2^(-8 (h + 1) / heads) (ALiBi, Press et al. 2022); symmetric for encoders."""
    slopes = jnp.exp2(-8.0 * jnp.arange(1, heads + 1) / heads)
    distance = jnp.abs(query_index[:, None] - key_index[None, :]).astype(jnp.float32)
    return -slopes[:, None, None] * distance[None, :, :]


def draw_places(
    key: PRNGKeyArray, count: int, span: int, distances: bool, length: Int[Array, " batch"] | None = None
) -> Int[Array, "rows count"]:
    """Draws randomized positions: `count` distinct numbers of 0 ... span - 1, in ascending order.

    Distances between tokens start with 0, the distance of a token to itself. Row i of the result belongs to example i; a single row serves
    all.

    If `length` is given, example i takes the first length[i] numbers of one permutation. Its positions then depend on the key and its own
    length, and not on padding; its last number is repeated up to `count`. The conventions follow the paper's code.
    """
    if distances:
        numbers = jnp.concatenate([jnp.zeros(1, jnp.int32), 1 + jax.random.permutation(key, span - 1)[: count - 1].astype(jnp.int32)])
    else:
        numbers = jax.random.permutation(key, span)[:count].astype(jnp.int32)
    if length is None:
        return jnp.sort(numbers)[None]
    used = jnp.arange(count)[None, :] < length[:, None]
    places = jnp.sort(jnp.where(used, numbers[None], span), axis=1)
    return jnp.where(used, places, jnp.max(jnp.where(used, places, 0), axis=1, keepdims=True))


def tokens_at(index: Int[Array, " seq"], places: Int[Array, "rows count"] | None) -> Int[Array, "*rows seq"]:
    """Returns the positions of the tokens at `index`: the indices themselves, or the numbers drawn for them."""
    return index if places is None else places[:, index]


def position_bias(
    positions: Positions,
    module: nn.Module,
    query: Float[Array, "batch heads query dim"],
    key: Float[Array, "batch kv_heads dim key"],
    query_index: Int[Array, " query"],
    key_index: Int[Array, " key"],
    places: Int[Array, "rows count"] | None,
    causal: bool,
) -> Float[Array, "*rows #heads query key"] | None:
    """Returns the term that an encoding adds to the logits of one attention. Both indices must be consecutive."""
    heads = query.shape[1]
    if not positions.relative:
        return None
    if positions.bias is not None and places is None:
        return positions.bias(query_index, key_index, heads)
    distance = distances(query_index, key_index)[None]
    if places is not None:
        distance = jnp.sign(distance) * places[:, jnp.abs(distance[0])]
    if positions.bias is not None:
        return _by_distance(positions.bias, distance, query.shape)
    assert positions.relate is not None
    return positions.relate(module, query, key, distance, causal)


def _by_distance(bias: Callable, distance: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns [rows, heads, query, key] of a bias that depends on the distance alone."""
    _, heads, queries, _ = shape
    found = jax.vmap(lambda row: bias(row, jnp.zeros(1, row.dtype), heads)[:, :, 0])(distance)  # [rows, heads, distances]
    return shift(jnp.broadcast_to(found[:, :, None, :], (*found.shape[:2], queries, found.shape[2])))


def _add_sinusoids(module: nn.Module, x: jax.Array, index: jax.Array, max_length: int) -> jax.Array:
    return x + sinusoids(index, x.shape[-1]).astype(x.dtype).reshape(-1, *x.shape[1:])


def _add_learned(module: nn.Module, x: jax.Array, index: jax.Array, max_length: int) -> jax.Array:
    table = module.param("positions", nn.initializers.normal(0.02), (max_length, x.shape[-1]))
    rows = table.at[index].get(mode="fill", fill_value=jnp.nan)  # a position beyond the table must not be read as the last one
    return x + rows.astype(x.dtype).reshape(-1, *x.shape[1:])


POSITIONS: Mapping[str, Positions] = {
    "none": Positions(),  # causal attention alone can distinguish positions (NoPE, Kazemnejad et al. 2023)
    "sinusoidal": Positions(add=_add_sinusoids),
    "learned": Positions(add=_add_learned, bounded=True),
    "rotary": Positions(rotate=rotary),
    "alibi": Positions(bias=alibi),
    "t5": Positions(relate=bucket_bias),
    "transformer_xl": Positions(relate=transformer_xl),
    "direction": Positions(relate=direction),
}
