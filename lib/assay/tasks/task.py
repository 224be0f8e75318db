"""The record of a task: splits, vocabulary, how an example becomes a batch, how an answer is scored, and what has been published."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from assay.data.source import Examples, Source
from assay.models.model import Batch, Output, Vocabulary

# (output, batch) -> (loss of each example, its weight, metrics of each example). Training and every evaluation use the same one.
Score = Callable[[Output, Batch], tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]]


class Published(NamedTuple):
    """A published cell, as a fraction, with where it stands. `models` are the families beside which it is shown."""

    models: tuple[str, ...]
    split: str
    metric: str
    value: float
    spread: float | None
    statistic: str  # "max" | "mean"
    source: str
    tag: str  # "V": read in the paper or its repository; "V2": read in the document that the source names
    note: str = ""  # what a reader must know to compare ours with it


@dataclass(frozen=True)
class Task:
    name: str
    vocabulary: Vocabulary
    splits: Sequence[str]  # the names to show; a range of lengths such as "41-500" is always possible where lengths are
    source: Callable[[str], Source]  # a split by name
    encode: Callable[[Examples, int], Mapping[str, np.ndarray]]  # (examples, width) -> batch of that many tokens
    width: Callable[[int], int]  # nominal length -> tokens that the model reads
    score: Score
    metrics: tuple[str, ...]  # the headline first
    chance: float  # accuracy of a uniform guess of one output token
    free_running: int = 0  # tokens read at a time where evaluation feeds the model its own answers (batch["given"] is 0); 0: it does not
    published: tuple[Published, ...] = ()
    note: str = ""  # what a reader must know of every row of this task
    symbols: Sequence[str] = ()  # how the tokens of an input are written for people; empty: as numbers
    states: Callable[[np.ndarray], np.ndarray] | None = None  # running answer after each input token, where one automaton step gives it


def text(tokens: np.ndarray, symbols: Sequence[str] = ()) -> str:
    """Tokens as people read them."""
    return " ".join(symbols[token] if token < len(symbols) else str(token) for token in np.asarray(tokens).tolist())
