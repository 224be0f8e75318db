"""Recurrent networks: embedding, a stack of recurrent layers, a linear output layer. One module serves all of `nn.recurrent.CELLS`.

The output layer answers at every token. With a pooled vocabulary it answers once, from the state of the last layer at the last valid token.
A bidirectional network uses the final states of both directions, at the last and at the first token. A unidirectional pooled network that
decodes token by token answers after each token as if the input ended there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from assay.config.schema import require
from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.dist.shard import constrain
from assay.models.model import Batch, Model, Vocabulary, from_linen
from assay.nn.product import Dense
from assay.nn.recurrent import Bidirectional, Layer, Size, check_width, empty
from assay.nn.tap import tap


@dataclass(frozen=True)
class RecurrentConfig:
    depth: int  # layers
    width: int  # features of the hidden state; of each direction in a bidirectional network
    embedding: int  # features of the embedding; 0: same as the width
    dropout: float  # dropout rate after each layer

    def __post_init__(self):
        require(self.depth >= 1, "model.depth", self.depth, "it must be at least 1")
        require(self.width >= 1, "model.width", self.width, "it must be at least 1")
        require(self.embedding >= 0, "model.embedding", self.embedding, "a number of features, or 0 for the width")
        require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "a fraction in [0, 1)")

    @property
    def size(self) -> Size:
        return Size(self.width)


@dataclass(frozen=True)
class StackRNNConfig(RecurrentConfig):
    stack_cell_size: int  # features of a stack cell or queue cell; 8 in Deletang et al. 2023
    stack_depth: int  # number of cells; does not change any parameter shape; 0: the number of tokens

    def __post_init__(self):
        super().__post_init__()
        require(self.stack_cell_size >= 1, "model.stack_cell_size", self.stack_cell_size, "it must be at least 1")
        require(self.stack_depth >= 0, "model.stack_depth", self.stack_depth, "a number of cells, or 0 for one per token")

    @property
    def size(self) -> Size:
        return Size(self.width, self.stack_cell_size, self.stack_depth)


class Recurrent(nn.Module):
    """Maps token ids `batch["inputs"]` [batch, seq] to logits [batch, seq, outputs], or [batch, outputs] if pooled.

    A unidirectional network is causal. In a bidirectional one, each token sees all of the first `batch["length"]` tokens.
    """

    config: RecurrentConfig
    vocabulary: Vocabulary
    cell: str
    bidirectional: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False, cache: tuple | None = None):
        if "places" in batch:
            raise UserError(
                "this task defines positions for its tokens, which a recurrent model does not support. Set --config.model.name=decoder."
            )
        if "valid" in batch:
            raise UserError(
                "this batch has a per-row mask of valid tokens, which a recurrent model does not support. Set --config.model.name=decoder."
            )
        config, tokens = self.config, batch["inputs"].T  # the scan runs over the leading axis
        seq, rows = tokens.shape
        states = zero_states(config, self.cell, rows, seq, self.dtype) if cache is None else cache
        x = nn.Embed(self.vocabulary.inputs, config.embedding or config.width, dtype=self.dtype, name="embed")(tokens)
        x = tap(self, "embedded", x, "s b w")
        after = []
        for i in range(config.depth):
            if self.bidirectional:
                x = Bidirectional(self.cell, config.size, self.dtype, name=f"block_{i}")(x, jnp.asarray(batch["length"]))
            else:
                x, state = Layer(self.cell, config.size, self.dtype, name=f"block_{i}")(x, states[i])
                after.append(state)
            x = nn.Dropout(config.dropout, deterministic=not train)(constrain(x, axis=1))
        outputs = self.vocabulary.outputs
        head = Dense(outputs, dtype=self.dtype, name="head")
        if self.vocabulary.pooled and cache is None:
            return widened(head(last_states(x, batch["length"], self.bidirectional)))
        logits = widened(head(x.reshape(seq * rows, x.shape[-1])))
        logits = jnp.swapaxes(logits.reshape(seq, rows, outputs), 0, 1)
        return logits if cache is None else (logits, tuple(after))


def last_states(hidden: jax.Array, length: jax.Array, bidirectional: bool) -> jax.Array:
    """Returns the final state of each direction over the valid tokens of `hidden` [seq, batch, features], as [batch, features]."""
    last = hidden[jnp.maximum(length - 1, 0), jnp.arange(hidden.shape[1])]
    if not bidirectional:
        return last
    width = hidden.shape[-1] // 2
    return jnp.concatenate([last[:, :width], hidden[0, :, width:]], axis=-1)


def zero_states(config: RecurrentConfig, cell: str, batch_size: int, tokens: int, dtype: jnp.dtype) -> tuple:
    """Returns the state of each layer before the first of `tokens` tokens."""
    return (empty(cell, config.size, batch_size, tokens, dtype),) * config.depth


def recurrent(cell: str, bidirectional: bool = False) -> Callable[[Any, Vocabulary, Any], Model]:
    """Returns the `build` function of a family.

    A unidirectional model decodes step by step: its cache is its state, whose size does not grow.
    """

    def build(config: RecurrentConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
        if vocabulary.inputs < 1:
            raise UserError(
                "a recurrent model reads tokens, but this task has numeric inputs. Choose cnn or resnet with --config.model.name."
            )
        check_width(cell, config.width)

        def init_cache(params: PyTree, batch: Batch, max_length: int) -> tuple:
            del params
            return zero_states(config, cell, len(batch["inputs"]), max_length, dtype)

        module = Recurrent(config, vocabulary, cell, bidirectional, dtype)
        return from_linen(module, None if bidirectional else init_cache)

    return build
