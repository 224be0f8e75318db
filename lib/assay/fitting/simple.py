"""Simple learners of scikit-learn beside a model, on the same rows: what a model has to beat.

texts       TF-IDF of words and bigrams, logistic regression (ridge regression for numbers)
tables      gradient boosting of histograms
pictures    logistic regression on pixels (ridge regression for numbers)
all         the commonest answer, or the median
"""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from assay.data.files.kinds import is_blank
from assay.data.files.table import Table, size
from assay.tasks.files.features import features, matrix
from assay.tasks.files.opened import Opened
from assay.tasks.task import Task

MOST_PICTURES, MOST_TEXTS = 20_000, 100_000  # training rows that logistic regression reads; its time grows with them
BIGRAMS = 5_000  # rows up to which bigrams are counted


class Learner(NamedTuple):
    """A fitted learner: its answers on each part, as records say them."""

    name: str
    title: str
    seconds: float  # to fit
    answers: Mapping[str, list[Any]]  # part -> answer of each row: a class, a list of labels, or a number


def constant(found: Opened) -> Learner:
    """Returns the commonest class, the labels that more than half of the rows have, or the median."""
    cells = _targets(found, "train")
    if found.roles.kind == "number":
        answer: Any = float(np.median(cells))
    elif found.roles.kind == "classes":
        answer = max(found.classes, key=cells.count)
    else:
        answer = [name for name in found.classes if 2 * sum(name in cell for cell in cells) > len(cells)]
    answers = {split: [answer] * size(table) for split, table in found.parts.items() if split != "train"}
    return Learner("constant", "the median" if found.roles.kind == "number" else "the commonest answer", 0.0, answers)


def simple(found: Opened, task: Task) -> Learner:
    """Fits the learner of the kind of data on the training rows that have a label."""
    begun = time.monotonic()
    kept = np.arange(size(found.parts["train"])) if found.known is None else np.flatnonzero(found.known)
    most = MOST_PICTURES if found.roles.pictures else MOST_TEXTS if found.roles.texts else len(kept)
    kept = kept[np.linspace(0, len(kept) - 1, min(len(kept), most)).round().astype(int)]
    inputs = _inputs(found, task)
    targets = _encoded(found, "train")[kept]
    learner = _learner(found)
    learner.fit(inputs["train"][kept], targets)
    answers = {split: _decoded(found, learner.predict(rows)) for split, rows in inputs.items() if split != "train"}
    title = title_of(found) + (f" of {len(kept):,} rows" if len(kept) == most < size(found.parts["train"]) else "")
    return Learner("simple", title, time.monotonic() - begun, answers)


def title_of(found: Opened) -> str:
    """Returns the name of the simple learner for a data set."""
    if not (found.roles.texts or found.roles.pictures):
        return "gradient boosting"
    regression = "ridge regression" if found.roles.kind == "number" else "logistic regression"
    return f"{regression} on pixels" if found.roles.pictures else f"TF-IDF with {regression}"


def correct(found: Opened, answers: Mapping[str, list[Any]], split: str) -> np.ndarray:
    """Returns the score of each row of a part, float64 [rows]: 1 for a right answer, 0 for a wrong one; of a number its squared error."""
    targets = _targets(found, split)
    if found.roles.kind == "number":
        return np.square(np.array(answers[split], float) - np.array(targets, float))
    same = [set(a) == set(b) if isinstance(b, list) else a == b for a, b in zip(answers[split], targets, strict=True)]
    return np.array(same, float)


# -- private --------------------------------------------------------------------------------------------------------------


def _targets(found: Opened, split: str) -> list[Any]:
    return found.parts[split].columns[found.roles.target].tolist()


def _encoded(found: Opened, split: str) -> np.ndarray:
    cells = _targets(found, split)
    if found.roles.kind == "number":
        return np.array(cells, float)
    if found.roles.kind == "classes":
        ids = {name: i for i, name in enumerate(found.classes)}
        return np.array([ids[cell] for cell in cells])
    names = np.array(found.classes, object)
    return np.array([np.isin(names, cell) for cell in cells], int)


def _decoded(found: Opened, predicted: np.ndarray) -> list[Any]:
    if found.roles.kind == "number":
        return predicted.astype(float).tolist()
    if found.roles.kind == "classes":
        return [found.classes[int(one)] for one in predicted]
    return [[name for name, here in zip(found.classes, row, strict=True) if here] for row in np.asarray(predicted).tolist()]


def _inputs(found: Opened, task: Task) -> dict[str, Any]:
    """Returns the inputs of each part as matrices, learned from the training rows."""
    roles, train = found.roles, found.parts["train"]
    if roles.pictures:
        sources = {split: task.source(split) for split in found.parts}
        pixels = {split: source.fetch(np.arange(source.size or 0)).input for split, source in sources.items()}
        return {split: rows.reshape(len(rows), -1).astype(np.float32) / 255 for split, rows in pixels.items()}
    made = features(train, roles)
    if not roles.texts:
        return {split: matrix(table, made) for split, table in found.parts.items()}
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    longest = 2 if size(train) <= BIGRAMS else 1
    counted = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, longest), min_df=1 if size(train) < 1000 else 2, token_pattern=r"(?u)\b\w+\b"
    )
    counted.fit(_joined(train, roles.texts))
    found_rows = {split: counted.transform(_joined(table, roles.texts)) for split, table in found.parts.items()}
    if made:
        found_rows = {split: hstack([rows, csr_matrix(matrix(found.parts[split], made))]) for split, rows in found_rows.items()}
    return {split: csr_matrix(rows) for split, rows in found_rows.items()}


def _joined(table: Table, names: tuple[str, ...]) -> list[str]:
    columns = [["" if is_blank(cell) else str(cell) for cell in table.columns[name].tolist()] for name in names]
    return [" ".join(cells) for cells in zip(*columns, strict=True)]


def _learner(found: Opened) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multioutput import MultiOutputClassifier

    kind, boosted = found.roles.kind, not (found.roles.texts or found.roles.pictures)
    if kind == "number":
        return HistGradientBoostingRegressor(random_state=0) if boosted else Ridge()
    one = (
        HistGradientBoostingClassifier(random_state=0)
        if boosted
        else LogisticRegression(C=0.01 if found.roles.pictures else 10.0, max_iter=200, tol=1e-3)
    )
    return one if kind == "classes" else MultiOutputClassifier(one)
