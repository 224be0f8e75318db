"""The tables of Csordas et al. 2021 (arXiv 2110.07732v1), shared by three tasks, with the model settings that each row corresponds to."""

from collections.abc import Mapping, Sequence
from typing import Any

from assay.tasks.task import TRANSFORMERS, Published

LOOPED = {"mixers": (("attention",),), "loops": tuple(range(2, 129)), "test_loops": (0,)}  # their Transformers share weights over depth
ROWS: Mapping[str, tuple[tuple[str, ...], Mapping[str, tuple[Any, ...]]]] = {  # row -> families, and keys of config.model
    "LSTM": (("lstm",), {}),
    "Transformer": (
        TRANSFORMERS,
        {**LOOPED, "positions": ("sinusoidal", "learned"), "attention_weights": ("softmax",), "gate": (False,)},
    ),
    "+ rel": (TRANSFORMERS, {**LOOPED, "positions": ("transformer_xl",), "attention_weights": ("softmax",), "gate": (False,)}),
    "+ rel + gate": (TRANSFORMERS, {**LOOPED, "positions": ("transformer_xl",), "attention_weights": ("softmax",), "gate": (True,)}),
    "+ geometric att.": (TRANSFORMERS, {**LOOPED, "positions": ("direction",), "attention_weights": ("geometric",), "gate": (False,)}),
    "+ geom + gate": (TRANSFORMERS, {**LOOPED, "positions": ("direction",), "attention_weights": ("geometric",), "gate": (True,)}),
}


def cells(
    table: str, splits: Sequence[str], values: Mapping[str, Sequence[tuple[float, float | None]]], note: str
) -> tuple[Published, ...]:
    """Returns published answer accuracies, row by row, with a value and its spread for each split."""
    source = f"Csordas et al. 2021 (arXiv 2110.07732v1), {table}"
    return tuple(
        Published(ROWS[row][0], split, "answer_accuracy", value, spread, "mean", f"{source}, {row}", "V", note, ROWS[row][1])
        for row, found in values.items()
        for split, (value, spread) in zip(splits, found, strict=True)
    )
