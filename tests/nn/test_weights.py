"""Attention weights by name, against loops that follow their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.nn.weights import WEIGHTS, geometric


def walked(logits: np.ndarray, allowed: np.ndarray, query: int) -> np.ndarray:
    """Geometric attention of one query: a walk away from it, and at each distance first to the right, then to the left."""
    keys = sorted((k for k in range(len(logits)) if k != query), key=lambda k: (abs(k - query), k < query))
    weights, missed = np.zeros(len(logits)), 1.0
    for k in keys:
        match = 1 / (1 + np.exp(-logits[k])) if allowed[k] else 0.0
        weights[k], missed = missed * match, missed * (1 - match)
    return weights


@pytest.mark.parametrize("first_query", [0, 3, 6])
@pytest.mark.parametrize("kind", ["all", "causal", "padded"])
def test_geometric_attention_walks_to_the_first_match(first_query, kind):
    random = np.random.default_rng(first_query)
    keys, queries = 7, 7 - first_query
    logits = random.normal(0, 2, (2, 3, queries, keys))
    index = first_query + np.arange(queries)
    allowed = {
        "all": np.ones((1, 1, queries, keys), bool),
        "causal": (index[:, None] >= np.arange(keys)[None, :])[None, None],
        "padded": np.broadcast_to(np.arange(keys) < 5, (2, 1, 1, keys)),
    }[kind]
    found = geometric(jnp.asarray(logits, jnp.float32), jnp.asarray(allowed), jnp.asarray(index), jnp.arange(keys))
    every = np.broadcast_to(allowed, (2, 1, queries, keys))
    for b in range(2):
        for h in range(3):
            for q in range(queries):
                np.testing.assert_allclose(found[b, h, q], walked(logits[b, h, q], every[b, 0, q], int(index[q])), rtol=1e-4, atol=1e-6)


def test_geometric_attention_is_finite_for_sure_matches_and_has_gradients():
    logits = jnp.asarray(np.random.default_rng(0).normal(0, 100, (1, 1, 9, 9)), jnp.float32)
    index = jnp.arange(9)
    value, gradient = jax.value_and_grad(lambda x: (geometric(x, None, index, index) ** 2).sum())(logits)
    assert np.isfinite(value) and np.isfinite(np.asarray(gradient)).all()
    assert (np.asarray(geometric(logits, None, index, index)).sum(axis=-1) <= 1 + 1e-5).all()


def test_every_kind_hides_what_is_not_allowed():
    allowed = jnp.asarray(np.tri(6, dtype=bool))[None, None]
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(1, 2, 6, 6)), jnp.float32)
    for weigh in WEIGHTS.values():
        weights = np.asarray(weigh(logits, allowed, jnp.arange(6), jnp.arange(6)))
        assert (weights[..., ~np.tri(6, dtype=bool)] == 0).all()
