"""Every family of models, by what it must do whatever its weights are.

Influence is measured by gradients: where every position of a batch holds a token of its own, a row of the embedding's gradient is what one
position does to the loss, for every family alike. Models run without jit and at one shape where they can, so that little is compiled.
"""

import dataclasses

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from flax import nnx
from jax.tree_util import Partial

from assay.core.errors import UserError
from assay.core.tree import count, merge, paths
from assay.models.families import build
from assay.models.model import Model, Output, Vocabulary
from assay.models.precision import PrecisionConfig
from assay.nn.attention import attend
from assay.nn.positions import POSITIONS, alibi, rotary, sinusoids
from assay.tasks.sequence import score_tokens
from assay.train.objective import supervised
from assay.train.state import init_state
from assay.train.step import make_step
from assay.train.treatment import Treatment

SEQ, OUTPUTS = 6, 3
VOCABULARY = Vocabulary(SEQ * SEQ, OUTPUTS)
TRANSFORMER = {"depth": 1, "width": 16, "heads": 4, "kv_heads": 2, "window": 0, "mlp": 24, "positions": "alibi", "norm": "layernorm"}
TRANSFORMER |= {"activation": "gelu", "dropout": 0.0, "max_length": 12, "loops": 1, "randomised": 0, "norm_place": "pre", "gate": False}
TRANSFORMER |= {"mixers": ("attention",), "attention_weights": "softmax", "test_loops": 0, "stack_cell": 8, "stack_depth": 0}
TRANSFORMER |= {"local_window": 2, "local_positions": "rotary"}
TRANSFORMER |= {"residual_init": "plain", "tied": False, "attention": "auto"}
RECURRENT = {"depth": 1, "width": 16, "embedding": 0, "dropout": 0.0}
EVERY = ["lstm", *(f"{family}/{name}" for family in ("decoder", "encoder") for name in POSITIONS)]
CAUSAL = [name for name in EVERY if not name.startswith("encoder")]


def make(name: str, compute: str = "float32", **changes) -> Model:
    """`lstm`, or `decoder/POSITIONS`, or `encoder/POSITIONS`."""
    family, _, positions = name.partition("/")
    values = {**RECURRENT} if family == "lstm" else {**TRANSFORMER, "positions": positions or "alibi"}
    return build({"name": family, **values, **changes}, VOCABULARY, PrecisionConfig("float32", compute, "float32"))


def batch_of(tokens: np.ndarray, length: int | None = None) -> dict[str, np.ndarray]:
    rows, width = tokens.shape
    return {"inputs": tokens.astype(np.int32), "length": np.full(rows, length or width, np.int32), "weight": np.ones(rows, np.float32)}


def random_batch(rows: int = SEQ, width: int = SEQ, seed: int = 0) -> dict[str, np.ndarray]:
    return batch_of(np.random.default_rng(seed).integers(0, VOCABULARY.inputs, (rows, width)))


def start(model: Model, seed: int = 0):
    """Parameters of a usual size, none of them at an initial constant that would hide a mistake. Drawn by NumPy: nothing is compiled."""
    random = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        values = random.standard_normal(leaf.shape) / np.sqrt(leaf.shape[0]) if len(leaf.shape) > 1 else 0.5 + random.random(leaf.shape)
        return jnp.asarray(values, leaf.dtype)

    params = jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0), random_batch()))
    table = random.standard_normal((SEQ, 16)).astype(np.float32)
    return merge(params, {"embed": {"embedding": jnp.tile(table, (SEQ, 1))}})  # tokens t * SEQ + s mean the same for every t


def logits_of(model: Model, params, batch) -> np.ndarray:
    return np.asarray(model.apply(params, batch).logits)


def influence(model: Model, length: int = SEQ) -> np.ndarray:
    """[SEQ, SEQ]: the effect of position s (second) on the logits of position t (first). Row t of the batch is asked at position t."""
    params, at = start(model), np.arange(SEQ)
    batch = batch_of(np.arange(SEQ * SEQ).reshape(SEQ, SEQ), length)
    direction = np.random.default_rng(1).standard_normal((1, OUTPUTS))

    def answer(table: jax.Array) -> jax.Array:
        logits = model.apply(merge(params, {"embed": {"embedding": table}}), batch).logits
        return (logits[at, at] * direction).sum()

    gradient = jax.grad(answer)(params["embed"]["embedding"])
    return np.abs(np.asarray(gradient)).max(axis=1).reshape(SEQ, SEQ)


