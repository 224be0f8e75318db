"""A bank of soft automata: moves by hand, exactness where choices are sharp, and what a stochastic matrix can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.config import recurrent, transformer
from assay.core.errors import UserError
from assay.models.families import build
from assay.models.model import Vocabulary
from assay.models.precision import PrecisionConfig
from assay.nn.automaton import STATES, STAY, automata_network, automaton, first_states, move
from assay.nn.recurrent import CELLS, Layer, Size


def sharp(to: list[int]) -> np.ndarray:
    """Logits that move state i to to[i]."""
    logits = np.full((STATES, STATES), -100.0, np.float32)
    logits[to, np.arange(STATES)] = 100.0
    return logits


def test_moves_equal_products_with_stochastic_matrices():
    random = np.random.default_rng(0)
    states, logits = random.dirichlet(np.ones(STATES), (3, 2)), random.standard_normal((3, 2, STATES, STATES))
    matrices = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    expected = np.einsum("batf,baf->bat", matrices, states)
    found = move(jnp.asarray(states, jnp.float32), jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(found).sum(axis=2), 1.0, rtol=1e-5)


def test_sharp_choices_are_exact_however_long():
    """Counting modulo 5 for 20,000 tokens by a permutation, which no contracting state could do, and a reset that forgets all."""
    turn, reset = sharp([1, 2, 3, 4, 0, 5, 6, 7]), sharp([0] * STATES)
    gates = jnp.asarray(np.stack([turn, reset]).reshape(2, 1, -1))
    tokens = np.zeros(20_003, np.int32)
    tokens[20_001] = 1

    def step(state, token):
        state = automaton({}, state, gates[token])
        return state, state.hidden

    _, states = jax.lax.scan(step, first_states(STATES, 1, jnp.float32), tokens)
    assert states.argmax(axis=-1)[[0, 19_999, 20_000, 20_001, 20_002], 0].tolist() == [1, 0, 1, 0, 1]
    np.testing.assert_allclose(np.asarray(states).max(axis=-1), 1.0, rtol=1e-5)


def test_an_automaton_sees_where_the_others_are():
    """The first turns by two states at each token; the second turns by one where the first stands in an even state before it, which all do
    here, and stays where a token has put the first in an odd one."""
    stay, turn = sharp(list(range(STATES))), sharp([*range(1, STATES), 0])
    two, jump = sharp([*range(2, STATES), 0, 1]), sharp([*range(1, STATES), 0])
    recurrent = np.zeros((2 * STATES, 2, STATES, STATES), np.float32)
    recurrent[1:STATES:2, 1] = stay - turn  # from an odd state of the first to the move of the second
    weights = {"recurrent": jnp.asarray(recurrent.reshape(2 * STATES, -1))}
    gates = jnp.asarray(np.stack([np.stack([first, turn]).reshape(1, -1) for first in (two, jump)]))
    state, seen = first_states(2 * STATES, 1, jnp.float32), []
    for token in (0, 0, 0, 1, 0, 0, 1, 0):  # the first stands in 2, 4, 6, 7, 1, 3, 4, 6
        state = automata_network(weights, state, gates[token])
        seen.append(np.asarray(state.hidden).reshape(2, STATES).argmax(axis=1).tolist())
    assert seen == [[2, 1], [4, 2], [6, 3], [7, 4], [1, 4], [3, 4], [4, 4], [6, 5]]
    np.testing.assert_allclose(np.asarray(state.hidden).reshape(2, STATES).max(axis=1), 1.0, rtol=1e-5)


def test_a_layer_begins_in_first_states_and_forgets_at_a_known_pace():
    """Where tokens say nothing yet, a state stays with e^STAY / (e^STAY + STATES - 1): of a difference between two states a share of
    (e^STAY - 1) / (e^STAY + STATES - 1) is left after each token, so that the first strings to be learnt are short."""
    size = Size(2 * STATES)
    layer, zeros = Layer("automaton", size), CELLS["automaton"].zeros(size, 3, jnp.float32)
    np.testing.assert_array_equal(zeros.hidden, np.tile(np.eye(STATES)[0], (3, 2)))
    params = layer.init(jax.random.key(0), jnp.ones((1, 3, 4)), zeros)["params"]
    assert set(params) == {"input"} and params["input"]["kernel"].shape == (4, 2 * STATES * STATES)
    other = zeros._replace(hidden=jnp.roll(zeros.hidden, 1, axis=1))
    left, right = (np.asarray(layer.apply({"params": params}, jnp.zeros((5, 3, 4)), state)[0]) for state in (zeros, other))
    share = (np.exp(STAY) - 1) / (np.exp(STAY) + STATES - 1)
    difference = np.abs(left - right).max(axis=(1, 2))
    np.testing.assert_allclose(difference, share ** np.arange(1, 6), rtol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"mixers": ("attention", "automaton")}])
def test_the_width_holds_whole_automata(changes):
    config = transformer("decoder", **changes) if changes else recurrent("automaton")
    config.update({"width": 12})
    with pytest.raises(UserError, match=rf"config\.model\.width=12.*multiple of {STATES}"):
        build(config.to_dict(), Vocabulary(4, 4), PrecisionConfig("float32", "float32", "float32"))
