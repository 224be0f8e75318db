"""The soft queues, where their probabilities are 0 and 1, against Python's."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.nn.queue import QUEUES, advance, empty_queues, enqueue, front, queue_rnn
from assay.nn.recurrent import CELLS, Size

BATCH, DEPTH, CELL, STEPS = 3, 12, 2, 10


def test_hard_actions_make_a_queue():
    random = np.random.default_rng(0)
    state = empty_queues(4, CELL, DEPTH, BATCH, jnp.float32)
    cells, write, read = state.cells, state.write, state.read
    queues = [[deque() for _ in range(QUEUES)] for _ in range(BATCH)]
    for _ in range(STEPS):
        put, value = random.integers(0, 2, (BATCH, QUEUES)), random.normal(size=(BATCH, QUEUES, CELL)).astype(np.float32)
        take = np.zeros((BATCH, QUEUES), int)
        seen = np.asarray(front(cells, read))
        for b in range(BATCH):
            for q in range(QUEUES):
                expected = queues[b][q][0] if queues[b][q] else np.zeros(CELL)
                np.testing.assert_allclose(seen[b, q], expected, atol=1e-6)
                if queues[b][q] and random.integers(0, 2):
                    take[b, q] = 1
                    queues[b][q].popleft()
                if put[b, q]:
                    queues[b][q].append(value[b, q])
        cells, write = enqueue(cells, write, jnp.asarray(put, jnp.float32), jnp.asarray(value))
        read = advance(read, jnp.asarray(take, jnp.float32))


def test_places_are_distributions_until_they_leave():
    place = empty_queues(4, CELL, DEPTH, BATCH, jnp.float32).read
    for _ in range(DEPTH - 2):
        place = advance(place, jnp.full((BATCH, QUEUES), 0.7))
    np.testing.assert_allclose(np.asarray(place).sum(axis=-1), 1.0, rtol=1e-5)
    expected = np.random.default_rng(0).binomial(DEPTH - 2, 0.7, 100_000).mean()
    np.testing.assert_allclose(np.asarray(place)[0, 0] @ np.arange(DEPTH), expected, atol=0.02)


@pytest.mark.parametrize("opened", [10.0, -10.0])
def test_the_cell_copies_what_it_read_if_its_weights_say_so(opened):
    """Write at each of the first steps, then read: with take open the values come out in their order, and else the first stays."""
    size = Size(4, CELL, DEPTH)
    weights = {name: jnp.zeros(shape) for name, (shape, _) in CELLS["queue_rnn"].weights(size).items()}
    # hidden 0 and 1 hold the value that is read; hidden 2 says that this step writes; hidden 3 that it takes away
    for q in range(QUEUES):
        start = q * (2 + CELL)
        weights["write"] = weights["write"].at[2, start].set(20.0).at[3, start + 1].set(max(2 * opened, 0.0))
        weights["write"] = weights["write"].at[0, start + 2].set(1.0).at[1, start + 3].set(1.0)
        weights["write_bias"] = weights["write_bias"].at[start].set(-10.0).at[start + 1].set(-10.0)
    weights["recurrent"] = weights["recurrent"].at[4, 0].set(1.0).at[5, 1].set(1.0)  # the front of the first queue
    values = np.random.default_rng(0).uniform(-0.5, 0.5, (4, CELL)).astype(np.float32)
    state = empty_queues(4, CELL, DEPTH, 1, jnp.float32)
    for value in values:
        gates = jnp.asarray([[*np.arctanh(value) - np.asarray(front(state.cells, state.read))[0, 0], 20.0, -20.0]])
        state = queue_rnn(weights, state, gates)
    seen = []
    for _ in range(4):
        seen.append(np.asarray(front(state.cells, state.read))[0, 0])
        state = queue_rnn(weights, state, jnp.asarray([[0.0, 0.0, -20.0, 20.0]]))
    expected = values if opened > 0 else np.tile(values[:1], (4, 1))
    np.testing.assert_allclose(np.stack(seen), expected, atol=2e-3)
    assert jax.tree.all(jax.tree.map(lambda leaf: bool(jnp.isfinite(leaf).all()), state))
