"""Windows score every token once, packing loses nothing, and masking follows its key alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import UserError
from assay.core.rng import example_keys
from assay.data.language import masked, next_tokens, packed, padded, windows
from assay.data.tokenizers import FIRST, MASK, SEPARATOR, tokenizer

DOCUMENTS = st.lists(st.lists(st.integers(FIRST, 20), max_size=23), max_size=6)


def test_padding_and_truncation():
    tokens, length = padded([[5, 6, 7, 8], [9], []], 3, pad=1)
    assert tokens.tolist() == [[5, 6, 7], [9, 1, 1], [1, 1, 1]] and length.tolist() == [3, 1, 0]
    assert padded([[5, 6, 7, 8], [9]], 3, keep="end")[0].tolist() == [[6, 7, 8], [9, 0, 0]]
    assert padded([], 3)[0].shape == (0, 3)


@settings(deadline=None)
@given(DOCUMENTS, st.integers(1, 9))
def test_packing_loses_nothing(documents, width):
    rows = packed(documents, width, SEPARATOR)
    stream = [token for row, length in zip(rows.tokens, rows.length, strict=True) for token in row[:length].tolist()]
    assert stream == [token for document in documents if document for token in [*document, SEPARATOR]]
    assert (rows.length[:-1] == width).all()
    batch = next_tokens(rows)
    read = [token for row, length in zip(batch["inputs"], rows.length, strict=True) for token in row[:length].tolist()]
    assert read == [SEPARATOR, *stream][: len(stream)], "the model reads the stream, one token late"
    for row, document in zip(rows.tokens, rows.document, strict=True):
        assert row[0] in [*documents[document], SEPARATOR]


@settings(deadline=None)
@given(DOCUMENTS, st.integers(1, 9), st.data())
def test_windows_score_each_token_once_and_stay_in_their_document(documents, width, data):
    context = data.draw(st.integers(0, width - 1))
    rows = windows(documents, width, context, SEPARATOR)
    batch = next_tokens(rows)
    assert (batch["weight"] == 1).all()
    for i, document in enumerate(documents):
        here = np.flatnonzero(rows.document == i)
        scored = [int(token) for row in here for token in batch["targets"][row][batch["mask"][row] == 1]]
        assert scored == document
        for row in here:
            length = rows.length[row]
            line = [SEPARATOR, *document]
            assert any(line[start : start + length] == batch["inputs"][row][:length].tolist() for start in range(len(line)))
            assert rows.fresh[row] in (0, min(context, len(document)))


def test_a_window_with_no_room_for_a_fresh_token_is_refused():
    with pytest.raises(UserError, match=r"config\.task\.context=4"):
        windows([[5]], 4, 4, SEPARATOR)


def many(rows=400, width=64):
    made = tokenizer("bytes")
    tokens = np.random.default_rng(0).integers(FIRST, made.size, (rows, width)).astype(np.int32)
    return made, tokens, np.full(rows, width, np.int32), example_keys("text/train", 0, np.arange(rows))


def test_masking_has_berts_shares():
    made, tokens, length, keys = many()
    inputs, asked = masked(tokens, length, keys, made.ordinary(), MASK)
    chosen = asked == 1
    assert abs(chosen.mean() - 0.15) < 0.01
    assert (inputs[~chosen] == tokens[~chosen]).all()
    assert abs((inputs[chosen] == MASK).mean() - 0.8) < 0.03
    assert abs((inputs[chosen] == tokens[chosen]).mean() - 0.1) < 0.03
    assert np.isin(inputs[chosen & (inputs != MASK)], made.ordinary()).all()
    assert masked(tokens, length, keys, made.ordinary(), MASK, share=1.0)[1].all()


def test_a_row_is_masked_alike_alone_in_a_batch_and_at_any_padding():
    made, tokens, length, keys = many(rows=5)
    together = masked(tokens, length, keys, made.ordinary(), MASK)
    for i in range(5):
        wider = np.pad(tokens[i : i + 1], ((0, 0), (0, 7)))
        alone = masked(wider, length[i : i + 1], keys[i : i + 1], made.ordinary(), MASK)
        for one, all_ in zip(alone, together, strict=True):
            assert (one[0, :64] == all_[i]).all()
        assert not alone[1][0, 64:].any()
    again = masked(tokens, length, example_keys("text/train", 1, np.arange(5)), made.ordinary(), MASK)
    assert (again[1] != together[1]).any(), "another key masks anew"


def test_padding_and_special_tokens_are_never_asked():
    made, tokens, length, keys = many(rows=50)
    tokens[:, ::2] = SEPARATOR
    length[:] = 20
    inputs, asked = masked(tokens, length, keys, made.ordinary(), MASK, share=1.0)
    assert asked[:, :20].sum() == 50 * 10 and not asked[:, 20:].any() and not asked[:, ::2].any()
    assert (inputs[:, ::2] == SEPARATOR).all()
    with pytest.raises(UserError, match="share"):
        masked(tokens, length, keys, made.ordinary(), MASK, share=0.0)
