"""Counts of operations: products that read one of several matrices, and what cannot be counted."""

import jax
import jax.numpy as jnp
import pytest

from assay.diagnostics.cost.flops import by_kind, flops

ROWS, EXPERTS, SIZES = jnp.ones((12, 5)), jnp.ones((3, 5, 7)), jnp.array([2, 4, 6])


def test_a_product_with_experts_counts_one_matrix_a_row():
    """Twelve rows of five read a matrix of 5 x 7 each; the gradient of the matrices sums as many products."""
    assert flops(jax.lax.ragged_dot, ROWS, EXPERTS, SIZES) == 2 * 12 * 5 * 7
    assert dict(by_kind(jax.lax.ragged_dot, ROWS, EXPERTS, SIZES)) == {"products": 840}

    def loss(rows, experts):
        return jax.lax.ragged_dot(rows, experts, SIZES).sum()

    assert flops(jax.grad(loss, (0, 1)), ROWS, EXPERTS) == 3 * 840


def test_work_that_jax_does_not_see_is_not_counted_as_none():
    def hidden(x):
        return jax.pure_callback(lambda x: x @ x, jax.ShapeDtypeStruct((4, 4), jnp.float32), x)

    with pytest.raises(ValueError, match="pure_callback are not known"):
        flops(hidden, jnp.ones((4, 4)))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: jnp.fft.fft2(x).real @ x, "fft"),
        (lambda x: jnp.linalg.svd(x, compute_uv=False), "svd"),
        (jnp.linalg.solve, "lu"),
        (jnp.linalg.cholesky, "cholesky"),
        (lambda x: jnp.linalg.eigh(x).eigenvalues, "eigh"),
    ],
)
def test_transforms_and_decompositions_are_not_counted_as_none(function, name):
    with pytest.raises(ValueError, match=f"the operations of {name} are not known"):
        flops(function, *[jnp.eye(4)] * (2 if name == "lu" else 1))
