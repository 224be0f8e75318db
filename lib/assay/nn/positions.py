"""Positions by name. A kind of position is four functions, each nothing unless given, so no model asks which one it has.

add(module, x, index, max_length)         at the bottom: what is added to the embeddings; may make parameters in `module`
rotate(x, index)                          at each attention: what is done to queries and keys
bias(query_index, key_index, heads)       at each attention: what is added to the logits, or None; a function of the distance alone
relate(module, query, key, distance, causal)  the same for kinds that have parameters or look at the queries (nn/relative.py)

With randomised positions (Ruoss et al. 2023) they see numbers from `draw_places` in place of 0, 1, 2, ...
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
    bounded: bool = False  # True where a sequence cannot be longer than max_length

    @property
    def relative(self) -> bool:
        """Whether distances are what it sees, and what is randomised."""
        return self.bias is not None or self.relate is not None


def rotary(x: Float[Array, "batch seq heads dim"], index: Int[Array, "*rows seq"]) -> Float[Array, "batch seq heads dim"]:
    """Turns each half-pair of features by an angle that grows with the position (RoPE, Su et al. 2021). `index`: one row for all, or one
    for each example."""
    half = x.shape[-1] // 2
    frequencies = jnp.exp(-np.log(10_000.0) * jnp.arange(half) / half)
    angles = (index.reshape(-1, index.shape[-1])[..., None].astype(jnp.float32) * frequencies[None, None, :])[:, :, None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    turned = [first * cos - second * sin, second * cos + first * sin, rest]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def alibi(query_index: Int[Array, " query"], key_index: Int[Array, " key"], heads: int) -> Float[Array, "heads query key"]:
    """A penalty linear in the distance, with slopes 2^(-8 (h + 1) / heads) (ALiBi, Press et al. 2022); symmetric for encoders."""
    slopes = jnp.exp2(-8.0 * jnp.arange(1, heads + 1) / heads)
    distance = jnp.abs(query_index[:, None] - key_index[None, :]).astype(jnp.float32)
    return -slopes[:, None, None] * distance[None, :, :]


def draw_places(
    key: PRNGKeyArray, count: int, span: int, distances: bool, length: Int[Array, " batch"] | None = None
) -> Int[Array, "rows count"]:
    """Randomised positions: `count` distinct numbers of 0 ... span - 1, ascending; distances between tokens begin with 0, which is a
    token's own. Row i of the result is for example i, or the only row for all.

    Where `length` is given, example i takes the first length[i] numbers of one permutation, so its positions depend on the key and on its
    own length, and not on padding; its last number is repeated up to `count`. The conventions are those of the paper's code.
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
    """The positions of the tokens at `index`: themselves, or the numbers drawn for them."""
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
    """What a kind of positions adds to the logits of one attention. Both indices count up by one."""
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
    """[rows, heads, query, key] of a bias that is a function of the distance alone."""
    _, heads, queries, _ = shape
    found = jax.vmap(lambda row: bias(row, jnp.zeros(1, row.dtype), heads)[:, :, 0])(distance)  # [rows, heads, distances]
    return shift(jnp.broadcast_to(found[:, :, None, :], (*found.shape[:2], queries, found.shape[2])))


def _add_sinusoids(module: nn.Module, x: jax.Array, index: jax.Array, max_length: int) -> jax.Array:
    return x + sinusoids(index, x.shape[-1]).astype(x.dtype).reshape(-1, *x.shape[1:])


def _add_learned(module: nn.Module, x: jax.Array, index: jax.Array, max_length: int) -> jax.Array:
    table = module.param("positions", nn.initializers.normal(0.02), (max_length, x.shape[-1]))
    rows = table.at[index].get(mode="fill", fill_value=jnp.nan)  # a position beyond the table must not pass for its last
    return x + rows.astype(x.dtype).reshape(-1, *x.shape[1:])


POSITIONS: Mapping[str, Positions] = {
    "none": Positions(),  # causal attention alone can tell positions apart (NoPE, Kazemnejad et al. 2023)
    "sinusoidal": Positions(add=_add_sinusoids),
    "learned": Positions(add=_add_learned, bounded=True),
    "rotary": Positions(rotate=rotary),
    "alibi": Positions(bias=alibi),
    "t5": Positions(relate=bucket_bias),
    "transformer_xl": Positions(relate=transformer_xl),
    "direction": Positions(relate=direction),
}
