"""The table of model families: `config.model.name` selects one, and the other keys of `config.model` belong to that family."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from assay.config.schema import require, typed
from assay.core.errors import UserError, unknown
from assay.models.bag import BagConfig, bag
from assay.models.convnet import CNNConfig, ResNetConfig, cnn, resnet
from assay.models.mlp import MLPConfig, mlp
from assay.models.model import Model, Vocabulary, with_heads
from assay.models.ngram import NgramConfig, ngram
from assay.models.precision import DTYPES, PrecisionConfig, with_precision
from assay.models.recurrent import RecurrentConfig, StackRNNConfig, recurrent
from assay.models.transformer import TransformerConfig, decoder, encoder, encoder_decoder
from assay.nn.mixer import ATTENTION, LOCAL

LARGEST = 2**31 - 1  # of a size
UNROLLED, MOST_BLOCKS = ("depth", "loops", "test_loops"), 10_000  # blocks are traced one by one


class Family(NamedTuple):
    """Entry of the table of model families."""

    config: type  # frozen dataclass of the family's keys
    build: Callable[[Any, Vocabulary, Any], Model]  # (config, vocabulary, compute dtype) -> model
    brought: bool = False  # True if the model was made elsewhere, so that its parameters do not follow from its settings


FAMILIES: dict[str, Family] = {
    "decoder": Family(TransformerConfig, decoder),
    "encoder": Family(TransformerConfig, encoder),
    "encoder_decoder": Family(TransformerConfig, encoder_decoder),
    "rnn": Family(RecurrentConfig, recurrent("rnn")),
    "lstm": Family(RecurrentConfig, recurrent("lstm")),
    "bilstm": Family(RecurrentConfig, recurrent("lstm", bidirectional=True)),
    "gru": Family(RecurrentConfig, recurrent("gru")),
    "stack_rnn": Family(StackRNNConfig, recurrent("stack_rnn")),
    "queue_rnn": Family(StackRNNConfig, recurrent("queue_rnn")),
    "automaton": Family(RecurrentConfig, recurrent("automaton")),
    "automata_network": Family(RecurrentConfig, recurrent("automata_network")),
    "bag": Family(BagConfig, bag),
    "cnn": Family(CNNConfig, cnn),
    "resnet": Family(ResNetConfig, resnet),
    "mlp": Family(MLPConfig, mlp),
    "ngram": Family(NgramConfig, ngram),
}


def build(config: Mapping[str, Any], vocabulary: Vocabulary, precision: PrecisionConfig) -> Model:
    """Builds the model that `config` (name, and the keys of its family) describes.

    Raises UserError for an unknown name or key.
    """
    values = dict(config)
    name = values.pop("name", None)
    if name not in FAMILIES:
        raise unknown("model", name, FAMILIES, "--config.model.name")
    family = FAMILIES[name]
    try:
        settings = typed(family.config, values, "model")
        for key, value in vars(settings).items():
            for size in value if isinstance(value, tuple) else (value,):
                most = MOST_BLOCKS if key in UNROLLED else LARGEST
                require(not isinstance(size, int) or size <= most, f"model.{key}", value, f"it may be at most {most:,}")
    except UserError as error:
        raise UserError(f"{error} (These are the keys of the family {name!r}; --config.model.name selects the family.)") from None

    def made(settings: Any) -> Model:
        model = with_precision(family.build(settings, vocabulary, DTYPES[precision.compute]), precision)
        model = with_heads(model, vocabulary.heads) if vocabulary.heads else model
        return replace(model, settings=settings, remake=None if family.brought else made)

    return made(settings)


def label(config: Mapping[str, Any]) -> str:
    """Returns the name of a model in result rows: family, deviations from plain softmax attention, and number of loops."""
    mixers = dict.fromkeys(config.get("mixers", (ATTENTION,)))
    added = [mixer for mixer in mixers if mixer != ATTENTION]
    added += [] if {ATTENTION, LOCAL} & set(mixers) else ["no attention"]
    added += [weights for weights in (config.get("attention_weights", "softmax"),) if weights != "softmax"]
    added += ["gate"] if config.get("gate") else []
    loops, tested = config.get("loops", 1), config.get("test_loops", 0)
    times = f" x {loops}" if loops > 1 else ""
    times += f" (x {tested} in test)" if tested not in (0, loops) else ""
    return " + ".join([config["name"] + times, *added])
