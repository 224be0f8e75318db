"""Record of a task: splits, vocabulary, encoding of examples into batches, scoring of answers, and published results."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError, unknown
from assay.data.augment_text import Alphabet
from assay.data.source import Examples, Source
from assay.models.model import Batch, Output, Vocabulary
from assay.tasks.bounds import Bounds
from assay.tasks.evidence import Evidence, of_classes
from assay.tasks.published import Published

# (output, batch) -> (loss per example, its weight, metrics per example). Training and every evaluation share it.
Score = Callable[[Output, Batch], tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]]


def find_split(sources: Mapping[str, Any], name: str) -> Any:
    """Returns the entry of a split. Raises UserError that lists the available splits."""
    if re.fullmatch(r"\d+-\d+", name):
        known = ", ".join(sources)
        raise UserError(f"there are no splits by length such as {name!r}, only {known}. Set it with --split or --config.evaluate.splits.")
    if name not in sources:
        raise unknown("split", name, sources, "--split or --config.evaluate.splits")
    return sources[name]


def counted(answers: np.ndarray, batch: Mapping[str, np.ndarray]) -> list[int]:
    """Returns the answers at the positions that count."""
    return answers[batch["mask"] > 0].tolist()


def likeliest(logits: Any) -> Any:
    """Returns the class with the highest logit."""
    return logits.argmax(axis=-1)


def is_likeliest(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Returns whether each class has the highest logit, with ties going to the lowest class; False for classes below 0.

    Equals `likeliest(logits) == classes`, in a third of the time on a CPU, because XLA does not vectorize an argmax.
    """
    own, highest = jnp.take_along_axis(logits, classes[..., None], axis=-1), logits.max(axis=-1, keepdims=True)
    lower = jax.lax.broadcasted_iota(classes.dtype, logits.shape, logits.ndim - 1) < classes[..., None]
    return (own == highest)[..., 0] & ~((logits == highest) & lower).any(axis=-1) & (classes >= 0)


@dataclass(frozen=True)
class Task:
    """A data set and its scoring: splits by name, how examples become batches, how answers are scored, and published results.

    >>> _, _, task = assay.load("runs/tiny")
    >>> isinstance(task, assay.Task), task.name, task.metrics[0]
    (True, 'chomsky/parity_check', 'answer_accuracy')
    """

    name: str
    vocabulary: Vocabulary
    splits: Sequence[str]  # names to list; for tasks with lengths, ranges such as "41-500" are also valid
    source: Callable[[str], Source]  # returns a split by name
    encode: Callable[[Examples, int], Mapping[str, np.ndarray]]  # (examples, width) -> batch padded to `width` tokens
    width: Callable[[int], int]  # nominal length -> number of tokens that the model reads
    score: Score
    metrics: tuple[str, ...]  # metrics of the rows, headline first: metrics of the score, or names in evals.summary
    chance: float  # accuracy of a uniform guess of one output token
    units: Mapping[str, str] = field(default_factory=dict)  # units of metrics that are not fractions
    answer: Callable[[Any], Any] = likeliest  # logits -> answer
    read: Callable[[np.ndarray, Mapping[str, np.ndarray]], Any] = counted  # (answers of one example, its batch row) -> its prediction
    shown: str = "iid"  # split from which figures take their example
    free_running: int = 0  # tokens decoded at a time if evaluation feeds back the model's answers (batch["given"] is 0); 0: teacher forcing
    answer_to_input: int = 0  # input id of output class 0, for feeding answers back
    published: tuple[Published, ...] = ()
    note: str = ""  # caveats for every row of this task
    notices: tuple[str, ...] = ()  # what a user should know of the data (rows left out, rare classes): printed by training, noted in rows
    symbols: Sequence[str] = ()  # how input tokens are displayed; empty: as numbers
    alphabet: Alphabet | None = None  # which input ids are text; None if there are none
    classes: Sequence[Any] = ()  # names of the classes of a pooled answer
    members: Mapping[str, "Task"] = field(default_factory=dict)  # member tasks of a multi-task by name; records name theirs as `task`
    examples: Callable[[Sequence[Any]], Examples] | None = None  # converts user input to examples without an answer
    asked: Callable[[Any], Source] | None = None  # converts user input to a split without answers; takes the place of `examples`
    data: str = ""  # hash of training data outside the package; a run resumes and answers only with the same data
    states: Callable[[np.ndarray], np.ndarray] | None = None  # running answer after each input token, if one automaton step computes it
    recalls: bool = False  # True if an answer needs the previous occurrence of the token just read, and not the first token of the input
    places: int = 0  # exclusive upper bound of the token positions in batches (`places`); 0: batches have none
    verify: Callable[[Mapping[str, Any]], bool] | None = None  # record -> True if a verifier accepts its prediction: its `verified`
    shifted: str = ""  # how `test` examples differ from those of training; "": same distribution
    bounds: Bounds | None = None  # input range and the meaning of a distance of 1; None for tokens or an unknown range
    evidence: Evidence = of_classes  # (output, batch, target=None, against=None, head="") -> [n]: the scalar that explanations explain
    couples: Callable[[Examples, int], np.ndarray] | None = None  # (examples, width) -> [n, width]: positions from 1, some shared; or 0


def text(value: Any, symbols: Sequence[str] = ()) -> str:
    """Formats an input or target from `describe` for display: token lists by their symbols, images as rows of digits."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "\n" + "\n".join(" ".join(f"{_grey(pixel):>3}" for pixel in row) for row in value)
    if isinstance(value, list):
        return " ".join(symbols[token] if token < len(symbols) else str(token) for token in value)
    return str(value)


def _grey(pixel: Any) -> int:
    return round(sum(pixel) / len(pixel)) if isinstance(pixel, list) else pixel
