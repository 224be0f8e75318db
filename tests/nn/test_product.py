import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from assay.dist.mesh import AXES
from assay.dist.shard import on_mesh
from assay.nn.product import Dense, product

SHAPES = {"ab": ((5, 3), (3, 7)), "abt": ((5, 3), (7, 3)), "atb": ((3, 5), (3, 7))}
BATCHES = [(), (2,), (2, 3)]


def drawn(form, batch, dtype):
    keys = jax.random.split(jax.random.key(len(batch)), 3)
    a, b = (jax.random.normal(key, (*batch, *shape)).astype(dtype) for key, shape in zip(keys, SHAPES[form], strict=False))
    return a, b, jax.random.normal(keys[2], (*batch, 5, 7)).astype(dtype)


def exact(form, a, b):
    """In float64, by NumPy."""
    a, b = (np.asarray(array, np.float64) for array in (a, b))
    return (a.swapaxes(-1, -2) if form == "atb" else a) @ (b.swapaxes(-1, -2) if form == "abt" else b)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("form", SHAPES)
def test_a_bfloat16_product_on_a_cpu_is_exact_to_float32(form, batch):
    a, b, grads = drawn(form, batch, jnp.bfloat16)
    out, back = jax.vjp(jax.jit(lambda a, b: product(form, a, b)), a, b)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, exact(form, a, b), rtol=1e-5, atol=1e-5)
    wanted = jax.vjp(lambda a, b: jnp.matmul(*_laid(form, a, b)), a.astype(jnp.float32), b.astype(jnp.float32))[1](
        grads.astype(jnp.float32)
    )
    for found, right in zip(back(grads.astype(jnp.float32)), wanted, strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(jnp.float32), right, rtol=2**-7, atol=1e-5)


def _laid(form, a, b):
    return (a.swapaxes(-1, -2) if form == "atb" else a), (b.swapaxes(-1, -2) if form == "abt" else b)


@pytest.mark.parametrize("form", SHAPES)
def test_in_float32_it_is_the_plain_product(form):
    a, b, _ = drawn(form, (2,), jnp.float32)
    assert product(form, a, b).dtype == jnp.float32
    np.testing.assert_allclose(product(form, a, b), exact(form, a, b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", SHAPES)
def test_gradients_of_gradients_and_transposes_of_results_compile(form):
    a, b, _ = drawn(form, (), jnp.bfloat16)

    def slope(a, b):
        return sum(
            jnp.sum(jnp.square(found.astype(jnp.float32)))
            for found in jax.grad(lambda a, b: jnp.sin(product(form, a, b)).sum(), (0, 1))(a, b)
        )

    found = jax.jit(jax.grad(slope, (0, 1)))(a, b)
    wide = jax.grad(slope, (0, 1))(a.astype(jnp.float32), b.astype(jnp.float32))
    for left, right in zip(found, wide, strict=True):
        assert float(jnp.abs(left.astype(jnp.float32) - right).max()) < 0.05 * float(jnp.abs(right).max())
    turned = jax.jit(lambda a, b: product(form, a, b).T)(a, b)  # XLA would fold the transpose into a product that it does not have
    np.testing.assert_allclose(turned, exact(form, a, b).T, rtol=1e-5, atol=1e-5)


def test_over_a_mapped_axis():
    a, b, grads = drawn("ab", (4,), jnp.bfloat16)
    one = lambda a, b, g: jax.vjp(lambda a, b: product("ab", a, b), a, b)[1](g.astype(jnp.float32))  # noqa: E731
    for mapped, each in zip(jax.jit(jax.vmap(one))(a, b, grads), jax.lax.map(lambda x: one(*x), (a, b, grads)), strict=True):
        np.testing.assert_allclose(mapped.astype(jnp.float32), each.astype(jnp.float32), rtol=2**-7, atol=1e-5)
    shared = jax.jit(jax.vmap(lambda a: jax.grad(lambda b: jnp.sin(product("ab", a, b)).sum())(b[0])))(
        a
    )  # of each example, as privacy asks
    assert shared.shape == (4, 3, 7)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("use_bias", [True, False])
def test_dense_has_the_parameters_of_flax_and_its_values(dtype, use_bias):
    x = jax.random.normal(jax.random.key(0), (6, 10))
    own, flax = (kind(4, use_bias=use_bias, dtype=dtype) for kind in (Dense, nn.Dense))
    params = own.init(jax.random.key(1), x)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, flax.init(jax.random.key(1), x)))
    found, wanted = own.apply(params, np.asarray(x)), flax.apply(params, x)
    assert found.dtype == wanted.dtype == dtype
    np.testing.assert_allclose(
        found.astype(jnp.float32), wanted.astype(jnp.float32), rtol=1e-6 if dtype == jnp.float32 else 2**-6, atol=2**-8
    )


def test_several_devices_have_the_product_that_xla_can_split():
    a, b, _ = drawn("ab", (), jnp.bfloat16)
    for devices, kind in ((1, jnp.float32), (2, jnp.bfloat16)):
        mesh = Mesh(np.array(jax.devices()[:1] * devices).reshape(devices, 1, 1), AXES)
        assert jax.eval_shape(on_mesh(lambda a, b: product("ab", a, b), mesh), a, b).dtype == kind
