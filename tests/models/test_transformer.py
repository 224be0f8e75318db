"""The knobs of the Transformer family, each by what it must do. Models run without jit and at one shape where they can."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from assay.core.errors import UserError
from assay.core.tree import count, merge, paths
from assay.dist.mesh import AXES
from assay.dist.shard import on_mesh
from assay.models.families import build
from assay.models.model import Model, Vocabulary
from assay.models.precision import PrecisionConfig
from assay.nn.attention import Cache
from assay.nn.positions import POSITIONS

SEQ, TARGETS, INPUTS, OUTPUTS, WIDTH, MLP = 5, 4, 10, 6, 16, 24
CONFIG = {"depth": 1, "loops": 1, "width": WIDTH, "heads": 4, "kv_heads": 2, "window": 0, "mlp": MLP, "positions": "alibi", "randomised": 0}
CONFIG |= {"norm": "layernorm", "norm_place": "pre", "gate": False, "activation": "gelu", "residual_init": "plain", "tied": False}
CONFIG |= {"attention": "auto", "dropout": 0.0, "max_length": 12}
CONFIG |= {"mixers": ("attention",), "attention_weights": "softmax", "test_loops": 0, "stack_cell": 8, "stack_depth": 0}
CONFIG |= {"local_window": 2, "local_positions": "rotary"}
FAMILIES = ("decoder", "encoder", "encoder_decoder")


def make(family: str, inputs: int = INPUTS, outputs: int = OUTPUTS, pooled: bool = False, compute: str = "float32", **changes) -> Model:
    return build({"name": family, **CONFIG, **changes}, Vocabulary(inputs, outputs, pooled), PrecisionConfig("float32", compute, "float32"))


def batch_of(width: int = SEQ, length: int | None = None, rows: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    batch = {
        "inputs": random.integers(0, INPUTS, (rows, 20))[:, :width].astype(np.int32),
        "length": np.full(rows, length or width, np.int32),
    }
    return batch | {"decoder_inputs": random.integers(0, OUTPUTS, (rows, TARGETS)).astype(np.int32), "weight": np.ones(rows, np.float32)}


def start(model: Model, seed: int = 0):
    """Parameters of a usual size, none at an initial constant, drawn by NumPy."""
    random = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        values = random.standard_normal(leaf.shape) / np.sqrt(leaf.shape[0]) if len(leaf.shape) > 1 else 0.5 + random.random(leaf.shape)
        return jnp.asarray(values, leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0), batch_of()))


def logits_of(model: Model, params, batch, **options) -> np.ndarray:
    return np.asarray(model.apply(params, batch, **options).logits)


def near(first, second, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(first, second, rtol=tolerance, atol=tolerance)


def written(model: Model, params, batch, tokens: np.ndarray, stride: int = 1, room: int = 0) -> np.ndarray:
    """Logits of cached decoding, `stride` tokens at a time."""
    cache, found = model.decode.init_cache(params, batch, tokens.shape[1] + room), []
    for first in range(0, tokens.shape[1], stride):
        logits, cache = model.decode.extend(params, cache, tokens[:, first : first + stride])
        found.append(np.asarray(logits))
    return np.concatenate(found, axis=1)


# -- sizes ------------------------------------------------------------------------------------------------------------------


def block_size(config: dict, cross: bool = False) -> int:
    head = WIDTH // config["heads"]
    norm = WIDTH * {"layernorm": 2, "rmsnorm": 1}[config["norm"]]
    attention = 2 * WIDTH * WIDTH + 2 * WIDTH * config["kv_heads"] * head
    sizes = {"t5": 32 * config["heads"], "transformer_xl": WIDTH * WIDTH + 2 * WIDTH, "direction": 2 * (WIDTH + config["heads"])}
    extra = sizes.get(config["positions"], 0)
    up = (2 if config["activation"] == "swiglu" else 1) * (WIDTH * MLP + MLP)
    gate = 2 * (WIDTH * WIDTH + WIDTH) if config["gate"] else 0
    return attention + extra + up + MLP * WIDTH + WIDTH + gate + 2 * norm + (attention + norm if cross else 0)


def stack_size(config: dict, ids: int, cross: bool = False) -> int:
    last = WIDTH * {"layernorm": 2, "rmsnorm": 1}[config["norm"]] if config["norm_place"] == "pre" else 0
    table = (config["randomised"] or config["max_length"]) * WIDTH if config["positions"] == "learned" else 0
    return ids * WIDTH + table + config["depth"] * block_size(config, cross) + last


KNOBS = [
    {},
    {"depth": 2, "loops": 3},
    {"kv_heads": 1},
    {"norm": "rmsnorm"},
    {"norm_place": "post"},
    {"activation": "swiglu"},
    {"tied": True},
]
KNOBS += [{"gate": True, "norm_place": "post"}, *({"positions": name} for name in POSITIONS), {"positions": "learned", "randomised": 50}]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("knobs", KNOBS, ids=lambda knobs: ",".join(f"{name}={value}" for name, value in knobs.items()))
def test_parameters_are_counted(family, knobs):
    config = {**CONFIG, **knobs}
    model = make(family, inputs=OUTPUTS, **knobs)
    head = 0 if config["tied"] else WIDTH * OUTPUTS + OUTPUTS
    expected = stack_size(config, OUTPUTS) + head
    if family == "encoder_decoder":
        expected += stack_size(config, OUTPUTS + 1, cross=True)
    assert count(jax.eval_shape(model.init, jax.random.key(0), batch_of())) == expected


@pytest.mark.parametrize("family", ["decoder", "encoder"])
@pytest.mark.parametrize("pooled", [False, True])
def test_shapes(family, pooled):
    model = make(family, pooled=pooled)
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch_of())
    assert jax.eval_shape(model.apply, shapes, batch_of()).logits.shape == ((3, OUTPUTS) if pooled else (3, SEQ, OUTPUTS))
    assert (model.decode is not None) == (family == "decoder" and not pooled)


def test_shapes_and_paths_of_an_encoder_decoder():
    model = make("encoder_decoder", depth=2)
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch_of())
    output = jax.eval_shape(model.apply, shapes, batch_of())
    assert output.logits.shape == (3, TARGETS, OUTPUTS) and output.logits.dtype == jnp.float32
    assert shapes["decoder"]["embed"]["embedding"].shape == (OUTPUTS + 1, WIDTH)
    assert {"encoder/block_1/attention/query/kernel", "decoder/block_0/cross/key/kernel"} <= set(paths(shapes))
    assert output.taps["decoder/block_1/cross/weights"].shape == (3, 4, TARGETS, SEQ)
    assert output.taps["encoder/block_0/attention/weights"].shape == (3, 4, SEQ, SEQ)


@pytest.mark.parametrize(
    ("family", "changes"), [("encoder_decoder", {"positions": "transformer_xl", "randomised": 30}), ("decoder", {"loops": 2})]
)
def test_jit_changes_nothing_and_bfloat16_is_near(family, changes):
    model, rough, batch = make(family, **changes), make(family, compute="bfloat16", **changes), batch_of()
    params = start(model)
    plain = logits_of(model, params, batch)
    near(jax.jit(model.apply)(params, batch).logits, plain)
    half = logits_of(rough, params, batch)
    assert half.dtype == np.float32 and 1e-5 < np.abs(half - plain).max() < 0.15


# -- what reaches what -------------------------------------------------------------------------------------------------------


def test_an_encoder_decoder_reads_all_of_the_source_and_writes_from_left_to_right():
    """By gradients: rows of the embeddings that only one position uses."""
    model, rows = make("encoder_decoder", inputs=TARGETS * SEQ, outputs=TARGETS * TARGETS), np.arange(TARGETS)
    batch = batch_of(rows=TARGETS, length=4) | {"inputs": np.arange(TARGETS * SEQ, dtype=np.int32).reshape(TARGETS, SEQ)}
    batch |= {"decoder_inputs": np.arange(TARGETS * TARGETS, dtype=np.int32).reshape(TARGETS, TARGETS)}
    params = start(model)

    def answer(tables):
        changed = {side: {"embed": {"embedding": table}} for side, table in tables.items()}
        return jnp.sin(model.apply(merge(params, changed), batch).logits[rows, rows]).sum()  # row t is asked at position t

    gradient = jax.grad(answer)({side: params[side]["embed"]["embedding"] for side in ("encoder", "decoder")})
    source = np.abs(np.asarray(gradient["encoder"])).max(axis=1).reshape(TARGETS, SEQ)
    assert (source[:, :4] > 0).all() and (source[:, 4:] == 0).all(), "all of the source, and none of its padding"
    target = np.abs(np.asarray(gradient["decoder"]))[:-1].max(axis=1).reshape(TARGETS, TARGETS)
    np.testing.assert_array_equal(target > 0, np.tri(TARGETS, dtype=bool))


@pytest.mark.parametrize(("family", "pooled"), [("encoder", False), ("encoder", True), ("decoder", True), ("encoder_decoder", False)])
@pytest.mark.parametrize("changes", [{}, *({"positions": name, "randomised": 40} for name in ("rotary", "transformer_xl"))], ids=str)
def test_padding_changes_nothing(family, pooled, changes):
    model = make(family, pooled=pooled, **changes)
    params = start(model)
    exact, padded = logits_of(model, params, batch_of(SEQ)), logits_of(model, params, batch_of(SEQ + 3, length=SEQ))
    near(padded if pooled or family == "encoder_decoder" else padded[:, :SEQ], exact)
    assert np.abs(exact - logits_of(model, params, batch_of(SEQ, length=SEQ - 1))).max() > 1e-3, "the length is read"


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_one_answer_is_read_from_the_last_token_or_the_mean(family):
    """The head is linear, so that a mean of activations gives the mean of logits."""
    one, each = make(family, pooled=True), make(family)
    params, length = start(one), np.array([5, 3, 1], np.int32)
    batch = batch_of() | {"length": length}
    tokens = logits_of(each, params, batch)
    expected = [row[n - 1] if family == "decoder" else row[:n].mean(axis=0) for row, n in zip(tokens, length, strict=True)]
    near(logits_of(one, params, batch), np.stack(expected))


@pytest.mark.parametrize("positions", POSITIONS)
def test_only_distances_matter_where_positions_are_relative(positions):
    """With a window of two tokens, a token's logits say the same wherever the two stand, unless positions are absolute."""
    model, tokens = make("decoder", positions=positions, window=2), batch_of()["inputs"]
    params = start(model)
    first, moved = (logits_of(model, params, batch_of() | {"inputs": array}) for array in (tokens, np.roll(tokens, 1, axis=1)))
    difference = np.abs(first[:, 1:-1] - moved[:, 2:]).max()
    assert difference > 1e-2 if positions in ("sinusoidal", "learned") else difference < 1e-5


