"""Rows unlike all others: few and certain ones, each with the cut that it is beyond.

texts       no word that another row has; a length far from the others
pictures    one colour only; a size or shape far from the others; far from all others in the space of principal components
tables      a number far from the others of its column
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from assay.data.files.values import numbers
from assay.fitting.issues.issue import Issue
from assay.fitting.issues.near import FLAT, reduced
from assay.fitting.issues.rows import Rows, issue
from assay.fitting.issues.suspects import certainty, deviations

CUT, CUT_NUMBERS = 6.0, 12.0  # robust deviations
HEAVY = 0.005  # share of a column's numbers beyond the cut from which they are its tail, not outliers
COMPONENTS, NEIGHBOURS, INDEXED, FEWEST = 30, 5, 10_000, 50  # of pictures; the last is also how many rows any distribution needs
LENGTHS, SHAPES, SIZES = 0.25, 0.05, 0.15  # least deviation of the logarithms of length, shape and size
SIDE = 16  # pixels
Reasons = dict[int, list[tuple[float, str]]]  # row -> scores and reasons


def of_texts(rows: Rows, texts: Sequence[str]) -> list[Issue]:
    """Returns texts without a word of another row, and texts that are far too long or too short."""
    words = [set(text.casefold().split()) for text in texts]
    counts = Counter(word for each in words for word in each)
    lengths = np.array([len(text.split()) for text in texts])
    found = Reasons()
    unknown = [i for i, each in enumerate(words) if each and all(counts[word] == 1 for word in each)]
    if len(unknown) <= max(1.0, HEAVY * len(texts)):  # otherwise texts share few words here, or are not divided by spaces
        for row in unknown:
            count = len(words[row])
            why = f"no other row has {f'any of its {count} words' if count > 1 else 'its only word'}"
            found.setdefault(row, []).append((1 - 0.5 / count, why))
    if len(texts) >= FEWEST:
        away, median = deviations(np.log1p(lengths), LENGTHS), np.median(lengths)
        for row in np.flatnonzero(np.abs(away) > CUT).tolist():
            why = f"{lengths[row]:,} words; the median is {median:,.0f}; {abs(away[row]):.1f} robust deviations (cut {CUT:g})"
            found.setdefault(row, []).append((certainty(away[row], CUT), why))
    return _listed(rows, found)


def of_pictures(rows: Rows, pixels: np.ndarray, sizes: np.ndarray) -> list[Issue]:
    """Returns odd pictures. `pixels`: uint8 [n, height, width, channels]; `sizes`: heights and widths of the files, int [n, 2], or 0."""
    spread = reduced(pixels, SIDE).reshape(len(pixels), -1, pixels.shape[-1]).std(axis=1).max(axis=1)
    blank = spread < FLAT
    found: Reasons = {row: [(1.0, "blank: one colour only")] for row in np.flatnonzero(blank).tolist()}
    if len(pixels) < FEWEST:
        return _listed(rows, found)
    readable = np.flatnonzero((sizes > 0).all(axis=1))
    logs = np.log(sizes[readable])
    for values, least, what in ((logs[:, 1] - logs[:, 0], SHAPES, "shape"), (logs.sum(axis=1) / 2, SIZES, "size")):
        away = deviations(values, least)
        odd = np.flatnonzero(np.abs(away) > CUT)
        if len(odd) <= 0.05 * len(values):  # otherwise there are two usual ones
            for place in odd.tolist():
                height, width = sizes[readable[place]]
                why = f"{width} x {height} pixels, an unusual {what}: {abs(away[place]):.1f} robust deviations (cut {CUT:g})"
                found.setdefault(int(readable[place]), []).append((certainty(away[place], CUT), why))
    if (~blank).sum() < FEWEST:
        return _listed(rows, found)
    away = deviations(np.log(np.maximum(_distances(pixels[~blank]), 1e-9)))
    for place in np.flatnonzero(away > CUT).tolist():
        why = f"far from its {NEIGHBOURS} nearest pictures: {away[place]:.1f} robust deviations (cut {CUT:g})"
        found.setdefault(int(np.flatnonzero(~blank)[place]), []).append((certainty(away[place], CUT), why))
    return _listed(rows, found)


def of_numbers(rows: Rows) -> list[Issue]:
    """Returns the rows with a number far from the others of its column. Columns with heavy tails are left out."""
    found = Reasons()
    for name in rows.roles.numbers:
        values = numbers(rows.table.columns[name], rows.roles.kinds[name])
        there = np.flatnonzero(~np.isnan(values))
        if len(there) < FEWEST:
            continue
        away = np.abs(deviations(values[there]))
        if (values[there] > 0).all():  # prices, sizes: their logarithms are what is symmetric
            away = np.minimum(away, np.abs(deviations(np.log(values[there]))))
        far = np.flatnonzero(away > CUT_NUMBERS)
        if len(far) > max(1.0, HEAVY * len(there)):
            continue
        for place in far.tolist():
            row = int(there[place])
            median = np.median(values[there])
            why = f"{name} is {values[row]:g}; the median is {median:g}; {away[place]:.1f} robust deviations (cut {CUT_NUMBERS:g})"
            found.setdefault(row, []).append((certainty(away[place], CUT_NUMBERS), why))
    return _listed(rows, found)


# -- private --------------------------------------------------------------------------------------------------------------


def _listed(rows: Rows, found: Reasons) -> list[Issue]:
    """Returns each row once, with all reasons and the score of the surest."""
    return [issue(rows, row, "outlier", max(reasons)[0], "; ".join(why for _, why in reasons)) for row, reasons in found.items()]


def _distances(pixels: np.ndarray) -> np.ndarray:
    """Returns the mean distance of each picture to its nearest ones, in the space of principal components."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    flat = reduced(pixels, SIDE).reshape(len(pixels), -1)
    indexed = np.linspace(0, len(flat) - 1, min(len(flat), INDEXED)).round().astype(int)
    components = min(COMPONENTS, flat.shape[1], len(indexed) - 1)
    space = PCA(components, svd_solver="randomized", random_state=0).fit(flat[indexed]).transform(flat)
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS + 1, len(indexed))).fit(space[indexed])
    return np.concatenate([near.kneighbors(block)[0][:, 1:].mean(axis=1) for block in np.array_split(space, -(-len(space) // 1000))])
