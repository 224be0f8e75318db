"""Recurrent cells that are banks of soft finite automata: each token selects a transition for each automaton.

The sharper the selection, the longer the state stays exact: transitions of probability 1 never blur. A cell with real numbers in its state
may fit short strings by a count that fails beyond the trained lengths; a small number of states prevents this.

The state of an automaton is a distribution over its states (Rabin 1963). A stochastic matrix, a softmax of activations, maps it to the next
one. Such matrices include all permutations, whose eigenvalues lie around the unit circle, as parity and counting modulo n require (Grazzi
et al. 2024, arXiv 2411.12537). They also include resets, which no orthogonal matrix can represent.

In `automaton`, only the token selects the transition. An automaton that depends on another one's state must be one block above it (Krohn
and Rhodes 1965). In `automata_network`, the states of all automata also select it. This learns arithmetic modulo 5, where an operator
determines the effect of the next number, but counts less exactly.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

STATES = 8  # states of each automaton; a layer has width / STATES automata
STAY = 2.0  # initial margin of the logit of staying in a state, so that early tokens are not forgotten at once


class Automata(NamedTuple):
    """The state of the layer."""

    hidden: jax.Array  # [batch, width]: the distributions over states, concatenated over automata


def automaton(weights: Mapping[str, jax.Array], state: Automata, gates: Float[Array, "batch logits"]) -> Automata:
    """Processes one token; `gates` are the logits of its transitions, width * STATES of them."""
    del weights
    batch, width = state.hidden.shape
    after = move(state.hidden.reshape(batch, -1, STATES), gates.reshape(batch, -1, STATES, STATES))
    return Automata(after.reshape(batch, width))


def automata_network(weights: Mapping[str, jax.Array], state: Automata, gates: Float[Array, "batch logits"]) -> Automata:
    """Processes one token like `automaton`, with the states of all automata added to the logits."""
    return automaton({}, state, gates + state.hidden @ weights["recurrent"])


def move(
    states: Float[Array, "batch automata states"], logits: Float[Array, "batch automata states states"]
) -> Float[Array, "batch automata states"]:
    """Returns the distributions after one token; `logits[b, a, to, from]` is the logit of the transition between two states."""
    return jnp.einsum("batf,baf->bat", jax.nn.softmax(logits, axis=2), states)


def first_states(width: int, batch: int, dtype: Any) -> Automata:
    """Returns all automata in their first state."""
    return Automata(jnp.tile(jax.nn.one_hot(0, STATES, dtype=dtype), (batch, width // STATES)))


def staying(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, " logits"]:
    """Initializes the bias of the transition logits, [automata * STATES * STATES]: `STAY` on each diagonal."""
    del key
    return jnp.tile((STAY * jnp.eye(STATES, dtype=dtype)).reshape(-1), shape[0] // STATES**2)
