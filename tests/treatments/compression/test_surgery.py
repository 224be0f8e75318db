"""Surgery: a cut model answers as the large one whose parts were made ineffective, in every family that has them, and costs less."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import count, differing, map_with_path, paths
from assay.diagnostics.cost.flops import flops
from assay.models.families import FAMILIES, build
from assay.models.model import Model, Vocabulary
from assay.models.precision import PrecisionConfig
from assay.treatments.compression.parts import PARTS
from assay.treatments.compression.surgery import SCORERS, Evidence, applies, cut, importance, masked, taylor_scores

KEY = jax.random.key(0)
ROWS, SEQ, TARGETS, INPUTS, OUTPUTS = 2, 5, 4, 6, 6  # as many that are read as are answered with, for a tied head
TRANSFORMER = {"depth": 2, "loops": 1, "width": 16, "heads": 4, "kv_heads": 4, "window": 0, "mlp": 10, "positions": "rotary"}
TRANSFORMER |= {"randomised": 0, "norm": "layernorm", "norm_place": "pre", "gate": False, "activation": "gelu", "residual_init": "plain"}
TRANSFORMER |= {"tied": False, "attention": "plain", "dropout": 0.0, "max_length": 12, "local_window": 2}
RECURRENT = {"depth": 2, "width": 6, "embedding": 0, "dropout": 0.0}
STACK = RECURRENT | {"stack_cell_size": 3, "stack_depth": 4}
AUTOMATA = RECURRENT | {"width": 8}
SETTINGS = {
    **dict.fromkeys(("decoder", "encoder", "encoder_decoder"), TRANSFORMER),
    **dict.fromkeys(("rnn", "lstm", "gru", "bilstm"), RECURRENT),
    **dict.fromkeys(("stack_rnn", "queue_rnn"), STACK),
    **dict.fromkeys(("automaton", "automata_network"), AUTOMATA),
    "bag": {"width": 6, "bigrams": 7, "depth": 1, "activation": "relu", "dropout": 0.0},
    "cnn": {"filters": (4, 8), "kernel": 3, "pools": 2, "padding": "same", "dense": 6, "dropout": 0.0},
    "resnet": {"layout": "cifar", "depth": 20, "width": 8, "groups": 4, "stem": "small", "dropout": 0.0},
    "mlp": {"depth": 3, "width": 8, "activation": "relu", "dropout": 0.0},
    "ngram": {"order": 2, "smoothing": "add_k", "add": 1.0, "discount": 0.0, "capacity": 16},
}
BOTTLENECKS = {"layout": "imagenet", "depth": 50, "width": 4, "groups": 4}
HYBRID = {"depth": 5, "mixers": ("attention", "lstm"), "activation": "swiglu"}
PICTURES = ("cnn", "resnet", "mlp")


@functools.cache
def made(name: str, changes: tuple) -> Model:
    vocabulary = Vocabulary(0, OUTPUTS, pooled=True) if name in PICTURES else Vocabulary(INPUTS, OUTPUTS)
    return build({"name": name, **SETTINGS[name], **dict(changes)}, vocabulary, PrecisionConfig("float32", "float32", "float32"))


def make(name: str, **changes) -> Model:
    return made(name, tuple(changes.items()))


def batch_of(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    random, weight = np.random.default_rng(seed), np.ones(ROWS, np.float32)
    if name in PICTURES:
        return {"inputs": random.standard_normal((ROWS, 8, 8, 2)).astype(np.float32), "weight": weight}
    tokens = {"inputs": random.integers(0, INPUTS, (ROWS, SEQ)).astype(np.int32), "length": np.array([SEQ, 3], np.int32), "weight": weight}
    written = {"decoder_inputs": random.integers(0, OUTPUTS, (ROWS, TARGETS)).astype(np.int32)}
    return tokens | (written if name == "encoder_decoder" else {})


def start(model: Model, batch, seed: int = 0):
    """Parameters of a usual size, none at a constant that would hide a mistake."""
    random = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        values = random.standard_normal(leaf.shape) / np.sqrt(max(np.prod(leaf.shape[:-1]), 1))
        return jnp.asarray(values if len(leaf.shape) > 1 else 0.5 + random.random(leaf.shape), leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(model.init, KEY, batch))


def answer(model: Model, params, batch) -> np.ndarray:
    return np.asarray(jax.jit(model.apply)(params, batch).logits)


def written(model: Model, params, batch) -> np.ndarray:
    """Logits of decoding through the cache: the first three tokens at once, and the others."""
    tokens = batch.get("decoder_inputs", batch["inputs"])

    @jax.jit
    def run(params) -> list[jax.Array]:
        cache, found = model.decode.init_cache(params, batch, tokens.shape[1]), []
        for part in (tokens[:, :3], tokens[:, 3:]):
            logits, cache = model.decode.extend(params, cache, part)
            found.append(logits)
        return found

    return np.concatenate(run(params), axis=1)


def near(first, second, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(first, second, rtol=tolerance, atol=tolerance)


# -- the cut model is the masked one ------------------------------------------------------------------------------------------

CASES = [
    ("decoder", {"tied": True}, "heads", 0.5, {"heads": 2, "kv_heads": 2, "head_dim": 4}),
    ("decoder", {"kv_heads": 2, "loops": 2}, "heads", 0.5, {"heads": 2, "kv_heads": 1, "head_dim": 4}),
    ("decoder", {"kv_heads": 1, "positions": "t5"}, "heads", 0.25, {"heads": 3, "kv_heads": 1, "head_dim": 4}),
    ("decoder", {"positions": "direction", "attention_weights": "geometric"}, "heads", 0.75, {"heads": 1, "kv_heads": 1, "head_dim": 4}),
    ("decoder", {"mixers": ("local", "gru"), "positions": "alibi", "local_positions": "t5"}, "heads", 0.5, {"heads": 2}),
    ("decoder", {"scan": True, "head_dim": 6}, "heads", 0.5, {"head_dim": 6}),
    ("encoder", {"kv_heads": 2, "positions": "t5", "norm_place": "post", "gate": True}, "heads", 0.5, {"heads": 2, "kv_heads": 1}),
    ("encoder_decoder", {"positions": "t5", "kv_heads": 2}, "heads", 0.5, {"heads": 2}),
    ("decoder", {"attention_bias": "qkvo", "kv_heads": 2, "mlp_bias": False, "norm": "none"}, "heads", 0.5, {"heads": 2, "kv_heads": 1}),
    ("decoder", {"attention_bias": "qkv", "kv_heads": 1, "head_bias": False}, "heads", 0.5, {"heads": 2, "kv_heads": 1}),
    ("decoder", {"attention_bias": "qkvo", "mlp_bias": False, "depth": 4}, "layers", 0.5, {"depth": 2}),
    ("encoder_decoder", {"mixers": ("lstm",)}, "heads", 0.5, {"heads": 2}),
    ("decoder", {"activation": "swiglu", "positions": "alibi", "loops": 2}, "units", 0.3, {"mlp": 7}),
    ("encoder", {"norm_place": "post", "gate": True}, "units", 0.3, {"mlp": 7}),
    ("encoder_decoder", {"norm_place": "post"}, "units", 0.5, {"mlp": 5}),
    ("decoder", HYBRID, "units", 0.5, {"mlp": 5}),
    ("decoder", HYBRID, "heads", 0.5, {"heads": 2}),
    ("decoder", {"depth": 4, "positions": "learned", "loops": 2}, "layers", 0.5, {"depth": 2}),
    ("decoder", {"depth": 3, "mixers": ("local", "local"), "norm": "rmsnorm"}, "layers", 0.67, {"depth": 1, "mixers": ("local",)}),
    ("decoder", HYBRID, "layers", 0.5, {"depth": 3, "mixers": ("attention", "lstm")}),
    ("encoder", {"depth": 3, "norm_place": "post", "gate": True}, "layers", 0.34, {"depth": 2}),
    ("encoder_decoder", {"depth": 3}, "layers", 0.34, {"depth": 2}),
    *((name, {}, "units", 0.5, {"width": 3, "embedding": 6}) for name in ("rnn", "lstm", "gru", "bilstm", "stack_rnn", "queue_rnn")),
    ("lstm", {"depth": 1, "embedding": 4}, "units", 0.33, {"width": 4, "embedding": 4}),
    ("cnn", {}, "channels", 0.5, {"filters": (2, 4)}),
    ("cnn", {"dense": 0}, "channels", 0.25, {"filters": (3, 6)}),
    ("cnn", {}, "units", 0.5, {"dense": 3}),
    ("resnet", {"depth": 14}, "channels", 0.5, {"inner": 2}),
    ("resnet", {"depth": 8, "inner": 3}, "channels", 0.34, {"inner": 2}),
    ("resnet", BOTTLENECKS, "channels", 0.5, {"inner": 2}),
    ("resnet", {}, "layers", 0.34, {"depth": 14}),
    ("resnet", {"depth": 14}, "layers", 0.5, {"depth": 8}),
    ("mlp", {}, "units", 0.5, {"width": 4}),
    ("mlp", {"activation": "swiglu"}, "units", 0.25, {"width": 6}),
    ("mlp", {}, "layers", 0.34, {"depth": 2}),
]


def case_name(value) -> str:
    return re.sub(r"[^\w=,.]", "", ",".join(f"{k}={v}" for k, v in value.items())) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("name", "changes", "part", "share", "sizes"), CASES, ids=case_name)
def test_a_cut_model_is_the_masked_one(name, changes, part, share, sizes):
    model, batch = make(name, **changes), batch_of(name)
    assert applies(model, part) == ""
    params = start(model, batch)
    scores = importance(model, params, part, "random", Evidence(key=jax.random.key(1)))
    small, _ = jax.eval_shape(lambda params: cut(model, params, part, share), params)
    both = jax.jit(lambda params, scores: (cut(model, params, part, share, scores)[1], masked(model, params, part, share, scores)))
    fewer, hidden = both(params, scores)
    assert dataclasses.asdict(small.settings).items() >= sizes.items()
    assert not differing(fewer, jax.eval_shape(small.init, KEY, batch))
    assert count(fewer) < count(params)
    assert not differing(hidden, params)
    whole, found = answer(model, params, batch), answer(small, fewer, batch)
    near(found, answer(model, hidden, batch))
    assert np.abs(found - whole).max() > 1e-3, "what was cut mattered"
    if model.decode is not None:
        near(written(small, fewer, batch), written(model, hidden, batch))


TOKENS = ROWS * SEQ


@pytest.mark.parametrize(
    ("name", "part", "saved"),
    [
        ("decoder", "heads", 2 * (4 * 2 * TOKENS * 16 * 8 + 2 * 2 * TOKENS * SEQ * 8)),  # blocks x (matrices + logits and values)
        ("decoder", "units", 2 * (2 * 2 * TOKENS * 16 * 5)),
        ("decoder", "layers", 4 * 2 * TOKENS * 16 * 16 + 2 * 2 * TOKENS * SEQ * 16 + 2 * 2 * TOKENS * 16 * 10),
        ("rnn", "units", 2 * TOKENS * (6 * 3 + 36 - 9 + 36 - 9 + 36 - 9 + 3 * OUTPUTS)),  # two layers' inputs and states, and the head
        ("cnn", "units", 2 * ROWS * (32 * 3 + 3 * OUTPUTS)),
        ("resnet", "channels", 2 * ROWS * 9 * (6 * 64 * 64 + (5 * 16 * 256 + 16 * 128) + (5 * 4 * 1024 + 4 * 512)) // 2),  # by stage
        ("mlp", "layers", 2 * ROWS * 2 * 8 * 8),
    ],
)
def test_a_cut_model_computes_less(name, part, saved):
    """Half of the parts, counted by hand in multiplications and additions."""
    model, batch = make(name), batch_of(name)
    shapes = jax.eval_shape(model.init, KEY, batch)
    small, fewer = jax.eval_shape(lambda params: cut(model, params, part, 0.5), shapes)
    work = [flops(lambda params, model=model: model.apply(params, batch).logits, tree) for model, tree in ((model, shapes), (small, fewer))]
    assert work[0] - work[1] == saved > 0


@pytest.mark.parametrize(
    ("name", "part"),
    [("encoder_decoder", "heads"), ("decoder", "layers"), ("bilstm", "units"), ("resnet", "channels"), ("cnn", "channels")],
)
def test_sizes_depend_on_shapes_alone(name, part):
    """What `eval_shape` replays: the same model whatever the values, and the same parameters under jit."""
    model, batch = make(name), batch_of(name)
    params = start(model, batch)
    small, fewer = cut(model, params, part, 0.5)
    replayed, shapes = jax.eval_shape(lambda params: cut(model, params, part, 0.5), params)
    assert replayed.settings == small.settings != model.settings
    assert not differing(shapes, fewer)
    _, compiled = jax.jit(lambda params: cut(model, params, part, 0.5))(params)
    jax.tree.map(np.testing.assert_array_equal, fewer, compiled)


def test_parameters_keep_their_precision():
    settings = {"name": "gru", **SETTINGS["gru"]}
    model, batch = build(settings, Vocabulary(INPUTS, OUTPUTS), PrecisionConfig("bfloat16", "float32", "float32")), batch_of("gru")
    params = start(model, batch)
    small, fewer = cut(model, params, "units", 0.5)
    assert not differing(fewer, jax.eval_shape(small.init, KEY, batch))
    near(answer(small, fewer, batch), answer(model, masked(model, params, "units", 0.5), batch))


def test_several_heads_of_a_task_stay():
    """The smaller model is made with the same vocabulary: one array of logits for each answer that the task asks for."""
    model = build({"name": "cnn", **SETTINGS["cnn"]}, Vocabulary(0, 5, True, (("one", 2), ("two", 3))), PrecisionConfig(*["float32"] * 3))
    params, batch = start(model, batch_of("cnn")), batch_of("cnn")
    small, fewer = cut(model, params, "channels", 0.5)
    found, expected = (run.apply(tree, batch).logits for run, tree in ((small, fewer), (model, masked(model, params, "channels", 0.5))))
    assert {name: logits.shape for name, logits in found.items()} == {"one": (ROWS, 2), "two": (ROWS, 3)}
    jax.tree.map(near, found, expected)


def test_a_cut_model_can_be_cut_again():
    model, batch = make("resnet", depth=8), batch_of("resnet")
    first, params = cut(model, start(model, batch), "channels", 0.25)
    second, params = cut(first, params, "channels", 0.34)
    assert (first.settings.inner, second.settings.inner) == (3, 2)
    assert not differing(params, jax.eval_shape(second.init, KEY, batch))


# -- which parts stay -----------------------------------------------------------------------------------------------------------


def test_the_least_important_go_and_the_order_stays():
    model, batch = make("mlp", depth=1), batch_of("mlp")
    params = start(model, batch)
    scores = {"block_0": jnp.array([3.0, 9, 1, 8, 2, 7, 5, 5])}
    _, fewer = cut(model, params, "units", 0.5, scores)
    left = [1, 3, 5, 6]
    np.testing.assert_array_equal(fewer["block_0"]["up"]["kernel"], params["block_0"]["up"]["kernel"][:, jnp.array(left)])
    np.testing.assert_array_equal(fewer["head"]["kernel"], params["head"]["kernel"][jnp.array(left)])


def test_each_block_loses_its_own_and_blocks_count_up():
    model, batch = make("decoder", depth=4), batch_of("decoder")
    params = start(model, batch)
    _, fewer = cut(model, params, "layers", 0.5, {"blocks": jnp.array([0.0, 3, 1, 2])})
    for new, old in enumerate((1, 3)):
        jax.tree.map(np.testing.assert_array_equal, fewer[f"block_{new}"], params[f"block_{old}"])
    assert not [path for path in paths(fewer) if path.startswith("block_2")]
    turned = {"block_0/attention": jnp.array([0.0, 1, 2, 3]), "block_1/attention": jnp.array([3.0, 2, 1, 0])}
    model, params = make("decoder"), start(make("decoder"), batch)
    _, fewer = cut(model, params, "heads", 0.5, turned)
    for block, columns in (("block_0", slice(8, 16)), ("block_1", slice(0, 8))):
        query = "attention", "query", "kernel"
        old, new = (functools.reduce(lambda tree, key: tree[key], query, tree[block]) for tree in (params, fewer))
        np.testing.assert_array_equal(new, old[:, columns])


def weights_of(params, name: str, part: int) -> dict[str, np.ndarray]:
    """True where a weight belongs to a part, by hand: unit `part` of block_0 of an lstm of 6 units, and head `part` of a decoder's."""
    mark = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), params)
    if name == "lstm":
        columns = part + 6 * np.arange(4)
        block = mark["block_0"]
        block["input"]["kernel"][:, columns] = block["input"]["bias"][columns] = block["recurrent"][:, columns] = True
        block["recurrent"][part] = mark["block_1"]["input"]["kernel"][part] = True
    else:
        block, dims = mark["block_0"]["attention"], slice(4 * part, 4 * part + 4)
        for each in ("query", "key", "value"):
            block[each]["kernel"][:, dims] = True
        block["out"]["kernel"][dims] = True
    return mark


