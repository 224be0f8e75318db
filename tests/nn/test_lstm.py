import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.nn.lstm import State, lstm, lstm_scan

SEQ, BATCH, WIDTH = 9, 5, 6


def literal(recurrent, state, gates):
    """As the paper has it, token by token, with JAX's own gradient."""
    hidden, cell = state
    seen = []
    for gate in gates:
        enter, forget, candidate, out = jnp.split(gate + hidden @ recurrent, 4, axis=-1)
        cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
        hidden = jax.nn.sigmoid(out) * jnp.tanh(cell)
        seen.append(hidden)
    return jnp.stack(seen), State(hidden, cell)


def own(recurrent, state, gates):
    return lstm_scan({"recurrent": recurrent}, state, gates)


@pytest.fixture
def drawn():
    keys = jax.random.split(jax.random.key(0), 4)
    state = State(*(jax.random.normal(key, (BATCH, WIDTH)) for key in keys[:2]))
    return jax.random.normal(keys[2], (WIDTH, 4 * WIDTH)), state, 2 * jax.random.normal(keys[3], (SEQ, BATCH, 4 * WIDTH))


def slope(run, *arguments):
    """Of something to which each of the results adds its own."""

    def told(*arguments):
        hidden, state = run(*arguments)
        weights = jnp.cos(jnp.arange(hidden.size).reshape(hidden.shape))
        return (hidden * weights).sum() + jnp.square(state.hidden).sum() + jnp.sin(state.cell).sum()

    return jax.grad(told, (0, 1, 2))(*arguments)


def close(found, wanted, tolerance):
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def test_values_and_gradients_are_those_of_the_literal_one(drawn):
    close(jax.jit(own)(*drawn), literal(*drawn), 1e-5)
    close(slope(own, *drawn), slope(literal, *drawn), 1e-4)


def test_a_step_is_a_token_of_the_scan(drawn):
    recurrent, state, gates = drawn
    hidden, last = own(recurrent, state, gates)
    for token, gate in enumerate(gates):
        state = lstm({"recurrent": recurrent}, state, gate)
        close(state.hidden, hidden[token], 1e-5)
    close(state, last, 1e-5)


def test_gradients_of_gradients_and_over_a_mapped_axis(drawn):
    def again(run):
        return jax.grad(lambda recurrent: sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(slope(run, recurrent, *drawn[1:]))))

    found, wanted = again(own)(drawn[0]), again(literal)(drawn[0])
    assert float(jnp.abs(found - wanted).max()) < 1e-4 * float(jnp.abs(wanted).max())
    several = jnp.stack([drawn[0], -drawn[0]])
    mapped = jax.vmap(lambda recurrent: slope(own, recurrent, *drawn[1:])[0])(several)
    close(mapped, jnp.stack([slope(literal, recurrent, *drawn[1:])[0] for recurrent in several]), 1e-4)


def test_a_product_with_the_jacobian_is_a_gradient_of_a_gradient(drawn):
    """Forward mode is refused by JAX; the vjp is linear in its argument, and its own vjp is the jvp."""
    recurrent, state, gates = drawn
    tangent = jax.random.normal(jax.random.key(1), gates.shape)

    def hidden(gates):
        return own(recurrent, state, gates)[0]

    with pytest.raises(TypeError, match="jvp"):
        jax.jvp(hidden, (gates,), (tangent,))
    seen, pulled = jax.vjp(hidden, gates)
    _, pushed = jax.vjp(lambda cotangent: pulled(cotangent)[0], jnp.zeros_like(seen))
    wanted = jax.jvp(lambda gates: literal(recurrent, state, gates)[0], (gates,), (tangent,))[1]
    close(pushed(tangent)[0], wanted, 1e-4)


def test_in_bfloat16_types_stay_and_values_are_near(drawn):
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), drawn)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), narrow)
    found, wanted = (own(*narrow), slope(own, *narrow)), (literal(*wide), slope(literal, *wide))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert float(jnp.abs(left.astype(jnp.float32) - right).max()) < 0.1 * float(jnp.abs(right).max())
