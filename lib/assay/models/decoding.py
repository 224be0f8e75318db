"""Decoding state of a Transformer: caches, number of tokens read, and visibility masks, for the whole batch or per row."""

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
    length: jax.Array  # number of tokens read so far: one for all rows, or one per row, [batch]
    layers: tuple[Any, ...]  # per block and loop: the Cache of an attention layer or the state of a recurrent layer
    cross: tuple[Cache, ...] = ()  # per block: keys and values of the source
    valid: jax.Array | None = None  # [batch, source]: which source tokens are not padding
    places: jax.Array | None = None  # given or randomized positions, [batch or 1, max_length]
    mask: jax.Array | None = None  # [batch, max_length]: which cache slots are visible; None: all written slots


Extend = Callable[[PyTree, DecodingState, jax.Array], tuple[jax.Array, DecodingState]]


def by_row(state: DecodingState, rows: int) -> DecodingState:
    """Returns the state with one length per row. Lengths may then differ: `state._replace(length=...)`."""
    return state._replace(length=jnp.broadcast_to(state.length, (rows,)))


def rowwise(extend: Extend) -> Extend:
    """Returns `extend` that also accepts states from `by_row`: each row writes at its own position and sees its own tokens.

    With one length for all rows, it is `extend` itself. With one length per row, cache updates are scatters, which are slower.
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

        # A cache may have its heads in the leading axis; either way, rows come first.
        rest = jax.tree.map(lambda leaf: leaf.reshape(rows, -1, *leaf.shape[1:]), tuple(state[1:]))
        logits, length, rest = jax.vmap(one)(state.length, rest, tokens)
        return logits[:, 0], DecodingState(length, *jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rest))

    return extended


def mask_of(valid: jax.Array | None, max_length: int) -> jax.Array | None:
    """Returns the cache mask for a prompt with padding, for example on the left. `valid` [batch, seq] marks the prompt's tokens; all later
    slots are visible."""
    if valid is None:
        return None
    valid = jnp.asarray(valid, bool)[:, :max_length]
    return jnp.pad(valid, ((0, 0), (0, max_length - valid.shape[1])), constant_values=True)


def empty_layers(config: TransformerConfig, batch_size: int, max_length: int, dtype: jnp.dtype) -> tuple[Any, ...]:
    """Returns the caches before the first token."""
    groups = (batch_size * config.kv_heads,) if on_one_cpu() else (batch_size, config.kv_heads)  # see Cache
    shape = (*groups, config.head_size, max_length)

    def layer(mixer: str) -> Any:
        if mixer in (ATTENTION, LOCAL):
            return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
        return empty(mixer, config.size, batch_size, max_length, dtype)

    return tuple(layer(config.mixer(block)) for block in range(config.depth)) * config.loops_in_test
