"""Answers out of fold: what the simple learner says of each row when it has not seen the row or another one with its inputs.

Rows with equal inputs are in one fold, and classes are dealt evenly over the folds. A learner may read fewer rows than it answers, because
fitting takes longer than answering.
"""

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from assay.data.split import k_fold

FOLDS, SEED = 5, 0
LEAST = 4  # folds that must have rows of a class for its labels to be judged


class Answers(NamedTuple):
    """What was answered out of fold."""

    values: np.ndarray  # float64: [n, classes] or [n, labels] probabilities, [n] numbers
    judged: np.ndarray  # bool [classes] or [labels]: which have enough rows to be learned in every fold; [0] for numbers


def folds_of(keys: np.ndarray, classes: np.ndarray, folds: int = FOLDS) -> np.ndarray:
    """Returns the fold of each row, int64 [n]. `keys`: equal for rows that must not be in two folds; `classes`: what is dealt evenly."""
    contents, first, place = np.unique(keys, return_index=True, return_inverse=True)
    fold = np.empty(len(contents), np.int64)
    for number, (_, held) in enumerate(k_fold(np.arange(len(contents)), folds, SEED, classes[first])):
        fold[held] = number
    return fold[place]


def of_classes(learner: Any, inputs: Any, targets: np.ndarray, count: int, fold: np.ndarray, read: np.ndarray) -> Answers:
    """Returns the probability of each class. `targets`: int [n]; `read`: bool [n], rows that the learner may be fitted on.

    Classes with too few rows are neither learned nor judged. If fewer than two are left, none is.
    """
    values = np.zeros((len(targets), count))
    judged = _enough(targets[:, None] == np.arange(count), fold, read)
    if judged.sum() < 2:
        return Answers(values, np.zeros(count, bool))
    read = read & judged[targets]
    for train, held in _turns(fold, read):
        fitted = _fitted(learner, inputs[train], targets[train])
        values[np.ix_(held, fitted.classes_)] = fitted.predict_proba(inputs[held])
    return Answers(values, judged)


def of_labels(learner: Any, inputs: Any, targets: np.ndarray, fold: np.ndarray, read: np.ndarray) -> Answers:
    """Returns the probability of each label, by a learner of its own. `targets`: 0 or 1, [n, labels]."""
    present = targets > 0
    judged = _enough(present, fold, read) & _enough(~present, fold, read)
    values = np.full(targets.shape, 0.5)
    for train, held in _turns(fold, read):
        rows, asked = inputs[train], inputs[held]
        for label in np.flatnonzero(judged):
            values[held, label] = _fitted(learner, rows, targets[train, label]).predict_proba(asked)[:, 1]
    return Answers(values, judged)


def of_numbers(learner: Any, inputs: Any, targets: np.ndarray, fold: np.ndarray, read: np.ndarray) -> Answers:
    """Returns the number of each row."""
    values = np.zeros(len(targets))
    for train, held in _turns(fold, read):
        values[held] = _fitted(learner, inputs[train], targets[train]).predict(inputs[held])
    return Answers(values, np.zeros(0, bool))


def reading(rows: int, most: int) -> np.ndarray:
    """Returns which rows a learner is fitted on, bool [rows]: `most` of them, evenly spaced."""
    chosen = np.zeros(rows, bool)
    chosen[np.linspace(0, rows - 1, min(rows, max(most, 1))).round().astype(int)] = True
    return chosen


# -- private --------------------------------------------------------------------------------------------------------------


def _turns(fold: np.ndarray, read: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for number in np.unique(fold):
        yield np.flatnonzero((fold != number) & read), np.flatnonzero(fold == number)


def _enough(members: np.ndarray, fold: np.ndarray, read: np.ndarray) -> np.ndarray:
    """Returns which columns of `members`, bool [n, columns], have rows to be fitted on in LEAST folds."""
    inside = [(members & (read & (fold == number))[:, None]).any(axis=0) for number in np.unique(fold)]
    return np.sum(inside, axis=0) >= LEAST


def _fitted(learner: Any, inputs: Any, targets: np.ndarray) -> Any:
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few more steps change no rank
        return clone(learner).fit(inputs, targets)
