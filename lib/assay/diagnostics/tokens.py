"""Answers token by token under teacher forcing: correctness, loss and confidence of each token.

tokens = tokens_of(subject, "test")        # computed once
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.tree import PyTree, widened
from assay.data.source import content_hash
from assay.diagnostics.subject import Subject, program
from assay.models.model import Batch, Model
from assay.tasks.task import is_likeliest

MOST_EXAMPLES = 256
MOST = 4096  # maximum number of tokens per row
ROWS = 32  # examples per call
PLACES = 1 << 20  # upper bound on the number of input positions


class Tokens(NamedTuple):
    """Columns [tokens] over all answer tokens."""

    row: np.ndarray  # row in the batch
    place: np.ndarray  # position in the answer
    right: np.ndarray  # 0 or 1
    loss: np.ndarray  # nats
    confidence: np.ndarray  # probability of the likeliest answer
    ids: np.ndarray  # uint64
    groups: np.ndarray  # cluster of each token: the group of its example, or the example itself
    batch: Batch


def tokens_of(subject: Subject, split: str) -> Tokens:
    """Returns the answer tokens on a sample of a split's examples. The model must answer in tokens."""
    name = f"tokens/{split}"
    if name not in subject.asked:
        most = min(subject.examples, MOST_EXAMPLES)
        batch, groups = subject.first(most, split), subject.groups(most, split)
        right, loss, confidence = _in_parts(subject, batch)
        row, place = np.nonzero(np.asarray(batch["mask"]) > 0)
        numbers = content_hash(np.asarray(batch["inputs"])) >> np.uint64(20)
        right, loss, confidence = (np.asarray(values[row, place], float) for values in (right, loss, confidence))
        subject.asked[name] = Tokens(
            row=row,
            place=place,
            right=right,
            loss=loss,
            confidence=confidence,
            ids=numbers[row] * np.uint64(PLACES) + place.astype(np.uint64),
            groups=row.astype(str) if groups is None else groups[row],
            batch=batch,
        )
    return subject.asked[name]


def taken(tokens: Tokens, chosen: np.ndarray) -> Tokens:
    """Selects tokens by index."""
    return tokens._replace(**{name: values[chosen] for name, values in tokens._asdict().items() if name != "batch"})


def spread(n: int) -> np.ndarray:
    """Returns the indices of MOST of n tokens, spread evenly; all if there are fewer."""
    return np.linspace(0, n - 1, min(MOST, n)).round().astype(int)


# -- private --------------------------------------------------------------------------------------------------------------


def _in_parts(subject: Subject, batch: Batch) -> list[np.ndarray]:
    """Evaluates ROWS examples at a time: with a large vocabulary each has megabytes of logits. The last part repeats its last example."""
    answering, n = _by_token(subject.model), len(batch["weight"])
    rows, found = min(ROWS, n), []
    for start in range(0, n, rows):
        places = np.minimum(np.arange(start, start + rows), n - 1)
        found.append(jax.device_get(answering(subject.params, {name: np.asarray(array)[places] for name, array in batch.items()})))
    return [np.concatenate(parts)[:n] for parts in zip(*found, strict=True)]


def _by_token(model: Model):
    def answer(params: PyTree, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        logits = widened(model.apply(params, batch).logits)
        log_probability = jax.nn.log_softmax(logits, axis=-1)
        loss = -jnp.take_along_axis(log_probability, batch["targets"][..., None], axis=-1)[..., 0]
        return is_likeliest(logits, batch["targets"]), loss, jnp.exp(log_probability.max(axis=-1))

    return program(model, answer)
