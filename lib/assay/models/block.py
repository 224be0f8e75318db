"""One Transformer block: token mixer, optional cross-attention, and feed-forward layer, each in its own residual branch."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from assay.dist.shard import constrain
from assay.models.transformer_config import RESIDUAL_INITS, TransformerConfig
from assay.nn.attention import Cache, CrossAttention, SelfAttention
from assay.nn.feed_forward import copy_gate, feed_forward
from assay.nn.mixer import ATTENTION, LOCAL, RecurrentMixer
from assay.nn.normalisation import NORMS, PLACES, VARIANCES
from assay.nn.positions import POSITIONS
from assay.nn.tap import tap


class Source(NamedTuple):
    """The encoder output that a decoder attends to: activations, or the keys and values computed from them."""

    memory: jax.Array | None  # (batch * source, width)
    valid: jax.Array  # [batch, source]
    cross: tuple[Cache, ...] = ()


class Block(nn.Module):
    """Token mixer, optional cross-attention and feed-forward layer in residual branches, on (batch * seq, width) activations.

    Taps: `middle`, the residual stream after attention; `middle_cross`, after cross-attention; `mlp_out`, the update of the feed-forward
    layer; `residual`, the stream after the block. The update of attention has its own tap, `attention/out`.

    With a gate (Csordas et al. 2021): x' = g * norm(feed_forward(a)) + (1 - g) * x with a = norm(x + attention(x)) and g = copy_gate(a).
    """

    config: TransformerConfig
    causal: bool
    dtype: jnp.dtype
    mixer: str = ATTENTION

    @nn.compact
    def __call__(self, x, index, valid, train, cache=None, places=None, source=None, cross=None):
        config, dtype, start = self.config, self.dtype, x
        drop = nn.Dropout(config.dropout, deterministic=not train)
        norm_attention, norm_mlp = (norm_of(config, dtype, name) for name in ("norm_attention", "norm_mlp"))
        enter, leave, _ = PLACES[config.norm_place]
        scale = RESIDUAL_INITS[config.residual_init]((2 if source is None else 3) * config.depth * config.loops)
        sizes: dict[str, Any] = {"heads": config.heads, "kv_heads": config.kv_heads, "head_dim": config.head_size}
        sizes |= {"kernel": config.attention, "bias": config.attention_bias, "dtype": dtype, "scale": scale}
        mix: nn.Module
        if self.mixer in (ATTENTION, LOCAL):
            window, kind = (config.window, config.positions) if self.mixer == ATTENTION else (config.local_window, config.local_positions)
            reach: dict[str, Any] = {"window": window, "causal": self.causal, "positions": POSITIONS[kind]}
            mix = SelfAttention(**reach, **sizes, weights=config.attention_weights, name=self.mixer)
        else:
            mix = RecurrentMixer(self.mixer, config.size, dtype, scale, name=self.mixer)
        mixed, cache = mix(enter(norm_attention, x), index, valid, cache, places)
        x = tap(self, "middle", leave(norm_attention, x + drop(mixed)), "bs w")
        if source is not None:
            norm_cross = norm_of(config, dtype, "norm_cross")
            mixed, cross = CrossAttention(**sizes, name="cross")(enter(norm_cross, x), source.memory, source.valid, cross)
            x = tap(self, "middle_cross", leave(norm_cross, x + drop(mixed)), "bs w")
        update = feed_forward(self, enter(norm_mlp, x), config.mlp, config.activation, dtype, scale, config.mlp_bias)
        update = drop(tap(self, "mlp_out", update, "bs w"))
        if config.gate:
            gate = copy_gate(self, x, dtype)
            x = gate * norm_mlp(update) + (1 - gate) * start
        else:
            x = leave(norm_mlp, x + update)
        return tap(self, "residual", constrain(x), "bs w"), cache, cross


def norm_of(config: TransformerConfig, dtype: jnp.dtype, name: str) -> nn.Module:
    """Returns the norm that the config selects, with this module name."""
    return NORMS[config.norm](use_fast_variance=VARIANCES[config.norm_variance], dtype=dtype, name=name)
