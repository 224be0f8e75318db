"""A bank of soft automata with a stack of their states: a step written out in loops, and one that reads a string back by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from assay.nn.automaton import STATES
from assay.nn.pushdown import Pushed, empty_pushdown, pushdown, update_stack
from assay.nn.recurrent import CELLS, Layer, Size

BIG = 100.0


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def test_a_step_is_a_move_and_then_an_action_on_the_stack():
    random, width, depth = np.random.default_rng(0), 2 * STATES, 4
    weights = {"recurrent": random.standard_normal((2 * width, width * STATES)), "write": random.standard_normal((width, 3))}
    weights |= {"write_bias": random.standard_normal(3)}
    hidden = random.dirichlet(np.ones(STATES), (3, 2)).reshape(3, width)
    stack, gates = random.random((3, depth, width)), random.standard_normal((3, width * STATES))
    given = {name: jnp.asarray(values, jnp.float32) for name, values in weights.items()}
    found = pushdown(given, Pushed(jnp.asarray(hidden, jnp.float32), jnp.asarray(stack, jnp.float32)), jnp.asarray(gates, jnp.float32))
    for row in range(3):
        logits = gates[row] + np.concatenate([hidden[row], stack[row, 0]]) @ weights["recurrent"]
        moves = softmax(logits.reshape(2, STATES, STATES), axis=1)
        after = np.concatenate([moves[i] @ hidden[row].reshape(2, STATES)[i] for i in range(2)])
        push, pop, wait = softmax(after @ weights["write"] + weights["write_bias"], axis=0)
        below = np.concatenate([stack[row, 1:], np.zeros((1, width))])
        expected = push * np.concatenate([hidden[row][None], stack[row, :-1]]) + pop * below + wait * stack[row]
        np.testing.assert_allclose(found.hidden[row], after, rtol=1e-4)
        np.testing.assert_allclose(found.stack[row], expected, rtol=1e-4, atol=1e-6)


def test_what_is_pushed_comes_back_in_reverse():
    """One automaton. Token i < 6 moves it to state i, and pushes where it was; token 7 moves it to 7, which pops. What lay on top is read
    at each pop."""
    weights = {"recurrent": jnp.zeros((2 * STATES, STATES**2)), "write_bias": jnp.zeros(3)}
    weights["write"] = jnp.asarray([[BIG, 0.0, 0.0]] * 6 + [[0.0, 0.0, BIG], [0.0, BIG, 0.0]])
    state, read = empty_pushdown(STATES, 8, 1, jnp.float32), []
    for token in (3, 1, 5, 2, 7, 7, 7, 7):
        if token == 7:
            read.append(int(state.stack[0, 0].argmax()))
        gates = np.zeros((STATES, STATES), np.float32)
        gates[token] = BIG
        state = pushdown(weights, state, jnp.asarray(gates.reshape(1, -1)))
    assert read == [5, 1, 3, 0], "each push put aside the state before it, the last first"
    np.testing.assert_allclose(state.stack, 0.0, atol=1e-6)


def test_below_the_stack_are_zeros_and_what_is_pushed_out_is_lost():
    stack = jnp.arange(1.0, 4.0).reshape(1, 3, 1)
    one = jnp.ones((1, 1))
    for action, expected in enumerate(([1, 1, 2], [2, 3, 0], [1, 2, 3])):
        assert update_stack(stack, jnp.eye(3)[action][None], one)[0, :, 0].tolist() == expected


def test_the_layer_runs_over_tokens_as_its_steps_do():
    size = Size(STATES, stack_depth=3)
    layer, state = Layer("pushdown", size), CELLS["pushdown"].zeros(size, 2, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (5, 2, 4))
    params = layer.init(jax.random.key(1), x, state)["params"]
    whole, last = layer.apply({"params": params}, x, state)
    half, middle = layer.apply({"params": params}, x[:2], state)
    rest, end = layer.apply({"params": params}, x[2:], middle)
    np.testing.assert_allclose(np.concatenate([half, rest]), whole, rtol=1e-5)
    np.testing.assert_allclose(end.stack, last.stack, rtol=1e-5, atol=1e-7)
