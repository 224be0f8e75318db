"""Positions: the relative shift, T5's buckets, Transformer-XL's terms, and randomised positions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.nn.attention import SelfAttention
from assay.nn.positions import POSITIONS, draw_places, position_bias, sinusoids
from assay.nn.relative import BUCKETS, bucket, distances, shift

BATCH, HEADS, DIM = 2, 4, 6
WIDTH = HEADS * DIM


def near(first, second, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(first, second, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("queries", "keys", "offset"), [(5, 5, 0), (1, 7, 4), (3, 6, 2), (4, 2, 0)])
def test_shift_lays_distances_out(queries, keys, offset):
    """Columns that hold their own distance come to lie where query minus key is that distance."""
    query_index, key_index = offset + jnp.arange(queries), jnp.arange(keys)
    found = distances(query_index, key_index)
    assert len(set(np.asarray(found).tolist())) == queries + keys - 1
    laid = shift(jnp.broadcast_to(found.astype(jnp.float32)[None], (queries, queries + keys - 1)))
    np.testing.assert_array_equal(laid, query_index[:, None] - key_index[None, :])


def test_buckets_are_those_of_t5():
    """Exact for small distances, logarithmic up to 128, one for all beyond; both directions have their own half."""
    causal = np.asarray(bucket(jnp.arange(-3, 200), True))[3:]
    np.testing.assert_array_equal(causal[:16], np.arange(16))
    expected = [min(16 + int(np.log(d / 16) / np.log(128 / 16) * 16 + 1e-6), 31) for d in range(16, 200)]
    np.testing.assert_array_equal(causal[16:], expected)
    assert (np.asarray(bucket(jnp.arange(-3, 1), True)) == 0).all()
    both = np.asarray(bucket(jnp.arange(-200, 201), False))
    before, after = both[200:], both[:201][::-1]
    np.testing.assert_array_equal(before[:8], np.arange(8))
    np.testing.assert_array_equal(after[1:], before[1:] + BUCKETS // 2)
    assert before.max() == BUCKETS // 2 - 1 and after.max() == BUCKETS - 1


# -- one attention against NumPy in float64 ----------------------------------------------------------------------------------


def reference(params: dict, x: np.ndarray, index: np.ndarray, positions: str, kv_heads: int, causal: bool, table: np.ndarray | None):
    """Attention pair by pair. `table`: the drawn distance for each number of tokens between two."""
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    split = lambda name, heads: (x @ weights[name]["kernel"]).reshape(*x.shape[:2], heads, DIM)  # noqa: E731
    query, key, value = split("query", HEADS), split("key", kv_heads), split("value", kv_heads)
    out = np.zeros_like(query)
    for b, h, i in np.ndindex(x.shape[0], HEADS, x.shape[1]):
        seen = range(i + 1) if causal else range(x.shape[1])
        group = h // (HEADS // kv_heads)
        scores = []
        for j in seen:
            distance = index[i] - index[j]
            if table is not None:
                distance = np.sign(distance) * table[abs(distance)]
            score = query[b, i, h] @ key[b, j, group]
            if positions == "transformer_xl":
                wave = np.asarray(sinusoids(jnp.asarray([distance]), WIDTH), np.float64)[0]
                projected = (wave @ weights["relative"]["kernel"]).reshape(HEADS, DIM)[h]
                score += weights["content_bias"][h] @ key[b, j, group] + (query[b, i, h] + weights["position_bias"][h]) @ projected
            score /= np.sqrt(DIM)
            if positions == "t5":
                score += weights["relative_bias"][int(bucket(jnp.asarray([distance]), causal)[0]), h]
            if positions == "alibi":
                score -= 2.0 ** (-8 * (h + 1) / HEADS) * abs(distance)
            scores.append(score)
        powers = np.exp(np.array(scores) - max(scores))
        out[b, i, h] = (powers / powers.sum()) @ value[b, list(seen), group]
    return out.reshape(*x.shape[:2], WIDTH) @ weights["out"]["kernel"]


CASES = [
    ("none", 4, False, 0),
    ("none", 2, True, 0),
    ("none", 1, False, 0),
    ("transformer_xl", 4, False, 0),
    ("transformer_xl", 2, True, 0),
]
CASES += [
    ("t5", 2, False, 0),
    ("t5", 4, True, 0),
    ("alibi", 2, True, 0),
    ("transformer_xl", 2, False, 50),
    ("t5", 1, False, 300),
    ("alibi", 4, False, 50),
]


@pytest.mark.parametrize(("positions", "kv_heads", "causal", "span"), CASES)
def test_attention_equals_its_formula_in_float64(positions, kv_heads, causal, span):
    random, seq = np.random.default_rng(0), 5
    places = draw_places(jax.random.key(3), seq, span, True) if span else None
    module = SelfAttention(HEADS, kv_heads, 0, causal, POSITIONS[positions])
    x, index = random.standard_normal((BATCH, seq, WIDTH)), np.arange(seq)
    rows = jnp.asarray(x.reshape(-1, WIDTH), jnp.float32)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), rows, jnp.asarray(index)))["params"]
    params = jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape) / np.sqrt(leaf.shape[0]), jnp.float32), shapes)
    found, _ = module.apply({"params": params}, rows, jnp.asarray(index), None, None, places)
    expected = reference(params, x, index, positions, kv_heads, causal, None if places is None else np.asarray(places)[0])
    near(np.asarray(found).reshape(x.shape), expected, 2e-5)


@pytest.mark.parametrize("positions", [name for name, kind in POSITIONS.items() if kind.relative])
def test_relative_positions_know_the_distance_only(positions):
    """The same bias between tokens i and j as between i + 7 and j + 7, and for later queries as for all."""

    class Bias(nn.Module):
        @nn.compact
        def __call__(self, query, key, query_index, key_index):
            return position_bias(POSITIONS[positions], self, query, key, query_index, key_index, None, False)

    random, index = np.random.default_rng(1), jnp.arange(6)
    query = jnp.asarray(random.standard_normal((1, HEADS, 6, DIM)), jnp.float32)
    key = jnp.asarray(random.standard_normal((1, 2, DIM, 6)), jnp.float32)
    variables = Bias().init(jax.random.key(0), query, key, index, index)
    bias = np.asarray(Bias().apply(variables, query, key, index, index))
    near(np.asarray(Bias().apply(variables, query, key, index + 7, index + 7)), bias, 1e-4)
    near(np.asarray(Bias().apply(variables, query[:, :, 4:], key, index[4:], index)), bias[..., 4:, :], 1e-4)
    assert np.abs(bias - np.asarray(Bias().apply(variables, query, key, index + 3, index))).max() > 1e-3


# -- randomised positions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", [False, True])
def test_drawn_places_are_distinct_sorted_and_fresh(between):
    span, count = 64, 20
    draw = lambda seed: np.asarray(draw_places(jax.random.key(seed), count, span, between))  # noqa: E731
    first, again, other = draw(0), draw(0), draw(1)
    assert first.shape == (1, count) and (np.diff(first) > 0).all() and first.min() >= 0 and first.max() < span
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    many = np.concatenate([draw(seed) for seed in range(60)])
    assert (many[:, 0] == 0).all() == between, "a token is at distance 0 from itself"
    np.testing.assert_array_equal(np.unique(many), np.arange(span))
    assert abs(many[:, 1:].mean() - span / 2) < 2, "no place is preferred"
    np.testing.assert_array_equal(draw_places(jax.random.key(2), span, span, between)[0], np.arange(span))


@pytest.mark.parametrize("between", [False, True])
def test_drawn_places_depend_on_the_length_and_not_on_padding(between):
    length = jnp.asarray([3, 8, 1, 5])
    short, long = (np.asarray(draw_places(jax.random.key(0), count, 64, between, length)) for count in (8, 12))
    for row, n in enumerate(np.asarray(length)):
        np.testing.assert_array_equal(short[row, :n], long[row, :n])
        assert (np.diff(long[row, :n]) > 0).all() and (long[row, n:] == long[row, n - 1]).all()
    np.testing.assert_array_equal(short[1], draw_places(jax.random.key(0), 8, 64, between)[0])
