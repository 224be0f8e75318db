"""The Transformer (Vaswani et al. 2017): decoder, encoder and encoder-decoder, assembled from the parts in `nn`.

A knob for a size, a table for a part; a new part is a function in its table, not an `if` here. Parameters are named by path, such as
`block_0/attention/query/kernel`, with `encoder/` or `decoder/` before it in an encoder-decoder. With loops, blocks appear once: taps show
the last loop, and an edit applies in all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from assay.config.schema import require
from assay.core import rng
from assay.core.errors import UserError, unknown
from assay.core.tree import PyTree, widened
from assay.dist.shard import constrain, on_one_cpu
from assay.models.model import Batch, Model, Vocabulary, from_linen
from assay.nn.attention import KERNELS, Cache, CrossAttention, SelfAttention
from assay.nn.feed_forward import ACTIVATIONS, copy_gate, feed_forward
from assay.nn.mixer import ATTENTION, BOTH, LOCAL, MIXERS, RecurrentMixer
from assay.nn.normalisation import NORMS, PLACES
from assay.nn.positions import POSITIONS, draw_places, tokens_at
from assay.nn.product import Dense, product
from assay.nn.recurrent import CELLS, Size, check_width, empty
from assay.nn.scan import REMATS, rematerialised, scanned
from assay.nn.tap import edited, tap
from assay.nn.weights import WEIGHTS

RESIDUAL_INITS: Mapping[str, Callable[[int], float]] = {  # number of terms in the residual stream -> variance of each, relative
    "plain": lambda terms: 1.0,
    "scaled": lambda terms: 1.0 / terms,  # GPT-2 (Radford et al. 2019): their sum stays as large as one
}


@dataclass(frozen=True)
class TransformerConfig:
    depth: int  # blocks, in each half of an encoder-decoder
    loops: int  # times that the stack of blocks is applied, with the same parameters; another number fits the same parameters
    width: int  # features of the residual stream
    heads: int  # attention heads; they divide the width
    kv_heads: int  # key/value heads, shared by groups of heads; they divide the heads; 1 is multi-query attention
    window: int  # how many tokens back a token sees, itself included; 0: all
    mlp: int  # features inside the feed-forward layer
    positions: str  # a name in nn.positions.POSITIONS
    randomised: int  # positions are drawn from 0 ... this number - 1 (2048 in the paper); 0: they are 0, 1, 2, ...
    norm: str  # a name in nn.normalisation.NORMS
    norm_place: str  # a name in nn.normalisation.PLACES
    gate: bool  # whether a block may copy its input by a learned gate; norms are then placed "post"
    activation: str  # a name in nn.feed_forward.ACTIVATIONS
    residual_init: str  # a name in RESIDUAL_INITS
    tied: bool  # whether the output head is the embedding
    attention: str  # a name in nn.attention.KERNELS
    dropout: float  # share of features dropped after each part of a block
    max_length: int  # how far learned positions reach, in tokens; the others do not end
    mixers: tuple[str, ...] = (ATTENTION,)  # names in nn.mixer.MIXERS: what mixes tokens in block 0, 1, ..., again from the first
    test_loops: int = 0  # times that it is applied when it is evaluated; 0: as in training
    attention_weights: str = "softmax"  # a name in nn.weights.WEIGHTS: how attention logits become weights
    local_window: int = 16  # how many tokens back a local mixer sees, itself included
    local_positions: str = "rotary"  # a name in nn.positions.POSITIONS, of its attention
    stack_cell: int = 8  # features of a cell of a stack_rnn's stack, and of a queue_rnn's queues
    stack_depth: int = 0  # cells that it holds; 0: as many as there are tokens
    head_dim: int = 0  # features of a head; 0: as many as make the heads together as wide as the residual stream
    remat: str = "none"  # a name in nn.scan.REMATS: what training keeps of a block for its backward pass
    scan: bool = False  # whether the blocks are one loop, which compiles faster and holds the parameters twice

    def __post_init__(self):
        for name in ("depth", "loops", "width", "heads", "kv_heads", "mlp", "max_length", "local_window", "stack_cell"):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "it is at least 1")
        divides = self.width % self.heads == 0 or self.head_dim > 0
        require(divides, "model.heads", self.heads, f"heads divide the width, {self.width}, where model.head_dim is 0")
        require(self.head_dim >= 0, "model.head_dim", self.head_dim, "a number of features, or 0 for width / heads")
        require(self.heads % self.kv_heads == 0, "model.kv_heads", self.kv_heads, f"key/value heads divide the heads, {self.heads}")
        require(self.window >= 0, "model.window", self.window, "a number of tokens, or 0 for all")
        require(self.randomised >= 0, "model.randomised", self.randomised, "how many positions there are to draw from, or 0 for none drawn")
        require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "a share in [0, 1)")
        require(self.test_loops >= 0, "model.test_loops", self.test_loops, "a number of loops, or 0 for as many as in training")
        require(self.stack_depth >= 0, "model.stack_depth", self.stack_depth, "a number of cells, or 0 for one a token")
        require(len(self.mixers) > 0, "model.mixers", self.mixers, f"at least one of {', '.join(MIXERS)}")
        for mixer in self.mixers:
            if mixer not in MIXERS:
                raise unknown("mixer", mixer, MIXERS, "--config.model.mixers")
            if mixer in CELLS or mixer in BOTH:
                check_width(BOTH.get(mixer, mixer), self.width)
        require(len(self.mixers) <= self.depth, "model.mixers", self.mixers, f"at most one for each of the {self.depth} blocks")
        whole = not self.scan or self.depth % len(self.mixers) == 0
        require(
            whole, "model.scan", True, f"the {len(self.mixers)} mixers repeat a whole number of times in model.depth={self.depth} blocks"
        )
        tables = {
            "remat": REMATS,
            "positions": POSITIONS,
            "local_positions": POSITIONS,
            "norm": NORMS,
            "norm_place": PLACES,
            "activation": ACTIVATIONS,
            "attention": KERNELS,
        }
        for name, table in {**tables, "attention_weights": WEIGHTS, "residual_init": RESIDUAL_INITS}.items():
            if getattr(self, name) not in table:
                raise unknown(name, getattr(self, name), table, f"--config.model.{name}")
        added = POSITIONS[self.local_positions].add is not POSITIONS["none"].add
        allowed = "positions of an attention, such as rotary, alibi, t5 or none; what is added at the bottom is model.positions"
        require(not added, "model.local_positions", self.local_positions, allowed)
        require(not self.gate or self.norm_place == "post", "model.gate", self.gate, "a gated block has --config.model.norm_place=post")

    @property
    def head_size(self) -> int:
        """Features of a head."""
        return self.head_dim or self.width // self.heads

    @property
    def loops_in_test(self) -> int:
        return self.test_loops or self.loops

    def mixer(self, block: int) -> str:
        """What mixes the tokens of a block."""
        return self.mixers[block % len(self.mixers)]

    @property
    def size(self) -> Size:
        """Of the recurrent layers."""
        return Size(self.width, self.stack_cell, self.stack_depth)


class DecodingState(NamedTuple):
    length: jax.Array  # how many tokens have been read
    layers: tuple[Any, ...]  # of each block, and again for each loop: an attention's Cache, or the state of a recurrent layer
    cross: tuple[Cache, ...] = ()  # keys and values of the source, of each block
    valid: jax.Array | None = None  # [batch, source]: which source tokens are no padding
    places: jax.Array | None = None  # positions that are given or drawn, [batch or 1, max_length]


class Source(NamedTuple):
    """What a decoder attends to beside its own tokens: activations, or what was computed from them."""

    memory: jax.Array | None  # (batch * source, width)
    valid: jax.Array  # [batch, source]
    cross: tuple[Cache, ...] = ()


class Block(nn.Module):
    """Attention, attention to a source where there is one, feed-forward, each in its residual branch, on (batch * seq, width) activations.

    Gated (Csordas et al. 2021): x' = g * norm(feed_forward(a)) + (1 - g) * x with a = norm(x + attention(x)) and g = copy_gate(a).
    """

    config: TransformerConfig
    causal: bool
    dtype: jnp.dtype
    mixer: str = ATTENTION

    @nn.compact
    def __call__(self, x, index, valid, train, cache=None, places=None, source=None, cross=None):
        config, dtype, start = self.config, self.dtype, x
        norm, drop = NORMS[config.norm], nn.Dropout(config.dropout, deterministic=not train)
        norm_attention, norm_mlp = norm(dtype=dtype, name="norm_attention"), norm(dtype=dtype, name="norm_mlp")
        enter, leave, _ = PLACES[config.norm_place]
        scale = RESIDUAL_INITS[config.residual_init]((2 if source is None else 3) * config.depth * config.loops)
        sizes: dict[str, Any] = {"heads": config.heads, "kv_heads": config.kv_heads, "head_dim": config.head_size}
        sizes |= {"kernel": config.attention}
        sizes |= {"dtype": dtype, "scale": scale}
        mix: nn.Module
        if self.mixer in (ATTENTION, LOCAL):
            window, kind = (config.window, config.positions) if self.mixer == ATTENTION else (config.local_window, config.local_positions)
            reach: dict[str, Any] = {"window": window, "causal": self.causal, "positions": POSITIONS[kind]}
            mix = SelfAttention(**reach, **sizes, weights=config.attention_weights, name=self.mixer)
        else:
            mix = RecurrentMixer(self.mixer, config.size, dtype, scale, name=self.mixer)
        mixed, cache = mix(enter(norm_attention, x), index, valid, cache, places)
        x = leave(norm_attention, x + drop(mixed))
        if source is not None:
            norm_cross = norm(dtype=dtype, name="norm_cross")
            mixed, cross = CrossAttention(**sizes, name="cross")(enter(norm_cross, x), source.memory, source.valid, cross)
            x = leave(norm_cross, x + drop(mixed))
        update = drop(feed_forward(self, enter(norm_mlp, x), config.mlp, config.activation, dtype, scale))
        if config.gate:
            gate = copy_gate(self, x, dtype)
            x = gate * norm_mlp(update) + (1 - gate) * start
        else:
            x = leave(norm_mlp, x + update)
        return tap(self, "residual", constrain(x)), cache, cross


class Transformer(nn.Module):
    """Token ids `batch["inputs"]` [batch, seq] to logits [batch, seq, outputs], or [batch, outputs] where one answer is asked for.

    Causal: a token sees itself and those before it, so padding on the right reaches nothing; one answer is read at the last token that
    is no padding. Otherwise all see all of the first `batch["length"]` tokens, and one answer is read from their mean.
    """

    config: TransformerConfig
    vocabulary: Vocabulary
    causal: bool
    dtype: jnp.dtype = jnp.float32
    head: bool = True  # False: activations (batch * seq, width) in place of logits, for a decoder to attend to

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False, cache: DecodingState | None = None, source: Source | None = None):
        config, tokens, vocabulary = self.config, batch["inputs"], self.vocabulary
        rows, seq = tokens.shape
        begin = jnp.zeros((), jnp.int32) if cache is None else cache.length
        index = begin + jnp.arange(seq)
        valid = None if self.causal else jnp.arange(seq)[None, :] < batch["length"][:, None]
        if cache is None:
            length = None if self.causal and not vocabulary.pooled else batch["length"]  # one who writes does not know how long it will be
            key = self.make_rng("dropout") if config.randomised and self.has_rng("dropout") else None
            places = places_of(config, batch, key, seq, length)
        else:
            places = cache.places
            source = None if cache.valid is None else Source(None, cache.valid, cache.cross)
        embed = nn.Embed(vocabulary.inputs, config.width, dtype=self.dtype, name="embed")
        positions = POSITIONS[config.positions]
        x = positions.add(self, embed(tokens), tokens_at(index, places), config.randomised or config.max_length)
        x = constrain(tap(self, "embedded", x).reshape(rows * seq, config.width))
        loops = config.loops if train else config.loops_in_test
        layers: list[Any] = []
        across: list[Any] = []
        if config.scan and cache is None and (source is None or train) and not edited() and not self.is_initializing():
            for _ in range(loops):
                x = self.scan_blocks(x, index, valid, train, None, places, source)
        else:
            kind = rematerialised(Block, config.remat if train else "none", static=(4,))
            blocks = [kind(config, self.causal, self.dtype, config.mixer(i), name=f"block_{i}") for i in range(config.depth)]
            for i in range(config.depth * loops):
                layer = None if cache is None else cache.layers[i]
                read = source.cross[i % config.depth] if source is not None and source.cross else None
                x, layer, read = blocks[i % config.depth](x, index, valid, train, layer, places, source, read)
                layers.append(layer)
                across.append(read)
        if PLACES[config.norm_place].last:
            x = NORMS[config.norm](dtype=self.dtype, name="norm")(x)
        if not self.head:
            return x
        if vocabulary.pooled:
            x = (last_token if self.causal else mean_token)(x.reshape(rows, seq, config.width), batch["length"])
        if config.tied:
            logits = widened(product("abt", x, embed.embedding.astype(self.dtype))[:, : vocabulary.outputs])
        else:
            logits = widened(Dense(vocabulary.outputs, dtype=self.dtype, name="head")(x))
        if not vocabulary.pooled:
            logits = logits.reshape(rows, seq, vocabulary.outputs)
        if cache is not None:
            return logits, cache._replace(length=begin + seq, layers=tuple(layers))
        return (logits, tuple(across[: config.depth])) if source is not None else logits

    def scan_blocks(self, x: jax.Array, index: jax.Array, valid: jax.Array | None, train: bool, *rest: Any) -> jax.Array:
        """All blocks once, as one loop over equal groups of them."""
        config = self.config
        period = [Block(config, self.causal, self.dtype, mixer, parent=None) for mixer in config.mixers]

        def call(block: nn.Module, params: Any, x: jax.Array, rngs: dict[str, jax.Array]) -> tuple[jax.Array, Mapping[str, Any]]:
            (x, *_), variables = block.apply({"params": params}, x, index, valid, train, *rest, rngs=rngs, mutable=["taps"])
            return x, variables.get("taps", {})

        return scanned(self, period, config.depth // len(period), x, call, config.remat if train else "none")


class EncoderDecoder(nn.Module):
    """Token ids `batch["inputs"]` [batch, seq], read as a whole, and `batch["decoder_inputs"]` [batch, target_seq], read from left to
    right, to logits [batch, target_seq, outputs]. The decoder reads one id more than it answers: that which begins every answer."""

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
                "an encoder_decoder reads a source and writes another sequence, and this task has one sequence only. "
                "Choose decoder or encoder with --config.model.name, or a task such as scan/length with --config.task.layout=translation."
            )
        logits, _ = self.decoder({"inputs": batch["decoder_inputs"]}, train, None, self.read(batch, train))
        return logits

    def read(self, batch: Batch, train: bool = False) -> Source:
        """The source, encoded."""
        valid = jnp.arange(batch["inputs"].shape[1])[None, :] < batch["length"][:, None]
        return Source(self.encoder(batch, train), valid)

    def remember(self, batch: Batch) -> tuple[tuple[Cache, ...], jax.Array]:
        """Keys and values of the source, of each block, and which of its tokens are valid. They are what one token's pass computes on the
        way: its other results are thrown away, and under jit never made."""
        source = self.read(batch)
        _, cross = self.decoder({"inputs": jnp.zeros((len(batch["inputs"]), 1), jnp.int32)}, False, None, source)
        return cross, source.valid


def mean_token(x: jax.Array, length: jax.Array) -> jax.Array:
    """[batch, width]: the mean of [batch, seq, width] over the tokens that are no padding."""
    valid = (jnp.arange(x.shape[1])[None, :] < length[:, None]).astype(x.dtype)
    return jnp.einsum("bsd,bs->bd", x, valid) / jnp.maximum(length, 1)[:, None].astype(x.dtype)


def last_token(x: jax.Array, length: jax.Array) -> jax.Array:
    """[batch, width]: the last token of [batch, seq, width] that is no padding, the only one that a causal model let see all."""
    return jnp.take_along_axis(x, jnp.maximum(length - 1, 0)[:, None, None], axis=1)[:, 0]


def places_of(config: TransformerConfig, batch: Batch, key: jax.Array | None, tokens: int, length: jax.Array | None) -> jax.Array | None:
    """The positions of the tokens, [rows, tokens]: those that the task gives, or randomised ones, or None where they count up from 0.

    Randomised positions are drawn by the key that `apply` has, so afresh for each batch of training. Without a key, as in evaluation and
    decoding, from one fixed stream: an example's answer then does not depend on when or with whom it is asked.
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


