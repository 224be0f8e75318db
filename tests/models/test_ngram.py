"""The n-gram model against its formulas, written with dictionaries, on random text."""

import math
from collections import Counter, defaultdict

import jax
import numpy as np
import pytest

from assay.core.errors import UserError
from assay.models.families import build
from assay.models.model import Model, Vocabulary
from assay.models.precision import PrecisionConfig

INPUTS, OUTPUTS = 6, 5
BEGINNING = INPUTS
SETTINGS = {"smoothing": "kneser_ney", "add": 0.3, "discount": 0.0, "capacity": 3000}


def make(order: int, **changes) -> Model:
    return build(
        {"name": "ngram", "order": order, **SETTINGS, **changes},
        Vocabulary(INPUTS, OUTPUTS),
        PrecisionConfig("float32", "float32", "float32"),
    )


def text(seed: int, rows: int = 12, width: int = 20) -> dict[str, np.ndarray]:
    """Skewed, so that some n-grams are seen often, some once and most never; targets are no copy of the inputs."""
    random = np.random.default_rng(seed)
    inputs = (INPUTS * random.random((rows, width)) ** 2.5).astype(np.int32)
    targets = (inputs + (random.random((rows, width)) < 0.3) * random.integers(0, 9, (rows, width))).astype(np.int32) % OUTPUTS
    mask = (random.random((rows, width)) < 0.8).astype(np.float32)
    length, weight = np.full(rows, width, np.int32), (np.arange(rows) != 3).astype(np.float32)
    return {"inputs": inputs, "targets": targets, "mask": mask, "length": length, "weight": weight}


def contexts(row: np.ndarray, order: int) -> list[tuple[int, ...]]:
    padded = (BEGINNING,) * (order - 1) + tuple(int(token) for token in row)
    return [padded[t + 1 : t + order] for t in range(len(row))]


def reference(order: int, settings: dict, batches: list[dict]):
    """probability(context, token) as the formulas have it."""
    grams: Counter = Counter()
    for batch in batches:
        for i, t in zip(*np.nonzero(batch["mask"] * batch["weight"][:, None]), strict=True):
            grams[contexts(batch["inputs"][i], order)[t], int(batch["targets"][i, t])] += 1
    if settings["smoothing"] == "add_k":
        k, seen = settings["add"], Counter(context for context, _ in grams.elements())
        return lambda context, token: (grams[context, token] + k) / (seen[context] + k * OUTPUTS)
    levels = [dict(grams)]  # of order `order`, `order` - 1, ..., 1
    for _ in range(order - 1):
        before: dict = defaultdict(set)
        for context, token in levels[-1]:
            before[context[1:], token].add(context[0])
        levels.append({gram: len(tokens) for gram, tokens in before.items()})

    def probability(context: tuple, token: int, depth: int = 0) -> float:
        if depth == order:
            return 1 / OUTPUTS
        counts = levels[depth]
        once, twice = (sum(count == n for count in counts.values()) for n in (1, 2))
        discount = settings["discount"] or (once / (once + 2 * twice) if once else 0.5)
        lower = probability(context[1:], token, depth + 1)
        row = [counts[context, other] for other in range(OUTPUTS) if (context, other) in counts]
        if not row:
            return lower
        return (max(counts.get((context, token), 0) - discount, 0) + discount * len(row) * lower) / sum(row)

    return probability


def answers(model: Model, params, batch) -> np.ndarray:
    return np.asarray(model.apply(params, batch).logits)


