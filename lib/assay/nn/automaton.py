"""A recurrent cell that is a bank of finite automata, softly: each token chooses a move for each automaton, and a move takes every state to
another. Where the choice is sharp it is exact, so that what is right after 40 tokens is right after 4,000; a cell with real numbers in its
state counts instead, and counts end where training did.

The state of an automaton is a distribution over its states (Rabin 1963), which a stochastic matrix, a softmax of the token's activations,
takes to the next. Such matrices hold all permutations, whose eigenvalues lie all around the unit circle, which parity and counting modulo
n need (Grazzi et al. 2024, arXiv 2411.12537), and resets, which no orthogonal matrix can do. Automata that read the states of others, one
block above them, make every finite automaton (Krohn and Rhodes 1965).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

STATES = 8  # of each automaton; the width holds width / STATES of them
STAY = 2.0  # at the start: how much the logit of staying exceeds the others, so that early tokens are not forgotten at once


def move(
    states: Float[Array, "batch automata states"], logits: Float[Array, "batch automata states states"]
) -> Float[Array, "batch automata states"]:
    """The distributions after one token; `logits[b, a, to, from]` is of moving to a state from another."""
    return jnp.einsum("batf,baf->bat", jax.nn.softmax(logits, axis=2), states)


def first_states(batch: int, width: int, dtype: Any) -> Float[Array, "batch width"]:
    """Every automaton in its first state."""
    return jnp.tile(jax.nn.one_hot(0, STATES, dtype=dtype), (batch, width // STATES))


def staying(shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, " gates"]:
    """The bias of the logits of all moves, [automata * states * states]: `STAY` on each diagonal."""
    return jnp.tile((STAY * jnp.eye(STATES, dtype=dtype)).reshape(-1), shape[0] // STATES**2)


def automaton(weights: Mapping[str, jax.Array], hidden: jax.Array, gates: jax.Array) -> jax.Array:
    """One step: [batch, width] to [batch, width]; `gates` [batch, width * STATES] are the logits."""
    del weights
    batch, width = hidden.shape
    after = move(hidden.reshape(batch, -1, STATES), gates.reshape(batch, -1, STATES, STATES))
    return after.reshape(batch, width)
