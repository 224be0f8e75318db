"""Position coupling (Cho et al. 2024, arXiv 2405.20671): tokens that belong together, such as the digits of one place in two operands and
in their sum, have one position, so that what was learned of short numbers holds in long ones.

    --config.treatments=reverse,couple:span=64

Which tokens share a position is the task's to say (`Task.couples`: from 1 on; 0 for what has none). Batches carry it as
`places`, which a Transformer reads in place of 0, 1, 2, ... In training one random number is added to all positions of an example, as
large as keeps them below `span`, so that all are learned though all numbers are short; in evaluation none is. Learned positions need
config.model.max_length of at least `span`. It goes before or after `reverse`.
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

PLACES = "places"  # of a batch, int32 [batch, seq]


def couple(span: int = 64) -> Treatment:
    """`span`: how many positions there are, 0 among them."""
    check(span >= 2, "couple", "span", span, "it is at least 2")
    return Treatment(task=partial(with_places, span=span), objective=partial(shifted, span=span), name="couple")


def with_places(task: Task, span: int) -> Task:
    """The task whose batches say the position of each token. Raises UserError for one that couples none, and for more than `span`."""
    couples, encode = task.couples, task.encode
    if couples is None:
        raise Inapplicable(
            f"the treatment 'couple' does not apply to {task.name}: it does not say which tokens belong together. It applies to addition "
            f"with --config.task.pad=True. {KEY} Or choose another --config.task.name."
        )

    def encode_coupled(examples: Examples, width: int) -> Mapping[str, np.ndarray]:
        places = couples(examples, width).astype(np.int32)
        last = int(places.max(initial=0))
        check(last < span, "couple", "span", span, f"{task.name} of length {examples.length.max()} has positions up to {last}")
        return {**encode(examples, width), PLACES: places}

    return replace(task, encode=encode_coupled, places=span)


def shifted(objective: Objective, span: int) -> Objective:
    """The objective on places that are moved by one number an example: 0 or more, and so that the largest stays below `span`."""

    def loss(model: Model, params: PyTree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
        return objective.loss(model, params, {**batch, PLACES: moved(rng.stream(key, "couple"), batch[PLACES], span)}, key, step)

    return replace(objective, loss=loss)


def moved(key: jax.Array, places: jax.Array, span: int) -> jax.Array:
    """Places [batch, seq] with one random number added to those above 0 of each row."""
    room = span - jnp.max(places, axis=1, keepdims=True)
    return jnp.where(places > 0, places + jax.random.randint(key, room.shape, 0, room), 0)