@pytest.mark.parametrize("changes", [{"smoothing": "add_k"}, {}, {"discount": 0.75}], ids=["add_k", "kneser_ney", "discount"])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 6])
def test_it_equals_its_formulas(order, changes):
    model, batches = make(order, **changes), [text(0), text(1, width=9)]
    params, other = model.fit(model.init(jax.random.key(0), batches[0]), batches), text(2, rows=3)
    probability = reference(order, SETTINGS | changes, batches)
    expected = [[[probability(context, w) for w in range(OUTPUTS)] for context in contexts(row, order)] for row in other["inputs"]]
    found = answers(model, params, other)
    np.testing.assert_allclose(np.exp(found), expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(np.exp(found).sum(axis=-1), 1.0, atol=1e-5)
    if order > 3:
        seen = {context for batch in batches for row in batch["inputs"] for context in contexts(row, order)}
        unseen = [context not in seen for row in other["inputs"] for context in contexts(row, order)]
        assert any(unseen) and not all(unseen), "the comparison covers both"


def test_one_count_by_hand():
    """Of order 2, after token 0 came 0, 0, 1: with k = 1, (2 + 1) / (3 + 5) and (1 + 1) / (3 + 5); after token 4 came nothing."""
    model = make(2, smoothing="add_k", add=1.0)
    batch = {
        "inputs": np.array([[0, 0, 0, 1]], np.int32),
        "targets": np.array([[0, 0, 1, 2]], np.int32),
        "mask": np.ones((1, 4), np.float32),
    }
    params = model.fit({}, [batch])
    found = np.exp(answers(model, params, {"inputs": np.array([[4, 0]], np.int32)}))
    np.testing.assert_allclose(found[0], [[0.2] * 5, [3 / 8, 2 / 8, 1 / 8, 1 / 8, 1 / 8]], rtol=1e-6)


@pytest.mark.parametrize("smoothing", ["add_k", "kneser_ney"])
def test_a_model_that_has_read_nothing_is_uniform(smoothing):
    model, batch = make(3, smoothing=smoothing), text(0)
    np.testing.assert_allclose(answers(model, model.init(jax.random.key(0), batch), batch), -math.log(OUTPUTS), rtol=1e-6)


def test_shapes_do_not_depend_on_the_text_and_order_of_batches_does_not_matter():
    model, batches = make(4), [text(0), text(1, width=9)]
    abstract = jax.eval_shape(model.init, jax.random.key(0), batches[0])
    first, second = model.fit(abstract, batches), model.fit(abstract, batches[::-1])
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), first) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_it_is_causal_and_padding_and_jit_change_nothing():
    model = make(4)
    params, batch = model.fit({}, [text(0)]), text(1, rows=4, width=8)
    plain = answers(model, params, batch)
    np.testing.assert_allclose(jax.jit(model.apply)(params, batch).logits, plain, rtol=1e-5, atol=1e-6)
    later = {**batch, "inputs": np.concatenate([batch["inputs"][:, :5], 0 * batch["inputs"]], axis=1)}
    np.testing.assert_allclose(answers(model, params, later)[:, :5], plain[:, :5], rtol=1e-5, atol=1e-6)
    changed = {**batch, "inputs": np.concatenate([(batch["inputs"][:, :1] + 1) % INPUTS, batch["inputs"][:, 1:]], axis=1)}
    differs = (answers(model, params, changed) != plain).any(axis=(0, 2))
    assert differs[:3].all() and not differs[3:].any(), "order 4 sees three tokens back"


@pytest.mark.parametrize(("order", "stride"), [(1, 1), (4, 1), (6, 4)])
def test_decoding_step_by_step_equals_the_full_pass(order, stride):
    model = make(order)
    params, batch = model.fit({}, [text(0)]), text(1, rows=4, width=8)
    extend, cache, found = jax.jit(model.decode.extend), model.decode.init_cache(params, batch, 8), []
    for first in range(0, 8, stride):
        logits, cache = extend(params, cache, batch["inputs"][:, first : first + stride])
        found.append(np.asarray(logits))
    np.testing.assert_allclose(np.concatenate(found, axis=1), answers(model, params, batch), rtol=1e-5, atol=1e-6)


def test_more_text_than_room_names_the_key():
    model = make(4, capacity=50)
    with pytest.raises(UserError, match=r"config\.model\.capacity=50"):
        model.fit({}, [text(0)])
    with pytest.raises(UserError, match="no text"):
        model.fit({}, iter([]))


@pytest.mark.parametrize(
    ("key", "value"), [("order", 7), ("order", 0), ("smoothing", "none"), ("add", 0.0), ("discount", 1.5), ("capacity", 0)]
)
def test_a_wrong_key_names_itself(key, value):
    with pytest.raises(UserError, match=rf"config\.model\.{key}"):
        make(**{"order": 3, key: value})


def test_it_wants_tokens_and_an_answer_after_each():
    for vocabulary in (Vocabulary(0, 5, pooled=True), Vocabulary(5, 5, pooled=True)):
        with pytest.raises(UserError, match="ngram predicts the next token"):
            build({"name": "ngram", "order": 2, **SETTINGS}, vocabulary, PrecisionConfig("float32", "float32", "float32"))
