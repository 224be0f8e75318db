"""Recurrent networks: embedding, a stack of LSTM layers, a linear read-out at every position."""

from collections.abc import Mapping
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from assay.core.config import require
from assay.models.model import Model, Vocabulary, from_linen
from assay.nn.recurrent import LSTM, State


@dataclass(frozen=True)
class LSTMConfig:
    depth: int  # layers
    width: int  # features of the embedding, the hidden and the cell state
    dropout: float  # share of features dropped before the read-out

    def __post_init__(self):
        require(self.depth >= 1, "model.depth", self.depth, "it is at least 1")
        require(self.width >= 1, "model.width", self.width, "it is at least 1")
        require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "a share in [0, 1)")


class Recurrent(nn.Module):
    """Token ids `batch["inputs"]` [batch, seq] to logits [batch, seq, outputs]. Causal by nature."""

    config: LSTMConfig
    vocabulary: Vocabulary
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False, cache: tuple[State, ...] | None = None):
        config, tokens = self.config, batch["inputs"].T  # the scan runs over the leading axis
        seq, rows = tokens.shape
        states = zero_states(config, rows, self.dtype) if cache is None else cache
        x = nn.Embed(self.vocabulary.inputs, config.width, dtype=self.dtype, name="embed")(tokens)
        after = []
        for i in range(config.depth):
            x, state = LSTM(config.width, self.dtype, name=f"block_{i}")(x, states[i])
            after.append(state)
        x = nn.Dropout(config.dropout, deterministic=not train)(x).reshape(seq * rows, config.width)
        logits = nn.Dense(self.vocabulary.outputs, dtype=self.dtype, name="head")(x).astype(jnp.float32)
        logits = jnp.swapaxes(logits.reshape(seq, rows, self.vocabulary.outputs), 0, 1)
        return logits if cache is None else (logits, tuple(after))


def zero_states(config: LSTMConfig, batch_size: int, dtype: jnp.dtype) -> tuple[State, ...]:
    """The state before the first token, one for each layer."""
    zeros = jnp.zeros((batch_size, config.width), dtype)
    return (State(zeros, zeros),) * config.depth


def lstm(config: LSTMConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """An LSTM; its cache is its state, whatever the length."""
    return from_linen(Recurrent(config, vocabulary, dtype), lambda batch_size, max_length: zero_states(config, batch_size, dtype))
