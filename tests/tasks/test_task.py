import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.tasks.task import is_likeliest, likeliest


@pytest.mark.parametrize(("shape", "dtype"), [((64, 7), jnp.float32), ((5, 9, 4), jnp.bfloat16), ((3, 2, 1), jnp.float32)])
def test_is_likeliest_is_what_an_argmax_says(shape, dtype):
    logits = jnp.round(jax.random.normal(jax.random.key(0), shape)).astype(dtype)  # many are equal
    for given in range(-1, shape[-1] + 1):
        classes = jnp.full(shape[:-1], given, jnp.int32)
        assert np.array_equal(is_likeliest(logits, classes), likeliest(logits) == classes)
    drawn = jax.random.randint(jax.random.key(1), shape[:-1], 0, shape[-1])
    assert np.array_equal(is_likeliest(logits, drawn), likeliest(logits) == drawn)


def test_of_equal_logits_the_first_is_likeliest_and_none_is_where_they_are_no_numbers():
    assert np.array_equal(is_likeliest(jnp.zeros((2, 3)), jnp.array([0, 1])), [True, False])
    assert not is_likeliest(jnp.full((3, 2), jnp.nan), jnp.array([0, 1, 1])).any()