def near(first: np.ndarray, second: np.ndarray, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(first, second, rtol=tolerance, atol=tolerance)


# -- what reaches what ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_model_sees_nothing_that_comes_later(name):
    reach = influence(make(name))
    assert (reach[np.triu_indices(SEQ, 1)] == 0).all()
    assert (reach[np.tril_indices(SEQ)] > 0).all(), "all that came before is seen"


@pytest.mark.parametrize("name", [name for name in EVERY if name.startswith("encoder")])
def test_an_encoder_sees_all_but_padding(name):
    reach = influence(make(name), length=4)
    assert (reach[:4, :4] > 0).all()
    assert (reach[:4, 4:] == 0).all()


@pytest.mark.parametrize(("family", "depth"), [("decoder", 1), ("decoder", 2), ("encoder", 2)])
def test_a_window_limits_what_is_seen(family, depth):
    """Each layer reaches window - 1 = 1 token further, itself included."""
    distance = np.arange(SEQ)[:, None] - np.arange(SEQ)[None, :]
    seen = (np.abs(distance) <= depth) & ((distance >= 0) | (family == "encoder"))
    np.testing.assert_array_equal(influence(make(family, depth=depth, window=2)) > 0, seen)


@pytest.mark.parametrize("name", [name for name in EVERY if not name.startswith("decoder/") or name == "decoder/learned"])
def test_padding_on_the_right_changes_no_real_token(name):
    model, batch = make(name), random_batch()
    params = start(model)
    longer = random_batch(width=SEQ + 4, seed=1)["inputs"]
    longer[:, :SEQ] = batch["inputs"]
    padded = jax.jit(model.apply)(params, batch_of(longer, SEQ)).logits
    near(np.asarray(padded)[:, :SEQ], logits_of(model, params, batch))


@pytest.mark.parametrize("positions", POSITIONS)
def test_positions_break_the_symmetry_of_attention(positions):
    """An encoder without positions turns a permuted input into permuted logits; with any kind of them it does not."""
    model, batch = make(f"encoder/{positions}"), batch_of(np.arange(SEQ * SEQ).reshape(SEQ, SEQ))
    params, order = start(model), np.array([3, 1, 5, 0, 2, 4])
    permuted = logits_of(model, params, batch_of(batch["inputs"][:, order]))
    difference = np.abs(permuted - logits_of(model, params, batch)[:, order]).max()
    assert difference < 1e-5 if positions == "none" else difference > 1e-3


# -- shapes, sizes, types ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_shapes(name):
    model, batch = make(name, depth=2), random_batch(rows=3)
    output = jax.eval_shape(model.apply, jax.eval_shape(model.init, jax.random.key(0), batch), batch)
    assert output.logits.shape == (3, SEQ, OUTPUTS) and output.logits.dtype == jnp.float32
    assert (model.decode is None) == name.startswith("encoder")


@pytest.mark.parametrize("name", ["lstm", "decoder/rotary", "encoder/learned"])
def test_jit_changes_nothing(name):
    model, batch = make(name), random_batch()
    params = start(model)
    near(np.asarray(jax.jit(model.apply)(params, batch).logits), logits_of(model, params, batch))


@pytest.mark.parametrize("positions", ["alibi", "learned"])
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_the_parameters_of_a_transformer_are_counted(positions, norm, kv_heads):
    model = make(f"decoder/{positions}", depth=2, norm=norm, kv_heads=kv_heads)
    width, mlp, head, norms = 16, 24, 16 // 4, {"layernorm": 2, "rmsnorm": 1}[norm] * 16
    block = 2 * width * width + 2 * width * kv_heads * head + (width * mlp + mlp) + (mlp * width + width) + 2 * norms
    reach = 12 * width if positions == "learned" else 0
    assert _size(model) == VOCABULARY.inputs * width + 2 * block + norms + width * OUTPUTS + OUTPUTS + reach


def test_the_parameters_of_an_lstm_are_counted():
    width = 16
    layer = width * 4 * width + 4 * width + width * 4 * width
    assert _size(make("lstm", depth=2)) == VOCABULARY.inputs * width + 2 * layer + width * OUTPUTS + OUTPUTS


def _size(model: Model) -> int:
    return count(jax.eval_shape(model.init, jax.random.key(0), random_batch()))


@pytest.mark.parametrize("name", ["lstm", "decoder/rotary"])
def test_bfloat16_computes_but_does_not_store(name):
    batch, half, full = random_batch(), make(name, "bfloat16"), make(name)
    params = start(half)
    gradient = jax.eval_shape(jax.grad(lambda params: half.apply(params, batch).logits.std()), params)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, gradient))} == {np.dtype(np.float32)}
    rough, fine = np.asarray(jax.jit(half.apply)(params, batch).logits), logits_of(full, params, batch)
    assert rough.dtype == np.float32
    assert 1e-5 < np.abs(rough - fine).max() < 0.1
    cache = half.decode.init_cache({}, random_batch(1), 4)
    assert {leaf.dtype for leaf in jax.tree.leaves(cache) if leaf.ndim} == {jnp.dtype(jnp.bfloat16)}


