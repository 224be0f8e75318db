"""Multilayer perceptron: rows of numbers or flattened images, hidden layers of equal width, one answer.

    x_i = dropout(f(W_i x_{i-1} + b_i)),  i = 1 .. depth;  logits = W x_depth + b

With a gated activation, a second matrix `up_gate` is passed through f and multiplies the first (Shazeer 2020).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from assay.config.schema import require
from assay.core.errors import UserError, unknown
from assay.core.tree import widened
from assay.models.model import Model, Vocabulary, from_linen
from assay.nn.feed_forward import ACTIVATIONS
from assay.nn.product import Dense
from assay.nn.tap import tap

HE = nn.initializers.he_normal()  # preserves the second moment through a relu (He et al. 2015)


@dataclass(frozen=True)
class MLPConfig:
    depth: int  # hidden layers; 0: a linear model
    width: int  # features of each hidden layer
    activation: str  # a name in nn.feed_forward.ACTIVATIONS
    dropout: float  # dropout rate after each hidden layer

    def __post_init__(self):
        require(self.depth >= 0, "model.depth", self.depth, "it must be at least 0")
        require(self.width >= 1, "model.width", self.width, "it must be at least 1")
        require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "a fraction in [0, 1)")
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS, "--config.model.activation")


class Layer(nn.Module):
    """One hidden layer."""

    config: MLPConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        config, activation = self.config, ACTIVATIONS[self.config.activation]
        up = Dense(config.width, dtype=self.dtype, kernel_init=HE, name="up")(x)
        if activation.gated:
            up = activation.fn(Dense(config.width, dtype=self.dtype, kernel_init=HE, name="up_gate")(x)) * up
        else:
            up = activation.fn(up)
        return nn.Dropout(config.dropout, deterministic=not train)(tap(self, "hidden", up, "b w"))


class MLP(nn.Module):
    """Maps numbers `batch["inputs"]` [batch, ...] to logits [batch, outputs]."""

    config: MLPConfig
    vocabulary: Vocabulary
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> jax.Array:
        x = batch["inputs"].astype(self.dtype)
        x = x.reshape(len(x), -1)
        for i in range(self.config.depth):
            x = Layer(self.config, self.dtype, name=f"block_{i}")(x, train)
        return widened(Dense(self.vocabulary.outputs, dtype=self.dtype, name="head")(x))


def mlp(config: MLPConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """Builds the multilayer perceptron. Raises UserError if the task has token inputs or one answer per token."""
    if vocabulary.inputs or not vocabulary.pooled:
        raise UserError("mlp reads numbers and gives one answer, but this task has tokens. Choose another --config.model.name.")
    return from_linen(MLP(config, vocabulary, dtype))