@pytest.mark.parametrize(
    ("name", "part", "group", "parts"), [("lstm", "units", "block_0", 6), ("decoder", "heads", "block_0/attention", 4)]
)
def test_scores_are_their_formulas(name, part, group, parts):
    model, batches = make(name), [batch_of(name, seed) for seed in range(3)]
    params = start(model, batches[0])

    def loss(params, batch):
        return jnp.square(model.apply(params, batch).logits).mean()

    found = {"magnitude": importance(model, params, part), "taylor": taylor_scores(model, params, part, loss, iter(batches))}
    grads = [jax.grad(loss)(params, batch) for batch in batches]
    for i in range(parts):
        mark = weights_of(params, name, i)
        squares = jax.tree.map(lambda leaf, mine: float((np.asarray(leaf)[mine] ** 2).sum()), params, mark)
        near(found["magnitude"][group][i], np.sqrt(sum(jax.tree.leaves(squares))))
        changes = [
            jax.tree.map(lambda leaf, grad, mine: float((np.asarray(leaf) * np.asarray(grad))[mine].sum()), params, tree, mark)
            for tree in grads
        ]
        near(found["taylor"][group][i], np.mean([abs(sum(jax.tree.leaves(change))) for change in changes]), 1e-4)
    assert {name: leaf.shape for name, leaf in found["taylor"].items()} == {name: leaf.shape for name, leaf in found["magnitude"].items()}