def test_learned_positions_end_and_others_do_not():
    long = random_batch(width=13)
    for positions in POSITIONS:
        model = make(f"decoder/{positions}")
        params = jax.eval_shape(model.init, jax.random.key(0), random_batch())
        if positions == "learned":
            with pytest.raises(UserError, match="max_length=12"):
                jax.eval_shape(model.apply, params, long)
            with pytest.raises(UserError, match="max_length=12"):
                model.decode.init_cache({}, random_batch(1), 13)
        else:
            assert jax.eval_shape(model.apply, params, long).logits.shape == (SEQ, 13, OUTPUTS)


@pytest.mark.parametrize("name", ["lstm", "decoder"])
def test_dropout_is_of_training_and_of_its_key(name):
    model, batch = make(name, dropout=0.5), random_batch()
    params = start(model)
    apply = lambda seed, train: np.asarray(model.apply(params, batch, key=jax.random.key(seed), train=train).logits)  # noqa: E731
    quiet, first, again, other = apply(1, False), apply(1, True), apply(1, True), apply(2, True)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first != quiet).any()
    np.testing.assert_array_equal(quiet, apply(2, False))
    np.testing.assert_array_equal(quiet, logits_of(model, params, batch))


# -- decoding ---------------------------------------------------------------------------------------------------------------


DECODING = [("lstm", {"depth": 2}, 1), *((f"decoder/{name}", {}, 1) for name in POSITIONS)]
DECODING += [
    (f"decoder/{name}", {"kv_heads": kv, "window": window}, 2) for name, kv, window in (("rotary", 1, 3), ("alibi", 4, 2), ("none", 2, 1))
]
DECODING += [("decoder/rotary", {"depth": 2, "kv_heads": 1, "window": 2}, 3)]


@pytest.mark.parametrize(("name", "changes", "stride"), DECODING)
def test_decoding_step_by_step_equals_the_full_pass(name, changes, stride):
    model, batch = make(name, **changes), random_batch(width=SEQ)
    params = start(model)
    extend = jax.jit(model.decode.extend)
    cache, found = model.decode.init_cache(params, random_batch(), SEQ + 3), []  # room that is never used
    for first in range(0, SEQ, stride):
        logits, cache = extend(params, cache, batch["inputs"][:, first : first + stride])
        found.append(np.asarray(logits))
    near(np.concatenate(found, axis=1), logits_of(model, params, batch))


# -- attention and positions as functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_equals_its_formula(kv_heads):
    batch, heads, queries, keys, dim = 2, 4, 3, 5, 6
    random = np.random.default_rng(kv_heads)
    query, key = random.standard_normal((batch, heads, queries, dim)), random.standard_normal((batch, kv_heads, dim, keys))
    value, bias = random.standard_normal((batch, kv_heads, dim, keys)), random.standard_normal((heads, queries, keys))
    allowed = random.random((batch, 1, queries, keys)) < 0.6
    allowed[..., 0], allowed[0, :, 0] = True, False  # one query sees nothing

    expected, weights = np.zeros((batch, heads, queries, dim)), np.zeros((batch, heads, queries, keys))
    for b, h, q in np.ndindex(batch, heads, queries):
        group = h // (heads // kv_heads)
        scores = query[b, h, q] @ key[b, group] / np.sqrt(dim) + bias[h, q]
        seen = allowed[b, 0, q]
        powers = np.where(seen, np.exp(scores), 0.0) if seen.any() else np.ones(keys)
        weights[b, h, q] = powers / powers.sum()
        expected[b, h, q] = value[b, group] @ weights[b, h, q]

    single = [array.astype(np.float32) for array in (query, key, value, bias)]
    out, found = jax.jit(attend)(*single, allowed)
    near(np.asarray(found), weights)
    near(np.asarray(out), expected)
    alone, _ = jax.jit(attend)(*single[:3], None, None)
    assert np.abs(np.asarray(alone) - expected).max() > 0.1, "bias and mask matter here"


