"""Rows that differ: padding wherever it stands, and decoding in which each row has read its own number of tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_transformer import SEQ, TARGETS, batch_of, logits_of, make, near, start, written

from assay.core.errors import UserError
from assay.models.decoding import by_row
from assay.nn.positions import POSITIONS

PADS = np.array([0, 2, 1])  # of each row


def shifted(batch: dict, left: bool) -> dict:
    """Rows of SEQ - 2 tokens or more, padded on the left by PADS and on the right to SEQ tokens, or on the right alone."""
    tokens, valid = np.full((3, SEQ), 9, np.int32), np.zeros((3, SEQ), bool)
    for row, pad in enumerate(PADS):
        begin = pad if left else 0
        tokens[row, begin : begin + SEQ - 2] = batch["inputs"][row, : SEQ - 2]
        valid[row, begin : begin + SEQ - 2] = True
    return batch | {"inputs": tokens, "valid": valid, "length": np.full(3, SEQ - 2, np.int32)}


def real(logits: np.ndarray, batch: dict) -> np.ndarray:
    return np.asarray(logits)[np.asarray(batch["valid"])]


@pytest.mark.parametrize("family", ["decoder", "encoder"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_padding_on_the_left_changes_no_real_token(family, positions):
    model, left, right = make(family, depth=2, positions=positions), shifted(batch_of(), True), shifted(batch_of(), False)
    params = start(model)
    by_length = {name: array for name, array in right.items() if name != "valid"}
    expected = real(logits_of(model, params, by_length), right)
    near(real(logits_of(model, params, left), left), expected)
    if positions not in ("none", "direction"):
        blind = {name: array for name, array in left.items() if name != "valid"}
        assert np.abs(real(logits_of(model, params, blind), left) - expected).max() > 1e-3


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_one_answer_of_rows_that_are_padded_on_the_left(family):
    model, left, right = make(family, pooled=True), shifted(batch_of(), True), shifted(batch_of(), False)
    params = start(model)
    near(logits_of(model, params, left), logits_of(model, params, {name: right[name] for name in ("inputs", "length", "weight")}))


def test_a_source_that_is_padded_on_the_left():
    model, left, right = make("encoder_decoder"), shifted(batch_of(), True), shifted(batch_of(), False)
    params = start(model)
    expected = logits_of(model, params, {name: array for name, array in right.items() if name != "valid"})
    near(logits_of(model, params, left), expected)
    near(written(model, params, left, left["decoder_inputs"]), expected)


@pytest.mark.parametrize("changes", [{}, {"positions": "learned"}, {"window": 2, "positions": "rotary"}, {"positions": "t5"}])
def test_decoding_after_a_prompt_that_is_padded_on_the_left(changes):
    model, left = make("decoder", depth=2, **changes), shifted(batch_of(), True)
    params = start(model)
    near(real(written(model, params, left, left["inputs"]), left), real(logits_of(model, params, left), left))


@pytest.mark.parametrize("changes", [{"mixers": ("lstm",)}, {"randomised": 20}])
def test_what_cannot_respect_valid_says_so(changes):
    model, left = make("decoder", **changes), shifted(batch_of(), True)
    with pytest.raises(UserError, match=rf"valid.*config\.model\.{next(iter(changes))}"):
        model.apply(start(model), left)


DECODED = [
    ("decoder", {"depth": 2, "positions": "rotary"}),
    ("decoder", {"positions": "learned"}),
    ("decoder", {"positions": "transformer_xl", "window": 2, "kv_heads": 1}),
    ("decoder", {"positions": "alibi", "randomised": 20}),
    ("decoder", {"depth": 2, "mixers": ("local", "stack_rnn"), "loops": 2}),
    ("encoder_decoder", {"positions": "t5"}),
]


@pytest.mark.parametrize(("family", "changes"), DECODED)
def test_rows_may_have_read_different_numbers_of_tokens(family, changes):
    """One row is a token ahead of the others; each gets the logits that it has alone."""
    model, batch = make(family, **changes), batch_of()
    params, tokens = start(model), batch["decoder_inputs"]
    expected = written(model, params, batch, tokens)
    _, first = model.decode.extend(params, model.decode.init_cache(params, batch, TARGETS), tokens[:, :1])
    _, second = model.decode.extend(params, first, tokens[:, 1:2])
    ahead = np.array([False, True, False])
    one, two = by_row(first, 3), by_row(second, 3)

    def choose(one: jax.Array, two: jax.Array) -> jax.Array:
        rows = ahead if len(one) == 3 else np.repeat(ahead, len(one) // 3)  # a cache's rows may be those of its heads
        return jnp.where(rows.reshape(-1, *(1,) * (one.ndim - 1)), two, one)

    rest = {name: getattr(one, name) for name in ("places",)}  # of all rows at once
    state = jax.tree.map(choose, one._replace(places=None), two._replace(places=None))._replace(**rest)
    assert state.length.tolist() == [1, 2, 1]
    at = np.asarray(state.length)
    for _ in range(2):
        logits, state = jax.jit(model.decode.extend)(params, state, np.take_along_axis(tokens, at[:, None], axis=1))
        near(logits[:, 0], expected[np.arange(3), at])
        at = at + 1
    assert state.length.tolist() == [3, 4, 3]


def test_one_length_for_all_is_the_same_program_as_before():
    model, batch = make("decoder"), batch_of()
    params, cache = start(model), model.decode.init_cache({}, batch, SEQ)
    program = str(jax.make_jaxpr(model.decode.extend)(params, cache, batch["inputs"][:, :1]))
    assert "scatter" not in program and program.count("dynamic_update_slice") == 2
