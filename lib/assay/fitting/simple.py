"""Simple learners of scikit-learn beside a model, on the same rows: what a model has to beat.

texts       TF-IDF of words and bigrams (of characters where there are no words), logistic regression (ridge regression for numbers)
tables      gradient boosting of histograms
pictures    logistic regression on pixels (ridge regression for numbers)
all         the commonest answer, or the median
"""

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from assay.data.files.kinds import is_blank
from assay.data.files.table import Table, size
from assay.data.tokenizers import spoken
from assay.evals.cut import shift_of
from assay.tasks.files.features import features, matrix
from assay.tasks.files.opened import Opened
from assay.tasks.task import Task

# Threads of OpenMP spin while they wait: beside another busy process, a gradient boosting of 4 seconds took over 200. Read as scikit-learn
# is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

MOST_PICTURES, MOST_TEXTS = 20_000, 100_000  # training rows that logistic regression reads; its time grows with them
BIGRAMS = 5_000  # rows up to which bigrams are counted
SPACED = 15  # characters of a word on average up to which texts have spaces between words
CHARACTERS = 100_000  # sequences of characters that are counted
CUT = 4096  # rows of `valid` by which the threshold is chosen
LEAST = 1e-12  # probability below which its logarithm is cut


class Learner(NamedTuple):
    """A fitted learner: its answers on each part, as records say them."""

    name: str
    title: str
    seconds: float  # to fit
    parts: Mapping[str, list[dict[str, Any]]]  # "valid", "test" -> {"target", "prediction", "scores"} of each row


def constant(found: Opened) -> Learner:
    """Returns the commonest class, the labels that more than half of the rows have, or the median."""
    cells = _targets(found, "train")
    if found.roles.kind == "number":
        predicted: np.ndarray = np.array([np.median(cells)])
    elif found.roles.kind == "classes":
        kept = cells if found.known is None else [cell for cell, known in zip(cells, found.known, strict=True) if known]
        predicted = np.array([[kept.count(name) / len(kept) for name in found.classes]])
    else:
        predicted = np.array([[sum(name in cell for cell in cells) / len(cells) for name in found.classes]])
    parts = {split: records(found, split, np.repeat(predicted, size(table), axis=0)) for split, table in _held(found).items()}
    return Learner("constant", "the median" if found.roles.kind == "number" else "the commonest answer", 0.0, parts)


def simple(found: Opened, task: Task, cut: str = "") -> Learner:
    """Fits the learner of the kind of data on the training rows that have a label.

    `cut`: the metric by which the decision threshold of two classes is chosen on `valid`, as for models; "": it is one half.
    """
    begun = time.monotonic()
    predicted, shift, rows = predictions(found, matrices(found, task), cut)
    title = title_of(found) + (f" of {rows:,} rows" if rows == _most(found) < size(found.parts["train"]) else "")
    return Learner(
        "simple", title, time.monotonic() - begun, {split: records(found, split, rows, shift) for split, rows in predicted.items()}
    )


def predictions(found: Opened, inputs: Mapping[str, Any], cut: str = "") -> tuple[dict[str, np.ndarray], float, int]:
    """Fits the learner on `inputs["train"]`, and returns its predictions on the other parts, the threshold, and how many rows it read.

    `inputs` are matrices [rows, features] by part; parts that the data set does not have, such as new rows, are answered, too.
    """
    kept = np.arange(size(found.parts["train"])) if found.known is None else np.flatnonzero(found.known)
    kept = kept[np.linspace(0, len(kept) - 1, min(len(kept), _most(found))).round().astype(int)]
    predict = fitted(found, inputs["train"][kept], encoded(found, "train")[kept])
    predicted = {split: predict(rows) for split, rows in inputs.items() if split != "train"}
    shift = 0.0
    if cut and "valid" in predicted:
        margins, second = np.diff(np.log(np.maximum(predicted["valid"], LEAST)))[:, 0], encoded(found, "valid") == 1
        seen = np.linspace(0, len(second) - 1, min(len(second), CUT)).round().astype(int)  # as many as for a model
        shift = shift_of(margins[seen], second[seen], cut)
    return predicted, shift, len(kept)