# -- decoding ----------------------------------------------------------------------------------------------------------------


DECODING = [("encoder_decoder", {"positions": name}, 2) for name in ("learned", "rotary", "t5")]
DECODING += [("encoder_decoder", {"depth": 2, "loops": 2, "kv_heads": 1, "window": 2, "positions": "transformer_xl"}, 2)]
DECODING += [("encoder_decoder", {"norm_place": "post", "gate": True, "tied": True, "randomised": 30}, 2)]
DECODING += [("decoder", {"positions": name, "randomised": 30}, 2) for name in ("learned", "rotary", "transformer_xl", "t5")]
DECODING += [("decoder", {"attention": "fused", "window": 3}, 2)]


@pytest.mark.parametrize(("family", "changes", "stride"), DECODING, ids=str)
def test_cached_decoding_equals_the_full_pass(family, changes, stride):
    """Where positions are randomised, for as many tokens as the cache was made for."""
    model, batch = make(family, **changes), batch_of(4) | {"length": np.array([4, 3, 2], np.int32)}
    params = start(model)
    tokens = batch["decoder_inputs" if family == "encoder_decoder" else "inputs"]
    room = 0 if changes.get("randomised") else 2
    near(written(model, params, batch, tokens, stride, room), logits_of(model, params, batch))


