"""Columns that alone predict the target almost perfectly: `leaks(rows)`.

Such a column often is made from the target, or after it, and new rows will not have it. A copy of the target is dropped before
(data/files/roles.py). Each column is tried by a small tree, or by the commonest answer of each category, on rows out of fold.
"""

import numpy as np

from assay.data.files.table import size
from assay.data.files.values import categories, dates, numbers
from assay.fitting.issues.folds import folds_of, reading
from assay.fitting.issues.issue import Issue
from assay.fitting.issues.rows import Rows, classes_of, of_all, some

LEAST = 0.98  # accuracy out of fold, or share of variance explained
GAINED = 0.9  # share of the errors of the commonest answer that must be gone too
FEWEST, READ, CELLS = 50, 10_000, 1_000_000  # rows that a verdict needs, and that are read; cells that are read
LEAVES, SMALLEST = 64, 3  # of a tree: leaves at most, and rows of the smallest


def leaks(rows: Rows) -> list[Issue]:
    """Returns one issue for each column. Texts and pictures are not tried, nor a column that is the only input."""
    if size(rows.table) < FEWEST:
        return []
    read = min(READ, max(FEWEST, CELLS // len(rows.table.columns)))
    whole, rows = rows, some(rows, np.flatnonzero(reading(size(rows.table), read)))
    order = np.argsort(rows.table.lines, kind="stable")
    regression = rows.roles.kind == "number"
    fold = folds_of(np.arange(size(rows.table)), np.zeros(size(rows.table), np.int64))
    names, targets = np.unique(classes_of(rows), return_inverse=True) if not regression else (np.zeros(0), _numbers_of(rows))
    issues = []
    for name, values in _columns(rows).items():
        answers = _tree if values.dtype.kind == "f" else _commonest
        found = answers(values, targets, fold, len(names))
        if regression:
            score, certain = 1.0 - np.mean(np.square(found - targets)) / max(np.var(targets), 1e-300), True
            said = f"explains {100 * score:.1f} % of the variance out of fold"
        else:
            score, usual = np.mean(found == targets), np.bincount(targets).max() / len(targets)
            certain = score - usual >= GAINED * (1.0 - usual) > 0
            said = f"is right for {100 * score:.1f} % of rows out of fold (the commonest answer: {100 * usual:.1f} %)"
        if score >= LEAST and certain:
            unused = "" if name in rows.roles.inputs else "; it is not used here, because it identifies rows"
            counting = values.dtype.kind == "f" and bool((np.diff(values[order]) > 0).all())
            counted = "; it counts the rows, which are sorted by the target" if counting else ""
            why = f"the column {name} alone {said}{counted}{unused}: is it known before the target is?"
            issues.append(of_all(whole, "leak column", float(score), name, why))
    return issues


# -- private --------------------------------------------------------------------------------------------------------------


def _columns(rows: Rows) -> dict[str, np.ndarray]:
    """Returns the columns to try: float64 where order matters, otherwise int64 numbers of categories."""
    roles, cells = rows.roles, rows.table.columns
    found = {name: numbers(cells[name], roles.kinds[name]) for name in roles.numbers}
    for name in roles.dates:
        days = dates(cells[name], roles.kinds[name])
        found[name] = np.where(np.isnat(days), np.nan, days.astype(np.int64).astype(np.float64))
    for name in roles.categories:
        levels = ["" if cell is None else cell for cell in categories(cells[name], roles.kinds[name]).tolist()]
        found[name] = np.unique(levels, return_inverse=True)[1]
    if len(roles.inputs) == 1:
        found = {}
    for name in roles.ignored:
        if name in cells and roles.kinds[name].name == "identifier":
            values = numbers(cells[name], roles.kinds[name])
            found |= {name: values} if not np.isnan(values).any() else {}
    return found


def _numbers_of(rows: Rows) -> np.ndarray:
    return np.array(rows.table.columns[rows.roles.target].tolist(), np.float64)


def _tree(values: np.ndarray, targets: np.ndarray, fold: np.ndarray, count: int) -> np.ndarray:
    """Returns what a small tree answers out of fold. `count`: classes, 0 for numbers."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    column = np.unique(values, return_inverse=True)[1].reshape(-1, 1)  # ranks, since trees read float32; missing ones are the highest
    leaves = max(LEAVES, 2 * count)
    maker = DecisionTreeClassifier if count else DecisionTreeRegressor
    found = np.zeros(len(targets), targets.dtype)
    for number in np.unique(fold):
        held = fold == number
        tree = maker(max_leaf_nodes=leaves, min_samples_leaf=SMALLEST, random_state=0)
        found[held] = tree.fit(column[~held], targets[~held]).predict(column[held])
    return found


def _commonest(levels: np.ndarray, targets: np.ndarray, fold: np.ndarray, count: int) -> np.ndarray:
    """Returns the commonest class, or the mean number, of each category in the other folds; of unseen ones that of all."""
    found, width = np.zeros(len(targets), targets.dtype), int(levels.max()) + 1
    for number in np.unique(fold):
        held = fold == number
        seen, answers = levels[~held], targets[~held]
        if count:
            pairs, counts = np.unique(seen * count + answers, return_counts=True)
            best = np.full(width, np.bincount(answers).argmax())
            order = np.argsort(counts, kind="stable")
            best[pairs[order] // count] = pairs[order] % count  # the commonest one is written last
        else:
            each = np.bincount(seen, minlength=width)
            best = np.where(each > 0, np.bincount(seen, answers, minlength=width) / np.maximum(each, 1), answers.mean())
        found[held] = best[levels[held]]
    return found