def shifted(predicted: np.ndarray, shift: float) -> np.ndarray:
    """Returns the logarithms of probabilities [rows, classes] with a threshold: `shift` is added to the log-odds of the second class."""
    logs = np.log(np.maximum(predicted, LEAST))
    if shift:
        logs = logs + np.array([0.0, shift])
    return logs - np.logaddexp.reduce(logs, axis=1, keepdims=True)


def unfitted(found: Opened) -> Any:
    """Returns the learner of a data set before it is fitted; of several labels, that of one."""
    roles = found.roles
    return _learner(roles.kind, not (roles.texts or roles.pictures), bool(roles.pictures))


def title_of(found: Opened) -> str:
    """Returns the name of the simple learner for a data set."""
    if not (found.roles.texts or found.roles.pictures):
        return "gradient boosting"
    regression = "ridge regression" if found.roles.kind == "number" else "logistic regression"
    return f"{regression} on pixels" if found.roles.pictures else f"TF-IDF with {regression}"


def records(found: Opened, split: str, predicted: np.ndarray, shift: float = 0.0) -> list[dict[str, Any]]:
    """Returns the answers to the rows of a part, as the records of a model say them.

    Args:
      found: the data set.
      split: the part.
      predicted: probabilities of classes [rows, classes], of labels [rows, labels], or numbers [rows].
      shift: added to the log-odds of the second of two classes.
    """
    targets, kind, names = _targets(found, split), found.roles.kind, found.classes
    if kind == "number":
        errors = np.array(targets, float) - predicted
        return [
            {"target": float(target), "prediction": float(one), "scores": {"mse": float(error**2), "mae": float(abs(error))}}
            for target, one, error in zip(targets, predicted, errors, strict=True)
        ]
    if kind == "classes":
        logs = shifted(predicted, shift)
        ids = {name: i for i, name in enumerate(names)}
        answers, found_ids = logs.argmax(axis=1), [ids[target] for target in targets]
        return [
            {
                "target": target,
                "prediction": names[answer],
                "scores": {"accuracy": float(answer == own), "nll": -float(row[own]), "confidence": float(np.exp(row[answer]))},
            }
            for target, own, answer, row in zip(targets, found_ids, answers.tolist(), logs, strict=True)
        ]
    present = np.array([[name in target for name in names] for target in targets])
    chosen = predicted > 0.5
    both, either = (present & chosen).sum(axis=1), (present | chosen).sum(axis=1)
    shared = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    same = present == chosen
    return [
        {
            "target": target,
            "prediction": [name for name, here in zip(names, row, strict=True) if here],
            "scores": {"exact_match": float(right.all()), "jaccard": float(share), "label_accuracy": float(right.mean())},
        }
        for target, row, share, right in zip(targets, chosen.tolist(), shared, same, strict=True)
    ]


def fitted(found: Opened, inputs: Any, targets: np.ndarray) -> Callable[[Any], np.ndarray]:
    """Fits the learner of the kind of data, and returns its predictions as a function of inputs.

    Args:
      found: the data set.
      inputs: training rows, a matrix [rows, features].
      targets: class ids [rows], labels [rows, labels] of 0 and 1, or numbers [rows].

    Returns: inputs -> probabilities of classes [rows, classes], of labels [rows, labels], or numbers [rows].
    """
    roles, make = found.roles, partial(unfitted, found)
    if roles.kind == "labels":
        columns = [_of_classes(make, inputs, column, 2) for column in targets.T]
        return lambda rows: np.stack([column(rows)[:, 1] for column in columns], axis=1)
    if roles.kind == "classes":
        return _of_classes(make, inputs, targets, len(found.classes))
    learner = quietly(make(), inputs, targets)
    return lambda rows: np.asarray(learner.predict(rows), float)