def check_reach(config: TransformerConfig, tokens: int) -> None:
    """Raises UserError where so many tokens lie beyond learned positions, or beyond those that are drawn from."""
    if config.randomised and tokens > config.randomised:
        raise UserError(
            f"positions are drawn from config.model.randomised={config.randomised} numbers, but sequences of {tokens} tokens come. "
            "Raise --config.model.randomised before training, or set it to 0."
        )
    if POSITIONS[config.positions].bounded and not config.randomised and tokens > config.max_length:
        raise UserError(
            f"{config.positions} positions reach config.model.max_length={config.max_length}, but sequences of {tokens} tokens come. "
            "Raise --config.model.max_length before training, or choose another --config.model.positions."
        )


def check_places(config: TransformerConfig) -> None:
    """Raises UserError where a task gives its tokens positions and the kind of positions has no use for them: it reads distances, draws
    them, or is none."""
    kinds = {"positions": config.positions} | ({"local_positions": config.local_positions} if LOCAL in config.mixers else {})
    known = ", ".join(name for name, positions in POSITIONS.items() if name != "none" and not positions.relative)
    for key, kind in kinds.items():
        if POSITIONS[kind].relative or (kind == "none" and key == "positions") or config.randomised:
            wrong = f"randomised={config.randomised}" if config.randomised else f"{key}={kind}"
            raise UserError(
                f"this task gives its tokens positions of its own, which config.model.{wrong} cannot use. Choose one of {known} with "
                f"--config.model.{key}, and --config.model.randomised=0."
            )


