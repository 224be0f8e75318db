"""Config keys of the Transformer families and their validation: sizes, names of parts in `nn`, and compatibility with a task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from assay.config.schema import require
from assay.core.errors import UserError, unknown
from assay.models.model import Vocabulary
from assay.nn.attention import BIASES, KERNELS
from assay.nn.feed_forward import ACTIVATIONS
from assay.nn.mixer import ATTENTION, BOTH, LOCAL, MIXERS
from assay.nn.normalisation import NORMS, PLACES, VARIANCES
from assay.nn.positions import POSITIONS
from assay.nn.recurrent import CELLS, Size, check_width
from assay.nn.scan import REMATS
from assay.nn.weights import WEIGHTS

RESIDUAL_INITS: Mapping[str, Callable[[int], float]] = {  # number of terms in the residual stream -> relative variance of each term
    "plain": lambda terms: 1.0,
    "scaled": lambda terms: 1.0 / terms,  # GPT-2 (Radford et al. 2019): the sum of all terms has the variance of one
}


@dataclass(frozen=True)
class TransformerConfig:
    depth: int  # number of blocks, in each half of an encoder-decoder
    loops: int  # number of times the stack of blocks is applied with the same parameters; does not change any parameter shape
    width: int  # features of the residual stream
    heads: int  # attention heads; must divide the width
    kv_heads: int  # key/value heads, shared by groups of heads; must divide the heads; 1: multi-query attention
    window: int  # attention window in tokens, including the token itself; 0: unlimited
    mlp: int  # hidden features of the feed-forward layer
    positions: str  # a name in nn.positions.POSITIONS
    randomised: int  # positions are drawn from 0 ... this number - 1 (2048 in the paper); 0: positions are 0, 1, 2, ...
    norm: str  # a name in nn.normalisation.NORMS
    norm_place: str  # a name in nn.normalisation.PLACES
    gate: bool  # True: a learned gate can copy a block's input to its output; requires norm_place=post
    activation: str  # a name in nn.feed_forward.ACTIVATIONS
    residual_init: str  # a name in RESIDUAL_INITS
    tied: bool  # True: the output head shares the weights of the embedding
    attention: str  # a name in nn.attention.KERNELS
    dropout: float  # dropout rate after each part of a block
    max_length: int  # maximum length of learned positions, in tokens; other kinds have no limit
    mixers: tuple[str, ...] = (ATTENTION,)  # names in nn.mixer.MIXERS: token mixers of block 0, 1, ..., repeated cyclically
    test_loops: int = 0  # number of loops in evaluation; 0: same as in training
    attention_weights: str = "softmax"  # a name in nn.weights.WEIGHTS: how attention logits become weights
    local_window: int = 16  # attention window of a local mixer in tokens, including the token itself
    local_positions: str = "rotary"  # a name in nn.positions.POSITIONS, for local mixers
    stack_cell: int = 8  # features of a stack cell of a stack_rnn mixer, or of a queue cell of a queue_rnn mixer
    stack_depth: int = 0  # number of cells; 0: the number of tokens
    head_dim: int = 0  # features of a head; 0: width / heads
    remat: str = "none"  # a name in nn.scan.REMATS: which activations of a block are saved for the backward pass
    scan: bool = False  # True: the blocks run as one loop, which compiles faster but holds the parameters twice
    norm_variance: str = "fast"  # a name in nn.normalisation.VARIANCES
    attention_bias: str = "none"  # a name in nn.attention.BIASES: which attention matrices have a bias
    mlp_bias: bool = True  # True: the matrices of the feed-forward layer have a bias
    head_bias: bool = True  # True: the output head has a bias; a tied head never has one

    def __post_init__(self):
        for name in ("depth", "loops", "width", "heads", "kv_heads", "mlp", "max_length", "local_window", "stack_cell"):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "it must be at least 1")
        divides = self.width % self.heads == 0 or self.head_dim > 0
        require(divides, "model.heads", self.heads, f"heads must divide the width, {self.width}, if model.head_dim is 0")
        require(self.head_dim >= 0, "model.head_dim", self.head_dim, "a number of features, or 0 for width / heads")
        require(self.heads % self.kv_heads == 0, "model.kv_heads", self.kv_heads, f"key/value heads must divide the heads, {self.heads}")
        require(self.window >= 0, "model.window", self.window, "a number of tokens, or 0 for no limit")
        require(self.randomised >= 0, "model.randomised", self.randomised, "the number of positions to draw from, or 0 to disable it")
        require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "a fraction in [0, 1)")
        require(self.test_loops >= 0, "model.test_loops", self.test_loops, "a number of loops, or 0 for the same as in training")
        require(self.stack_depth >= 0, "model.stack_depth", self.stack_depth, "a number of cells, or 0 for one per token")
        require(len(self.mixers) > 0, "model.mixers", self.mixers, f"at least one of {', '.join(MIXERS)}")
        for mixer in self.mixers:
            if mixer not in MIXERS:
                raise unknown("mixer", mixer, MIXERS, "--config.model.mixers")
            if mixer in CELLS or mixer in BOTH:
                check_width(BOTH.get(mixer, mixer), self.width)
        require(len(self.mixers) <= self.depth, "model.mixers", self.mixers, f"at most one per block; there are {self.depth} blocks")
        whole = not self.scan or self.depth % len(self.mixers) == 0
        require(whole, "model.scan", True, f"the number of mixers, {len(self.mixers)}, must divide model.depth={self.depth}")
        tables = {
            "remat": REMATS,
            "positions": POSITIONS,
            "local_positions": POSITIONS,
            "norm": NORMS,
            "norm_variance": VARIANCES,
            "norm_place": PLACES,
            "activation": ACTIVATIONS,
            "attention": KERNELS,
            "attention_bias": BIASES,
        }
        for name, table in {**tables, "attention_weights": WEIGHTS, "residual_init": RESIDUAL_INITS}.items():
            if getattr(self, name) not in table:
                raise unknown(name, getattr(self, name), table, f"--config.model.{name}")
        added = POSITIONS[self.local_positions].add is not POSITIONS["none"].add
        allowed = "positions inside attention, such as rotary, alibi, t5 or none; for positions added to the embeddings set model.positions"
        require(not added, "model.local_positions", self.local_positions, allowed)
        require(
            not self.gate or self.norm_place == "post", "model.gate", self.gate, "a gated block requires --config.model.norm_place=post"
        )

    @property
    def head_size(self) -> int:
        """Features of a head."""
        return self.head_dim or self.width // self.heads

    @property
    def loops_in_test(self) -> int:
        return self.test_loops or self.loops

    def mixer(self, block: int) -> str:
        """Returns the token mixer of a block."""
        return self.mixers[block % len(self.mixers)]

    @property
    def stream(self) -> tuple[str, ...]:
        """Taps of the residual stream, in the order of evaluation."""
        blocks, loops = (f"block_{i}/residual" for i in range(self.depth)), self.loops_in_test
        return tuple(blocks) if loops == 1 else tuple(f"block_{i}/residual@{loop}" for loop in range(loops) for i in range(self.depth))

    @property
    def size(self) -> Size:
        """Size of the recurrent layers."""
        return Size(self.width, self.stack_cell, self.stack_depth)


def check_reach(config: TransformerConfig, tokens: int) -> None:
    """Raises UserError if `tokens` exceeds the range of learned or randomized positions."""
    if config.randomised and tokens > config.randomised:
        raise UserError(
            f"positions are drawn from config.model.randomised={config.randomised} numbers, but sequences have {tokens} tokens. "
            "Raise --config.model.randomised before training, or set it to 0."
        )
    if POSITIONS[config.positions].bounded and not config.randomised and tokens > config.max_length:
        raise UserError(
            f"{config.positions} positions are limited to config.model.max_length={config.max_length}, but sequences have {tokens} tokens. "
            "Raise --config.model.max_length before training, or choose another --config.model.positions."
        )


def check_places(config: TransformerConfig) -> None:
    """Raises UserError if the task defines positions for its tokens but the model's kind of positions cannot use them.

    Relative kinds read distances, randomized ones draw their own numbers, and `none` uses no positions.
    """
    kinds = {"positions": config.positions} | ({"local_positions": config.local_positions} if LOCAL in config.mixers else {})
    known = ", ".join(name for name, positions in POSITIONS.items() if name != "none" and not positions.relative)
    for key, kind in kinds.items():
        if POSITIONS[kind].relative or (kind == "none" and key == "positions") or config.randomised:
            wrong = f"randomised={config.randomised}" if config.randomised else f"{key}={kind}"
            raise UserError(
                f"this task defines positions for its tokens, which config.model.{wrong} cannot use. Choose one of {known} with "
                f"--config.model.{key}, and --config.model.randomised=0."
            )


def check_valid(config: TransformerConfig) -> None:
    """Raises UserError if the batch has a per-row mask of valid tokens but a part of the model reads or counts all tokens."""
    wrong = next((f"mixers={config.mixers}" for mixer in config.mixers if mixer not in (ATTENTION, LOCAL)), "")
    wrong = f"randomised={config.randomised}" if config.randomised else wrong
    if wrong:
        raise UserError(
            f"this batch has a per-row mask of valid tokens, which config.model.{wrong} does not support. "
            "Pad on the right and give `length` in place of `valid`, or choose attention mixers and --config.model.randomised=0."
        )


def check_vocabulary(config: TransformerConfig, vocabulary: Vocabulary) -> None:
    """Raises UserError if the task has no token inputs, or if its ids do not allow a tied head."""
    if not vocabulary.inputs:
        raise UserError("a Transformer reads token ids, but this task has numeric inputs. Choose another family with --config.model.name.")
    if config.tied and vocabulary.inputs != vocabulary.outputs:
        raise UserError(
            f"config.model.tied=True requires equal input and output vocabularies, but this task has {vocabulary.inputs} input ids and "
            f"{vocabulary.outputs} output classes. Set --config.model.tied=False."
        )


def check_causal(config: TransformerConfig) -> None:
    """Raises UserError if a mixer reads tokens that a decoder has not generated yet."""
    for mixer in config.mixers:
        if mixer in BOTH:
            raise UserError(
                f"the mixer {mixer} in config.model.mixers reads tokens in reverse, which a decoder has not generated yet. "
                f"Choose {BOTH[mixer]}, or --config.model.name=encoder."
            )
