"""A recurrent cell that is a bank of soft automata with a stack of their states, for nested expressions.

An opening bracket pushes the state so far, and the closing bracket pops it. At each token the automata move (`nn.automaton`), depending on
the token, their own states and the top of the stack. From the new state, the cell softly selects among three actions: push the previous
states, pop the top, or leave the stack unchanged. The stack is that of Joulin and Mikolov 2015 (arXiv 1503.01007), with automaton states in
place of numbers.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from assay.nn.automaton import STATES, first_states, move


class Pushed(NamedTuple):
    """The state of the layer."""

    hidden: jax.Array  # [batch, width]: the distributions over states, concatenated over automata
    stack: jax.Array  # [batch, depth, width], top first


def pushdown(weights: Mapping[str, jax.Array], state: Pushed, gates: Float[Array, "batch logits"]) -> Pushed:
    """Processes one token; `gates` is its contribution to the logits of the transitions, width * STATES of them."""
    batch, width = state.hidden.shape
    logits = gates + jnp.concatenate([state.hidden, state.stack[:, 0]], axis=-1) @ weights["recurrent"]
    after = move(state.hidden.reshape(batch, -1, STATES), logits.reshape(batch, -1, STATES, STATES)).reshape(batch, width)
    actions = jax.nn.softmax(after @ weights["write"] + weights["write_bias"][None, :], axis=-1)
    return Pushed(after, update_stack(state.stack, actions, state.hidden))


def update_stack(
    stack: Float[Array, "batch depth cell"], actions: Float[Array, "batch 3"], value: Float[Array, "batch cell"]
) -> Float[Array, "batch depth cell"]:
    """Returns the average of the stack after pushing `value`, after popping, and unchanged, weighted by `actions` in this order. Zeros fill
    the bottom."""
    pushed = jnp.concatenate([value[:, None], stack[:, :-1]], axis=1)
    popped = jnp.concatenate([stack[:, 1:], jnp.zeros_like(stack[:, :1])], axis=1)
    push, pop, wait = (actions[:, i, None, None] for i in range(3))
    return push * pushed + pop * popped + wait * stack


def empty_pushdown(width: int, depth: int, batch: int, dtype: Any) -> Pushed:
    """Returns all automata in their first state, and an empty stack."""
    return Pushed(first_states(width, batch, dtype).hidden, jnp.zeros((batch, depth, width), dtype))
