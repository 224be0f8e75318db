"""Recurrent cells under one scan.

The product with the inputs is computed for all steps at once, before the scan, which then contains only the product with the state.
Measured on a CPU, this is 1.7 times as fast as a cell that does both.

A cell is a row of `CELLS`: its state, its weights, and one step, a pure function `(weights, state, gates) -> state` whose `state.hidden` is
the output. `Layer` runs any of them over (seq, batch, features); `Bidirectional` runs one in both directions.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from assay.config.schema import require
from assay.nn.automaton import STATES, Automata, automata_network, automaton, first_states, staying
from assay.nn.lstm import State, lstm, lstm_scan
from assay.nn.product import Dense
from assay.nn.pushdown import empty_pushdown, pushdown, update_stack
from assay.nn.queue import QUEUES, empty_queues, queue_rnn
from assay.nn.tap import edits_at, record, tap

Weights = Mapping[str, jax.Array]
Initializer = Callable[..., jax.Array]


class Size(NamedTuple):
    """The size of a layer."""

    width: int  # features of the hidden state
    stack_cell: int = 0  # features of a stack cell or queue cell
    stack_depth: int = 0  # number of cells; values pushed below the last are lost; 0: the number of tokens


class Hidden(NamedTuple):
    """The state of an RNN or GRU layer, [batch, width]."""

    hidden: jax.Array


class Stacked(NamedTuple):
    """The state of a stack-augmented RNN layer."""

    hidden: jax.Array  # [batch, width]
    stack: jax.Array  # [batch, stack_depth, stack_cell], top first


def rnn(weights: Weights, state: Hidden, gates: jax.Array) -> Hidden:
    """hidden = tanh(input + U hidden) (Elman 1990)."""
    return Hidden(jnp.tanh(gates + state.hidden @ weights["recurrent"]))


def gru(weights: Weights, state: Hidden, gates: jax.Array) -> Hidden:
    """The GRU (Cho et al. 2014) with the reset gate after the product, so that a step needs one product.

    Gates: reset, update, candidate. candidate = tanh(input + reset * (U hidden + b)); hidden = (1 - update) * candidate + update * hidden
    """
    reset, update, candidate = jnp.split(gates, 3, axis=-1)
    kept = jnp.split(state.hidden @ weights["recurrent"] + weights["recurrent_bias"][None, :], 3, axis=-1)
    reset, update = jax.nn.sigmoid(reset + kept[0]), jax.nn.sigmoid(update + kept[1])
    return Hidden((1 - update) * jnp.tanh(candidate + reset * kept[2]) + update * state.hidden)


def stack_rnn(weights: Weights, state: Stacked, gates: jax.Array) -> Stacked:
    """The stack-augmented RNN (Joulin and Mikolov 2015, as in Deletang et al. 2023).

    It reads the top of the stack, then softly pushes, pops or waits.
    """
    seen = jnp.concatenate([state.hidden, state.stack[:, 0]], axis=-1)
    hidden = jnp.tanh(gates + seen @ weights["recurrent"])
    written = hidden @ weights["write"] + weights["write_bias"][None, :]
    return Stacked(hidden, update_stack(state.stack, jax.nn.softmax(written[:, :3], axis=-1), written[:, 3:]))


class Cell(NamedTuple):
    gates: int  # output features of the product with the inputs, in multiples of the width
    bias: Initializer  # initializer of the bias of that product
    weights: Callable[[Size], Mapping[str, tuple[tuple[int, ...], Initializer]]]  # name -> (shape, initializer)
    zeros: Callable[[Size, int, Any], Any]  # (size, batch, dtype) -> the state before the first step
    step: Callable[[Weights, Any, jax.Array], Any]
    multiple: int = 1  # the width must be a multiple of this
    scan: Callable[[Weights, Any, jax.Array], tuple[jax.Array, Any]] | None = None  # all steps at once, if there is a faster way


class Layer(nn.Module):
    """One recurrent layer over (seq, batch, features) activations, from `state` to the state after the last step.

    `hidden` is tapped after the scan, so an edit of it affects later layers but not later tokens. An edit at `state`, `(t, state) ->
    state`, affects both. `state/hidden`, `state/cell`, ... are tapped only with such an edit, for example `unchanged`.
    """

    cell: str  # a name in CELLS
    size: Size
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "seq batch features"], state: Any) -> tuple[Float[Array, "seq batch width"], Any]:
        seq, batch, features = x.shape
        cell = CELLS[self.cell]
        gated = cell.gates * self.size.width
        gates = Dense(gated, dtype=self.dtype, name="input", bias_init=cell.bias)(x.reshape(seq * batch, features))
        shapes = cell.weights(self.size)
        weights = {name: self.param(name, initializer, shape).astype(self.dtype) for name, (shape, initializer) in shapes.items()}

        gates, edits = gates.reshape(seq, batch, gated), edits_at(self, "state")
        if edits:
            hidden, state = self._edited(weights, state, gates, edits)
        else:
            hidden, state = (cell.scan or partial(_scanned, cell.step))(weights, state, gates)
        return tap(self, "hidden", hidden, "s b w"), state

    def _edited(self, weights: Weights, state: Any, gates: jax.Array, edits: Sequence[Callable]) -> tuple[jax.Array, Any]:
        """Runs the layer step by step with edits of the state.

        Each edit receives `(t, state)` after step t and returns the state for step t + 1. All parts of the state are tapped, [seq, batch,
        ...], which the fast path avoids storing.
        """

        def one(state: Any, now: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
            t, gate = now
            state = CELLS[self.cell].step(weights, state, gate)
            for edit in edits:
                state = edit(t, state)
            return state, state

        state, states = jax.lax.scan(one, state, (jnp.arange(len(gates)), gates))
        for name, part in zip(states._fields, states, strict=True):
            record(self, f"state/{name}", part, " ".join("sbij"[: part.ndim - 1]) + " w")
        return states.hidden, state


class Bidirectional(nn.Module):
    """Two layers, one forward from the first token and one backward from the last valid token (Schuster and Paliwal 1997).

    Their outputs are concatenated along the features. Padding does not affect valid tokens. `backward/hidden` is tapped in reading order,
    `hidden` in token order.
    """

    cell: str
    size: Size
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "seq batch features"], length: Int[Array, " batch"]) -> Float[Array, "seq batch two_widths"]:
        zeros = CELLS[self.cell].zeros(self.size, x.shape[1], self.dtype)
        forward, _ = Layer(self.cell, self.size, self.dtype, name="forward")(x, zeros)
        backward, _ = Layer(self.cell, self.size, self.dtype, name="backward")(reverse(x, length), zeros)
        return tap(self, "hidden", jnp.concatenate([forward, reverse(backward, length)], axis=-1), "s b w")


def unchanged(t: jax.Array, state: Any) -> Any:
    """An edit at `state` that changes nothing, used to read the states."""
    del t
    return state


def empty(cell: str, size: Size, batch_size: int, tokens: int, dtype: jnp.dtype) -> Any:
    """Returns the state of a layer before the first of `tokens` tokens."""
    return CELLS[cell].zeros(size._replace(stack_depth=size.stack_depth or tokens), batch_size, dtype)


def check_width(cell: str, width: int) -> None:
    """Raises UserError if the cell does not support this width."""
    require(width % CELLS[cell].multiple == 0, "model.width", width, f"a multiple of {CELLS[cell].multiple} for the cell {cell}")


def reverse(x: Float[Array, "seq batch features"], length: Int[Array, " batch"]) -> Float[Array, "seq batch features"]:
    """Reverses the first `length` steps of each row; padding keeps its position. It is its own inverse."""
    step = jnp.arange(len(x))[:, None]
    return jnp.take_along_axis(x, jnp.where(step < length[None, :], length[None, :] - 1 - step, step)[:, :, None], axis=0)


# -- private --------------------------------------------------------------------------------------------------------------


def _scanned(step: Callable[[Weights, Any, jax.Array], Any], weights: Weights, state: Any, gates: jax.Array) -> tuple[jax.Array, Any]:
    """Returns the hidden states [seq, batch, width] and the final state."""

    def one(state: Any, gate: jax.Array) -> tuple[Any, jax.Array]:
        state = step(weights, state, gate)
        return state, state.hidden

    state, hidden = jax.lax.scan(one, state, gates)
    return hidden, state


def _forget_one(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Initializes the forget bias to one, which preserves gradients early in training (Jozefowicz et al. 2015)."""
    del key
    return jnp.zeros(shape, dtype).at[shape[0] // 4 : shape[0] // 2].set(1.0)


def _update_spread(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Initializes update biases to log(T - 1), so that features initially hold their state for T = 2 to 128 steps.

    The method is that of Tallec and Ollivier 2018. The paper draws T uniformly, which leaves few fast features; here T is spaced evenly on
    a logarithmic scale.
    """
    del key
    width = shape[0] // 3
    steps = jnp.geomspace(2.0, 128.0, width) if width > 1 else jnp.full(width, 16.0)
    return jnp.zeros(shape, dtype).at[width : 2 * width].set(jnp.log(steps - 1.0))


def _orthogonal_gates(gates: int) -> Initializer:
    """Initializer: one orthogonal matrix per gate (Saxe et al. 2014), which preserves the norm of the state."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        square = (shape[0], shape[1] // gates)
        return jnp.concatenate([nn.initializers.orthogonal()(part, square, dtype) for part in jax.random.split(key, gates)], axis=1)

    return init


def _zeros(record: type) -> Callable[[Size, int, Any], Any]:
    """Returns zeros for each field of a record, [batch, width]."""
    return lambda size, batch, dtype: record(*(jnp.zeros((batch, size.width), dtype) for _ in record._fields))  # type: ignore[attr-defined]


def _empty_stack(size: Size, batch: int, dtype: Any) -> Stacked:
    return Stacked(jnp.zeros((batch, size.width), dtype), jnp.zeros((batch, size.stack_depth, size.stack_cell), dtype))


def _first_states(size: Size, batch: int, dtype: Any) -> Automata:
    return first_states(size.width, batch, dtype)


def _above_small(rows: int) -> Initializer:
    """Initializer: orthogonal in the first `rows`, which read the state; LeCun normal in the rows that read the stack."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        state, top = jax.random.split(key)
        read = nn.initializers.lecun_normal()(top, (shape[0] - rows, shape[1]), dtype)
        return jnp.concatenate([nn.initializers.orthogonal()(state, (rows, shape[1]), dtype), read], axis=0)

    return init


_ORTHOGONAL, _NOTHING, _LECUN = nn.initializers.orthogonal(), nn.initializers.zeros_init(), nn.initializers.lecun_normal()

CELLS: Mapping[str, Cell] = {
    "rnn": Cell(1, _NOTHING, lambda size: {"recurrent": ((size.width, size.width), _ORTHOGONAL)}, _zeros(Hidden), rnn),
    "lstm": Cell(
        4, _forget_one, lambda size: {"recurrent": ((size.width, 4 * size.width), _ORTHOGONAL)}, _zeros(State), lstm, scan=lstm_scan
    ),
    "gru": Cell(
        3,
        _update_spread,
        lambda size: {
            "recurrent": ((size.width, 3 * size.width), _orthogonal_gates(3)),
            "recurrent_bias": ((3 * size.width,), _NOTHING),
        },
        _zeros(Hidden),
        gru,
    ),
    "stack_rnn": Cell(
        1,
        _NOTHING,
        lambda size: {
            "recurrent": ((size.width + size.stack_cell, size.width), _above_small(size.width)),
            "write": ((size.width, 3 + size.stack_cell), _LECUN),  # columns: push, pop, wait, then the pushed value
            "write_bias": ((3 + size.stack_cell,), _NOTHING),
        },
        _empty_stack,
        stack_rnn,
    ),
    "queue_rnn": Cell(
        1,
        _NOTHING,
        lambda size: {
            "recurrent": ((size.width + QUEUES * size.stack_cell, size.width), _above_small(size.width)),
            "write": ((size.width, QUEUES * (2 + size.stack_cell)), _LECUN),  # per queue: write, remove, then the value
            "write_bias": ((QUEUES * (2 + size.stack_cell),), _NOTHING),
        },
        lambda size, batch, dtype: empty_queues(size.width, size.stack_cell, size.stack_depth, batch, dtype),
        queue_rnn,
    ),
    "automaton": Cell(STATES, staying, lambda size: {}, _first_states, automaton, multiple=STATES),
    "automata_network": Cell(
        STATES,
        staying,
        lambda size: {"recurrent": ((size.width, STATES * size.width), _LECUN)},
        _first_states,
        automata_network,
        multiple=STATES,
    ),
    "pushdown": Cell(
        STATES,
        staying,
        lambda size: {
            "recurrent": ((2 * size.width, STATES * size.width), _LECUN),
            "write": ((size.width, 3), _LECUN),  # columns: push, pop, wait
            "write_bias": ((3,), _NOTHING),
        },
        lambda size, batch, dtype: empty_pushdown(size.width, size.stack_depth, batch, dtype),
        pushdown,
        multiple=STATES,
    ),
}
