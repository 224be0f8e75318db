"""Attention(Q, K, V) = softmax(Q K^T / sqrt(d) + bias) V (Vaswani et al. 2017), as a pure function and as modules.

Activations are two-dimensional, (batch * seq, dim), between matrix products. On XLA:CPU, a Dense layer on three-dimensional arrays took 1.4
to 1.7 times as long. Decoding keeps keys and values in a `Cache`, a plain record that is passed in and returned. `KERNELS` selects the
fused kernel of the device; on a CPU the plain function is faster (48 against 55 ms, measured).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from assay.core.tree import widened
from assay.nn.feed_forward import small_normal
from assay.nn.positions import Positions, position_bias, tokens_at
from assay.nn.product import Dense, product
from assay.nn.tap import tap
from assay.nn.weights import WEIGHTS, Weigh, softmax

Implementation = Literal["cudnn", "xla"]  # the `implementation` argument of jax.nn.dot_product_attention

SMALLEST_BLOCK = 16  # minimum number of queries per block of a band
BAND_FROM = 4  # minimum number of blocks per sequence for which the band is computed in place of the full matrix


class Cache(NamedTuple):
    """Keys and values of one layer, [batch, kv_heads, head_dim, max_length].

    With the length as the last axis, a decoding step reads them twice as fast. Slots from the current length onward are not written yet.

    On one CPU the shape is [batch * kv_heads, head_dim, max_length], which matrix products read directly. XLA would otherwise copy the
    cache at each step to reshape it, which took a fifth of the step of a small model.
    """

    key: jax.Array
    value: jax.Array


def attend(
    query: Float[Array, "batch heads query dim"],
    key: Float[Array, "*groups dim key"],  # groups: batch and kv_heads, as two axes or one
    value: Float[Array, "*groups dim key"],
    bias: Float[Array, "*#rows #heads query key"] | None,
    allowed: Bool[Array, "#batch 1 #query key"] | None,
    edit: Callable[[jax.Array], jax.Array] = lambda weights: weights,
    weigh: Weigh = softmax,
    edit_logits: Callable[[jax.Array], jax.Array] = lambda logits: logits,
) -> tuple[Float[Array, "batch heads query dim"], Float[Array, "batch heads query key"]]:
    """Returns the attended values and the attention weights.

    `bias` is added to the logits. Keys where `allowed` is False get no attention. `edit` may read or replace the weights before they are
    used. `edit_logits` does the same for the logits, scaled and with the bias, before masking.

    If there are fewer key/value heads than heads, groups of consecutive heads share one (multi-query: Shazeer 2019; grouped: Ainslie et al.
    2023). `weigh` maps logits to weights in float32; the default is softmax.
    """
    batch, heads, queries, dim = query.shape
    groups = (*key.shape[:-2], -1, dim)  # the heads of a group become rows of one matrix product
    scale = np.float32(1 / np.sqrt(dim)).astype(query.dtype)
    logits = widened(product("ab", (query * scale).reshape(groups), key))
    logits = logits.reshape(batch, heads, queries, -1)
    if bias is not None:
        logits = logits + (bias[None] if bias.ndim == 3 else bias)
    weights = edit(weigh(edit_logits(logits), allowed))
    rows = weights.astype(value.dtype).reshape(*key.shape[:-2], -1, key.shape[-1])
    return product("abt", rows, value).astype(query.dtype).reshape(query.shape), weights


def attend_fused(
    query: Float[Array, "batch heads query dim"],
    key: Float[Array, "*groups dim key"],
    value: Float[Array, "*groups dim key"],
    bias: Float[Array, "*#rows #heads query key"] | None,
    allowed: Bool[Array, "#batch 1 #query key"] | None,
    causal: bool = False,
    implementation: Implementation | None = None,
) -> Float[Array, "batch heads query dim"]:
    """Returns the same values as `attend`, computed by `jax.nn.dot_product_attention`, without the weights.

    `causal` in place of `allowed` lets a kernel skip masked keys. `implementation` is "cudnn", "xla", or None to let the device choose.
    """
    by_token = lambda array: jnp.transpose(_by_head(array, len(query)), (0, 3, 1, 2))  # noqa: E731  [batch, key, kv_heads, dim]
    if bias is not None:
        bias = (bias[None] if bias.ndim == 3 else bias).astype(query.dtype)
    out = jax.nn.dot_product_attention(
        jnp.swapaxes(query, 1, 2), by_token(key), by_token(value), bias, allowed, is_causal=causal, implementation=implementation
    )
    return jnp.swapaxes(out, 1, 2)


def attend_banded(
    query: Float[Array, "batch heads seq dim"],
    key: Float[Array, "batch kv_heads dim seq"],
    value: Float[Array, "batch kv_heads dim seq"],
    window: int,
) -> Float[Array, "batch heads seq dim"]:
    """Returns the values of causal attention to the last `window` tokens, without the weights.

    Time and memory are linear in the length. Queries are split into blocks; each block attends to its own keys and to those of the previous
    block (as in Longformer, Beltagy et al. 2020).
    """
    batch, heads, seq, dim = query.shape
    size = max(window, SMALLEST_BLOCK)
    blocks = -(-seq // size)
    behind = blocks * size - seq

    def pairs(array: jax.Array) -> jax.Array:
        """[batch * blocks, kv_heads, dim, 2 size]"""
        cut = jnp.pad(array, [(0, 0)] * 3 + [(size, behind)]).reshape(batch, -1, dim, blocks + 1, size)
        both = jnp.concatenate([cut[:, :, :, :-1], cut[:, :, :, 1:]], axis=-1)
        return jnp.moveaxis(both, 3, 1).reshape(batch * blocks, -1, dim, 2 * size)

    rows = jnp.pad(query, [(0, 0), (0, 0), (0, behind), (0, 0)]).reshape(batch, heads, blocks, size, dim)
    rows = jnp.moveaxis(rows, 2, 1).reshape(batch * blocks, heads, size, dim)
    near = visible(size + jnp.arange(size), jnp.arange(2 * size), window, True)
    real = (jnp.arange(blocks)[:, None] > 0) | (jnp.arange(2 * size)[None, :] >= size)  # no keys exist before the first token
    allowed = jnp.tile(near & real[:, None, None, :], (batch, 1, 1, 1))
    out, _ = attend(rows, pairs(key), pairs(value), None, allowed)
    out = jnp.moveaxis(out.reshape(batch, blocks, heads, size, dim), 1, 2)
    return out.reshape(batch, heads, blocks * size, dim)[:, :, :seq]


class Case(NamedTuple):
    """The properties that determine the attention kernel."""

    device: str  # jax.default_backend()
    dtype: jnp.dtype
    head_dim: int
    learned_bias: bool  # True if the bias has a gradient


KERNELS: Mapping[str, Callable[[Case], Implementation | None]] = {
    "plain": lambda case: None,
    "fused": lambda case: _cudnn(case) or "xla",
    "auto": lambda case: _cudnn(case),
}


def _cudnn(case: Case) -> Implementation | None:
    """Selects cuDNN flash attention for half precision and supported head sizes; a bias with a gradient uses the plain function."""
    half = jnp.dtype(case.dtype) in (jnp.bfloat16, jnp.float16)
    return "cudnn" if case.device == "gpu" and half and case.head_dim % 8 == 0 and case.head_dim <= 128 and not case.learned_bias else None


def visible(query_index: Int[Array, " query"], key_index: Int[Array, " key"], window: int, causal: bool) -> Bool[Array, "1 1 query key"]:
    """Returns which keys a query may see: with `causal`, none after the query; with a window, those at a distance below `window`."""
    distance = query_index[:, None] - key_index[None, :]
    allowed = distance >= 0 if causal else jnp.ones_like(distance, bool)
    if window:
        allowed = allowed & (jnp.abs(distance) < window)
    return allowed[None, None]


BIASES: Mapping[str, tuple[str, ...]] = {  # which attention matrices have a bias
    "none": (),
    "qkv": ("query", "key", "value"),  # Qwen2
    "qkvo": ("query", "key", "value", "out"),  # GPT-2, BERT, ViT
}


class SelfAttention(nn.Module):
    """Multi-head self-attention over (batch * seq, width) activations.

    Taps: `query`, `key`, `value` [batch, heads, seq, head_dim], after rotary positions; `logits`, scaled and with position biases, before
    masking; `weights`; `heads`, before the output matrix; `out`, after it. An edit that sets a logit to -1e30 removes the key, and the
    other weights still sum to one. With edited logits or weights, the plain function replaces a fused kernel.
    """

    heads: int
    kv_heads: int
    window: int  # attention window in tokens, including the token itself; 0: unlimited
    causal: bool
    positions: Positions
    dtype: jnp.dtype = jnp.float32
    kernel: str = "plain"  # a name in KERNELS
    scale: float = 1.0  # factor of the initial variance of the output matrix
    weights: str = "softmax"  # a name in WEIGHTS
    head_dim: int = 0  # features of a head; 0: width / heads
    bias: str = "none"  # a name in BIASES

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows width"],
        index: Int[Array, " seq"],
        valid: Bool[Array, "batch keys"] | None = None,
        cache: Cache | None = None,
        places: Int[Array, "drawn places"] | None = None,
    ) -> tuple[Float[Array, "rows width"], Cache | None]:
        """Applies attention; with a cache, also returns the updated cache.

        `index`: position of each token in its sequence. `valid`: which tokens are not padding. `places`: randomized positions. A cache
        requires causal attention. New keys are written at `index[0]`, the keys within the window are read, and `valid` then covers all
        slots of the cache.
        """
        (rows, width), seq = x.shape, index.shape[0]
        batch, head_dim, where = rows // seq, self.head_dim or width // self.heads, tokens_at(index, places)
        biased = BIASES[self.bias]
        query = self.positions.rotate(project("query", x, batch, self.heads, head_dim, self.dtype, biased), where)
        query = tap(self, "query", jnp.swapaxes(query, 1, 2), "b h s d")
        key = self.positions.rotate(project("key", x, batch, self.kv_heads, head_dim, self.dtype, biased), where)
        key = _tapped(self, "key", jnp.moveaxis(key, 1, 3))  # [batch, kv_heads, head_dim, seq]
        value = _tapped(self, "value", jnp.moveaxis(project("value", x, batch, self.kv_heads, head_dim, self.dtype, biased), 1, 3))
        key_index = index
        if cache is not None:
            written = ((old, new.reshape(*old.shape[:-1], seq)) for old, new in zip(cache, (key, value), strict=True))
            cache = Cache(*(jax.lax.dynamic_update_slice_in_dim(old, new, index[0], axis=-1) for old, new in written))
            length = cache.key.shape[-1]
            reach = min(length, self.window + seq - 1) if self.window else length
            first = jnp.clip(index[-1] + 1 - reach, 0, length - reach)
            key, value = (jax.lax.dynamic_slice_in_dim(array, first, reach, axis=-1) for array in cache)
            key_index = first + jnp.arange(reach)
            valid = None if valid is None else jax.lax.dynamic_slice_in_dim(valid, first, reach, axis=1)
        allowed = visible(index, key_index, self.window, self.causal)
        if valid is not None:
            allowed = allowed & valid[:, None, None, :]
        bias = position_bias(self.positions, self, query, _by_head(key, batch), index, key_index, places, self.causal)
        only_causal = self.causal and not self.window and valid is None and cache is None
        implementation = _implementation(self.kernel, query, self.positions.relate is not None) if self.weights == "softmax" else None
        weigh = partial(WEIGHTS[self.weights], query_index=index, key_index=key_index)
        plain = cache is None and valid is None and bias is None and self.weights == "softmax"
        band = self.window if self.causal and plain and self.window and seq >= BAND_FROM * max(self.window, SMALLEST_BLOCK) else 0
        out = _attended(self, query, key, value, bias, allowed, only_causal, implementation, weigh, band)
        return _into_stream(self, out, width, "out" in biased), cache


class CrossAttention(nn.Module):
    """Attention of a decoder's tokens to the output of an encoder, without positions of its own."""

    heads: int
    kv_heads: int
    dtype: jnp.dtype = jnp.float32
    kernel: str = "plain"  # a name in KERNELS
    scale: float = 1.0  # factor of the initial variance of the output matrix
    head_dim: int = 0  # features of a head; 0: width / heads
    bias: str = "none"  # a name in BIASES

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows width"],
        memory: Float[Array, "read width"] | None,
        valid: Bool[Array, "batch source"],
        cache: Cache | None = None,
    ) -> tuple[Float[Array, "rows width"], Cache]:
        """Applies cross-attention; also returns the keys and values of the source.

        `memory`: the encoder's activations, (batch * source, width). Its keys and values are taken from `cache` if one is given. `valid`:
        which source tokens are not padding.
        """
        width, batch = x.shape[1], valid.shape[0]
        head_dim, biased = self.head_dim or width // self.heads, BIASES[self.bias]
        query = tap(self, "query", jnp.swapaxes(project("query", x, batch, self.heads, head_dim, self.dtype, biased), 1, 2), "b h s d")
        if cache is None:
            assert memory is not None
            made = {name: project(name, memory, batch, self.kv_heads, head_dim, self.dtype, biased) for name in ("key", "value")}
            cache = Cache(*(_tapped(self, name, jnp.moveaxis(array, 1, 3)) for name, array in made.items()))
        implementation = _implementation(self.kernel, query, False)
        out = _attended(self, query, *cache, None, valid[:, None, None, :], False, implementation)
        return _into_stream(self, out, width, "out" in biased), cache


