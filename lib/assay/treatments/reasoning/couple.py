"""Position coupling (Cho et al. 2024, arXiv 2405.20671): tokens that belong together share a position id.

In an addition, digits of the same significance in both operands and in the sum share an id. A rule learned on short numbers then transfers
to long ones. Where an answer copies its input (reversed, twice, odd positions first), a token and its copy share an id.

    --config.treatments=reverse,couple:span=64

The task defines the ids (`Task.couples`: 1 and up; 0 for tokens without one). Batches carry them as `places`, which a Transformer reads
instead of 0, 1, 2, ... Training adds one random offset per example that keeps all ids below `span`, so every id is trained although
the numbers are short. Evaluation adds no offset. Learned positions need config.model.max_length of at least `span`. The order relative to
`reverse` does not matter.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from assay.core import rng
from assay.core.errors import Inapplicable
from assay.core.tree import PyTree
from assay.data.source import Examples
from assay.models.model import Batch, Model
from assay.tasks.task import Task
from assay.train.objective import Aux, Objective
from assay.train.treatment import Treatment
from assay.treatments.option import KEY, check

PLACES = "places"  # batch key: int32 [batch, seq]


def couple(span: int = 64) -> Treatment:
    """Returns the position-coupling treatment.

    Args:
        span: number of position ids, including 0; at least 2.
    """
    check(span >= 2, "couple", "span", span, "it must be at least 2")
    return Treatment(task=partial(with_places, span=span), objective=partial(shifted, span=span), name="couple")


def with_places(task: Task, span: int) -> Task:
    """Returns the task with position ids in its batches.

    Raises UserError if the task couples no tokens. Encoding raises UserError if an id reaches `span`.
    """
    couples, encode = task.couples, task.encode
    if couples is None:
        raise Inapplicable(
            f"the treatment 'couple' does not apply to {task.name}: the task does not define which tokens share a position. It applies to "
            "addition with --config.task.pad=True, chomsky/reverse_string, chomsky/duplicate_string and chomsky/odds_first. "
            f"{KEY} Or choose another --config.task.name."
        )

    def encode_coupled(examples: Examples, width: int) -> Mapping[str, np.ndarray]:
        places = couples(examples, width).astype(np.int32)
        last = int(places.max(initial=0))
        check(last < span, "couple", "span", span, f"{task.name} of length {examples.length.max()} has positions up to {last}")
        return {**encode(examples, width), PLACES: places}

    return replace(task, encode=encode_coupled, places=span)


def shifted(objective: Objective, span: int) -> Objective:
    """Returns the objective on position ids shifted by one random offset per example, at least 0, that keeps them below `span`."""

    def loss(model: Model, params: PyTree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
        return objective.loss(model, params, {**batch, PLACES: moved(rng.stream(key, "couple"), batch[PLACES], span)}, key, step)

    return replace(objective, loss=loss)


def moved(key: jax.Array, places: jax.Array, span: int) -> jax.Array:
    """Returns position ids [batch, seq] with one random offset per row added to the ids above 0."""
    room = span - jnp.max(places, axis=1, keepdims=True)
    return jnp.where(places > 0, places + jax.random.randint(key, room.shape, 0, room), 0)
