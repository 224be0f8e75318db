"""The keys of the Transformer's families, and what they allow: sizes, names in tables of `nn`, and checks of a task against them."""

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
    norm_variance: str = "fast"  # a name in nn.normalisation.VARIANCES
    attention_bias: str = "none"  # a name in nn.attention.BIASES: which matrices of an attention have a bias
    mlp_bias: bool = True  # whether the matrices of the feed-forward layer have a bias
    head_bias: bool = True  # whether the output head has a bias; a tied one has none

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
    def stream(self) -> tuple[str, ...]:
        """Taps of the residual stream, in the order in which they are made in an evaluation."""
        blocks, loops = (f"block_{i}/residual" for i in range(self.depth)), self.loops_in_test
        return tuple(blocks) if loops == 1 else tuple(f"block_{i}/residual@{loop}" for loop in range(loops) for i in range(self.depth))

    @property
    def size(self) -> Size:
        """Of the recurrent layers."""
        return Size(self.width, self.stack_cell, self.stack_depth)


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


def check_valid(config: TransformerConfig) -> None:
    """Raises UserError where a batch says by row which tokens are valid, and a part of the model reads or counts all of them."""
    wrong = next((f"mixers={config.mixers}" for mixer in config.mixers if mixer not in (ATTENTION, LOCAL)), "")
    wrong = f"randomised={config.randomised}" if config.randomised else wrong
    if wrong:
        raise UserError(
            f"this batch says by row which tokens are valid, which config.model.{wrong} cannot respect. "
            "Pad on the right and give `length` in place of `valid`, or choose mixers of attention and --config.model.randomised=0."
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
