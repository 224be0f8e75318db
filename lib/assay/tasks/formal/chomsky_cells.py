"""Published results of the fifteen tasks of the Chomsky hierarchy, under two protocols.

`41-500`  Deletang et al. 2023, Table 2: the best run of a sweep, by the accuracy at lengths 41-500. [V] cells appear in the paper itself;
          [V2] cells are quoted by the Deltaformer paper; of the others the text says only whether a task was solved, at least 90 %.
`40-256`  Walker et al. 2025: means over five configurations, each by its best validation accuracy, quoted in another paper's repository.

The two are never compared with one run's value: each is the cell of its own split.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from assay.tasks.published import PLAIN, TRANSFORMERS, Protocol, Published

TRAINED = (1, 40)  # training lengths of the published cells
FARTHER, NEARER = "41-500", "40-256"

PAPER = "Deletang et al. 2023 (arXiv 2207.02098), Table 2"
QUOTED = f"{PAPER}, quoted in Deltaformer (arXiv 2505.19488), Table 5"
APPENDIX = "Deletang et al. 2023 (arXiv 2207.02098), App. B.3.2"
SECOND = "Walker et al. 2025, quoted in the repository IBM/expressive-sparse-state-space-model"

DATA: Mapping[str, tuple[Any, ...]] = {"task.lengths": ("1:40",), "task.convention": ("code",)}
RATES = {
    "optimizer.name": ("adam",),
    "optimizer.learning_rate": (1e-4, 3e-4, 5e-4),
    "train.steps": (1_000_000,),
    "train.batch_size": (128,),
}
Families = tuple[str, ...]
RNN: Families = ("rnn",)
LSTM: Families = ("lstm",)
STACK: Families = ("stack_rnn",)
TRANSFORMER: Families = TRANSFORMERS
ENCODER = {
    "model.name": ("encoder",),
    "model.window": (0,),
    "model.depth": (5,),
    "model.width": (64,),
    "model.heads": (8,),
    "model.mlp": (256,),
    "model.positions": ("none", "sinusoidal", "rotary", "alibi", "transformer_xl"),
    "model.dropout": (0.1,),
}
_THIRTY = "30 runs (10 seeds, 3 learning rates)"
PROTOCOLS: Mapping[Families, Protocol] = {
    RNN: Protocol("RNN", "1-40", _THIRTY, stated={"model.width": (256,), **RATES}),
    LSTM: Protocol("LSTM", "1-40", _THIRTY, stated={"model.width": (256,), **RATES}),
    STACK: Protocol("stack-augmented RNN", "1-40", _THIRTY, stated={"model.stack_cell_size": (8,), **RATES}),
    TRANSFORMER: Protocol("Transformer encoder", "1-40", "150 runs (10 seeds, 3 learning rates, 5 positions)", stated={**ENCODER, **RATES}),
}
_FIVE, _CHOSEN = "5 configurations", "best validation accuracy"
SECOND_PROTOCOLS: Mapping[Families, Protocol] = {
    LSTM: Protocol("LSTM", "1-40", _FIVE, _CHOSEN),
    TRANSFORMER: Protocol("Transformer", "1-40", _FIVE, _CHOSEN),
}

Row = Mapping[Families, float]
RECURRENT: Row = {LSTM: 1.000, RNN: 1.000, STACK: 1.000}
_READ: Mapping[str, Row] = {  # in the paper itself
    "even_pairs": RECURRENT,
    "modular_arithmetic": RECURRENT,
    "parity_check": RECURRENT,
    "cycle_navigation": RECURRENT,
}
_QUOTED: Mapping[str, Row] = {
    "modular_arithmetic": {TRANSFORMER: 0.242},
    "parity_check": {TRANSFORMER: 0.520},
    "stack_manipulation": {LSTM: 0.591, TRANSFORMER: 0.575, RNN: 0.560, STACK: 1.000},
    "reverse_string": {LSTM: 0.609, TRANSFORMER: 0.623, RNN: 0.620, STACK: 1.000},
    "duplicate_string": {LSTM: 0.576, TRANSFORMER: 0.528, RNN: 0.503, STACK: 0.528},
    "odds_first": {LSTM: 0.556, TRANSFORMER: 0.528, RNN: 0.510, STACK: 0.519},
}
_APPENDIX: Mapping[str, Row] = {"cycle_navigation": {TRANSFORMER: 0.619}}
_SOLVED = (("even_pairs", TRANSFORMER), ("modular_arithmetic_brackets", STACK), ("bucket_sort", TRANSFORMER))
_NOT_SOLVED = (
    ("modular_arithmetic_brackets", TRANSFORMER),
    ("solve_equation", STACK),
    ("binary_multiplication", STACK),
    ("compute_sqrt", STACK),
)
_SECOND: Mapping[str, Mapping[Families, tuple[float, float]]] = {
    "cycle_navigation": {LSTM: (1.000, 0.000), TRANSFORMER: (0.244, 0.005)},
    "even_pairs": {LSTM: (1.000, 0.000), TRANSFORMER: (0.904, 0.104)},
    "modular_arithmetic": {LSTM: (0.999, 0.001), TRANSFORMER: (0.236, 0.007)},
    "parity_check": {LSTM: (1.000, 0.000), TRANSFORMER: (0.522, 0.004)},
}


def cells(name: str, metric: str) -> tuple[Published, ...]:
    """Returns the published cells of a task such as `parity_check`, of its metric."""
    found = [
        _best(models, metric, value, source, tag)
        for rows, source, tag in ((_READ, PAPER, "V"), (_APPENDIX, APPENDIX, "V"), (_QUOTED, QUOTED, "V2"))
        for models, value in rows.get(name, {}).items()
    ]
    for ranges, allowed in ((_SOLVED, (0.9, 1.0)), (_NOT_SOLVED, (0.0, 0.9))):
        found += [_best(models, metric, None, PAPER, "bound", allowed) for task, models in ranges if task == name]
    for models, (value, spread) in _SECOND.get(name, {}).items():
        protocol = SECOND_PROTOCOLS[models]
        found.append(Published(models, NEARER, metric, value, spread, "mean", SECOND, "V2", needs=_needs(models), protocol=protocol))
    return tuple(found)


# -- private --------------------------------------------------------------------------------------------------------------


def _best(
    models: Families, metric: str, value: float | None, source: str, tag: str, allowed: tuple[float, float] | None = None
) -> Published:
    return Published(
        models, FARTHER, metric, value, None, "max", source, tag, needs=_needs(models), protocol=PROTOCOLS[models], range=allowed
    )


def _needs(models: Families) -> Mapping[str, tuple[Any, ...]]:
    """Returns what a comparable run needs; a published Transformer is compared with plain Transformers only."""
    return MappingProxyType({**DATA, **(PLAIN if models == TRANSFORMER else {})})
