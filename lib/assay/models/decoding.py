"""What a Transformer keeps while it decodes: caches, how much has been read, and what of it may be seen, for all rows or by row."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from assay.core.tree import PyTree
from assay.dist.shard import on_one_cpu
from assay.models.transformer_config import TransformerConfig
from assay.nn.attention import Cache
from assay.nn.mixer import ATTENTION, LOCAL
from assay.nn.recurrent import empty


class DecodingState(NamedTuple):
    length: jax.Array  # how many tokens have been read: one number for all rows, or one for each, [batch]
    layers: tuple[Any, ...]  # of each block, and again for each loop: an attention's Cache, or the state of a recurrent layer
    cross: tuple[Cache, ...] = ()  # keys and values of the source, of each block
    valid: jax.Array | None = None  # [batch, source]: which source tokens are no padding
    places: jax.Array | None = None  # positions that are given or drawn, [batch or 1, max_length]
    mask: jax.Array | None = None  # [batch, max_length]: which places of the caches may be seen; None: all that are written


Extend = Callable[[PyTree, DecodingState, jax.Array], tuple[jax.Array, DecodingState]]


def by_row(state: DecodingState, rows: int) -> DecodingState:
    """The state with a length of its own for each of so many rows, which may then differ: `state._replace(length=...)`."""
    return state._replace(length=jnp.broadcast_to(state.length, (rows,)))


def rowwise(extend: Extend) -> Extend:
    """`extend` that also takes states `by_row`: each row is then written at its own place, and sees what it has itself read.

    With one length for all it is `extend` itself. By row the caches' updates are scatters, which cost more.
    """

    def extended(params: PyTree, state: DecodingState, tokens: jax.Array) -> tuple[jax.Array, DecodingState]:
        if jnp.ndim(state.length) == 0:
            return extend(params, state, tokens)
        rows = len(tokens)
        if state.places is not None:
            state = state._replace(places=jnp.broadcast_to(state.places, (rows, state.places.shape[1])))

        def one(length: jax.Array, rest: tuple, token: jax.Array) -> tuple[jax.Array, jax.Array, tuple]:
            logits, state = extend(params, DecodingState(length, *rest), token[None])
            return logits, state.length, tuple(state[1:])

        # A cache may have its heads in the leading axis: rows come first in either form.
        rest = jax.tree.map(lambda leaf: leaf.reshape(rows, -1, *leaf.shape[1:]), tuple(state[1:]))
        logits, length, rest = jax.vmap(one)(state.length, rest, tokens)
        return logits[:, 0], DecodingState(length, *jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rest))

    return extended


def mask_of(valid: jax.Array | None, max_length: int) -> jax.Array | None:
    """The mask of caches whose first tokens are `valid` [batch, seq] or padding, as a prompt that is padded on the left; all later ones
    may be seen."""
    if valid is None:
        return None
    valid = jnp.asarray(valid, bool)[:, :max_length]
    return jnp.pad(valid, ((0, 0), (0, max_length - valid.shape[1])), constant_values=True)


def empty_layers(config: TransformerConfig, batch_size: int, max_length: int, dtype: jnp.dtype) -> tuple[Any, ...]:
    """The caches before the first token."""
    groups = (batch_size * config.kv_heads,) if on_one_cpu() else (batch_size, config.kv_heads)  # see Cache
    shape = (*groups, config.head_size, max_length)

    def layer(mixer: str) -> Any:
        if mixer in (ATTENTION, LOCAL):
            return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
        return empty(mixer, config.size, batch_size, max_length, dtype)

    return tuple(layer(config.mixer(block)) for block in range(config.depth)) * config.loops_in_test
