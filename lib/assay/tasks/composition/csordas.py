"""The tables of Csordas et al. 2021 (arXiv 2110.07732v1), shared by three tasks, with the model settings that each row corresponds to."""

from collections.abc import Mapping, Sequence
from typing import Any

from assay.tasks.published import FULL, TRANSFORMERS, Protocol, Published

TRAINED = (1, 5)  # training lengths or depths of all tables
LOOPED = {**FULL, "model.loops": tuple(range(2, 129)), "model.test_loops": (0,)}  # their Transformers share weights over depth
SINUSOIDAL = {"model.positions": ("sinusoidal", "learned"), "model.attention_weights": ("softmax",), "model.gate": (False,)}
RELATIVE = {"model.positions": ("transformer_xl",), "model.attention_weights": ("softmax",), "model.gate": (False,)}
GEOMETRIC = {"model.positions": ("direction",), "model.attention_weights": ("geometric",), "model.gate": (False,)}
SHARED = "looped Transformer"
GATED = {"model.gate": (True,)}
ROWS: Mapping[str, tuple[tuple[str, ...], Mapping[str, tuple[Any, ...]], str]] = {  # row -> families, needs, the model in words
    "LSTM": (("lstm",), {}, "LSTM"),
    "Transformer": (TRANSFORMERS, {**LOOPED, **SINUSOIDAL}, f"{SHARED}, absolute positions"),
    "+ rel": (TRANSFORMERS, {**LOOPED, **RELATIVE}, f"{SHARED}, relative positions"),
    "+ rel + gate": (TRANSFORMERS, {**LOOPED, **RELATIVE, **GATED}, f"{SHARED}, relative positions, copy gate"),
    "+ geometric att.": (TRANSFORMERS, {**LOOPED, **GEOMETRIC}, f"{SHARED}, geometric attention"),
    "+ geom + gate": (TRANSFORMERS, {**LOOPED, **GEOMETRIC, **GATED}, f"{SHARED}, geometric attention, copy gate"),
}


def cells(
    table: str,
    splits: Sequence[str],
    values: Mapping[str, Sequence[tuple[float, float | None]]],
    data: str,
    stated: Mapping[str, tuple[Any, ...]],
) -> tuple[Published, ...]:
    """Returns published answer accuracies, row by row, with a value and its spread for each split.

    `data` says how the training data differ from ours; `stated` holds config keys that the source states.
    """
    source = f"Csordas et al. 2021 (arXiv 2110.07732v1), {table}"
    found = []
    for row, each in values.items():
        models, needs, words = ROWS[row]
        needs = {"task.lengths": ("1:5",), **needs}
        protocol = Protocol(words, "1-5", data=data, stated=stated)
        found += [
            Published(models, split, "answer_accuracy", value, spread, "mean", f"{source}, {row}", "V", needs=needs, protocol=protocol)
            for split, (value, spread) in zip(splits, each, strict=True)
        ]
    return tuple(found)
