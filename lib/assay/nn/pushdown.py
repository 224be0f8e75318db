"""A recurrent cell that is a bank of soft automata with a stack of their states: what nested expressions need, where a bracket puts aside
what has been read and the bracket that closes takes it up again.

At each token the bank moves (`nn.automaton`), by the token, by its own states and by those on top of the stack. From where it then is it
chooses, softly, between pushing the states that it had before, popping the top, and leaving the stack as it is (the stack of Joulin and
Mikolov 2015, arXiv 1503.01007, with states of automata for numbers).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from assay.nn.automaton import STATES, first_states, move


class Pushed(NamedTuple):
    """What the layer carries."""

    hidden: jax.Array  # [batch, width]: the distributions over states, one automaton after the other
    stack: jax.Array  # [batch, depth, width]; the top is first


def pushdown(weights: Mapping[str, jax.Array], state: Pushed, gates: Float[Array, "batch logits"]) -> Pushed:
    """One token: `gates` are what it adds to the logits of the moves, width * STATES of them."""
    batch, width = state.hidden.shape
    logits = gates + jnp.concatenate([state.hidden, state.stack[:, 0]], axis=-1) @ weights["recurrent"]
    after = move(state.hidden.reshape(batch, -1, STATES), logits.reshape(batch, -1, STATES, STATES)).reshape(batch, width)
    actions = jax.nn.softmax(after @ weights["write"] + weights["write_bias"][None, :], axis=-1)
    return Pushed(after, update_stack(state.stack, actions, state.hidden))


def update_stack(
    stack: Float[Array, "batch depth cell"], actions: Float[Array, "batch 3"], value: Float[Array, "batch cell"]
) -> Float[Array, "batch depth cell"]:
    """The mean of the stack after a push of `value`, after a pop, and as it is, weighted by `actions` in this order. Zeros lie below it."""
    pushed = jnp.concatenate([value[:, None], stack[:, :-1]], axis=1)
    popped = jnp.concatenate([stack[:, 1:], jnp.zeros_like(stack[:, :1])], axis=1)
    push, pop, wait = (actions[:, i, None, None] for i in range(3))
    return push * pushed + pop * popped + wait * stack


def empty_pushdown(width: int, depth: int, batch: int, dtype: Any) -> Pushed:
    """Every automaton in its first state, and nothing on the stack."""
    return Pushed(first_states(width, batch, dtype).hidden, jnp.zeros((batch, depth, width), dtype))
