"""Activations by example and token, whatever their layout, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.nn.tap import Taps, from_tokens, to_tokens

LAYOUTS = [
    ("bs w", (6, 4), (3, 2, 4)),
    ("b s w", (3, 2, 4), (3, 2, 4)),
    ("s b w", (2, 3, 4), (3, 2, 4)),
    ("b w", (3, 4), (3, 1, 4)),
    ("b h s d", (3, 5, 2, 4), (3, 2, 5, 4)),
    ("b h q k", (3, 5, 2, 2), (3, 2, 5, 2)),
    ("b y x w", (3, 2, 5, 4), (3, 10, 4)),
    ("m bs w", (7, 6, 4), (3, 2, 7, 4)),
]


@pytest.mark.parametrize(("axes", "shape", "expected"), LAYOUTS)
def test_there_and_back(axes, shape, expected):
    value = np.arange(np.prod(shape)).reshape(shape)
    tokens = to_tokens(value, axes, 3)
    assert tokens.shape == expected
    np.testing.assert_array_equal(from_tokens(tokens, axes, shape), value)


def test_each_token_is_where_it_belongs():
    """Where there are as many tokens as examples no size can tell them apart."""
    tokens = np.arange(3 * 3 * 4).reshape(3, 3, 4)
    laid = {"bs w": tokens.reshape(9, 4), "s b w": tokens.swapaxes(0, 1), "b s w": tokens}
    for axes, value in laid.items():
        np.testing.assert_array_equal(to_tokens(value, axes, 3), tokens)


@pytest.mark.parametrize(("axes", "shape"), [("h q k", (2, 3, 3)), ("bs w", (7, 4)), ("bs w", (6, 4, 1)), ("b w", (6, 4))])
def test_axes_that_are_not_those_of_the_value(axes, shape):
    with pytest.raises(ValueError, match="axes"):
        to_tokens(np.zeros(shape), axes, 3)


def test_taps_are_a_tree_of_their_values_alone():
    taps = Taps({"b/hidden": jnp.ones(2), "a": jnp.zeros(2)}, {"b/hidden": "b"})

    def doubled(taps: Taps) -> Taps:
        assert taps.axes == {"b/hidden": "b"}
        return jax.tree.map(lambda value: 2 * value, taps)

    for found in (jax.jit(doubled)(taps), jax.vmap(doubled)(taps), jax.eval_shape(doubled, taps), doubled(taps)):
        assert isinstance(found, Taps) and list(found) == ["b/hidden", "a"] and found.axes == {"b/hidden": "b"}
    assert len(jax.tree.leaves(taps)) == 2
    assert [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(taps)] == ["['b/hidden']", "['a']"]
