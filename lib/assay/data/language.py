"""Token ids as arrays of one width: padding, windows over documents, and the two objectives for unlabelled text.

`windows(documents, width, context, begin)` cuts each document separately and scores each of its tokens exactly once. The sum over the
windows is therefore the document's total negative log-likelihood. `packed(documents, width, separator)` joins all documents into one
stream, for training. `next_tokens` builds the batch of a causal model from either; `masked` builds that of BERT's masked LM (Devlin et al.
2019, arXiv 1810.04805, section 3.1).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt64

from assay.core.errors import UserError
from assay.core.rng import integers

Tokens = Sequence[int] | np.ndarray  # of one document
RESOLUTION = 1 << 30  # quantization steps of the masked share


class Windows(NamedTuple):
    """Rows of tokens, right-padded, with their origin."""

    tokens: np.ndarray  # int32 [windows, width]
    length: np.ndarray  # int32 [windows]: number of tokens that are not padding
    fresh: np.ndarray  # int32 [windows]: position of the first token that no earlier window has scored
    before: np.ndarray  # int32 [windows]: the token before the first one
    document: np.ndarray  # int32 [windows]: the document of the first fresh token


def padded(
    sequences: Sequence[Tokens], width: int, pad: int = 0, keep: str = "start"
) -> tuple[Int[np.ndarray, "rows width"], Int[np.ndarray, "rows"]]:
    """Returns int32 tokens [rows, width] and lengths. Longer sequences are truncated at the end, or at the start with `keep="end"`."""
    tokens = np.full((len(sequences), width), pad, np.int32)
    length = np.zeros(len(sequences), np.int32)
    for row, sequence in enumerate(sequences):
        kept = sequence[:width] if keep == "start" else sequence[max(0, len(sequence) - width) :]
        tokens[row, : len(kept)] = kept
        length[row] = len(kept)
    return tokens, length


def packed(documents: Sequence[Tokens], width: int, separator: int, pad: int = 0) -> Windows:
    """Joins documents into one stream, a separator after each, and cuts it into windows; only the last may be padded. Empty documents are
    skipped.
    """
    kept = [i for i, document in enumerate(documents) if len(document)]
    counts = np.array([len(documents[i]) + 1 for i in kept], np.int64)
    stream = np.full(int(counts.sum()), separator, np.int32)
    ends = np.cumsum(counts)
    for i, end, count in zip(kept, ends, counts, strict=True):
        stream[end - count : end - 1] = documents[i]
    starts = np.arange(0, len(stream), width)
    tokens, length = padded([stream[start : start + width] for start in starts], width, pad)
    before = np.where(starts > 0, stream[starts - 1], separator).astype(np.int32) if len(starts) else np.zeros(0, np.int32)
    document = np.array(kept, np.int32)[np.searchsorted(ends, starts, side="right")]
    return Windows(tokens, length, np.zeros(len(starts), np.int32), before, document)


def windows(documents: Sequence[Tokens], width: int, context: int, begin: int, pad: int = 0) -> Windows:
    """Cuts windows that never cross documents. All but a document's first repeat `context` tokens, which are read but not scored again.

    `begin` precedes the first token of a document (the separator). Raises UserError if no fresh token would fit.
    """
    if not 0 <= context < width:
        raise UserError(f"config.task.context={context} is not possible: it must be at least 0 and below the window's width {width}.")
    rows: list[Tokens] = []
    fresh, before, owner = [], [], []
    for i, document in enumerate(documents):
        scored = 0
        while scored < len(document):
            start = max(0, scored - context)
            rows.append(document[start : start + width])
            fresh.append(scored - start)
            before.append(document[start - 1] if start else begin)
            owner.append(i)
            scored = min(start + width, len(document))
    tokens, length = padded(rows, width, pad)
    return Windows(tokens, length, np.array(fresh, np.int32), np.array(before, np.int32), np.array(owner, np.int32))


def next_tokens(rows: Windows) -> dict[str, np.ndarray]:
    """Builds the batch of a causal model, whose input at each position is the previous token. Each fresh token counts once."""
    tokens, place = rows.tokens, np.arange(rows.tokens.shape[1])[None, :]
    inputs = np.concatenate([rows.before[:, None], tokens[:, :-1]], axis=1)
    here = place < rows.length[:, None]
    return {
        "inputs": np.where(here, inputs, 0).astype(np.int32),
        "length": rows.length.astype(np.int32),
        "targets": tokens,
        "mask": (here & (place >= rows.fresh[:, None])).astype(np.float32),
        "weight": (rows.fresh < rows.length).astype(np.float32),
    }


def masked(
    tokens: Int[np.ndarray, "rows width"],
    length: Int[np.ndarray, "rows"],
    keys: UInt64[np.ndarray, "rows"],
    ordinary: Int[np.ndarray, "ids"],
    mask_id: int,
    share: float = 0.15,
) -> tuple[Int[np.ndarray, "rows width"], Float[np.ndarray, "rows width"]]:
    """Returns (the model's inputs, a mask that is 1 at the tokens to predict). The targets are `tokens`.

    Each ordinary token (`Tokenizer.ordinary`) is selected with probability `share`. Of the selected, 80 % become the mask, 10 % a random
    ordinary token, and 10 % are unchanged. It is a pure function of (tokens, key): a row does not depend on the batch or the padding.
    """
    if not 0.0 < share <= 1.0:
        raise UserError(f"config.task.share={share} is not possible: it must be above 0 and at most 1.")
    width = tokens.shape[1]
    eligible = (np.arange(width)[None, :] < length[:, None]) & np.isin(tokens, ordinary)
    chosen = eligible & (integers(keys, "masked", width, RESOLUTION) < share * RESOLUTION)
    way = integers(keys, "masked/way", width, 10)
    other = ordinary[integers(keys, "masked/token", width, len(ordinary))]
    replaced = np.where(way < 8, mask_id, np.where(way == 8, other, tokens))
    return np.where(chosen, replaced, tokens).astype(np.int32), chosen.astype(np.float32)