def check_vocabulary(config: TransformerConfig, vocabulary: Vocabulary) -> None:
    """Raises UserError where the task is not one of tokens, or its ids do not allow a tied head."""
    if not vocabulary.inputs:
        raise UserError("a Transformer reads token ids, and this task gives numbers. Choose another family with --config.model.name.")
    if config.tied and vocabulary.inputs != vocabulary.outputs:
        raise UserError(
            f"config.model.tied=True needs a task that answers with the ids that it reads, but this one reads {vocabulary.inputs} ids and "
            f"answers with {vocabulary.outputs} classes. Set --config.model.tied=False."
        )


def check_causal(config: TransformerConfig) -> None:
    """Raises UserError where a mixer reads tokens that a decoder has not written yet."""
    for mixer in config.mixers:
        if mixer in BOTH:
            raise UserError(
                f"the mixer {mixer} in config.model.mixers reads from the last token back, and a decoder has not written it yet. "
                f"Choose {BOTH[mixer]}, or --config.model.name=encoder."
            )


def empty_layers(config: TransformerConfig, batch_size: int, max_length: int, dtype: jnp.dtype) -> tuple[Any, ...]:
    """The caches before the first token."""
    groups = (batch_size * config.kv_heads,) if on_one_cpu() else (batch_size, config.kv_heads)  # see Cache
    shape = (*groups, config.head_size, max_length)

    def layer(mixer: str) -> Any:
        if mixer in (ATTENTION, LOCAL):
            return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
        return empty(mixer, config.size, batch_size, max_length, dtype)

    return tuple(layer(config.mixer(block)) for block in range(config.depth)) * config.loops_in_test