def project(
    name: str, x: Float[Array, "rows width"], batch: int, heads: int, head_dim: int, dtype: jnp.dtype, biased: Sequence[str] = ()
) -> jax.Array:
    """Returns [batch, seq, heads, head_dim] from the matrix `name` of the calling module; it has a bias if `name` is in `biased`."""
    return Dense(heads * head_dim, use_bias=name in biased, dtype=dtype, name=name)(x).reshape(batch, -1, heads, head_dim)


def _by_head(array: Float[Array, "*groups dim key"], batch: int) -> Float[Array, "batch kv_heads dim key"]:
    return array.reshape(batch, -1, *array.shape[-2:])


def _implementation(kernel: str, query: jax.Array, learned_bias: bool) -> Implementation | None:
    return KERNELS[kernel](Case(jax.default_backend(), query.dtype, query.shape[3], learned_bias))


def _attended(
    module: nn.Module,
    query,
    key,
    value,
    bias,
    allowed,
    causal: bool,
    implementation: Implementation | None,
    weigh: Weigh = softmax,
    band: int = 0,
) -> jax.Array:
    """Returns the output of all heads, (batch * seq, width).

    A fused kernel, or else the band, computes the values, unless logits or weights are edited. The plain logits and weights remain
    available to taps, and under jit cost nothing if unused.
    """
    edited = False

    def read(name: str, value: jax.Array) -> jax.Array:
        nonlocal edited
        seen = tap(module, name, value, "b h q k")
        edited = edited or seen is not value
        return seen

    out, _ = attend(query, key, value, bias, allowed, partial(read, "weights"), weigh, partial(read, "logits"))
    if implementation and not edited:
        out = attend_fused(query, key, value, bias, None if causal else allowed, causal, implementation)
    elif band and not edited:
        out = attend_banded(query, key, value, band)
    out = tap(module, "heads", out, "b h s d")
    return jnp.swapaxes(out, 1, 2).reshape(-1, query.shape[1] * query.shape[3])


def _tapped(module: nn.Module, name: str, value: Float[Array, "batch kv_heads dim seq"]) -> Float[Array, "batch kv_heads dim seq"]:
    """Taps a key or value as [batch, kv_heads, seq, head_dim]."""
    laid = jnp.swapaxes(value, 2, 3)
    seen = tap(module, name, laid, "b h s d")
    return value if seen is laid else jnp.swapaxes(seen, 2, 3)


def _into_stream(module: SelfAttention | CrossAttention, heads: jax.Array, width: int, bias: bool) -> Float[Array, "rows width"]:
    """Projects the heads into the residual stream."""
    init = small_normal(module.scale)
    return tap(module, "out", Dense(width, use_bias=bias, dtype=module.dtype, kernel_init=init, name="out")(heads), "bs w")