def quietly(learner: Any, inputs: Any, targets: np.ndarray) -> Any:
    """Fits a learner without its warning that it did not converge: what it answers is measured in any case."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return learner.fit(inputs, targets)


def encoded(found: Opened, split: str) -> np.ndarray:
    """Returns class ids [rows], labels [rows, labels] of 0 and 1, or numbers [rows] of a part."""
    cells = _targets(found, split)
    if found.roles.kind == "number":
        return np.array(cells, float)
    if found.roles.kind == "classes":
        ids = {name: i for i, name in enumerate(found.classes)}
        return np.array([ids[cell] for cell in cells])
    names = np.array(found.classes, object)
    return np.array([np.isin(names, cell) for cell in cells], int)


def matrices(found: Opened, task: Task) -> dict[str, Any]:
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

    counted = _counted(_joined(train, roles.texts))
    found_rows = {split: counted.transform(_joined(table, roles.texts)) for split, table in found.parts.items()}
    if made:
        found_rows = {split: hstack([rows, csr_matrix(matrix(found.parts[split], made))]) for split, rows in found_rows.items()}
    return {split: csr_matrix(rows) for split, rows in found_rows.items()}


# -- private --------------------------------------------------------------------------------------------------------------


def _targets(found: Opened, split: str) -> list[Any]:
    return found.parts[split].columns[found.roles.target].tolist()


def _most(found: Opened) -> int:
    """Returns how many training rows the learner reads at most."""
    return MOST_PICTURES if found.roles.pictures else MOST_TEXTS if found.roles.texts else size(found.parts["train"])


def _held(found: Opened) -> dict[str, Table]:
    return {split: table for split, table in found.parts.items() if split != "train"}


def _of_classes(make: Callable[[], Any], inputs: Any, targets: np.ndarray, classes: int) -> Callable[[Any], np.ndarray]:
    """Returns the probabilities of all classes; of one class alone, it is certain."""
    seen, counts = np.unique(targets, return_counts=True)
    learner = make() if len(seen) > 1 else None
    if learner is not None:
        if counts.min() < 2 and "early_stopping" in learner.get_params():  # it would hold out a stratified part
            learner.set_params(early_stopping=False)
        quietly(learner, inputs, targets)

    def predict(rows: Any) -> np.ndarray:
        found = np.zeros((rows.shape[0], classes))
        found[:, seen] = 1.0 if learner is None else learner.predict_proba(rows)
        return found

    return predict


def _joined(table: Table, names: tuple[str, ...]) -> list[str]:
    columns = [["" if is_blank(cell) else str(cell) for cell in table.columns[name].tolist()] for name in names]
    return [" ".join(cells) for cells in zip(*columns, strict=True)]


def _counted(texts: list[str]) -> Any:
    """Returns TF-IDF of words, or of up to three characters where texts have no words in common or no spaces between them."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    sample = [word for text in texts[:: max(1, len(texts) // 1000)] for word in text.split()]
    if sample and sum(map(len, sample)) <= SPACED * len(sample):
        longest = 2 if len(texts) <= BIGRAMS else 1
        counted = TfidfVectorizer(
            sublinear_tf=True,
            ngram_range=(1, longest),
            min_df=1 if len(texts) < 1000 else 2,
            tokenizer=spoken,
            token_pattern=None,
            lowercase=False,
        )
        with contextlib.suppress(ValueError):  # none is left
            if (counted.fit_transform(texts) > 0).sum(axis=0).max() > 1:
                return counted
    return TfidfVectorizer(analyzer="char", sublinear_tf=True, ngram_range=(1, 3), max_features=CHARACTERS).fit(texts)


def _learner(kind: str, boosted: bool, pictures: bool) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge

    if kind == "number":
        return HistGradientBoostingRegressor(random_state=0) if boosted else Ridge()
    if boosted:
        return HistGradientBoostingClassifier(random_state=0)
    return LogisticRegression(C=0.01 if pictures else 10.0, max_iter=200, tol=1e-3)
