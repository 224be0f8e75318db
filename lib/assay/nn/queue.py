"""A recurrent cell with queues: what is put in first is read first, so that it can copy in order, or keep two streams apart.

Each queue is a row of cells with a place to write and a place to read, both soft: distributions over the cells. A step writes a value with
a probability and moves the writing place on with it, and moves the reading place on with another (as the queue of Grefenstette et al. 2015,
arXiv 1506.02516, with places in place of strengths). Where the probabilities are 0 and 1 it is a queue.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

QUEUES = 2


class Queued(NamedTuple):
    """What the layer carries."""

    hidden: jax.Array  # [batch, width]
    cells: jax.Array  # [batch, QUEUES, depth, cell]
    write: jax.Array  # [batch, QUEUES, depth]: where the next value goes
    read: jax.Array  # [batch, QUEUES, depth]: which cell is the front


def queue_rnn(weights: Mapping[str, jax.Array], state: Queued, gates: jax.Array) -> Queued:
    """Reads the fronts, then each queue writes or not, and takes its front away or not, softly."""
    batch, queues, _, size = state.cells.shape
    seen = jnp.concatenate([state.hidden, front(state.cells, state.read).reshape(batch, queues * size)], axis=-1)
    hidden = jnp.tanh(gates + seen @ weights["recurrent"])
    written = (hidden @ weights["write"] + weights["write_bias"][None, :]).reshape(batch, queues, 2 + size)
    put, take = (jax.nn.sigmoid(written[..., i]) for i in (0, 1))
    cells, write = enqueue(state.cells, state.write, put, written[..., 2:])
    return Queued(hidden, cells, write, advance(state.read, take))


def front(cells: Float[Array, "batch queues depth cell"], read: Float[Array, "batch queues depth"]) -> Float[Array, "batch queues cell"]:
    """The value at the reading place."""
    return jnp.einsum("bqd,bqdc->bqc", read, cells)


def enqueue(
    cells: Float[Array, "batch queues depth cell"],
    write: Float[Array, "batch queues depth"],
    put: Float[Array, "batch queues"],
    value: Float[Array, "batch queues cell"],
) -> tuple[Float[Array, "batch queues depth cell"], Float[Array, "batch queues depth"]]:
    """The cells and the writing place after `value` is written with probability `put`."""
    return cells + (put[..., None] * write)[..., None] * value[:, :, None, :], advance(write, put)


def advance(place: Float[Array, "batch queues depth"], by: Float[Array, "batch queues"]) -> Float[Array, "batch queues depth"]:
    """The place after a step of one cell with probability `by`; it leaves the last cell for nowhere."""
    moved = jnp.pad(place[..., :-1], [(0, 0), (0, 0), (1, 0)])
    return by[..., None] * moved + (1 - by[..., None]) * place


def empty_queues(width: int, size: int, depth: int, batch: int, dtype: Any) -> Queued:
    """Nothing in any queue, and both places at its first cell."""
    place = jnp.zeros((batch, QUEUES, depth), dtype).at[..., 0].set(1)
    return Queued(jnp.zeros((batch, width), dtype), jnp.zeros((batch, QUEUES, depth, size), dtype), place, place)