# -- loops, gate, norms, tied head --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["decoder", "encoder_decoder"])
def test_loops_equal_an_unrolled_stack_with_copied_weights(family):
    once, looped, deep = make(family, depth=2), make(family, depth=2, loops=3), make(family, depth=6)
    params = start(once)
    assert jax.tree.structure(params) == jax.tree.structure(start(looped)), "another number of loops takes the same parameters"
    copy = lambda half: half | {f"block_{i}": half[f"block_{i % 2}"] for i in range(6)}  # noqa: E731
    copied = {side: copy(half) for side, half in params.items()} if family == "encoder_decoder" else copy(params)
    found = logits_of(looped, params, batch_of())
    near(found, logits_of(deep, copied, batch_of()))
    assert np.abs(found - logits_of(once, params, batch_of())).max() > 1e-3


def test_the_gate_equals_its_formula():
    model, batch = make("encoder", gate=True, norm_place="post", activation="relu", positions="none", kv_heads=4), batch_of()
    params = start(model)
    taps = {path: np.asarray(value, np.float64) for path, value in model.apply(params, batch).taps.items()}
    block = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["block_0"])

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6) * block[name]["scale"] + block[name]["bias"]

    dense = lambda name, x: x @ block[name]["kernel"] + block[name]["bias"]  # noqa: E731
    x = taps["embedded"].reshape(-1, WIDTH)
    value = (x @ block["attention"]["value"]["kernel"]).reshape(3, SEQ, 4, 4)
    mixed = np.einsum("bhqk,bkhd->bqhd", taps["block_0/attention/weights"], value).reshape(-1, WIDTH)
    merged = norm("norm_attention", x + mixed @ block["attention"]["out"]["kernel"])
    update = norm("norm_mlp", dense("down", np.maximum(dense("up", merged), 0)))
    gate = 1 / (1 + np.exp(-dense("copy_down", np.maximum(dense("copy_up", merged), 0))))
    near(taps["block_0/gate"], gate)
    near(taps["block_0/residual"], gate * update + (1 - gate) * x, 1e-4)


