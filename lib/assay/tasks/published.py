"""Published results: a value, the protocol that it was measured under, and where it was read.

    Published(("lstm",), "41-500", "answer_accuracy", 1.0, None, "max", "Deletang et al. 2023, Table 2", "V", protocol=PROTOCOL)

A cell belongs to the model families in `models`. `needs` holds config keys with the values of comparable runs: a run with another value
has another model or other data, and is not compared. `Protocol.stated` holds the config keys that the source states otherwise, such as
the width or the number of updates: a run may differ from them, and each difference is printed beside it.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

TRANSFORMERS = ("decoder", "encoder")  # model families that published Transformer results are compared with
FULL: Mapping[str, tuple[Any, ...]] = {  # full attention in every block
    "model.mixers": (("attention",),),
    "model.window": (0,),
}
PLAIN: Mapping[str, tuple[Any, ...]] = {  # a plain Transformer: neither looped, gated nor hybrid
    **FULL,
    "model.attention_weights": ("softmax",),
    "model.gate": (False,),
    "model.loops": (1,),
    "model.test_loops": (0, 1),
}
NOTHING: Mapping[str, Any] = MappingProxyType({})
UNSTATED = "not stated"
TAGS = {  # how a value was read
    "V": "read in the paper or its repository",
    "V2": "read in a document that quotes the paper",
    "bound": "the source gives only a range",
}
SHOWN = ("value", "spread", "range", "statistic", "source", "tag", "protocol")  # fields of a cell in a results row


class Protocol(NamedTuple):
    """How a published value was measured. An empty text or a missing key: the source does not state it."""

    model: str = ""  # the model in words
    trained: str = ""  # training lengths or depths
    runs: str = ""  # what the statistic is taken over, such as "5 runs"
    chosen: str = ""  # how each run's value was chosen, such as "best validation accuracy"
    data: str = ""  # the data where they differ from ours, or in number
    stated: Mapping[str, tuple[Any, ...]] = NOTHING  # config key -> published value, or the values of a sweep


class Published(NamedTuple):
    """Published result with its source. Values are fractions."""

    models: tuple[str, ...]  # families of comparable runs; none where the published model is not one of this package
    split: str
    metric: str
    value: float | None  # None: the source gives only `range`
    spread: float | None
    statistic: str  # "max" | "mean"
    source: str
    tag: str  # a name in TAGS
    needs: Mapping[str, tuple[Any, ...]] = NOTHING  # config key -> values of comparable runs
    protocol: Protocol = Protocol()
    range: tuple[float, float] | None = None  # the values that a source without a number allows


# Facts in the order in which a protocol lists them: config key -> text with the value.
_FACTS: Mapping[str, str] = {
    "model.depth": "{} layers",
    "model.width": "width {}",
    "model.heads": "{} heads",
    "model.mlp": "{} hidden features",
    "model.positions": "positions {}",
    "model.dropout": "dropout {}",
    "optimizer.name": "optimizer {}",
    "optimizer.learning_rate": "learning rate {}",
    "train.steps": "{} updates",
    "train.batch_size": "batches of {}",
}
_EXPECTED = {"model.depth": "layers", "model.width": "width", "train.steps": "updates", "train.batch_size": "batch size"}  # or "not stated"
_ATTENDING = {"model.window": "attention", "model.positions": "positions"}  # the same, of Transformers


def lists(value: Any) -> Any:
    """Returns a config value with its lists as tuples, as `needs` and `stated` write them."""
    return tuple(map(lists, value)) if isinstance(value, list | tuple) else value


def is_beside(cell: Published, family: str, model: Mapping[str, Any]) -> bool:
    """Returns True if a cell is comparable with a model: its family, and each key of config.model that `needs` and `model` name."""
    known = {f"model.{key}": lists(value) for key, value in model.items()}
    fits = all(known[key] in allowed for key, allowed in cell.needs.items() if key in known)
    return family in cell.models and fits


def shown(cell: Published) -> dict[str, Any]:
    """Returns a cell as a results row holds it: plain data."""
    found = {name: getattr(cell, name) for name in SHOWN if name != "protocol"}
    return found | {"range": None if cell.range is None else list(cell.range), "protocol": protocol_text(cell)}


def value_text(value: float | None, spread: float | None = None, range: Sequence[float] | None = None) -> str:
    """Formats `52.0 %`, `24.4 ± 0.5 %`; a range in words, `at least 90 %`."""
    if value is None:
        low, high = range or (0.0, 1.0)
        return f"at least {100 * low:.0f} %" if high == 1.0 else f"below {100 * high:.0f} %"
    digits = 2 if 0 < value < 0.001 else 1
    return f"{100 * value:.{digits}f}{f' ± {100 * spread:.1f}' if spread is not None else ''} %"


def statistic_text(cell: Published) -> str:
    """Formats `best of 10 seeds and 3 learning rates`, `mean of 5 runs, each the best validation accuracy`."""
    kind = "best" if cell.statistic == "max" else "mean"
    runs = f"{kind} of {cell.protocol.runs}" if cell.protocol.runs else f"{kind}, runs {UNSTATED}"
    return runs + (f", each the {cell.protocol.chosen}" if cell.protocol.chosen else "")


def protocol_text(cell: Published) -> str:
    """Describes the protocol of a cell in one line: model, attention, sizes, updates, batch, training lengths, statistic, data."""
    protocol = cell.protocol
    wanted = _EXPECTED | (_ATTENDING if "model.mixers" in cell.needs else {})
    facts = [text.format(_listed(protocol.stated[key])) for key, text in _FACTS.items() if key in protocol.stated]
    known = {*protocol.stated, *(key for key in cell.needs if key != "model.window")}  # a window is refused also where the source is silent
    missing = [name for key, name in wanted.items() if key not in known]
    attention = ["full attention"] if protocol.stated.get("model.window") == (0,) else []
    lengths = [f"trained on {protocol.trained}" if protocol.trained else f"training lengths {UNSTATED}"]
    parts = [protocol.model or "/".join(cell.models), *attention, *facts, *lengths, statistic_text(cell), protocol.data]
    return "; ".join(filter(None, parts)) + (f"; {UNSTATED}: {', '.join(missing)}" if missing else "")


# -- private --------------------------------------------------------------------------------------------------------------


def _listed(values: Sequence[Any]) -> str:
    return " or ".join(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value) for value in values)
