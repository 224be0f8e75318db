"""Transformers whose blocks mix tokens in other ways than by softmax attention; more loops in test; positions that a task gives."""

import jax
import numpy as np
import pytest
from test_transformer import CONFIG, SEQ, batch_of, logits_of, make, near, start, written

from assay.core.errors import UserError
from assay.core.tree import paths
from assay.models.families import label
from assay.nn.recurrent import CELLS

RECURRENT = list(CELLS)


@pytest.mark.parametrize("mixer", RECURRENT)
def test_blocks_take_turns(mixer):
    model = make("decoder", depth=3, mixers=("attention", mixer))
    found = set(paths(jax.eval_shape(model.init, jax.random.key(0), batch_of())))
    assert {"block_0/attention/query/kernel", f"block_1/{mixer}/layer/input/kernel", "block_2/attention/query/kernel"} <= found
    assert not [path for path in found if path.startswith(("block_0/" + mixer, "block_1/attention"))]


@pytest.mark.parametrize("mixer", RECURRENT)
@pytest.mark.parametrize("stride", [1, 2])
def test_cached_decoding_equals_the_full_pass(mixer, stride):
    model, batch = make("decoder", depth=2, loops=2, mixers=(mixer, "attention")), batch_of(4)
    params = start(model)
    near(written(model, params, batch, batch["inputs"], stride), logits_of(model, params, batch))


@pytest.mark.parametrize("mixer", RECURRENT)
def test_a_recurrent_block_is_causal_and_far_sighted(mixer):
    model, batch = make("decoder", mixers=(mixer,), positions="none"), batch_of()
    params = start(model)
    changed = np.array(batch["inputs"])
    changed[:, 2] = (changed[:, 2] + 1) % 4
    difference = np.abs(logits_of(model, params, batch | {"inputs": changed}) - logits_of(model, params, batch)).max(axis=(0, 2))
    assert (difference[:2] == 0).all() and (difference[2:] > 1e-6).all()


def test_a_mixer_of_both_directions_sees_all_valid_tokens_and_no_padding():
    model, batch = make("encoder", mixers=("bilstm",), positions="none"), batch_of()
    params, short = start(model), batch | {"length": np.full(3, SEQ - 2)}
    changed = np.array(batch["inputs"])
    changed[:, 2] = (changed[:, 2] + 1) % 4
    difference = np.abs(logits_of(model, params, batch | {"inputs": changed}) - logits_of(model, params, batch)).max(axis=(0, 2))
    assert (difference > 1e-6).all()
    changed = np.array(batch["inputs"])
    changed[:, -1] = (changed[:, -1] + 1) % 4
    difference = logits_of(model, params, short | {"inputs": changed}) - logits_of(model, params, short)
    assert (difference[:, : SEQ - 2] == 0).all()


@pytest.mark.parametrize("name", ["decoder", "encoder_decoder"])
def test_a_decoder_cannot_read_back_from_what_it_has_not_written(name):
    with pytest.raises(UserError, match=r"bilstm.*model\.mixers.*lstm.*encoder"):
        make(name, mixers=("bilstm",))


def test_a_stack_has_room_for_every_token_unless_it_is_told_otherwise():
    model, batch = make("decoder", mixers=("stack_rnn",)), batch_of()
    cache = model.decode.init_cache(start(model), batch, 17)
    assert cache.layers[0].stack.shape == (3, 17, CONFIG["stack_cell"])
    small = make("decoder", mixers=("stack_rnn",), stack_depth=5)
    assert small.decode.init_cache(start(small), batch, 17).layers[0].stack.shape == (3, 5, CONFIG["stack_cell"])


def test_a_local_mixer_sees_the_last_tokens_only():
    model, batch = make("decoder", depth=2, mixers=("local", "attention"), positions="none", local_window=2), batch_of(4)
    params = start(model)
    taps = model.apply(params, batch).taps
    near = np.tri(4, dtype=bool) & ~np.tri(4, k=-2, dtype=bool)
    np.testing.assert_array_equal(np.asarray(taps["block_0/local/weights"])[0, 0] > 0, near)
    np.testing.assert_array_equal(np.asarray(taps["block_1/attention/weights"])[0, 0] > 0, np.tri(4, dtype=bool))
    np.testing.assert_allclose(written(model, params, batch, batch["inputs"]), logits_of(model, params, batch), rtol=1e-5, atol=1e-5)


