"""Rows whose label is suspect: confident learning on answers out of fold.

A class's threshold is the mean probability that its own rows give to it. A row is suspect if another class reaches its threshold there and
is more probable than the label that the row has (Northcutt, Jiang and Chuang 2021, "Confident Learning", JAIR, arXiv 1911.00068). The score
is one minus the probability of the label that the row has, and every row has one. Of numbers, a residual beyond CUT deviations is unlikely.
"""

from typing import Any, NamedTuple

import numpy as np

from assay.fitting.issues.folds import Answers
from assay.fitting.issues.issue import Issue
from assay.fitting.issues.rows import Rows, issue

CUT = 5.0  # deviations of a residual; a deviation is 1.4826 times the median absolute one, as in a normal distribution
NORMAL = 1.4826
WEAK, MOST = 0.7, 0.2  # a learner that is right less often, and finds a larger share of the rows suspect, tells of itself only


class Suspects(NamedTuple):
    score: np.ndarray  # float64 [n], from 0 to 1; 0 where the label is not judged
    suggested: np.ndarray  # int64 [n]: the class; -1 where the row is not suspect


def suspects(probabilities: np.ndarray, targets: np.ndarray, judged: np.ndarray) -> Suspects:
    """Returns how suspect the class of each row is. `probabilities`: [n, classes]; `targets`: int [n]; `judged`: bool [classes]."""
    rows = np.arange(len(targets))
    own = probabilities[rows, targets]
    counts = np.bincount(targets, minlength=probabilities.shape[1])
    thresholds = np.bincount(targets, own, minlength=len(counts)) / np.maximum(counts, 1)
    thresholds[~judged] = np.inf
    others = np.where(probabilities >= thresholds, probabilities, -1.0)
    others[rows, targets] = -1.0
    best = others.argmax(axis=1)
    suspect = (others[rows, best] > own) & judged[targets]
    return Suspects(np.where(judged[targets], 1.0 - own, 0.0), np.where(suspect, best, -1))


def suspect_labels(probabilities: np.ndarray, targets: np.ndarray, judged: np.ndarray) -> Suspects:
    """Returns how suspect each of several labels is, both [n, labels]; suggested is 1 (add it), 0 (take it away) or -1."""
    found = [
        suspects(np.stack([1.0 - column, column], axis=1), target.astype(np.int64), np.array([known, known]))
        for column, target, known in zip(probabilities.T, targets.T, judged.tolist(), strict=True)
    ]
    return Suspects(np.stack([one.score for one in found], axis=1), np.stack([one.suggested for one in found], axis=1))


def learned(answers: Answers, targets: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Returns which classes or labels the answers tell anything about, and how often they and the commonest answer are right.

    Answers that are right hardly more often than the commonest one, by less than two standard errors, accuse half of all rows.
    `targets`: int [n] or [n, labels]. Returns bool [classes or labels], and two shares, which are means over labels.
    """
    if targets.ndim == 1:
        rows = answers.judged[targets]
        right = np.mean(answers.values[rows].argmax(axis=1) == targets[rows])
        usual = np.bincount(targets[rows]).max() / rows.sum()
        return np.full(len(answers.judged), _certain(right, usual, rows.sum())), float(right), float(usual)
    share = np.mean((answers.values > 0.5) == (targets > 0), axis=0)
    usual_ones = np.maximum(np.mean(targets > 0, axis=0), np.mean(targets <= 0, axis=0))
    told = _certain(share, usual_ones, len(targets)) & answers.judged
    return told, float(share[answers.judged].mean()), float(usual_ones[answers.judged].mean())


def deviations(values: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Returns how many robust deviations each value is from the median, signed. A deviation is at least `least`; if it is 0, all are 0."""
    if not len(values):
        return np.zeros(0)
    centred = values - np.median(values)
    spread = max(NORMAL * float(np.median(np.abs(centred))), least)
    return centred / spread if spread > 0 else np.zeros(len(values))


def certainty(distance: float, cut: float) -> float:
    """Returns a distance as a score from 0 to 1, which is 0.5 at the cut."""
    return abs(float(distance)) / (abs(float(distance)) + cut)


def of_classes(rows: Rows, answers: Answers, targets: np.ndarray, names: tuple[str, ...], learner: str) -> list[Issue]:
    """Returns the rows whose class is suspect."""
    found = suspects(answers.values, targets, answers.judged)
    issues = []
    for row in np.flatnonzero(found.suggested >= 0).tolist():
        other, own = found.suggested[row], answers.values[row, targets[row]]
        shares = f"{names[other]} {100 * answers.values[row, other]:.0f} % and {names[targets[row]]} {100 * own:.0f} %"
        why = f"out of fold, {learner} gives {shares}"
        issues.append(issue(rows, row, "suspect label", found.score[row], why, names[other]))
    return issues


def of_labels(rows: Rows, answers: Answers, targets: np.ndarray, names: tuple[str, ...], learner: str) -> list[Issue]:
    """Returns the rows of which some label is suspect, each once."""
    found = suspect_labels(answers.values, targets, answers.judged)
    issues = []
    for row in np.flatnonzero((found.suggested >= 0).any(axis=1)).tolist():
        changed = np.flatnonzero(found.suggested[row] >= 0)
        better = np.where(found.suggested[row] >= 0, found.suggested[row], targets[row]) > 0
        said = ", ".join(f"{'adds' if better[label] else 'lacks'} {names[label]}" for label in changed)
        suggested = "|".join(name for name, here in zip(names, better.tolist(), strict=True) if here)
        issues.append(issue(rows, row, "suspect label", found.score[row, changed].max(), f"out of fold, {learner} {said}", suggested))
    return issues


def of_numbers(rows: Rows, answers: Answers, targets: np.ndarray, learner: str) -> list[Issue]:
    """Returns the rows whose number is far from the one that is answered."""
    away = deviations(targets - answers.values)
    issues = []
    for row in np.flatnonzero(np.abs(away) > CUT).tolist():
        why = f"out of fold, {learner} gives {answers.values[row]:.6g}: {abs(away[row]):.1f} robust deviations away (cut {CUT:g})"
        issues.append(issue(rows, row, "unlikely number", certainty(away[row], CUT), why, f"{answers.values[row]:.6g}"))
    return issues


# -- private --------------------------------------------------------------------------------------------------------------


def _certain(share: Any, usual: Any, n: int) -> Any:
    return share - usual > 2.0 * np.sqrt(usual * (1.0 - usual) / n)