@pytest.mark.parametrize("dim", [8, 7])
def test_rotary_products_depend_on_the_distance_only(dim):
    """Turned by i and j, a query and a key have the product that they have turned by i + 5 and j + 5; no turn changes a length."""
    query, key = np.random.default_rng(0).standard_normal((2, 1, 1, 1, dim)).astype(np.float32)
    index = np.arange(12)

    def turned(x: np.ndarray) -> np.ndarray:
        return np.asarray(rotary(jnp.asarray(x).repeat(12, axis=1), jnp.asarray(index)))[0, :, 0]

    products = turned(query) @ turned(key).T
    for distance in range(-7, 8):
        diagonal = np.diagonal(products, distance)
        near(diagonal, np.full_like(diagonal, diagonal[0]), 1e-4)
    near(products[0, 0], (query * key).sum(), 1e-5)
    assert len(np.unique(products[0].round(3))) == 12
    near(np.linalg.norm(turned(query), axis=1), np.full(12, np.linalg.norm(query)))


def test_annotations_are_checked():
    """tests/conftest.py hooks the imports: a shape that an annotation forbids is refused, where the sum itself would broadcast."""
    query, key = jnp.ones((2, 4, 3, 6)), jnp.ones((2, 4, 6, 5))
    with pytest.raises(jaxtyping.TypeCheckError, match="attend"):
        attend(query, key, key, jnp.ones((1, 1, 1)), None)


def test_alibi_is_symmetric_and_linear():
    index = jnp.arange(7)
    bias = np.asarray(alibi(index, index, 8))
    np.testing.assert_array_equal(bias, bias.swapaxes(1, 2))
    slopes = 2.0 ** -np.arange(1, 9)  # of eight heads, as the paper gives them
    near(bias, -slopes[:, None, None] * np.abs(np.arange(7)[:, None] - np.arange(7)[None, :]))
    near(np.asarray(alibi(index[4:], index, 8)), bias[:, 4:])


@pytest.mark.parametrize("dim", [8, 9])
def test_sinusoids(dim):
    wave = np.asarray(sinusoids(jnp.arange(20), dim))
    half = (dim + 1) // 2
    near(wave[:, 0], np.sin(np.arange(20)))
    near(wave[:, half - 1], np.sin(np.arange(20) / 10_000))
    near(wave[0], np.r_[np.zeros(half), np.ones(dim - half)])
    if dim % 2 == 0:  # pairs of sine and cosine: the product of two positions depends on their distance
        products = wave @ wave.T
        near(products[1:, 1:], products[:-1, :-1], 1e-4)


# -- taps -------------------------------------------------------------------------------------------------------------------


def test_taps_are_named_by_path():
    blocks = ("block_0", "block_1")
    attention = (f"attention/{tap}" for tap in ("query", "key", "value", "logits", "weights", "heads", "out"))
    inside = (*attention, "middle", "mlp", "mlp_out", "residual")
    transformer = {"embedded", "norm", "logits", *(f"{block}/{tap}" for block in blocks for tap in inside)}
    recurrent = {"embedded", *(f"{block}/hidden" for block in blocks)}
    for name, expected in (("lstm", recurrent), ("decoder", transformer), ("encoder", transformer)):
        model = make(name, depth=2)
        shapes = jax.eval_shape(model.init, jax.random.key(0), random_batch())
        assert set(jax.eval_shape(model.apply, shapes, random_batch()).taps) == expected


def test_attention_weights_are_tapped():
    model = make("decoder")
    weights = np.asarray(model.apply(start(model), random_batch()).taps["block_0/attention/weights"])
    assert weights.shape == (SEQ, 4, SEQ, SEQ)
    near(weights.sum(axis=-1), np.ones((SEQ, 4, SEQ)))
    assert (weights[:, :, np.arange(SEQ)[:, None] < np.arange(SEQ)[None, :]] == 0).all()


@pytest.mark.parametrize("name", ["lstm", "decoder", "encoder"])
def test_what_every_tap_shows_goes_on_from_it(name):
    model, batch = make(name), random_batch()
    params = start(model)
    plain = model.apply(params, batch)
    for path in plain.taps:
        edited = model.apply(params, batch, edits={path: jnp.zeros_like})
        assert (edited.taps[path] == 0).all()
        assert (edited.logits != plain.logits).any(), f"an edit at {path} is lost"