def test_more_loops_in_test_are_more_loops():
    trained, tested, twice = make("decoder", loops=1, test_loops=2), make("decoder", loops=2), make("decoder", loops=1)
    params, batch = start(trained), batch_of()
    near(logits_of(trained, params, batch), logits_of(tested, params, batch))
    near(logits_of(trained, params, batch, train=True), logits_of(twice, params, batch, train=True))
    near(written(trained, params, batch, batch["inputs"]), logits_of(tested, params, batch))


def test_what_is_added_stands_in_the_name():
    assert label({"name": "decoder", "mixers": ("attention",), "attention_weights": "softmax"}) == "decoder"
    assert label({"name": "decoder", "mixers": ("lstm", "attention", "lstm"), "attention_weights": "softmax"}) == "decoder + lstm"
    assert (
        label({"name": "encoder", "mixers": ("attention",), "attention_weights": "geometric", "gate": True}) == "encoder + geometric + gate"
    )
    assert label({"name": "encoder", "loops": 4, "mixers": ("attention",)}) == "encoder x 4"
    assert label({"name": "lstm"}) == "lstm"
    assert label({"name": "decoder", "mixers": ("lstm",)}) == "decoder + lstm + no attention"
    assert label({"name": "decoder", "loops": 2, "test_loops": 6}) == "decoder x 2 (x 6 in test)"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 1, "mixers": ("attention", "lstm")}, r"model\.mixers.*1 blocks"),
        ({"mixers": ()}, r"model\.mixers"),
        ({"local_positions": "learned"}, r"model\.local_positions"),
        ({"test_loops": -1}, r"model\.test_loops"),
    ],
)
def test_what_cannot_be_built_is_told(changes, words):
    with pytest.raises(UserError, match=words):
        make("decoder", **changes)


def test_an_encoder_decoder_needs_two_sequences():
    batch = {name: array for name, array in batch_of().items() if name != "decoder_inputs"}
    with pytest.raises(UserError, match=r"only one sequence.*--config\.model\.name"):
        make("encoder_decoder").init(jax.random.key(0), batch)


def test_an_unknown_mixer_is_named():
    with pytest.raises(UserError, match=r"mixer.*'tape'.*attention.*--config\.model\.mixers"):
        make("decoder", mixers=("attention", "tape"))


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_a_task_may_say_where_its_tokens_stand(positions):
    model, batch = make("decoder", positions=positions, max_length=40), batch_of()
    params = start(model)
    counted = batch | {"places": np.tile(np.arange(SEQ, dtype=np.int32), (3, 1))}
    near(logits_of(model, params, counted), logits_of(model, params, batch))
    coupled = batch | {"places": np.array([[1, 2, 3, 1, 2, 3, 9][:SEQ], [4] * SEQ, list(range(5, 5 + SEQ))], np.int32)}
    found = logits_of(model, params, coupled)
    assert np.abs(found - logits_of(model, params, batch))[:2].max() > 1e-3
    near(written(model, params, coupled, batch["inputs"]), found)
    if positions == "rotary":  # only differences matter
        near(found[2], logits_of(model, params, batch)[2])


def test_places_beyond_a_table_or_for_distances_are_refused():
    batch = batch_of() | {"places": np.full((3, SEQ), 12, np.int32)}
    model = make("decoder", positions="learned", max_length=12)
    assert np.isnan(logits_of(model, start(model), batch)).all(), "a row that the table lacks must not pass for its last"
    for changes in ({"positions": "t5"}, {"positions": "none"}, {"positions": "rotary", "randomised": 30}):
        with pytest.raises(UserError, match=r"positions for its tokens.*--config\.model\.positions"):
            make("decoder", **changes).init(jax.random.key(0), batch)


def test_direction_knows_sides_and_no_distance():
    model, batch = make("encoder", positions="direction"), batch_of()
    tokens = np.array([2, 1, 0, 3, 0], np.int32)  # the query is the 1 or the 3
    params = start(model)
    weights = np.asarray(model.apply(params, batch | {"inputs": np.tile(tokens, (3, 1))}).taps["block_0/attention/weights"])[0]
    np.testing.assert_allclose(weights[:, 1, 2], weights[:, 1, 4], rtol=1e-5)
    assert np.abs(weights[:, 3, 2] / weights[:, 3, 4] - 1).max() > 1e-2, "the same token on the left and on the right"
