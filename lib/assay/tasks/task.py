"""The record of a task: splits, vocabulary, how an example becomes a batch, how an answer is scored, and what has been published."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError, unknown
from assay.data.augment_text import Alphabet
from assay.data.source import Examples, Source
from assay.models.model import Batch, Output, Vocabulary
from assay.tasks.bounds import Bounds
from assay.tasks.evidence import Evidence, of_classes

# (output, batch) -> (loss of each example, its weight, metrics of each example). Training and every evaluation use the same one.
Score = Callable[[Output, Batch], tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]]


TRANSFORMERS = ("decoder", "encoder")  # the families beside which a published Transformer stands
PLAIN: Mapping[str, tuple[Any, ...]] = {  # and what their config.model must be: nothing is added
    "mixers": (("attention",),),
    "attention_weights": ("softmax",),
    "gate": (False,),
    "loops": (1,),
    "test_loops": (0, 1),
}


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
    model: Mapping[str, tuple[Any, ...]] = MappingProxyType({})  # keys of config.model -> values, one of which a run has beside it


def find_split(sources: Mapping[str, Any], name: str) -> Any:
    """The entry of a split. Raises UserError listing those that there are."""
    if re.fullmatch(r"\d+-\d+", name):
        known = ", ".join(sources)
        raise UserError(f"there are no splits by length such as {name!r}, only {known}. Set it with --split or --config.evaluate.splits.")
    if name not in sources:
        raise unknown("split", name, sources, "--split or --config.evaluate.splits")
    return sources[name]


def counted(answers: np.ndarray, batch: Mapping[str, np.ndarray]) -> list[int]:
    """The answers at the positions that count."""
    return answers[batch["mask"] > 0].tolist()


def likeliest(logits: Any) -> Any:
    """The class of the highest logit."""
    return logits.argmax(axis=-1)


def is_likeliest(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Whether each class has the highest logit, and no lower class the same; a class below 0 never has.

    It is `likeliest(logits) == classes` in a third of the time on a CPU: XLA does not vectorise an argmax.
    """
    own, highest = jnp.take_along_axis(logits, classes[..., None], axis=-1), logits.max(axis=-1, keepdims=True)
    lower = jax.lax.broadcasted_iota(classes.dtype, logits.shape, logits.ndim - 1) < classes[..., None]
    return (own == highest)[..., 0] & ~((logits == highest) & lower).any(axis=-1) & (classes >= 0)


@dataclass(frozen=True)
class Task:
    name: str
    vocabulary: Vocabulary
    splits: Sequence[str]  # the names to show; a range of lengths such as "41-500" is always possible where lengths are
    source: Callable[[str], Source]  # a split by name
    encode: Callable[[Examples, int], Mapping[str, np.ndarray]]  # (examples, width) -> batch of that many tokens
    width: Callable[[int], int]  # nominal length -> tokens that the model reads
    score: Score
    metrics: tuple[str, ...]  # of the rows, the headline first: figures of the score, or names in evals.summary
    chance: float  # accuracy of a uniform guess of one output token
    units: Mapping[str, str] = field(default_factory=dict)  # of metrics that are no fractions
    answer: Callable[[Any], Any] = likeliest  # logits -> what is answered
    read: Callable[[np.ndarray, Mapping[str, np.ndarray]], Any] = counted  # (answers of one example, its batch row) -> its prediction
    shown: str = "iid"  # the split that pictures take their example from
    free_running: int = 0  # tokens read at a time where evaluation feeds the model its own answers (batch["given"] is 0); 0: it does not
    answer_to_input: int = 0  # the id by which output class 0 is read again
    published: tuple[Published, ...] = ()
    note: str = ""  # what a reader must know of every row of this task
    symbols: Sequence[str] = ()  # how the tokens of an input are written for people; empty: as numbers
    alphabet: Alphabet | None = None  # which ids of the inputs are text; None where they are none
    classes: Sequence[Any] = ()  # what the classes of a pooled answer are called
    members: Mapping[str, "Task"] = field(default_factory=dict)  # of several tasks at once: each by its name; records say theirs as `task`
    examples: Callable[[Sequence[Any]], Examples] | None = None  # new inputs, as people write them -> examples without an answer
    data: str = ""  # a hash of training data that lie outside the package: a run goes on, and answers, with the same ones only
    states: Callable[[np.ndarray], np.ndarray] | None = None  # running answer after each input token, where one automaton step gives it
    places: int = 0  # batches give their tokens positions (`places`), all below this number; 0: they give none
    verify: Callable[[Mapping[str, Any]], bool] | None = None  # a record -> whether a verifier accepts its prediction: its `verified`
    shifted: str = ""  # what the examples of `test` are other in than those of training; "": they are drawn alike
    bounds: Bounds | None = None  # the range of the inputs and what a distance of 1 is; None where they are tokens, or of unknown range
    evidence: Evidence = of_classes  # (output, batch, target=None, against=None, head="") -> [n]: the scalar that explanations explain
    couples: Callable[[Examples, int], np.ndarray] | None = None  # (examples, width) -> [n, width]: positions from 1 on, some shared; or 0


def text(value: Any, symbols: Sequence[str] = ()) -> str:
    """An input or target, as `describe` gives it, as people read it: lists of tokens by their symbols, images as rows of digits."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "\n" + "\n".join(" ".join(f"{_grey(pixel):>3}" for pixel in row) for row in value)
    if isinstance(value, list):
        return " ".join(symbols[token] if token < len(symbols) else str(token) for token in value)
    return str(value)


def _grey(pixel: Any) -> int:
    return round(sum(pixel) / len(pixel)) if isinstance(pixel, list) else pixel
