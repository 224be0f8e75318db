"""The Transformer (Vaswani et al. 2017): decoder, encoder and encoder-decoder, built from the parts in `nn`.

A size is a config key, and a part is a table entry: a new part is a function in its table, not an `if` here. Parameters are named by path,
such as `block_0/attention/query/kernel`, prefixed by `encoder/` or `decoder/` in an encoder-decoder. Loops share one set of parameters. A
tap shows the last loop; with the suffix `@0`, `@1`, ... it shows that loop (nn/tap.py).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.dist.shard import constrain
from assay.models.block import Block, Source, norm_of
from assay.models.decoding import DecodingState, empty_layers, mask_of, rowwise
from assay.models.model import Batch, Decode, Model, Vocabulary, from_linen
from assay.models.transformer_config import TransformerConfig, check_causal, check_places, check_reach, check_valid, check_vocabulary
from assay.nn.attention import Cache
from assay.nn.normalisation import PLACES
from assay.nn.positions import POSITIONS, draw_places, tokens_at
from assay.nn.product import Dense, product
from assay.nn.scan import rematerialised, scanned
from assay.nn.tap import edited, looping, tap


class Transformer(nn.Module):
    """Maps token ids `batch["inputs"]` [batch, seq] to logits [batch, seq, outputs], or [batch, outputs] if pooled.

    Causal: a token sees itself and earlier tokens, so padding on the right has no effect; a pooled answer is read at the last valid token.
    Bidirectional: every token sees the first `batch["length"]` tokens, and a pooled answer is read from their mean.

    An optional `batch["valid"]` [batch, seq] marks the tokens of each row that are not padding, at any position, such as left padding. It
    replaces `length`: padding is hidden from all tokens, and added positions count valid tokens only.
    """

    config: TransformerConfig
    vocabulary: Vocabulary
    causal: bool
    dtype: jnp.dtype = jnp.float32
    head: bool = True  # False: returns activations (batch * seq, width) in place of logits, for a decoder to attend to

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False, cache: DecodingState | None = None, source: Source | None = None):
        config, tokens, vocabulary = self.config, batch["inputs"], self.vocabulary
        rows, seq = tokens.shape
        begin = jnp.zeros((), jnp.int32) if cache is None else cache.length
        index = begin + jnp.arange(seq)
        given = valid_of(config, batch) if cache is None else cache.mask
        valid = given if self.causal or given is not None else jnp.arange(seq)[None, :] < batch["length"][:, None]
        if cache is None:
            whole = (self.causal and not vocabulary.pooled) or given is not None
            length = None if whole else batch["length"]  # a decoder does not know the final length
            key = self.make_rng("dropout") if config.randomised and self.has_rng("dropout") else None
            places = places_of(config, batch, key, seq, length)
        else:
            places = cache.places
            source = None if cache.valid is None else Source(None, cache.valid, cache.cross)
        embed = nn.Embed(vocabulary.inputs, config.width, dtype=self.dtype, name="embed")
        counted = places if places is not None or given is None else jnp.maximum(jnp.cumsum(given, axis=1) - 1, 0)
        x = POSITIONS[config.positions].add(self, embed(tokens), tokens_at(index, counted), config.randomised or config.max_length)
        x = constrain(tap(self, "embedded", x, "b s w").reshape(rows * seq, config.width))
        loops = config.loops if train else config.loops_in_test
        layers: list[Any] = []
        across: list[Any] = []
        if config.scan and cache is None and (source is None or train) and not edited() and not self.is_initializing():
            for loop in range(loops):
                with looping(loop if loops > 1 else None):
                    x = self.scan_blocks(x, index, valid, train, None, places, source)
        else:
            kind = rematerialised(Block, config.remat if train else "none", static=(4,))
            blocks = [kind(config, self.causal, self.dtype, config.mixer(i), name=f"block_{i}") for i in range(config.depth)]
            for i in range(config.depth * loops):
                layer = None if cache is None else cache.layers[i]
                read = source.cross[i % config.depth] if source is not None and source.cross else None
                with looping(i // config.depth if loops > 1 else None):
                    x, layer, read = blocks[i % config.depth](x, index, valid, train, layer, places, source, read)
                layers.append(layer)
                across.append(read)
        if PLACES[config.norm_place].last:
            x = tap(self, "norm", norm_of(config, self.dtype, "norm")(x), "bs w")
        if not self.head:
            return x
        if vocabulary.pooled:
            counts = jnp.arange(seq)[None, :] < batch["length"][:, None] if given is None else given
            x = (last_token if self.causal else mean_token)(x.reshape(rows, seq, config.width), counts)
        if config.tied:
            logits = widened(product("abt", x, embed.embedding.astype(self.dtype))[:, : vocabulary.outputs])
        else:
            logits = widened(Dense(vocabulary.outputs, use_bias=config.head_bias, dtype=self.dtype, name="head")(x))
        if not vocabulary.pooled:
            logits = logits.reshape(rows, seq, vocabulary.outputs)
        logits = tap(self, "logits", logits, "b w" if vocabulary.pooled else "b s w")
        if cache is not None:
            return logits, cache._replace(length=begin + seq, layers=tuple(layers))
        return (logits, tuple(across[: config.depth])) if source is not None else logits

    def scan_blocks(self, x: jax.Array, index: jax.Array, valid: jax.Array | None, train: bool, *rest: Any) -> jax.Array:
        """Applies all blocks once, as one loop over equal groups of blocks."""
        config = self.config
        period = [Block(config, self.causal, self.dtype, mixer, parent=None) for mixer in config.mixers]

        def call(block: nn.Module, params: Any, x: jax.Array, rngs: dict[str, jax.Array]) -> tuple[jax.Array, Mapping[str, Any]]:
            (x, *_), variables = block.apply({"params": params}, x, index, valid, train, *rest, rngs=rngs, mutable=["taps"])
            return x, variables.get("taps", {})

        return scanned(self, period, config.depth // len(period), x, call, config.remat if train else "none")


class EncoderDecoder(nn.Module):
    """Maps a source and a target to logits [batch, target_seq, outputs].

    The source is `batch["inputs"]` [batch, seq], read bidirectionally. The target is `batch["decoder_inputs"]` [batch, target_seq], read
    causally. The decoder has one more input id than outputs: the id that starts every answer.
    """

    config: TransformerConfig
    vocabulary: Vocabulary
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        inputs, outputs = self.vocabulary.inputs, self.vocabulary.outputs
        self.encoder = Transformer(self.config, Vocabulary(inputs, outputs), False, self.dtype, head=False)
        self.decoder = Transformer(self.config, Vocabulary(outputs + 1, outputs), True, self.dtype)

    def __call__(self, batch: Batch, train: bool = False, cache: DecodingState | None = None):
        if cache is not None:
            return self.decoder(batch, train, cache)
        if "decoder_inputs" not in batch:
            raise UserError(
                "an encoder_decoder maps a source sequence to a target sequence, but this task has only one sequence. "
                "Choose decoder or encoder with --config.model.name, or a task such as scan/length with --config.task.layout=translation."
            )
        logits, _ = self.decoder({"inputs": batch["decoder_inputs"]}, train, None, self.read(batch, train))
        return logits

    def read(self, batch: Batch, train: bool = False) -> Source:
        """Encodes the source."""
        valid = valid_of(self.config, batch)
        valid = jnp.arange(batch["inputs"].shape[1])[None, :] < batch["length"][:, None] if valid is None else valid
        return Source(self.encoder(batch, train), valid)

    def remember(self, batch: Batch) -> tuple[tuple[Cache, ...], jax.Array]:
        """Returns the keys and values of the source for each block, and the mask of valid source tokens.

        They are computed by a forward pass of one token, whose other results are discarded and under jit never computed.
        """
        source = self.read(batch)
        _, cross = self.decoder({"inputs": jnp.zeros((len(batch["inputs"]), 1), jnp.int32)}, False, None, source)
        return cross, source.valid


def mean_token(x: jax.Array, valid: jax.Array) -> jax.Array:
    """Returns the mean [batch, width] of [batch, seq, width] over the tokens that are not padding, `valid` [batch, seq]."""
    number = jnp.maximum(valid.sum(axis=1), 1)[:, None]
    return jnp.einsum("bsd,bs->bd", x, valid.astype(x.dtype)) / number.astype(x.dtype)


def last_token(x: jax.Array, valid: jax.Array) -> jax.Array:
    """Returns the last valid token [batch, width] of [batch, seq, width], the only one that sees all others in a causal model."""
    last = jnp.max(jnp.where(valid, jnp.arange(x.shape[1])[None, :], 0), axis=1)
    return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]


def valid_of(config: TransformerConfig, batch: Batch) -> jax.Array | None:
    """Returns the per-row mask of valid tokens, [batch, seq], if the batch has one.

    Raises UserError for a model that cannot respect it.
    """
    if "valid" not in batch:
        return None
    check_valid(config)
    return jnp.asarray(batch["valid"]).astype(bool)


def places_of(config: TransformerConfig, batch: Batch, key: jax.Array | None, tokens: int, length: jax.Array | None) -> jax.Array | None:
    """Returns the positions of the tokens, [rows, tokens]: given by the task, randomized, or None for 0, 1, 2, ...

    In training, randomized positions are drawn with the key of `apply`, so they change with each batch. Without a key, as in evaluation and
    decoding, they come from one fixed stream. An example's answer then depends neither on the time nor on the batch.
    """
    if "places" in batch:
        check_places(config)
        return jnp.asarray(batch["places"])
    check_reach(config, tokens)
    if not config.randomised:
        return None
    key = rng.stream(jax.random.key(0) if key is None else key, "positions")
    length = None if length is None else jnp.asarray(length)
    return draw_places(key, tokens, config.randomised, POSITIONS[config.positions].relative, length)


def decoder(config: TransformerConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """Builds a causal Transformer with a key/value cache. A pooled decoder cannot decode step by step."""
    check_vocabulary(config, vocabulary)
    check_causal(config)

    def init_cache(params: PyTree, batch: Batch, max_length: int) -> DecodingState:
        layers, mask = empty_layers(config, len(batch["inputs"]), max_length, dtype), mask_of(valid_of(config, batch), max_length)
        places = places_of(config, batch, None, max_length, None)
        return DecodingState(jnp.zeros((), jnp.int32), layers, places=places, mask=mask)

    model = from_linen(Transformer(config, vocabulary, True, dtype), None if vocabulary.pooled else init_cache)
    return replace(model, decode=_by_row(model.decode), stream=config.stream)


def encoder(config: TransformerConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """Builds a bidirectional Transformer, which cannot decode step by step."""
    check_vocabulary(config, vocabulary)
    return replace(from_linen(Transformer(config, vocabulary, False, dtype)), stream=config.stream)


def encoder_decoder(config: TransformerConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """Builds a sequence-to-sequence model: `init_cache` encodes the source once, `extend` decodes. A tied head shares the decoder's
    embedding."""
    check_vocabulary(replace(config, tied=False), vocabulary)
    check_causal(config)
    if vocabulary.pooled:
        raise UserError(
            "an encoder_decoder answers with a sequence, but this task has one answer per input. Set --config.model.name=encoder."
        )
    module = EncoderDecoder(config, vocabulary, dtype)

    def init_cache(params: PyTree, batch: Batch, max_length: int) -> DecodingState:
        source: Any = module.apply({"params": params}, batch, method="remember")
        cross, valid = source
        layers = empty_layers(config, len(batch["inputs"]), max_length, dtype)
        return DecodingState(jnp.zeros((), jnp.int32), layers, cross, valid, places_of(config, {}, None, max_length, None))

    model, streams = from_linen(module, init_cache), (tuple(f"{half}/{path}" for path in config.stream) for half in ("decoder", "encoder"))
    return replace(model, decode=_by_row(model.decode), stream=next(streams), source_stream=next(streams))


def _by_row(decode: Decode | None) -> Decode | None:
    return decode and replace(decode, extend=rowwise(decode.extend))
