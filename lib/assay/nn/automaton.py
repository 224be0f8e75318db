"""A recurrent cell that is a bank of finite automata, softly: at each token every automaton makes a move, which takes each of its states
to another, chosen by the token and by where all automata of the bank are. The sharper the choice, the longer it stays right: moves of
probability 1 never blur. A cell with real numbers in its state may fit short strings by a count that ends where training did; with few
states there is no room for one.

The state of an automaton is a distribution over its states (Rabin 1963), which a stochastic matrix, a softmax of activations, takes to
the next. Such matrices hold all permutations, whose eigenvalues lie all around the unit circle, which parity and counting modulo n need
(Grazzi et al. 2024, arXiv 2411.12537), and resets, which no orthogonal matrix can do. Where only the token chooses, an automaton that
needs another's state stands a block above it (Krohn and Rhodes 1965): such banks, four blocks of them and attention in turn, did not learn
arithmetic modulo 5 within 1,000 updates, where the operator before a number says what the number does; one bank that sees itself does.
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
    """One token: `gates` are what it adds to the logits of the moves, width * STATES of them."""
    batch, width = state.hidden.shape
    logits = gates + state.hidden @ weights["recurrent"]
    after = move(state.hidden.reshape(batch, -1, STATES), logits.reshape(batch, -1, STATES, STATES))
    return Automata(after.reshape(batch, width))


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
