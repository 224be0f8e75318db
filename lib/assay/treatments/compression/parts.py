"""Parts that surgery can cut, by family: the parameter slices that make up a head, a unit, a channel or a layer.

A part is a set of parameter slices that are removed together. A `Group` holds the parts of one place, such as the heads of one attention.
`WAYS[config of the family][part]` locates the groups, derives the smaller model's settings, and explains why a part cannot be cut. A part
can be cut only if the remaining parts behave exactly as if it had no effect.

    groups = WAYS[type(model.settings)]["heads"].groups(model, shapes)        # shapes: path -> shape of each parameter
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from assay.models.bag import BagConfig
from assay.models.convnet import LAYOUTS, CNNConfig, ResNetConfig
from assay.models.mlp import MLPConfig
from assay.models.model import Model
from assay.models.ngram import NgramConfig
from assay.models.recurrent import RecurrentConfig, StackRNNConfig
from assay.models.transformer import EncoderDecoder, TransformerConfig
from assay.nn.mixer import ATTENTION, LOCAL
from assay.nn.recurrent import CELLS

Shapes = Mapping[str, tuple[int, ...]]  # parameter path -> shape

PARTS = ("heads", "units", "channels", "layers")
_DENSE = (("kernel", 1), ("bias", 0))  # parameters of a layer, and the axis of its outputs
CLOSED = -1e9  # logit of a closed gate


class Piece(NamedTuple):
    """Slices of one parameter along one axis."""

    path: str
    axis: int
    owner: np.ndarray  # [length of the axis]: the part that each slice belongs to; -1: none
    neutral: Any = 0.0  # value of the slices for which a part has no effect: a scalar, or an array shaped as the parameter


class Group(NamedTuple):
    """Equal-sized parts of one place, of which the most important are kept."""

    name: str  # the place, such as block_0/attention: the key of its scores
    parts: int
    pieces: tuple[Piece, ...]
    fixed: int = 0  # additional parts that are always kept and have no score
    what: str = ""  # name of a part if it is more than one head, unit, channel or layer


class Stack(NamedTuple):
    """Interchangeable blocks: `parts` runs of `period` blocks each, starting at block `first`.

    To cut layers, each parameter of the blocks is stacked along a first axis of parts. Its path is
    `name/number within the run/path within the block`.
    """

    name: str
    half: str  # "encoder/", "decoder/", or "" for a single stack of blocks
    first: int
    period: int
    parts: int


class Way(NamedTuple):
    """Functions that cut one kind of part in one family."""

    refused: Callable[[Model], str]  # why it does not apply, or "" if it does
    groups: Callable[[Model, Shapes], tuple[Group, ...]]
    settings: Callable[[Any, tuple[int, ...]], Any]  # (settings, number of kept parts per group) -> the smaller model's settings
    stacks: Callable[[Model], tuple[Stack, ...]] = lambda model: ()


# -- the Transformer ------------------------------------------------------------------------------------------------------


def _heads_refused(model: Model) -> str:
    config = model.settings
    mixers = {config.mixer(block) for block in range(config.depth)}
    if not mixers & {ATTENTION, LOCAL} and not isinstance(model.module, EncoderDecoder):
        return "no block has attention, see model.mixers"
    for key in (["positions"] if ATTENTION in mixers else []) + (["local_positions"] if LOCAL in mixers else []):
        if getattr(config, key) == "alibi":
            return f"the slopes of model.{key}=alibi depend on the number of heads"
        if getattr(config, key) == "transformer_xl":
            return f"the sinusoids of model.{key}=transformer_xl are as wide as all heads together"
    return ""


def _heads(model: Model, shapes: Shapes) -> tuple[Group, ...]:
    """Groups attention heads with their query, key, value and output.

    Heads that share a key and a value form one part. If all heads share them, each head is a part, and key and value are kept.
    """
    config = model.settings
    parts = config.kv_heads if config.kv_heads > 1 else config.heads
    shared, dim = config.heads // parts, config.head_size
    what = f"groups of {shared} heads" if shared > 1 else ""
    # (axis, slices per part). The bias of `out` belongs to no head and stays.
    sizes = {"query/kernel": (1, shared * dim), "query/bias": (0, shared * dim), "out/kernel": (0, shared * dim)}
    sizes |= {f"{name}/{kind}": (axis, dim) for name in ("key", "value") for kind, axis in _DENSE if config.kv_heads > 1}
    sizes |= {"relative_bias": (1, shared), "direction": (0, shared), "direction_bias": (0, shared)}  # of positions t5 and direction

    def group(place: str) -> Group:
        found = {f"{place}/{name}": size for name, size in sizes.items() if f"{place}/{name}" in shapes}
        pieces = (Piece(path, axis, np.repeat(np.arange(parts), each)) for path, (axis, each) in found.items())
        return Group(place, parts, tuple(pieces), what=what)

    return tuple(group(place) for place in _places(shapes, "query/kernel"))


def _fewer_heads(config: TransformerConfig, kept: tuple[int, ...]) -> TransformerConfig:
    if config.kv_heads == 1:
        return replace(config, heads=kept[0], head_dim=config.head_size)
    return replace(config, heads=config.heads // config.kv_heads * kept[0], kv_heads=kept[0], head_dim=config.head_size)


def _feed_forward(model: Model, shapes: Shapes) -> tuple[Group, ...]:
    """Groups feed-forward units with their column of `up` (and `up_gate`) and their row of `down`."""
    unit = np.arange(model.settings.mlp)
    places = _places(shapes, "down/kernel")
    return tuple(Group(place, len(unit), (*_made(shapes, place, unit), Piece(f"{place}/down/kernel", 0, unit))) for place in places)


def _blocks_refused(model: Model) -> str:
    if model.settings.norm_place != "pre" and not model.settings.gate:
        return "with model.norm_place=post the residual stream passes through a block's norms, so no block can be made ineffective"
    return ""


def _runs(model: Model) -> tuple[Stack, ...]:
    """Stacks equal blocks, or whole periods of blocks with different mixers; blocks after the last whole period are kept."""
    config = model.settings
    period = _period(config)
    halves = ("encoder/", "decoder/") if isinstance(model.module, EncoderDecoder) else ("",)
    return tuple(Stack(f"{half}blocks", half, 0, period, config.depth // period) for half in halves)


def _fewer_blocks(config: TransformerConfig, kept: tuple[int, ...]) -> TransformerConfig:
    period = _period(config)
    return replace(config, depth=config.depth % period + kept[0] * period, mixers=config.mixers[:period])


def _period(config: TransformerConfig) -> int:
    return len(config.mixers) if len(set(config.mixers)) > 1 else 1


# -- recurrent networks ---------------------------------------------------------------------------------------------------


def _states_refused(model: Model) -> str:
    if CELLS[model.module.cell].multiple > 1:
        return "a unit in a bank of automata is a state probability, and the probabilities of an automaton sum to one"
    return ""


def _states(model: Model, shapes: Shapes) -> tuple[Group, ...]:
    """Groups recurrent units: their column in each gate and their row in each reader, which are matrices of this and the next layer."""
    config, groups = model.settings, []
    directions = ("forward", "backward") if model.module.bidirectional else ("",)
    for i in range(config.depth):
        layer, above = ([f"block_{j}/{direction}".strip("/") for direction in directions] for j in (i, i + 1))
        readers = [f"{place}/input/kernel" for place in above] if i + 1 < config.depth else ["head/kernel"]
        for side, place in enumerate(layer):
            axes = {"input/kernel": 1, "input/bias": 0, "recurrent": 1, "recurrent_bias": 0}
            made = {f"{place}/{name}": axis for name, axis in axes.items() if f"{place}/{name}" in shapes}
            pieces = [
                Piece(path, axis, np.tile(np.arange(config.width), shapes[path][axis] // config.width)) for path, axis in made.items()
            ]
            # of these matrices, the rows that read a stack come after those that read the state
            read = {f"{place}/{name}": 0 for name in ("recurrent", "write") if f"{place}/{name}" in shapes}
            read |= dict.fromkeys(readers, side * config.width)
            pieces += [Piece(path, 0, _from(start, config.width, shapes[path][0])) for path, start in read.items()]
            groups.append(Group(place, config.width, tuple(pieces)))
    return tuple(groups)


def _fewer_states(config: RecurrentConfig, kept: tuple[int, ...]) -> RecurrentConfig:
    return replace(config, width=kept[0], embedding=config.embedding or config.width)


# -- convolutional networks -----------------------------------------------------------------------------------------------


def _filters(model: Model, shapes: Shapes) -> tuple[Group, ...]:
    """Groups channels with their filter and their readers: slices of the next convolution's filters, or rows of the head."""
    config, groups = model.settings, []
    for i, filters in enumerate(config.filters):
        channel, last = np.arange(filters), i + 1 == len(config.filters)
        reader = ("hidden/kernel" if config.dense else "head/kernel") if last else f"block_{i + 1}/conv/kernel"
        axis = 0 if last else 2
        read = Piece(reader, axis, np.tile(channel, shapes[reader][axis] // filters))
        made = (Piece(f"block_{i}/conv/kernel", 3, channel), Piece(f"block_{i}/conv/bias", 0, channel))
        groups.append(Group(f"block_{i}", filters, (*made, read)))
    return tuple(groups)


def _hidden(model: Model, shapes: Shapes) -> tuple[Group, ...]:
    unit = np.arange(model.settings.dense)
    pieces = (Piece("hidden/kernel", 1, unit), Piece("hidden/bias", 0, unit), Piece("head/kernel", 0, unit))
    return (Group("hidden", len(unit), pieces),)


def _channel_groups(model: Model, shapes: Shapes) -> tuple[Group, ...]:
    """Groups the channels inside residual blocks; each part is a whole GroupNorm group, so the other groups' statistics are unchanged.

    The last convolution of a block is excluded, because it writes to the residual stream.
    """
    config, groups = model.settings, []
    parts = config.inner or config.groups
    for place in _places(shapes, "conv_0/kernel"):
        for i in range(sum(path.startswith(f"{place}/conv_") for path in shapes) - 1):
            owner = np.repeat(np.arange(parts), shapes[f"{place}/norm_{i}/scale"][0] // parts)
            axes = {f"conv_{i}/kernel": 3, f"norm_{i}/scale": 0, f"norm_{i}/bias": 0, f"conv_{i + 1}/kernel": 2}
            pieces = (Piece(f"{place}/{name}", axis, owner) for name, axis in axes.items())
            groups.append(Group(f"{place}/conv_{i}", parts, tuple(pieces), what="groups of channels"))
    return tuple(groups)


def _stages_refused(model: Model) -> str:
    config = model.settings
    if config.layout != "cifar":
        return f"the layout {config.layout} has no depth with equally many blocks fewer in each stage"
    return ""


def _stages(model: Model) -> tuple[Stack, ...]:
    """Stacks the blocks of each stage except the first, which changes the shape."""
    blocks = LAYOUTS[model.settings.layout].stages[model.settings.depth]
    return tuple(Stack(f"stage_{i}", "", sum(blocks[:i]) + 1, 1, number - 1) for i, number in enumerate(blocks))


# -- the multilayer perceptron --------------------------------------------------------------------------------------------


def _perceptrons(model: Model, shapes: Shapes) -> tuple[Group, ...]:
    config, unit = model.settings, np.arange(model.settings.width)

    def group(i: int) -> Group:
        readers = ("head/kernel", f"block_{i + 1}/up/kernel", f"block_{i + 1}/up_gate/kernel")
        above = [path for path in (readers[1:] if i + 1 < config.depth else readers[:1]) if path in shapes]
        return Group(f"block_{i}", config.width, (*_made(shapes, f"block_{i}", unit), *(Piece(path, 0, unit) for path in above)))

    return tuple(group(i) for i in range(config.depth))


def _equal_refused(model: Model) -> str:
    if model.settings.activation != "relu":
        return f"a layer with model.activation={model.settings.activation} cannot be the identity, unlike one with relu"
    return _shallow(model)


def _shallow(model: Model) -> str:
    return "" if model.settings.depth else "a linear model (model.depth=0) has no hidden layer"


# -- private --------------------------------------------------------------------------------------------------------------


def _places(shapes: Shapes, name: str) -> list[str]:
    """Returns the paths that contain a parameter of this name."""
    return [path.removesuffix(f"/{name}") for path in shapes if path.endswith(f"/{name}")]


def _made(shapes: Shapes, place: str, unit: np.ndarray) -> Iterable[Piece]:
    """Returns the pieces that produce the units before an activation."""
    axes = {f"{place}/{name}/{kind}": axis for name in ("up", "up_gate") for kind, axis in (("kernel", 1), ("bias", 0))}
    return [Piece(path, axis, unit) for path, axis in axes.items() if path in shapes]


def _from(start: int, parts: int, length: int) -> np.ndarray:
    """Returns owners [length]: consecutive parts from `start`, and -1 elsewhere."""
    owner = np.full(length, -1)
    owner[start : start + parts] = np.arange(parts)
    return owner


def _layers(model: Model, shapes: Shapes, stacks: Callable, fixed: int = 0, neutral: Callable = lambda model: {}) -> tuple[Group, ...]:
    """Returns one group per stack.

    `neutral(model)` maps path suffixes to the parameter values for which a layer has no effect; zero for other paths.
    """
    ends = neutral(model)

    def piece(path: str, parts: int) -> Piece:
        return Piece(path, 0, np.arange(parts), next((value for end, value in ends.items() if path.endswith(end)), 0.0))

    def group(stack: Stack) -> Group:
        pieces = (piece(path, stack.parts) for path in shapes if path.startswith(f"{stack.name}/"))
        what = f"runs of {stack.period} layers" if stack.period > 1 else ""
        return Group(stack.name, stack.parts, tuple(pieces), fixed, what)

    return tuple(group(stack) for stack in stacks(model))


def _never(reason: str) -> Way:
    return Way(lambda model: reason, lambda model, shapes: (), lambda settings, kept: settings)


def _always(model: Model) -> str:
    del model
    return ""


def _equal(model: Model) -> tuple[Stack, ...]:
    return (Stack("blocks", "", 1, 1, max(model.settings.depth - 1, 0)),)


def _identity(model: Model) -> Mapping[str, Any]:
    return {"up/kernel": np.eye(model.settings.width)[None]}


def _gate_closed(model: Model) -> Mapping[str, Any]:
    return {"copy_down/bias": CLOSED} if model.settings.gate else {}


# -- the table ------------------------------------------------------------------------------------------------------------

_NO_ATTENTION, _NO_CONVOLUTION = _never("the family has no attention"), _never("the family has no convolutions")
_RECURRENT: Mapping[str, Way] = {
    "heads": _NO_ATTENTION,
    "units": Way(_states_refused, _states, _fewer_states),
    "channels": _NO_CONVOLUTION,
    "layers": _never("a recurrent layer has no residual branch around it, so the layers above it would receive no input"),
}
_EMBEDDED = _never("nearly all parameters of a bag of words are embeddings, which have no units")
_COUNTED = _never("an n-gram model has counts instead of parts")

WAYS: Mapping[type, Mapping[str, Way]] = {
    TransformerConfig: {
        "heads": Way(_heads_refused, _heads, _fewer_heads),
        "units": Way(_always, _feed_forward, lambda config, kept: replace(config, mlp=kept[0])),
        "channels": _NO_CONVOLUTION,
        "layers": Way(_blocks_refused, partial(_layers, stacks=_runs, neutral=_gate_closed), _fewer_blocks, _runs),
    },
    RecurrentConfig: _RECURRENT,
    StackRNNConfig: _RECURRENT,
    BagConfig: {"heads": _NO_ATTENTION, "units": _EMBEDDED, "channels": _NO_CONVOLUTION, "layers": _EMBEDDED},
    CNNConfig: {
        "heads": _NO_ATTENTION,
        "units": Way(
            lambda model: "" if model.settings.dense else "the head has no hidden layer (model.dense=0)",
            _hidden,
            lambda config, kept: replace(config, dense=kept[0]),
        ),
        "channels": Way(_always, _filters, lambda config, kept: replace(config, filters=kept)),
        "layers": _never("a convolution has no residual branch around it, so the layers above it would receive no input"),
    },
    ResNetConfig: {
        "heads": _NO_ATTENTION,
        "units": _never("the head of a resnet has no hidden layer"),
        "channels": Way(_always, _channel_groups, lambda config, kept: replace(config, inner=kept[0])),
        "layers": Way(
            _stages_refused, partial(_layers, stacks=_stages, fixed=1), lambda config, kept: replace(config, depth=6 * kept[0] + 8), _stages
        ),
    },
    MLPConfig: {
        "heads": _NO_ATTENTION,
        "units": Way(_shallow, _perceptrons, lambda config, kept: replace(config, width=kept[0])),
        "channels": _NO_CONVOLUTION,
        "layers": Way(
            _equal_refused,
            partial(_layers, stacks=_equal, fixed=1, neutral=_identity),
            lambda config, kept: replace(config, depth=kept[0] + 1),
            _equal,
        ),
    },
    NgramConfig: dict.fromkeys(PARTS, _COUNTED),
}
