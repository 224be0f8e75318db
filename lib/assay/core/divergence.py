"""Divergence of softmax distributions in float32, accurate where the distributions nearly agree, as at a high temperature.

    KL(p || q) = sum_i p_i (log p_i - log q_i) = log E_p[exp(m - d)],   d = log p - log q up to a constant, m = E_p[d]

The difference of two log-softmaxes has an error of about 1e-7, whatever its size, and distillation multiplies the divergence by T^2. Here
near distributions go by the second form, with E_p[m - d] = 0 left out of the expansion: every term is at least 0, and so is the result.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

NEAR = 1.0  # largest |m - d| that goes by the second form
ORDER = 12  # of the series of exp, whose remainder below NEAR is under 1e-9


def divergence(theirs: Float[Array, "*rows classes"], ours: Float[Array, "*rows classes"]) -> Float[Array, "*rows"]:
    """Returns KL(softmax(theirs) || softmax(ours)) in nats, at least 0, with gradients of `ours` alone.

    A class that `theirs` rules out (-inf, or a probability that underflows) adds nothing but what `ours` gives away to it.
    """
    theirs = jax.lax.stop_gradient(theirs)
    log_p = jax.nn.log_softmax(theirs, axis=-1)
    p = jnp.exp(log_p)
    ruled_out = p == 0
    given_away = jnp.where(ruled_out, jax.nn.softmax(ours, axis=-1), 0.0).sum(axis=-1)
    kept = jnp.where(ruled_out, -jnp.inf, ours)

    apart = jnp.where(ruled_out, 0.0, theirs - jnp.where(ruled_out, 0.0, ours))
    away = jnp.where(ruled_out, 0.0, (p * apart).sum(axis=-1, keepdims=True) - apart)
    near = jnp.abs(away).max(axis=-1) < NEAR
    small = jnp.log1p((p * _second(jnp.where(near[..., None], away, 0.0))).sum(axis=-1))

    log_q = jax.nn.log_softmax(kept, axis=-1)
    ratio = jnp.where(ruled_out, 0.0, log_p - log_q)
    close = jnp.abs(ratio) < NEAR
    each = jnp.where(close, p * _second(jnp.where(close, -ratio, 0.0)), jnp.exp(log_q) - p + p * ratio)
    far = each.sum(axis=-1)

    # -log of the share of `ours` on the other classes; nothing where none is ruled out
    few = given_away < 0.5
    lost = jnp.where(few, -jnp.log1p(-jnp.where(few, given_away, 0.0)), _log_sum(ours) - _log_sum(kept))
    return jnp.where(near, small, far) + jnp.where(ruled_out.any(axis=-1), lost, 0.0)


def log_ratio(logits: Float[Array, "*rows classes"]) -> Float[Array, "*rows classes"]:
    """Returns log(classes * softmax(logits)): log probabilities relative to uniform ones, accurate near 0."""
    below = logits - logits.max(axis=-1, keepdims=True)
    near = below.min(axis=-1, keepdims=True) > -NEAR
    level = jnp.where(
        near, jnp.log1p(jnp.expm1(below).mean(axis=-1, keepdims=True)), _log_sum(below)[..., None] - jnp.log(logits.shape[-1])
    )
    return below - level


def mean_log_ratio(each: Sequence[Float[Array, "*rows classes"]]) -> Float[Array, "*rows classes"]:
    """Returns log(classes * mean over the distributions of softmax(logits)), accurate near 0."""
    ratios = jnp.stack([log_ratio(logits) for logits in each])
    near = jnp.abs(ratios).max(axis=0) < NEAR
    return jnp.where(near, jnp.log1p(jnp.expm1(ratios).mean(axis=0)), jax.nn.logsumexp(ratios, axis=0) - jnp.log(len(each)))


# -- private --------------------------------------------------------------------------------------------------------------


def _second(x: jax.Array) -> jax.Array:
    """Returns exp(x) - 1 - x for |x| < NEAR, to a relative error of a few roundings."""
    series = jnp.ones_like(x)
    for power in range(ORDER, 2, -1):
        series = 1 + x / power * series
    return x * x / 2 * series


def _log_sum(logits: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(logits, axis=-1)