def _replace(new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.broadcast_to(new, old.shape)


@pytest.mark.parametrize(("name", "path"), [("lstm", "block_0/hidden"), ("encoder", "embedded")])
def test_an_edit_is_data_and_leaves_nothing_behind(name, path):
    model, batch, traced = make(name), random_batch(), []
    params = start(model)

    @jax.jit
    def run(edits):
        traced.append(edits)
        return model.apply(params, batch, edits=edits)

    plain = run({})
    ramp = jnp.linspace(-1.0, 1.0, plain.taps[path].shape[-1])[(None,) * (plain.taps[path].ndim - 1)]
    zero, other = (run({path: Partial(_replace, new)}) for new in (0 * ramp, ramp))
    assert len(traced) == 2, "another value of an edit is another argument, not another program"
    for new, found in ((0 * ramp, zero), (ramp, other)):
        assert (found.taps[path] == new).all(), "a tap shows what goes on from it"
    for first, second in ((plain, zero), (zero, other)):
        assert np.abs(np.asarray(first.logits) - np.asarray(second.logits)).max() > 1e-4
    eager = model.apply(params, batch, edits={path: Partial(_replace, 0 * ramp)})
    near(np.asarray(eager.logits), np.asarray(zero.logits))
    near(np.asarray(model.apply(params, batch).logits), np.asarray(plain.logits))


def test_an_edit_can_be_differentiated():
    """Zeros added at a tap: their gradient is the tap's, and it is causal too."""
    model, batch = make("decoder"), random_batch()
    params = start(model)

    def answer(zeros: jax.Array) -> jax.Array:
        return model.apply(params, batch, edits={"embedded": Partial(jnp.add, zeros)}).logits[:, 2].std()

    found = np.abs(np.asarray(jax.grad(answer)(jnp.zeros((SEQ, SEQ, 16))))).max(axis=(0, 2))
    assert (found[:3] > 0).all() and (found[3:] == 0).all()


def test_an_edit_is_undone_where_a_model_fails():
    """Seen from `extend`, which takes no edits and so must find none."""
    model, tokens = make("decoder"), random_batch()["inputs"]
    params, cache = start(model), model.decode.init_cache({}, random_batch(), SEQ)
    before, _ = model.decode.extend(params, cache, tokens)
    with pytest.raises(ZeroDivisionError):
        model.apply(params, random_batch(), edits={"embedded": jnp.zeros_like, "block_0/mlp": lambda value: value / (1 // 0)})
    after, _ = model.decode.extend(params, cache, tokens)
    np.testing.assert_array_equal(before, after)


# -- another library behind the same door -----------------------------------------------------------------------------------


class Bag(nnx.Module):
    """A token's logits from its own embedding."""

    def __init__(self, rngs: nnx.Rngs):
        self.embed = nnx.Embed(VOCABULARY.inputs, 8, rngs=rngs)
        self.head = nnx.Linear(8, OUTPUTS, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.embed(tokens)
        self.sow(nnx.Intermediate, "embedded", x)
        return self.head(x)


def from_nnx(make_module) -> Model:
    graph, abstract = nnx.split(nnx.eval_shape(lambda: make_module(nnx.Rngs(0))))

    def init(key, batch):
        return nnx.to_pure_dict(nnx.state(make_module(nnx.Rngs(key)), nnx.Param))

    def apply(params, batch, *, key=None, train=False, edits=None) -> Output:
        state = jax.tree.map(lambda leaf: leaf, abstract)
        nnx.replace_by_pure_dict(state, params)
        logits, taps = nnx.capture(nnx.merge(graph, state), nnx.Intermediate)(batch["inputs"])
        return Output(logits, {name: value for name, (value, *_) in nnx.to_pure_dict(taps).items()})

    return Model(init, apply)


def test_an_nnx_model_trains_through_the_same_door():
    model, batch = from_nnx(Bag), random_batch(rows=4)
    batch |= {"targets": batch["inputs"] % OUTPUTS, "mask": np.ones((4, SEQ), np.float32)}
    objective = supervised(lambda output, batch: score_tokens(output, batch, ("token_accuracy",)))
    optimizer = optax.sgd(1.0)
    state = jax.jit(lambda key: init_state(key, {}, model, objective, optimizer, Treatment(), batch))(jax.random.key(0))
    assert set(paths(state.params)) == {"model/embed/embedding", "model/head/bias", "model/head/kernel"}
    assert "embedded" in model.apply(state.params["model"], batch).taps
    with pytest.raises(UserError, match=r"edits at 'embedded': this model does not support edits"):
        model.apply(state.params["model"], batch, edits={"embedded": jax.tree_util.Partial(jnp.zeros_like)})
    assert dataclasses.replace(model) == model, "jit recognizes a copy"
    step, losses = jax.jit(make_step(model, objective, lambda gradient: gradient, optimizer)), []
    for _ in range(3):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[0] > losses[1] > losses[2]
    assert dataclasses.is_dataclass(model) and hash(model) == hash(model)