def test_a_gated_block_copies_at_the_start():
    model = make("encoder", gate=True, norm_place="post")
    gate = np.asarray(model.apply(model.init(jax.random.key(0), batch_of()), batch_of()).taps["block_0/gate"])
    assert gate.mean() < 0.1, "sigmoid(-3) is 0.05"


def test_post_norm_leaves_normalised_activations():
    for place in ("pre", "post"):
        model = make("decoder", norm_place=place, depth=2)
        residual = np.asarray(model.apply(model.init(jax.random.key(0), batch_of()), batch_of()).taps["block_1/residual"])
        found = np.abs(residual.mean(axis=-1)).max() < 1e-4 and np.abs(residual.std(axis=-1) - 1).max() < 1e-2
        assert found == (place == "post")


def test_swiglu_equals_its_formula():
    model, batch = make("decoder", activation="swiglu"), batch_of()
    params = start(model)
    up = {name: {"kernel": params["block_0"][name]["kernel"], "bias": params["block_0"][name]["bias"]} for name in ("up", "up_gate")}
    zero = merge(params, {"block_0": {"up": jax.tree.map(jnp.zeros_like, up["up"])}})
    assert (np.asarray(model.apply(zero, batch).taps["block_0/mlp"]) == 0).all(), "one factor is linear"
    closed = merge(params, {"block_0": {"up_gate": {"kernel": 0 * up["up_gate"]["kernel"], "bias": 0 * up["up_gate"]["bias"] + 2.0}}})
    linear = merge(closed, {"block_0": {"up": {"kernel": 2 * up["up"]["kernel"], "bias": 2 * up["up"]["bias"]}}})
    first, second = (np.asarray(model.apply(tree, batch).taps["block_0/mlp"]) for tree in (closed, linear))
    near(second, 2 * first)
    assert np.abs(first).max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tied_head_shares_the_embedding(family):
    """A row of the table that no token reads moves the logits of its own class and no other."""
    model, batch = make(family, inputs=OUTPUTS, tied=True), batch_of() | {"inputs": np.ones((3, SEQ), np.int32)}
    batch |= {"decoder_inputs": np.full((3, TARGETS), OUTPUTS, np.int32)}
    params = start(model)
    assert not [path for path in paths(params) if "head" in path]
    owner = params["decoder"] if family == "encoder_decoder" else params
    table = {"embed": {"embedding": owner["embed"]["embedding"].at[4].add(1.0)}}
    moved = logits_of(model, merge(params, {"decoder": table} if family == "encoder_decoder" else table), batch)
    difference = np.abs(moved - logits_of(model, params, batch)).max(axis=(0, 1))
    assert difference[4] > 1e-2 and (np.delete(difference, 4) < 1e-6).all()


# -- randomised positions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [name for name in POSITIONS if name not in ("none", "direction")])
def test_randomised_positions_are_drawn_by_the_key(positions):
    model, plain, batch = make("encoder", positions=positions, randomised=60), make("encoder", positions=positions), batch_of()
    params = start(model)
    train = lambda seed: logits_of(model, params, batch, key=jax.random.key(seed), train=True)  # noqa: E731
    first, still = train(0), logits_of(model, params, batch)
    np.testing.assert_array_equal(first, train(0))
    np.testing.assert_array_equal(still, logits_of(model, params, batch))
    assert np.abs(first - train(1)).max() > 1e-4 and np.abs(first - still).max() > 1e-4
    one = {name: array[:1] for name, array in batch.items()}
    near(logits_of(model, params, one), still[:1])
    if positions != "learned":
        assert np.abs(still - logits_of(plain, params, batch)).max() > 1e-4


