"""Divergences of softmaxes in float32 against float64, from distributions that all but agree to ones that rule classes out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.core.divergence import divergence, mean_log_ratio

TEMPERATURES = (0.01, 1.0, 4.0, 100.0, 1e4, 1e6, 1e9)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def exact(theirs, ours):
    """KL in float64, by the form without cancellation where p and q nearly agree: sum of p (exp(-r) - 1 + r), r = log p / q."""
    difference = theirs - ours
    p = softmax(theirs)
    mean = (p * difference).sum(axis=-1, keepdims=True)
    if np.abs(difference - mean).max() < 1e-2:
        x = mean - difference
        return np.log1p((p * (x**2 / 2 + x**3 / 6 + x**4 / 24 + x**5 / 120)).sum(axis=-1))
    logs = [x - x.max(axis=-1, keepdims=True) for x in (theirs, ours)]
    logs = [x - np.log(np.exp(x).sum(axis=-1, keepdims=True)) for x in logs]
    return (p * (logs[0] - logs[1])).sum(axis=-1)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_t_squared_times_the_divergence_is_right_at_any_temperature(temperature):
    theirs, ours = (3 * np.random.default_rng(0).standard_normal((2, 40, 7))).astype(np.float32)
    wanted = temperature**2 * exact(theirs / np.float64(temperature), ours / np.float64(temperature))

    def loss(ours):
        return temperature**2 * divergence(jnp.asarray(theirs) / temperature, ours / temperature)

    found = jax.jit(loss)(jnp.asarray(ours))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-30)
    assert (np.asarray(found) >= 0).all()
    if temperature >= 1e4:
        p, d = softmax(theirs / temperature), (theirs - ours).astype(np.float64)
        variance = (p * d**2).sum(axis=-1) - (p * d).sum(axis=-1) ** 2
        np.testing.assert_allclose(found, variance / 2, rtol=1e-3, err_msg="the limit is half the variance of the logits' difference")
    slope = jax.grad(lambda ours: loss(ours).sum())(jnp.asarray(ours))
    q, p = (softmax(x.astype(np.float64) / temperature) for x in (ours, theirs))
    np.testing.assert_allclose(slope, temperature * (q - p), rtol=1e-3, atol=1e-5 * np.abs(temperature * (q - p)).max())


def test_nothing_lies_between_equals_and_never_less():
    logits = (10 * np.random.default_rng(1).standard_normal((200, 30))).astype(np.float32)
    for temperature in TEMPERATURES:
        equal = divergence(jnp.asarray(logits) / temperature, jnp.asarray(logits) / temperature)
        np.testing.assert_array_equal(equal, 0)
        beside = jnp.nextafter(jnp.asarray(logits), jnp.inf)
        assert (divergence(jnp.asarray(logits) / temperature, beside / temperature) >= 0).all()


def test_what_is_ruled_out_takes_its_share_of_the_other():
    theirs = jnp.array([[1.0, 2.0, -jnp.inf], [0.0, 0.0, -1000.0], [0.0, 0.0, 0.0]])
    ours = jnp.array([[0.0, 1.0, -2.0], [0.0, 0.0, 3.0], [0.0, -jnp.inf, 0.0]])
    found = divergence(theirs, ours)
    p, q = softmax(np.array([[1.0, 2.0], [0.0, 0.0]])), softmax(np.asarray(ours, np.float64))[:2, :2]
    np.testing.assert_allclose(found[:2], (p * np.log(p / q)).sum(axis=-1), rtol=1e-5)
    assert np.isposinf(found[2]), "a class that the other rules out"
    assert np.isfinite(jax.grad(lambda ours: divergence(theirs[:2], ours).sum())(ours[:2])).all()


def test_the_mean_of_distributions_keeps_its_small_differences():
    each = (3 * np.random.default_rng(2).standard_normal((3, 5, 7))).astype(np.float32)
    for temperature in TEMPERATURES:
        wanted = np.log(7 * np.mean([softmax(one.astype(np.float64) / temperature) for one in each], axis=0))
        found = mean_log_ratio([jnp.asarray(one) / temperature for one in each])
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-6 * np.abs(wanted).max())