def test_taylor_knows_what_the_loss_does_not_see():
    """A unit that large weights make and no weight reads is the most important by magnitude, and the least by Taylor."""
    model, batch = make("mlp", depth=1), batch_of("mlp")
    params = start(model, batch)
    blind = map_with_path(lambda path, leaf: leaf.at[2].set(0) if path == "head/kernel" else leaf, params)
    blind = map_with_path(lambda path, leaf: leaf.at[:, 2].mul(100) if path == "block_0/up/kernel" else leaf, blind)
    scores = taylor_scores(model, blind, "units", lambda params, batch: jnp.square(model.apply(params, batch).logits).mean(), [batch])
    assert int(jnp.argmin(scores["block_0"])) == int(jnp.argmax(importance(model, blind, "units")["block_0"])) == 2
    small, fewer = cut(model, blind, "units", 0.125, scores)
    near(answer(small, fewer, batch), answer(model, blind, batch))


def test_random_scores_are_of_their_key_and_place():
    model = make("decoder")
    params = start(model, batch_of("decoder"))
    drawn = [importance(model, params, "units", "random", Evidence(key=jax.random.key(seed))) for seed in (0, 0, 1)]
    near(drawn[0]["block_0"], drawn[1]["block_0"], 0)
    near(drawn[0]["block_0"], jax.random.uniform(rng.stream(jax.random.key(0), "block_0"), (10,)), 0)
    assert (drawn[0]["block_0"] != drawn[2]["block_0"]).all() and (drawn[0]["block_0"] != drawn[0]["block_1"]).all()
    assert set(SCORERS) == {"magnitude", "taylor", "random"}


