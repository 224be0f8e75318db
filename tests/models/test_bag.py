"""The bag of words: its formula, what padding and order change, and that it learns which words matter."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from assay.core.errors import UserError
from assay.models.bag import hashed
from assay.models.families import build
from assay.models.model import Model, Vocabulary
from assay.models.precision import PrecisionConfig

ROWS, SEQ, INPUTS, OUTPUTS = 3, 6, 11, 2
LENGTHS = np.array([SEQ, 4, 1], np.int32)


def make(pooled: bool = True, **changes) -> Model:
    settings = {"width": 5, "bigrams": 0, "depth": 0, "activation": "relu", "dropout": 0.0} | changes
    vocabulary = Vocabulary(INPUTS, OUTPUTS, pooled)
    return build({"name": "bag", **settings}, vocabulary, PrecisionConfig("float32", "float32", "float32"))


def tokens(seed: int = 0) -> dict[str, np.ndarray]:
    inputs = np.random.default_rng(seed).integers(0, INPUTS, (ROWS, SEQ)).astype(np.int32)
    return {"inputs": inputs, "length": LENGTHS, "weight": np.ones(ROWS, np.float32)}


def start(model: Model):
    random = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens())
    return jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape), jnp.float32), shapes)


def by_hand(params, inputs: list[int]) -> np.ndarray:
    table, importance = (np.float64(params[name]["embedding"]) for name in ("embed", "importance"))
    weights = np.exp(importance[inputs, 0])
    mean = weights @ table[inputs] / weights.sum()
    norm = (mean - mean.mean()) / np.sqrt(mean.var() + 1e-6) * params["norm"]["scale"] + params["norm"]["bias"]
    return norm @ params["head"]["kernel"] + params["head"]["bias"]


def test_the_answer_is_that_of_the_formula():
    model, batch = make(), tokens()
    params = start(model)
    expected = [by_hand(params, batch["inputs"][i, :length].tolist()) for i, length in enumerate(LENGTHS)]
    np.testing.assert_allclose(model.apply(params, batch).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"bigrams": 13, "depth": 2}], ids=["words", "bigrams"])
def test_padding_changes_nothing_and_an_answer_per_token_is_of_the_tokens_up_to_it(changes):
    model, causal, batch = make(**changes), make(False, **changes), tokens()
    params = start(model)
    other = np.where(np.arange(SEQ)[None, :] < LENGTHS[:, None], batch["inputs"], 7)
    whole = model.apply(params, batch).logits
    np.testing.assert_allclose(model.apply(params, batch | {"inputs": other}).logits, whole, rtol=1e-5, atol=1e-6)
    each = causal.apply(params, batch).logits
    assert each.shape == (ROWS, SEQ, OUTPUTS)
    np.testing.assert_allclose(each[np.arange(ROWS), LENGTHS - 1], whole, rtol=1e-4, atol=1e-5)
    short = causal.apply(params, batch | {"inputs": batch["inputs"][:, :3], "length": np.minimum(LENGTHS, 3)}).logits
    np.testing.assert_allclose(each[:2, :3], short[:2], rtol=1e-4, atol=1e-5)


def test_only_bigrams_read_the_order():
    batch = tokens() | {"length": np.full(ROWS, SEQ, np.int32)}
    turned = batch | {"inputs": batch["inputs"][:, ::-1]}
    for bigrams, same in ((0, True), (64, False)):
        model = make(bigrams=bigrams)
        params = start(model)
        assert np.allclose(model.apply(params, batch).logits, model.apply(params, turned).logits, atol=1e-5) == same


def test_pairs_spread_over_the_table_and_depend_on_their_order():
    first, second = (part.reshape(1, -1) for part in np.meshgrid(np.arange(64), np.arange(64), indexing="ij"))
    rows = np.asarray(hashed(jnp.asarray(first), jnp.asarray(second), 1000))[0]
    assert rows.min() >= 0 and rows.max() < 1000
    counts = np.bincount(rows, minlength=1000)
    assert counts.max() <= 15 and (counts == 0).sum() < 60  # 4.1 a row on average; of random rows 17 are empty
    assert (np.asarray(hashed(jnp.asarray(second), jnp.asarray(first), 1000))[0] == rows).mean() < 0.05


def test_a_word_that_decides_becomes_important():
    """Token 1 or 2 decides the class; the other nine are noise."""
    random = np.random.default_rng(0)
    inputs = random.integers(3, INPUTS, (256, SEQ)).astype(np.int32)
    classes = random.integers(0, 2, 256)
    inputs[np.arange(256), random.integers(0, SEQ, 256)] = classes + 1
    batch = {"inputs": inputs, "length": np.full(256, SEQ, np.int32), "weight": np.ones(256, np.float32)}
    model, rule = make(dropout=0.1), optax.adam(0.05)
    params = model.init(jax.random.key(0), batch)

    @jax.jit
    def step(params, state, key):
        def loss(params):
            logits = model.apply(params, batch, key=key, train=True).logits
            return optax.softmax_cross_entropy_with_integer_labels(logits, classes).mean()

        updates, state = rule.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = rule.init(params)
    for i in range(40):
        params, state = step(params, state, jax.random.key(i))
    importance = np.asarray(params["importance"]["embedding"])[:, 0]
    assert (model.apply(params, batch).logits.argmax(axis=1) == classes).mean() == 1.0
    assert importance[1:3].min() > importance[3:].max() + 0.5


def test_numbers_are_refused():
    with pytest.raises(UserError, match="mlp, cnn or resnet"):
        build(
            {"name": "bag", "width": 4, "bigrams": 0, "depth": 0, "activation": "relu", "dropout": 0.0},
            Vocabulary(0, 2, True),
            PrecisionConfig("float32", "float32", "float32"),
        )
    for key, value in (("width", 0), ("bigrams", -1), ("depth", -1), ("dropout", 1.0), ("activation", "step")):
        with pytest.raises(UserError, match=key):
            make(**{key: value})
