"""Taps that can be trusted: every edit acts or raises, axes are said, loops have numbers, and the stream can be read out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from test_transformer import OUTPUTS, SEQ, TARGETS, WIDTH, batch_of, logits_of, make, near, start

from assay.core.errors import UserError
from assay.diagnostics.bring import bring
from assay.models.families import build
from assay.models.model import Model, Vocabulary
from assay.models.precision import PrecisionConfig
from assay.nn.recurrent import CELLS, unchanged
from assay.nn.tap import from_tokens, to_tokens

ROWS = 3
MEMORY = {"stack_rnn": {"stack_cell_size": 4, "stack_depth": 3}, "queue_rnn": {"stack_cell_size": 4, "stack_depth": 3}}
RECURRENT = ("rnn", "lstm", "gru", "bilstm", "stack_rnn", "queue_rnn", "automaton", "automata_network")


def recurrent(name: str, pooled: bool = False) -> Model:
    config = {"name": name, "depth": 2, "width": 16, "embedding": 0, "dropout": 0.0, **MEMORY.get(name, {})}
    return build(config, Vocabulary(10, OUTPUTS, pooled), PrecisionConfig("float32", "float32", "float32"))


def put(new, old):
    assert new.shape == old.shape
    return new


def twice(value):
    return 2 * value


def tilted(value):
    """Another direction, and not a multiple, which a norm would undo."""
    return value * jnp.linspace(1.0, 2.0, value.shape[-1])[(None,) * (value.ndim - 1)]


# -- every edit acts, or raises ---------------------------------------------------------------------------------------------

BLOCK = ("middle", "mlp", "mlp_out", "residual")
ATTENTION = ("query", "key", "value", "logits", "weights", "heads", "out")


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder_decoder"])
def test_every_tap_says_its_axes_and_takes_an_edit(family):
    model, batch = make(family, depth=2), batch_of()
    params = start(model)
    output = model.apply(params, batch)
    half = "decoder/" if family == "encoder_decoder" else ""
    expected = {f"{half}embedded", f"{half}norm", f"{half}logits", *(f"{half}block_1/{tap}" for tap in BLOCK)}
    assert expected | {f"{half}block_1/attention/{tap}" for tap in ATTENTION} <= set(output.taps)
    assert set(output.axes) == set(output.taps)
    for path, value in output.taps.items():
        tokens = to_tokens(np.asarray(value), output.axes[path], ROWS)
        assert tokens.shape[:2] == (ROWS, SEQ if not path.startswith("decoder") else TARGETS if "cross/" not in path else tokens.shape[1])
        np.testing.assert_array_equal(from_tokens(tokens, output.axes[path], value.shape), value)
    plain = np.asarray(output.logits)
    for path in (path for path in output.taps if "block_0" not in path and ("cross" in path or not half)):
        changed = logits_of(model, params, batch, edits={path: tilted})
        assert np.abs(changed - plain).max() > 1e-4, f"an edit at {path} has no effect"
        near(logits_of(model, params, batch, edits={path: Partial(put, output.taps[path])}), plain)


def test_axes_pass_through_transformations():
    model, batch = make("decoder", depth=2, remat="full"), batch_of()
    params, plain = start(model), make("decoder", depth=2)
    expected = plain.apply(params, batch).axes

    def loss(params):
        output = model.apply(params, batch, train=True, key=jax.random.key(0))
        return output.logits.sum(), output

    assert jax.jit(model.apply)(params, batch).axes == expected
    assert jax.eval_shape(model.apply, params, batch).axes == expected
    assert jax.grad(loss, has_aux=True)(params)[1].axes == expected
    assert make("decoder", depth=2, scan=True).apply(params, batch).axes == expected


@pytest.mark.parametrize(
    ("path", "near"), [("block_0/residul", "block_0/residual"), ("block_7/mlp", "block_0/mlp"), ("block_0/residual@0", "block_0/residual")]
)
def test_an_edit_that_hits_no_tap_raises(path, near):
    model, batch = make("decoder"), batch_of()
    assert model.editable
    with pytest.raises(UserError, match=f"'{path}' has no effect.*{near}"):
        model.apply(start(model), batch, edits={"embedded": twice, path: twice})
    with pytest.raises(UserError, match=path):
        jax.jit(model.apply)(start(model), batch, edits={path: Partial(twice)})


def test_a_model_that_takes_no_edits_says_so():
    config = {"name": "ngram", "order": 2, "smoothing": "add_k", "add": 1.0, "discount": 0.0, "capacity": 100}
    model = build(config, Vocabulary(4, 4), PrecisionConfig("float32", "float32", "float32"))
    batch = {"inputs": np.zeros((1, 3), np.int32)}
    assert not model.editable
    model.apply(model.init(jax.random.key(0), batch), batch, edits={})
    with pytest.raises(UserError, match="editable"):
        model.apply(model.init(jax.random.key(0), batch), batch, edits={"embedded": twice})
    inputs = np.zeros((4, 3), np.float32)
    brought = bring(lambda params, batch: batch["inputs"] * params, jnp.ones(()), {"test": (inputs, np.zeros(4, np.int64))})
    assert not brought.model.editable
    brought.model.apply(brought.params, brought.first(2), edits={})
    with pytest.raises(UserError, match="editable"):
        brought.model.apply(brought.params, brought.first(2), edits={"hidden": twice})


# -- attention --------------------------------------------------------------------------------------------------------------


def test_a_key_that_is_taken_out_of_the_logits_is_renormalised():
    model, batch = make("decoder", positions="none"), batch_of()
    params, path = start(model), "block_0/attention/"
    before = np.asarray(model.apply(params, batch).taps[path + "weights"])
    taps = model.apply(params, batch, edits={path + "logits": lambda logits: logits.at[..., 0].set(-1e30)}).taps
    after = np.asarray(taps[path + "weights"])[:, :, 1:]  # the first token sees nothing else
    near(after[..., 0], 0 * after[..., 0])
    near(after[..., 1:], before[:, :, 1:, 1:] / before[:, :, 1:, 1:].sum(axis=-1, keepdims=True))


def test_attention_taps_are_its_equation():
    model, batch = make("decoder", positions="alibi", kv_heads=4), batch_of()
    params = start(model)
    taps = {path: np.asarray(value, np.float64) for path, value in model.apply(params, batch).taps.items()}
    query, key, value, logits, weights, heads, out = (taps[f"block_0/attention/{name}"] for name in ATTENTION)
    distance = np.arange(SEQ)[:, None] - np.arange(SEQ)[None, :]
    slopes = 2.0 ** (-8 * np.arange(1, 5) / 4)
    near(logits, query @ key.swapaxes(2, 3) / np.sqrt(4) - slopes[None, :, None, None] * np.abs(distance))
    near(heads, weights @ value)
    near(out, heads.swapaxes(1, 2).reshape(-1, WIDTH) @ np.asarray(params["block_0"]["attention"]["out"]["kernel"]))
    near(taps["block_0/middle"], taps["embedded"].reshape(-1, WIDTH) + out)
    near(taps["block_0/residual"], taps["block_0/middle"] + taps["block_0/mlp_out"])


def test_edited_logits_leave_the_fused_kernel():
    fused, plain, batch = make("decoder", attention="fused"), make("decoder", attention="plain"), batch_of()
    params, edits = start(plain), {"block_0/attention/logits": lambda logits: 3 * logits}
    changed = logits_of(fused, params, batch, edits=edits)
    near(changed, logits_of(plain, params, batch, edits=edits))
    assert np.abs(changed - logits_of(fused, params, batch)).max() > 1e-3
    heads = {"block_0/attention/heads": twice}
    near(logits_of(fused, params, batch, edits=heads), logits_of(plain, params, batch, edits=heads))


# -- loops ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [{}, {"scan": True}, {"remat": "full"}])
def test_loops_have_numbers(way):
    """A model of 2 blocks in 2 loops is one of 4 blocks with the same parameters twice."""
    looped, deep, batch = make("decoder", depth=2, loops=2, **way), make("decoder", depth=4), batch_of()
    params = start(looped)
    unrolled = {**params, "block_2": params["block_0"], "block_3": params["block_1"]}
    options = {"train": "remat" in way, "key": jax.random.key(0)}
    found, expected = looped.apply(params, batch, **options).taps, deep.apply(unrolled, batch, **options).taps
    for loop in range(2):
        for block in range(2):
            for tap in ("residual", "attention/weights"):
                near(found[f"block_{block}/{tap}@{loop}"], expected[f"block_{2 * loop + block}/{tap}"])
    near(found["block_0/residual"], expected["block_2/residual"])  # the last loop
    assert "block_0/residual@2" not in found and "embedded@0" not in found


def test_an_edit_acts_in_one_loop_or_in_all():
    looped, deep, batch = make("decoder", depth=2, loops=2), make("decoder", depth=4), batch_of()
    params = start(looped)
    unrolled = {**params, "block_2": params["block_0"], "block_3": params["block_1"]}

    def edited(*paths: str) -> np.ndarray:
        return logits_of(deep, unrolled, batch, edits=dict.fromkeys(paths, twice))

    near(logits_of(looped, params, batch, edits={"block_0/mlp": twice}), edited("block_0/mlp", "block_2/mlp"))
    near(logits_of(looped, params, batch, edits={"block_0/mlp@1": twice}), edited("block_2/mlp"))
    near(logits_of(looped, params, batch, edits={"block_0/mlp@0": twice}), edited("block_0/mlp"))
    assert np.abs(edited("block_0/mlp") - edited("block_2/mlp")).max() > 1e-4
    with pytest.raises(UserError, match="block_0/mlp@1"):
        looped.apply(params, batch, edits={"block_0/mlp@2": twice})


# -- the stream and its read-out --------------------------------------------------------------------------------------------

READ = [
    ("decoder", {"depth": 2}),
    ("decoder", {"depth": 2, "loops": 2, "test_loops": 3}),
    ("decoder", {"norm_place": "post"}),
    ("decoder", {"positions": "learned", "norm": "rmsnorm", "head_bias": False}),
    ("encoder", {"depth": 2, "scan": True}),
    ("encoder_decoder", {"depth": 2}),
]


@pytest.mark.parametrize(("family", "changes"), READ)
def test_the_read_out_of_the_last_residual_is_the_answer(family, changes):
    model, batch = make(family, **changes), batch_of()
    params = start(model)
    output = model.apply(params, batch)
    assert set(model.stream + model.source_stream) <= set(output.taps)
    assert len(model.stream) == model.settings.depth * model.settings.loops_in_test
    last = output.taps[model.stream[-1]]
    near(model.readout(params, last).reshape(output.logits.shape), output.logits)
    near(jax.jit(model.readout)(params, last).reshape(output.logits.shape), output.logits)


def test_the_read_out_of_a_tied_head():
    model, batch = make("decoder", inputs=OUTPUTS, tied=True), batch_of()
    batch["inputs"] = batch["inputs"] % OUTPUTS
    params = start(model)
    output = model.apply(params, batch)
    near(model.readout(params, output.taps["block_0/residual"]).reshape(output.logits.shape), output.logits)


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_the_read_out_of_a_pooled_model(family):
    """Of a decoder at the last token; of an encoder the mean over tokens."""
    model, batch = make(family, pooled=True), batch_of(length=3)
    params = start(model)
    output = model.apply(params, batch)
    each = np.asarray(model.readout(params, output.taps["block_0/residual"])).reshape(ROWS, SEQ, OUTPUTS)
    near(each[:, 2] if family == "decoder" else each[:, :3].mean(axis=1), output.logits)


def test_the_blocks_are_no_part_of_a_compiled_read_out():
    def flops(depth: int) -> float:
        model = make("decoder", depth=depth)
        program = jax.jit(model.readout).lower(start(model), jnp.zeros((8, WIDTH)))
        return program.compile().cost_analysis()["flops"]

    assert flops(1) == flops(4)


def test_a_model_without_a_stream_cannot_be_read_out():
    model = recurrent("lstm")
    with pytest.raises(UserError, match="residual stream"):
        model.readout({}, jnp.zeros((1, 16)))


# -- recurrent networks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_models_tap_their_embeddings(name):
    model, batch = recurrent(name), batch_of()
    params = start(model)
    output = model.apply(params, batch)
    assert output.axes["embedded"] == "s b w" and output.taps["embedded"].shape == (SEQ, ROWS, 16)
    near(to_tokens(output.taps["embedded"], "s b w", ROWS), np.asarray(params["embed"]["embedding"])[batch["inputs"]])
    other = model.apply(params, batch | {"inputs": batch["inputs"][::-1].copy()})
    found = model.apply(params, batch, edits={"embedded": Partial(put, other.taps["embedded"])})
    near(found.logits, other.logits)


def cell_of(t, state, at, fill):
    return state._replace(cell=jnp.where(t == at, fill, state.cell))


def test_a_state_that_is_edited_changes_what_comes_after():
    model, batch = recurrent("lstm"), batch_of()
    params = start(model)
    plain = logits_of(model, params, batch)
    patched = logits_of(model, params, batch, edits={"block_0/state": lambda t, state: cell_of(t, state, 2, 1.5)})
    moved = np.abs(patched - plain).max(axis=(0, 2))
    assert (moved[:3] < 1e-5).all(), "the hidden state of step 2 was made before its cell was edited"
    assert (moved[3:] > 1e-3).all()
    hidden = logits_of(model, params, batch, edits={"block_1/hidden": lambda hidden: hidden.at[2].set(0.0)})
    assert (np.abs(hidden - plain).max(axis=(0, 2)) > 1e-5).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("name", RECURRENT)
def test_states_can_be_read_and_put_back(name):
    model, batch = recurrent(name), batch_of()
    params, where = start(model), "block_0/forward" if name == "bilstm" else "block_0"
    plain = model.apply(params, batch)
    assert not any("/state" in path for path in plain.taps)
    read = model.apply(params, batch, edits={f"{where}/state": unchanged})
    near(read.logits, plain.logits)
    cell = CELLS[{"bilstm": "lstm"}.get(name, name)]
    size = model.settings.size
    for part in cell.zeros(size, ROWS, jnp.float32)._fields:
        assert read.axes[f"{where}/state/{part}"].startswith("s b")
    near(read.taps[f"{where}/state/hidden"], plain.taps[f"{where}/hidden"])
    with pytest.raises(UserError, match=r"state/hidden.*has no effect"):
        model.apply(params, batch, edits={f"{where}/state/hidden": twice})


def test_a_state_inside_a_hybrid_and_its_gradient():
    model, batch = make("decoder", mixers=("lstm",)), batch_of()
    params = start(model)

    def answer(fill: jax.Array) -> jax.Array:
        edits = {"block_0/lstm/layer/state": lambda t, state: state._replace(cell=state.cell + jnp.where(t == 1, fill, 0.0))}
        return model.apply(params, batch, edits=edits).logits.std(axis=2).sum(axis=0)

    slopes = np.abs(np.asarray(jax.jacobian(answer)(jnp.zeros(()))))
    assert (slopes[:2] == 0).all() and (slopes[2:] > 0).all()


@pytest.mark.parametrize("name", ["lstm", "gru", "stack_rnn"])
def test_a_pooled_recurrent_model_decodes(name):
    """After each token it answers as if the input ended there."""
    model, batch = recurrent(name, pooled=True), batch_of()
    params = start(model)
    cache, found = model.decode.init_cache(params, batch, SEQ), []
    for first in range(0, SEQ, 2):
        logits, cache = model.decode.extend(params, cache, batch["inputs"][:, first : first + 2])
        found.append(logits)
    found = np.concatenate(found, axis=1)
    for length in (1, 3, SEQ):
        near(found[:, length - 1], logits_of(model, params, batch | {"length": np.full(ROWS, length, np.int32)}))
