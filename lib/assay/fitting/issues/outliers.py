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
SHAPES, SIZES = 0.05, 0.15  # least deviation of the logarithms of shape and size
SIDE = 16  # pixels


def of_texts(rows: Rows, texts: Sequence[str]) -> list[Issue]:
    """Returns texts without a word of another row, and texts that are far too long or too short."""
    words = [set(text.casefold().split()) for text in texts]
    counts = Counter(word for each in words for word in each)
    lengths = np.array([len(text.split()) for text in texts])
    issues = []
    unknown = [i for i, each in enumerate(words) if each and all(counts[word] == 1 for word in each)]
    if len(unknown) <= HEAVY * len(texts):  # otherwise texts share few words here, or are not divided by spaces
        for row in unknown:
            count = len(words[row])
            why = f"no other row has {f'any of its {count} words' if count > 1 else 'its only word'}"
            issues.append(issue(rows, row, "outlier", 1 - 0.5 / count, why))
    if len(texts) >= FEWEST:
        away, median = deviations(np.log1p(lengths)), np.median(lengths)
        for row in np.flatnonzero(np.abs(away) > CUT).tolist():
            why = f"{lengths[row]:,} words; the median is {median:,.0f}; {abs(away[row]):.1f} robust deviations (cut {CUT:g})"
            issues.append(issue(rows, row, "outlier", certainty(away, CUT)[row], why))
    return issues


def of_pictures(rows: Rows, pixels: np.ndarray, sizes: np.ndarray) -> list[Issue]:
    """Returns odd pictures. `pixels`: uint8 [n, height, width, channels]; `sizes`: heights and widths of the files, int [n, 2], or 0."""
    spread = reduced(pixels, SIDE).reshape(len(pixels), -1, pixels.shape[-1]).std(axis=1).max(axis=1)
    blank = spread < FLAT
    issues = [issue(rows, row, "outlier", 1.0, "blank: one colour only") for row in np.flatnonzero(blank).tolist()]
    if len(pixels) < FEWEST:
        return issues
    readable = np.flatnonzero((sizes > 0).all(axis=1))
    logs = np.log(sizes[readable])
    for values, least, what in ((logs[:, 1] - logs[:, 0], SHAPES, "shape"), (logs.sum(axis=1) / 2, SIZES, "size")):
        centred = values - np.median(values) if len(values) else values
        away = centred / max(1.4826 * float(np.median(np.abs(centred))) if len(values) else 0.0, least)
        odd = np.flatnonzero(np.abs(away) > CUT)
        if len(odd) <= 0.05 * len(values):  # otherwise there are two usual ones
            for place in odd.tolist():
                height, width = sizes[readable[place]]
                why = f"{width} x {height} pixels, an unusual {what}: {abs(away[place]):.1f} robust deviations (cut {CUT:g})"
                issues.append(issue(rows, int(readable[place]), "outlier", certainty(away, CUT)[place], why))
    if (~blank).sum() < FEWEST:
        return issues
    away = deviations(np.log(np.maximum(_distances(pixels[~blank]), 1e-9)))
    for place in np.flatnonzero(away > CUT).tolist():
        why = f"far from its {NEIGHBOURS} nearest pictures: {away[place]:.1f} robust deviations (cut {CUT:g})"
        issues.append(issue(rows, int(np.flatnonzero(~blank)[place]), "outlier", certainty(away, CUT)[place], why))
    return issues


def of_numbers(rows: Rows) -> list[Issue]:
    """Returns the rows with a number far from the others of its column, each once. Columns with heavy tails are left out."""
    found: dict[int, tuple[float, str]] = {}
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
            if away[place] > found.get(row, (0.0, ""))[0]:
                found[row] = (float(away[place]), why)
    return [issue(rows, row, "outlier", away / (away + CUT_NUMBERS), why) for row, (away, why) in sorted(found.items())]


# -- private --------------------------------------------------------------------------------------------------------------


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
