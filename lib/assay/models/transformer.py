"""The Transformer (Vaswani et al. 2017; pre-norm as in Xiong et al. 2020): decoder and encoder, assembled from the parts in `nn`.

A knob for a size, a table for a part; a new part is a function in its table, not an `if` here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from assay.core.config import require
from assay.core.errors import UserError, unknown
from assay.models.model import Model, Vocabulary, from_linen
from assay.nn.attention import Cache, SelfAttention
from assay.nn.normalisation import NORMS
from assay.nn.positions import POSITIONS
from assay.nn.tap import tap

ACTIVATIONS = {"relu": jax.nn.relu, "gelu": jax.nn.gelu}


@dataclass(frozen=True)
class TransformerConfig:
    depth: int  # blocks
    width: int  # features of the residual stream
    heads: int  # attention heads; they divide the width
    kv_heads: int  # key/value heads, shared by groups of heads; they divide the heads; 1 is multi-query attention
    window: int  # how many tokens back a token sees, itself included; 0: all
    mlp: int  # features inside the feed-forward layer
    positions: str  # a name in nn.positions.POSITIONS
    norm: str  # a name in nn.normalisation.NORMS
    activation: str  # a name in ACTIVATIONS
    dropout: float  # share of features dropped after each half of a block
    max_length: int  # how far learned positions reach, in tokens; the others do not end

    def __post_init__(self):
        for name in ("depth", "width", "heads", "kv_heads", "mlp", "max_length"):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "it is at least 1")
        require(self.width % self.heads == 0, "model.heads", self.heads, f"heads divide the width, {self.width}")
        require(self.heads % self.kv_heads == 0, "model.kv_heads", self.kv_heads, f"key/value heads divide the heads, {self.heads}")
        require(self.window >= 0, "model.window", self.window, "a number of tokens, or 0 for all")
        require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "a share in [0, 1)")
        for name, table in (("positions", POSITIONS), ("norm", NORMS), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in table:
                raise unknown(name, getattr(self, name), table, f"--config.model.{name}")


class DecodingState(NamedTuple):
    length: jax.Array  # how many tokens have been read
    layers: tuple[Cache, ...]


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), on (batch * seq, width) activations."""

    config: TransformerConfig
    causal: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, index, valid, train, cache=None):
        config, dtype = self.config, self.dtype
        norm, drop = NORMS[config.norm], nn.Dropout(config.dropout, deterministic=not train)
        positions = POSITIONS[config.positions]
        attention = SelfAttention(config.heads, config.kv_heads, config.window, self.causal, positions, dtype, name="attention")
        mixed, cache = attention(norm(dtype=dtype, name="norm_attention")(x), index, valid, cache)
        x = x + drop(mixed)
        hidden = nn.Dense(config.mlp, dtype=dtype, name="up")(norm(dtype=dtype, name="norm_mlp")(x))
        hidden = tap(self, "mlp", ACTIVATIONS[config.activation](hidden))
        x = x + drop(nn.Dense(config.width, dtype=dtype, name="down")(hidden))
        return tap(self, "residual", x), cache


class Transformer(nn.Module):
    """Token ids `batch["inputs"]` [batch, seq] to logits [batch, seq, outputs].

    Causal: a token sees itself and those before it, so padding on the right reaches nothing. Otherwise all see all of the first
    `batch["length"]` tokens.
    """

    config: TransformerConfig
    vocabulary: Vocabulary
    causal: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False, cache: DecodingState | None = None):
        config, tokens = self.config, batch["inputs"]
        rows, seq = tokens.shape
        check_reach(config, seq)
        start = jnp.zeros((), jnp.int32) if cache is None else cache.length
        index = start + jnp.arange(seq)
        valid = None if self.causal else jnp.arange(seq)[None, :] < batch["length"][:, None]
        x = nn.Embed(self.vocabulary.inputs, config.width, dtype=self.dtype, name="embed")(tokens)
        x = POSITIONS[config.positions].add(self, x, index, config.max_length)
        x = tap(self, "embedded", x).reshape(rows * seq, config.width)
        layers = []
        for i in range(config.depth):
            layer = None if cache is None else cache.layers[i]
            x, layer = Block(config, self.causal, self.dtype, name=f"block_{i}")(x, index, valid, train, layer)
            layers.append(layer)
        x = NORMS[config.norm](dtype=self.dtype, name="norm")(x)
        logits = nn.Dense(self.vocabulary.outputs, dtype=self.dtype, name="head")(x).astype(jnp.float32)
        logits = logits.reshape(rows, seq, self.vocabulary.outputs)
        return logits if cache is None else (logits, DecodingState(start + seq, tuple(layers)))


def check_reach(config: TransformerConfig, tokens: int) -> None:
    """Raises UserError where so many tokens lie beyond learned positions."""
    if POSITIONS[config.positions].bounded and tokens > config.max_length:
        raise UserError(
            f"{config.positions} positions reach config.model.max_length={config.max_length}, but sequences of {tokens} tokens come. "
            "Raise --config.model.max_length before training, or choose another --config.model.positions."
        )


def decoder(config: TransformerConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """A causal Transformer with a key/value cache."""

    def init_cache(batch_size: int, max_length: int) -> DecodingState:
        check_reach(config, max_length)
        shape = (batch_size, config.kv_heads, config.width // config.heads, max_length)
        layer = Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
        return DecodingState(jnp.zeros((), jnp.int32), (layer,) * config.depth)

    return from_linen(Transformer(config, vocabulary, True, dtype), init_cache)


def encoder(config: TransformerConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """A bidirectional Transformer; it cannot decode step by step."""
    return from_linen(Transformer(config, vocabulary, False, dtype))
