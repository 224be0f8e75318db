"""Recurrent cells that are a bank of finite automata, softly: each token chooses a move for each automaton, and a move takes every state to
another. The sharper the choice, the longer it stays right: moves of probability 1 never blur. A cell with real numbers in its state may fit
short strings by a count that ends where training did; with few states there is no room for one.

The state of an automaton is a distribution over its states (Rabin 1963), which a stochastic matrix, a softmax of activations, takes to
the next. Such matrices hold all permutations, whose eigenvalues lie all around the unit circle, which parity and counting modulo n need
(Grazzi et al. 2024, arXiv 2411.12537), and resets, which no orthogonal matrix can do. Where only the token chooses (`automaton`), one that
needs another's state stands a block above it (Krohn and Rhodes 1965). In a network of automata (`automata_network`) the states of all
choose too: that learns arithmetic modulo 5, where the operator before a number says what the number does, and holds a count less exactly.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

STATES = 8  # of each automaton; the width holds width / STATES of them
STAY = 2.0  # at the start: how much the logit of staying exceeds the others, so that early tokens are not forgotten at once


class Automata(NamedTuple):
    """What the layer carries."""

    hidden: jax.Array  # [batch, width]: the distributions over states, one automaton after the other


def automaton(weights: Mapping[str, jax.Array], state: Automata, gates: Float[Array, "batch logits"]) -> Automata:
    """One token: `gates` are the logits of its moves, width * STATES of them."""
    del weights
    batch, width = state.hidden.shape
    after = move(state.hidden.reshape(batch, -1, STATES), gates.reshape(batch, -1, STATES, STATES))
    return Automata(after.reshape(batch, width))


def automata_network(weights: Mapping[str, jax.Array], state: Automata, gates: Float[Array, "batch logits"]) -> Automata:
    """The same where the automata see one another: the states of all add to the logits."""
    return automaton({}, state, gates + state.hidden @ weights["recurrent"])


def move(
    states: Float[Array, "batch automata states"], logits: Float[Array, "batch automata states states"]
) -> Float[Array, "batch automata states"]:
    """The distributions after one token; `logits[b, a, to, from]` is of moving to a state from another."""
    return jnp.einsum("batf,baf->bat", jax.nn.softmax(logits, axis=2), states)


def first_states(width: int, batch: int, dtype: Any) -> Automata:
    """Every automaton in its first state."""
    return Automata(jnp.tile(jax.nn.one_hot(0, STATES, dtype=dtype), (batch, width // STATES)))


def staying(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, " logits"]:
    """The bias of the logits of all moves, [automata * STATES * STATES]: `STAY` on each diagonal."""
    del key
    return jnp.tile((STAY * jnp.eye(STATES, dtype=dtype)).reshape(-1), shape[0] // STATES**2)