def test_randomised_positions_without_a_choice_are_the_plain_ones():
    """Drawn from as many numbers as there are tokens."""
    for positions in POSITIONS:
        drawn, plain = make("encoder", positions=positions, randomised=SEQ), make("encoder", positions=positions, max_length=SEQ)
        params = start(drawn)
        near(logits_of(drawn, params, batch_of()), logits_of(plain, params, batch_of()))


# -- the kernel ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "positions"), [("decoder", "rotary"), ("encoder", "alibi"), ("encoder_decoder", "transformer_xl")])
def test_the_fused_kernel_changes_nothing(family, positions):
    plain, fused = (make(family, positions=positions, attention=name) for name in ("plain", "fused"))
    params, batch = start(plain), batch_of(length=4)
    first, second = plain.apply(params, batch), fused.apply(params, batch)
    valid = slice(None) if family == "encoder_decoder" else slice(0, 4)
    near(first.logits[:, valid], second.logits[:, valid])
    path = next(path for path in second.taps if path.endswith("attention/weights"))
    near(first.taps[path], second.taps[path])
    edits = {path: jnp.zeros_like}
    edited = fused.apply(params, batch, edits=edits).logits
    near(plain.apply(params, batch, edits=edits).logits, edited)
    assert np.abs(np.asarray(edited) - np.asarray(second.logits)).max() > 1e-3, "an edit reaches what follows"


# -- mistakes ------------------------------------------------------------------------------------------------------------------


MISTAKES = [
    ({"norm_place": "around"}, ["'around'", "post, pre", "--config.model.norm_place"]),
    ({"activation": "swish"}, ["'swish'", "gelu, relu, swiglu", "--config.model.activation"]),
    ({"attention": "flash"}, ["'flash'", "auto, fused, plain", "--config.model.attention"]),
    ({"residual_init": "small"}, ["'small'", "plain, scaled", "--config.model.residual_init"]),
    ({"loops": 0}, ["config.model.loops=0", "at least 1"]),
    ({"gate": True}, ["config.model.gate=True", "norm_place=post"]),
    ({"randomised": -1}, ["config.model.randomised=-1"]),
    ({"tied": True}, ["config.model.tied=True", "10 input ids", "6 output classes"]),
]


@pytest.mark.parametrize(("changes", "parts"), MISTAKES, ids=str)
def test_a_mistake_is_told(changes, parts):
    with pytest.raises(UserError) as caught:
        make("decoder", **changes)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_what_does_not_fit_the_task_is_told():
    with pytest.raises(UserError, match="one answer"):
        make("encoder_decoder", pooled=True)
    with pytest.raises(UserError, match="token ids"):
        make("encoder", inputs=0, pooled=True)
    model = make("decoder", randomised=SEQ - 1)
    with pytest.raises(UserError, match=r"randomised=4.*5 tokens"):
        jax.eval_shape(model.init, jax.random.key(0), batch_of())
    with pytest.raises(UserError, match=r"randomised=4.*9 tokens"):
        model.decode.init_cache({}, batch_of(), 9)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_cache_lies_as_its_device_reads_it(devices):
    """On one CPU examples and heads are one axis, as products read them; on several devices two, which are split apart."""
    model = make("decoder", compute="bfloat16")
    params, batch = start(model), batch_of()
    mesh = Mesh(np.array(jax.devices()[:1] * devices).reshape(devices, 1, 1), AXES)
    cache = jax.eval_shape(on_mesh(lambda params, batch: model.decode.init_cache(params, batch, SEQ), mesh), params, batch)
    head = WIDTH // CONFIG["heads"]
    wanted = (3 * CONFIG["kv_heads"], head, SEQ) if devices == 1 else (3, CONFIG["kv_heads"], head, SEQ)
    assert [(leaf.shape, leaf.dtype) for leaf in cache.layers[0]] == [(wanted, jnp.bfloat16)] * 2


@pytest.mark.parametrize("changes", [{}, {"kv_heads": 1}, {"window": 3}, {"positions": "transformer_xl"}, {"attention": "fused"}])
def test_both_kinds_of_cache_give_the_same_logits(changes):
    model, batch = make("decoder", **changes), batch_of()
    params, tokens = start(model), batch_of()["inputs"]
    flat = model.decode.init_cache(params, batch, SEQ)
    apart = flat._replace(layers=tuple(Cache(*(array.reshape(3, -1, *array.shape[1:]) for array in layer)) for layer in flat.layers))
    for token in range(SEQ):
        (one, flat), (other, apart) = (model.decode.extend(params, cache, tokens[:, token : token + 1]) for cache in (flat, apart))
        near(one, other)
