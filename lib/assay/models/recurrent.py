"""Recurrent networks: embedding, a stack of recurrent layers, a linear read-out. One module for every cell of `nn.recurrent.CELLS`.

The read-out answers at every token; where the vocabulary is pooled, once: from the last layer's state at the last valid token, and for
a bidirectional network from the last states of both directions, which are those at the last and at the first token. Decoded token by token,
a pooled network in one direction answers after each: what it would say if the input ended there.
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
    width: int  # features of the hidden state, and of each direction where there are two
    embedding: int  # features of the embedding; 0: as many as the width
    dropout: float  # share of features dropped after each layer

    def __post_init__(self):
        require(self.depth >= 1, "model.depth", self.depth, "it is at least 1")
        require(self.width >= 1, "model.width", self.width, "it is at least 1")
        require(self.embedding >= 0, "model.embedding", self.embedding, "a number of features, or 0 for the width")
        require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "a share in [0, 1)")

    @property
    def size(self) -> Size:
        return Size(self.width)


@dataclass(frozen=True)
class StackRNNConfig(RecurrentConfig):
    stack_cell_size: int  # features of a cell of the stack, or of the queues; 8 in Deletang et al. 2023
    stack_depth: int  # cells that it holds; it changes no parameter; 0: as many as there are tokens

    def __post_init__(self):
        super().__post_init__()
        require(self.stack_cell_size >= 1, "model.stack_cell_size", self.stack_cell_size, "it is at least 1")
        require(self.stack_depth >= 0, "model.stack_depth", self.stack_depth, "a number of cells, or 0 for one a token")

    @property
    def size(self) -> Size:
        return Size(self.width, self.stack_cell_size, self.stack_depth)


class Recurrent(nn.Module):
    """Token ids `batch["inputs"]` [batch, seq] to logits [batch, seq, outputs], or [batch, outputs] where pooled.

    In one direction it is causal by nature; in two, a token sees all of the first `batch["length"]` tokens.
    """

    config: RecurrentConfig
    vocabulary: Vocabulary
    cell: str
    bidirectional: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False, cache: tuple | None = None):
        if "places" in batch:
            raise UserError("this task gives its tokens positions, which a recurrent model does not have. Set --config.model.name=decoder.")
        if "valid" in batch:
            raise UserError(
                "this batch says by row which tokens are valid, and a recurrent model reads all. Set --config.model.name=decoder."
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
    """[batch, features]: what each direction holds when it has read all valid tokens of `hidden` [seq, batch, features]."""
    last = hidden[jnp.maximum(length - 1, 0), jnp.arange(hidden.shape[1])]
    if not bidirectional:
        return last
    width = hidden.shape[-1] // 2
    return jnp.concatenate([last[:, :width], hidden[0, :, width:]], axis=-1)


def zero_states(config: RecurrentConfig, cell: str, batch_size: int, tokens: int, dtype: jnp.dtype) -> tuple:
    """The state before the first of so many tokens, one for each layer."""
    return (empty(cell, config.size, batch_size, tokens, dtype),) * config.depth


def recurrent(cell: str, bidirectional: bool = False) -> Callable[[Any, Vocabulary, Any], Model]:
    """The `build` of a family. In one direction a model decodes step by step: its cache is its state, whatever the length."""

    def build(config: RecurrentConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
        if vocabulary.inputs < 1:
            raise UserError("a recurrent model reads tokens, but this task gives numbers. Choose cnn or resnet with --config.model.name.")
        check_width(cell, config.width)

        def init_cache(params: PyTree, batch: Batch, max_length: int) -> tuple:
            del params
            return zero_states(config, cell, len(batch["inputs"]), max_length, dtype)

        module = Recurrent(config, vocabulary, cell, bidirectional, dtype)
        return from_linen(module, None if bidirectional else init_cache)

    return build
