"""Pairs of texts or pictures that are nearly equal, in bounded memory: `near_texts(texts)`, `near_pictures(pixels)`.

Texts are compared by the cosine of TF-IDF, and must have most pairs of neighbouring words in common as well, since the order of words says
something. Texts are found exactly and without comparing all: the rarest words of two must meet (prefix filtering; Bayardo, Ma and Srikant
2007, "Scaling Up All Pairs Similarity Search", WWW). Pictures are compared by the correlation of grey pixels, all with all, in blocks.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.data.tokenizers import spoken

LEAST_TEXTS, LEAST_PICTURES = 0.9, 0.995  # cosine, correlation
LEAST_ORDER = 0.7  # cosine of counts of neighbouring words
BY_WORD: Mapping[str, Any] = {"tokenizer": spoken, "token_pattern": None, "lowercase": False}  # of scikit-learn
WORDS = 5  # texts with fewer are equal by chance
SIDE = 16  # pixels to which pictures are reduced
FLAT = 1.0  # standard deviation of grey levels, of 255, below which a picture is blank
BLOCK, TOGETHER = 512, 10_000  # rows that are compared with all others at a time, and pairs of texts
MOST = 10_000_000  # candidate pairs that are compared; the rows after them are not searched


class Pairs(NamedTuple):
    """Pairs of rows, the first of each before the second."""

    first: np.ndarray  # int64 [pairs]
    second: np.ndarray  # int64 [pairs]
    likeness: np.ndarray  # float64 [pairs]
    rows: int  # that were searched, from the first on


def near_texts(texts: Sequence[str], least: float = LEAST_TEXTS) -> Pairs:
    """Returns the pairs of texts with a cosine of at least `least`. Texts of fewer than WORDS words are left out."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    long = np.flatnonzero([len(text.split(maxsplit=WORDS)) >= WORDS for text in texts])
    if len(long) < 2:
        return _pairs([], len(texts))
    try:
        vectors = TfidfVectorizer(**BY_WORD).fit_transform([texts[i] for i in long.tolist()]).tocsr()
    except ValueError:  # no text has a word
        return _pairs([], len(texts))
    vectors.sort_indices()
    found, rows = _near_vectors(vectors, least)
    pairs = _pairs(found, len(texts) if rows == len(long) else int(long[rows]))
    return _ordered(pairs._replace(first=long[pairs.first], second=long[pairs.second]), texts)


def near_pictures(pixels: np.ndarray, least: float = LEAST_PICTURES) -> Pairs:
    """Returns the pairs of pictures with a correlation of at least `least`. `pixels`: uint8 [n, height, width, channels]."""
    grey = reduced(pixels, SIDE).mean(axis=-1).reshape(len(pixels), -1)
    deviation = grey.std(axis=1)
    kept = np.flatnonzero(deviation >= FLAT)
    vectors = ((grey[kept] - grey[kept].mean(axis=1, keepdims=True)) / deviation[kept, None] / np.sqrt(grey.shape[1])).astype(np.float32)
    found = []
    for start in range(0, len(vectors), BLOCK):
        likeness = vectors[start : start + BLOCK] @ vectors[start:].T
        row, column = np.nonzero(likeness >= least)
        later = column > row
        found.append((row[later] + start, column[later] + start, likeness[row[later], column[later]].astype(np.float64)))
    pairs = _pairs(found, len(pixels))
    return pairs._replace(first=kept[pairs.first], second=kept[pairs.second], likeness=np.minimum(pairs.likeness, 1.0))


def reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """Returns float32 pixels of at most `side` rows and columns: means over squares, the rest at the edge cut off."""
    height, width = pixels.shape[1:3]
    step = max(1, -(-max(height, width) // side))
    across, down = max(1, width // step), max(1, height // step)
    cut = pixels[:, : down * min(step, height), : across * min(step, width)]
    squares = cut.reshape(len(pixels), down, min(step, height), across, min(step, width), pixels.shape[3])
    return squares.mean(axis=(2, 4), dtype=np.float32)


# -- private --------------------------------------------------------------------------------------------------------------


Found = list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def _pairs(found: Found, rows: int) -> Pairs:
    first, second, likeness = zip(*(found or [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]), strict=True)
    return Pairs(np.concatenate(first), np.concatenate(second), np.concatenate(likeness), rows)


def _near_vectors(vectors: Any, least: float) -> tuple[Found, int]:
    """Returns the pairs of rows with a product of at least `least`, and how many rows were searched. `vectors`: sparse, of unit length."""
    prefixes, found, compared = _prefixes(vectors, least), Found(), 0
    columns = prefixes.T.tocsr()
    for start in range(0, vectors.shape[0], BLOCK):
        shared = (prefixes[start : start + BLOCK] @ columns).tocoo()
        later = np.flatnonzero(shared.col > shared.row + start)
        compared += len(later)
        if compared > MOST:
            return found, start
        first, second = shared.row[later].astype(np.int64) + start, shared.col[later].astype(np.int64)
        cosine = np.concatenate([np.zeros(0), *_products(vectors, first, second)])
        kept = cosine >= least
        found.append((first[kept], second[kept], np.minimum(cosine[kept], 1.0)))
    return found, vectors.shape[0]


def _ordered(pairs: Pairs, texts: Sequence[str]) -> Pairs:
    """Returns the pairs that have their words in much the same order."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    rows, place = np.unique(np.stack([pairs.first, pairs.second]), return_inverse=True)
    if not len(rows):
        return pairs
    counts = CountVectorizer(ngram_range=(2, 2), min_df=1, **BY_WORD)
    try:
        vectors = normalize(counts.fit_transform([texts[i] for i in rows.tolist()]).astype(np.float64))
    except ValueError:  # each has a single word
        return Pairs(pairs.first[:0], pairs.second[:0], pairs.likeness[:0], pairs.rows)
    one, other = place.reshape(2, -1)
    kept = np.concatenate([part >= LEAST_ORDER for part in _products(vectors, one, other)])
    return Pairs(pairs.first[kept], pairs.second[kept], pairs.likeness[kept], pairs.rows)


def _products(vectors: Any, one: np.ndarray, other: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the products of pairs of rows, some at a time."""
    for part in range(0, len(one), TOGETHER):
        first, second = one[part : part + TOGETHER], other[part : part + TOGETHER]
        yield np.asarray(vectors[first].multiply(vectors[second]).sum(axis=1)).ravel()


def _prefixes(vectors: Any, least: float) -> Any:
    """Returns the rarest features of each row, of 0 and 1: without them its length is below `least`, so near rows share one of them."""
    from scipy.sparse import csr_matrix

    frequency = np.bincount(vectors.indices, minlength=vectors.shape[1])
    rank = np.empty(len(frequency), np.int64)
    rank[np.argsort(frequency, kind="stable")] = np.arange(len(frequency))
    row = np.repeat(np.arange(vectors.shape[0]), np.diff(vectors.indptr))
    order = np.lexsort((rank[vectors.indices], row))
    squares = np.square(vectors.data[order])
    total = np.cumsum(squares) - squares
    before = total - total[vectors.indptr[:-1]].repeat(np.diff(vectors.indptr)) if len(total) else total
    kept = order[before <= 1.0 - least**2 + 1e-9]
    ones = np.ones(len(kept), np.int32)
    return csr_matrix((ones, (row[kept], vectors.indices[kept])), shape=vectors.shape)