def decoder(config: TransformerConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """A causal Transformer with a key/value cache; one that gives one answer for the whole input does not decode."""
    check_vocabulary(config, vocabulary)
    check_causal(config)

    def init_cache(params: PyTree, batch: Batch, max_length: int) -> DecodingState:
        layers = empty_layers(config, len(batch["inputs"]), max_length, dtype)
        return DecodingState(jnp.zeros((), jnp.int32), layers, places=places_of(config, batch, None, max_length, None))

    return from_linen(Transformer(config, vocabulary, True, dtype), None if vocabulary.pooled else init_cache)


def encoder(config: TransformerConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """A bidirectional Transformer; it cannot decode step by step."""
    check_vocabulary(config, vocabulary)
    return from_linen(Transformer(config, vocabulary, False, dtype))


def encoder_decoder(config: TransformerConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """Sequence to sequence: `init_cache` reads the source once, `extend` writes. A tied head shares the decoder's embedding."""
    check_vocabulary(replace(config, tied=False), vocabulary)
    check_causal(config)
    if vocabulary.pooled:
        raise UserError("an encoder_decoder answers with a sequence, and this task asks for one answer. Set --config.model.name=encoder.")
    module = EncoderDecoder(config, vocabulary, dtype)

    def init_cache(params: PyTree, batch: Batch, max_length: int) -> DecodingState:
        source: Any = module.apply({"params": params}, batch, method="remember")
        cross, valid = source
        layers = empty_layers(config, len(batch["inputs"]), max_length, dtype)
        return DecodingState(jnp.zeros((), jnp.int32), layers, cross, valid, places_of(config, {}, None, max_length, None))

    return from_linen(module, init_cache)
