"""Bag of words: a weighted mean of word and bigram embeddings, hidden layers, an answer. Order beyond bigrams is not read.

    x = LayerNorm(sum_i a_i e(t_i) / sum_i a_i),  a_i = exp(s(t_i));  logits = W f(... f(W_1 x)) + b

A deep averaging network (Iyyer et al. 2015) whose tokens have a learned importance s, as inverse document frequency gives them one. Bigrams
share the rows of a hashed table (Joulin et al. 2017, fastText, arXiv 1607.01759). It trains in seconds, and is the better choice for few
texts, or where the topic decides. On a task with an answer per token, the mean at a token is over the tokens up to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from assay.config.schema import require
from assay.core.errors import UserError, unknown
from assay.core.tree import widened
from assay.models.mlp import Layer, MLPConfig
from assay.models.model import Model, Vocabulary, from_linen
from assay.nn.feed_forward import ACTIVATIONS
from assay.nn.product import Dense
from assay.nn.tap import tap

FIRST, SECOND = 2654435761, 40503  # odd multipliers of a multiplicative hash (Knuth, TAOCP 6.4)
DEVIATION = 0.1  # of the embeddings at the start
SMALLEST = 1e-6  # weight of a text whose tokens are all dropped


@dataclass(frozen=True)
class BagConfig:
    width: int  # features of an embedding
    bigrams: int  # rows of the hashed table of bigrams; 0: words only
    depth: int  # hidden layers between the mean and the answer; 0: a linear classifier of the mean
    activation: str  # of the hidden layers, a name in nn.feed_forward.ACTIVATIONS
    dropout: float  # dropout rate of whole tokens, of the mean, and after each hidden layer

    def __post_init__(self):
        require(self.width >= 1, "model.width", self.width, "it must be at least 1")
        require(self.bigrams >= 0, "model.bigrams", self.bigrams, "a number of rows, or 0 for words only")
        require(self.depth >= 0, "model.depth", self.depth, "it must be at least 0")
        require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "a fraction in [0, 1)")
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS, "--config.model.activation")


class Bag(nn.Module):
    """Maps token ids `batch["inputs"]` [batch, seq], of which `batch["length"]` count, to logits [batch, outputs] if pooled, else
    [batch, seq, outputs].
    """

    config: BagConfig
    vocabulary: Vocabulary
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> jax.Array:
        config, tokens = self.config, jnp.asarray(batch["inputs"])
        present = jnp.arange(tokens.shape[1])[None, :] < batch["length"][:, None]
        if train and config.dropout > 0:  # the mean needs no rescaling when tokens are left out
            present &= jax.random.bernoulli(self.make_rng("dropout"), 1 - config.dropout, present.shape)
        start = nn.initializers.normal(DEVIATION)
        embed = nn.Embed(self.vocabulary.inputs, config.width, dtype=self.dtype, embedding_init=start, name="embed")
        importance = nn.Embed(self.vocabulary.inputs, 1, embedding_init=nn.initializers.zeros, name="importance")
        weights = (jnp.exp(importance(tokens)) * present[..., None]).astype(self.dtype)
        added = weights * tap(self, "embedded", embed(tokens), "b s w")
        if config.bigrams:
            pairs = nn.Embed(config.bigrams, config.width, dtype=self.dtype, embedding_init=start, name="embed_pairs")
            both = (present[:, :-1] & present[:, 1:])[..., None].astype(self.dtype)
            after = both * pairs(hashed(tokens[:, :-1], tokens[:, 1:], config.bigrams))
            added = added + jnp.pad(after, ((0, 0), (1, 0), (0, 0)))
        pooled = self.vocabulary.pooled
        total, weight = (part.sum(axis=1) if pooled else jnp.cumsum(part, axis=1) for part in (added, weights))
        mean = total / jnp.maximum(weight, SMALLEST)
        rows = nn.LayerNorm(dtype=self.dtype, name="norm")(mean.reshape(-1, config.width))
        x = tap(self, "pooled", rows, "b w" if pooled else "bs w")
        x = nn.Dropout(config.dropout, deterministic=not train)(x)
        for i in range(config.depth):
            x = Layer(MLPConfig(config.depth, config.width, config.activation, config.dropout), self.dtype, name=f"block_{i}")(x, train)
        logits = widened(Dense(self.vocabulary.outputs, dtype=self.dtype, name="head")(x))
        return logits.reshape(*mean.shape[:-1], self.vocabulary.outputs)


def hashed(first: Int[Array, "batch pairs"], second: Int[Array, "batch pairs"], rows: int) -> Int[Array, "batch pairs"]:
    """Returns the row of each pair of tokens in a table of `rows`, which depends on their order."""
    mixed = first.astype(jnp.uint32) * jnp.uint32(FIRST) + second.astype(jnp.uint32) * jnp.uint32(SECOND)
    return ((mixed ^ (mixed >> 15)) % jnp.uint32(rows)).astype(jnp.int32)


def bag(config: BagConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """Builds the bag of words. Raises UserError if the task has numeric inputs."""
    if not vocabulary.inputs:
        raise UserError("bag reads tokens, but this task has numeric inputs. Choose mlp, cnn or resnet with --config.model.name.")
    return from_linen(Bag(config, vocabulary, dtype))
