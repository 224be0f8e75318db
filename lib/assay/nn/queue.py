"""A recurrent cell with first-in, first-out queues, which can copy in order or keep two streams apart.

Each queue is a row of cells with a write position and a read position, both soft: distributions over the cells. A step writes a value with
some probability and advances the write position with the same probability; it advances the read position with another one. The design
follows the queue of Grefenstette et al. 2015 (arXiv 1506.02516), with positions in place of strengths. With probabilities of 0 and 1 it is
an exact queue.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

QUEUES = 2


class Queued(NamedTuple):
    """The state of the layer."""

    hidden: jax.Array  # [batch, width]
    cells: jax.Array  # [batch, QUEUES, depth, cell]
    write: jax.Array  # [batch, QUEUES, depth]: the position of the next write
    read: jax.Array  # [batch, QUEUES, depth]: the position of the front


def queue_rnn(weights: Mapping[str, jax.Array], state: Queued, gates: jax.Array) -> Queued:
    """Reads the fronts; each queue then softly writes or not, and removes its front or not."""
    batch, queues, _, size = state.cells.shape
    seen = jnp.concatenate([state.hidden, front(state.cells, state.read).reshape(batch, queues * size)], axis=-1)
    hidden = jnp.tanh(gates + seen @ weights["recurrent"])
    written = (hidden @ weights["write"] + weights["write_bias"][None, :]).reshape(batch, queues, 2 + size)
    put, take = (jax.nn.sigmoid(written[..., i]) for i in (0, 1))
    cells, write = enqueue(state.cells, state.write, put, written[..., 2:])
    return Queued(hidden, cells, write, advance(state.read, take))


def front(cells: Float[Array, "batch queues depth cell"], read: Float[Array, "batch queues depth"]) -> Float[Array, "batch queues cell"]:
    """Returns the value at the read position."""
    return jnp.einsum("bqd,bqdc->bqc", read, cells)


def enqueue(
    cells: Float[Array, "batch queues depth cell"],
    write: Float[Array, "batch queues depth"],
    put: Float[Array, "batch queues"],
    value: Float[Array, "batch queues cell"],
) -> tuple[Float[Array, "batch queues depth cell"], Float[Array, "batch queues depth"]]:
    """Returns the cells and the write position after writing `value` with probability `put`."""
    return cells + (put[..., None] * write)[..., None] * value[:, :, None, :], advance(write, put)


def advance(place: Float[Array, "batch queues depth"], by: Float[Array, "batch queues"]) -> Float[Array, "batch queues depth"]:
    """Returns the position after advancing one cell with probability `by`; past the last cell it is lost."""
    moved = jnp.pad(place[..., :-1], [(0, 0), (0, 0), (1, 0)])
    return by[..., None] * moved + (1 - by[..., None]) * place


def empty_queues(width: int, size: int, depth: int, batch: int, dtype: Any) -> Queued:
    """Returns empty queues, with both positions at the first cell."""
    place = jnp.zeros((batch, QUEUES, depth), dtype).at[..., 0].set(1)
    return Queued(jnp.zeros((batch, width), dtype), jnp.zeros((batch, QUEUES, depth, size), dtype), place, place)