# -- what does not apply ----------------------------------------------------------------------------------------------------------

CAN = {
    **{name: {"heads", "units", "layers"} for name in ("decoder", "encoder", "encoder_decoder")},
    **{name: {"units"} for name in ("rnn", "lstm", "gru", "bilstm", "stack_rnn", "queue_rnn")},
    **{name: set() for name in ("automaton", "automata_network", "bag", "ngram")},
    "cnn": {"units", "channels"},
    "resnet": {"channels", "layers"},
    "mlp": {"units", "layers"},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_part_of_every_family_is_cut_or_refused_in_words(name):
    model, batch = make(name), batch_of(name)
    reasons = {part: applies(model, part) for part in PARTS}
    assert {part for part, reason in reasons.items() if not reason} == CAN[name]
    shapes = {} if name == "ngram" else jax.eval_shape(model.init, KEY, batch)
    for part, reason in reasons.items():
        print(name, part, reason or "yes")
        assert not reason or (reason.startswith("does not apply: ") and "\n" not in reason)
        if reason:
            with pytest.raises(UserError, match=re.escape(reason)):
                cut(model, shapes, part, 0.5)
            with pytest.raises(UserError, match=re.escape(reason)):
                importance(model, shapes, part)
        else:
            _, fewer = jax.eval_shape(lambda params, part=part: cut(model, params, part, 0.5), shapes)
            assert count(fewer) < count(shapes)


@pytest.mark.parametrize(
    ("name", "changes", "part", "reason"),
    [
        ("decoder", {"positions": "alibi"}, "heads", "slopes of model.positions=alibi"),
        ("encoder_decoder", {"positions": "transformer_xl"}, "heads", "sinusoids of model.positions=transformer_xl"),
        ("decoder", {"mixers": ("local",), "local_positions": "alibi"}, "heads", "model.local_positions=alibi"),
        ("decoder", {"mixers": ("lstm",)}, "heads", "no block has attention"),
        ("decoder", {"norm_place": "post"}, "layers", "norm_place=post"),
        ("cnn", {"dense": 0}, "units", "model.dense=0"),
        ("resnet", {"layout": "imagenet", "depth": 34}, "layers", "layout imagenet"),
        ("mlp", {"activation": "gelu"}, "layers", "activation=gelu"),
        ("mlp", {"depth": 0}, "units", "linear model"),
        ("mlp", {"depth": 0}, "layers", "linear model"),
    ],
    ids=case_name,
)
def test_what_cannot_be_cut_exactly_is_refused(name, changes, part, reason):
    model = make(name, **changes)
    with pytest.raises(UserError, match=f"^does not apply: .*{reason}"):
        cut(model, jax.eval_shape(model.init, KEY, batch_of(name)), part, 0.5)
    assert reason in applies(model, part)


@pytest.mark.parametrize(
    ("name", "changes", "part", "share", "message"),
    [
        ("decoder", {}, "heads", 0.1, r"share=0\.1 removes none of the 4 heads of block_0/attention"),
        ("decoder", {"kv_heads": 2}, "heads", 0.9, r"share=0\.9 removes all of the 2 groups of 2 heads of block_0/attention"),
        ("decoder", HYBRID, "layers", 0.9, r"all of the 2 runs of 2 layers of blocks"),
        ("cnn", {}, "channels", 0.1, r"none of the 4 channels of block_0"),
        ("resnet", {"depth": 8}, "layers", 0.5, r"share=0\.5 removes all of the 1 layers of stage_0: at least one stays"),
        ("mlp", {}, "units", 0.0, r"share=0\.0 removes none of the 8 units"),
        ("mlp", {}, "units", 1.0, r"share=1\.0 is not a share"),
        ("mlp", {}, "units", -0.5, r"share=-0\.5 is not a share"),
    ],
)
def test_a_share_that_removes_none_or_all_is_told(name, changes, part, share, message):
    model = make(name, **changes)
    shapes = jax.eval_shape(model.init, KEY, batch_of(name))
    for function in (cut, masked):
        with pytest.raises(UserError, match=message):
            jax.eval_shape(lambda params, function=function: function(model, params, part, share), shapes)


def test_other_mistakes_are_told():
    model, batch = make("mlp"), batch_of("mlp")
    params = start(model, batch)
    with pytest.raises(UserError, match=r"unknown part 'head'.*Did you mean 'heads'"):
        applies(model, "head")
    with pytest.raises(UserError, match=r"unknown score 'tailor'.*Did you mean 'taylor'"):
        importance(model, params, "units", "tailor")
    for wrapped in (dataclasses.replace(model, settings=None), dataclasses.replace(model, remake=None)):
        assert applies(wrapped, "units").startswith("does not apply: the parameters are no longer")
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    with pytest.raises(UserError, match=r"does not apply: .*ensemble"):
        cut(model, members, "units", 0.5)
    with pytest.raises(UserError, match=r"config\.model\.inner=5 .*model\.groups=4"):
        make("resnet", inner=5)
    with pytest.raises(UserError, match="at least one batch"):
        taylor_scores(model, params, "units", lambda params, batch: jnp.zeros(()), [])
    with pytest.raises(ValueError, match="there are 8 parts"):
        cut(model, params, "units", 0.5, {f"block_{i}": jnp.zeros(4) for i in range(3)})
