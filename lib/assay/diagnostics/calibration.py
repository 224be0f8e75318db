"""Calibration: how well the model's confidence matches its accuracy."""

from typing import NamedTuple

import numpy as np

from assay.core.number import apart
from assay.diagnostics.measurement import HIGHER, LOWER, NATS, POINT, Measurement, Plot, inapplicable, sample
from assay.diagnostics.statistics import KEPT, score_at_coverage
from assay.diagnostics.subject import Answers, Subject
from assay.diagnostics.tokens import spread, taken, tokens_of
from assay.evals.score import BINS, bin_of

GROUP = "calibration"
NAMES = ("calibration_error", "nll", "selective_accuracy")


def calibration(subject: Subject) -> list[Measurement]:
    """Measures calibration of models that answer with probabilities.

    The confidence is that of the whole answer: a class, the last token, or all tokens. If every token is an answer, as in a text, it is
    that of each token.
    """
    answers = subject.answers(subject.split)
    if "confidence" not in answers.columns:
        reason = "does not apply: the model answers with numbers, several labels or several heads, not with a single class."
        return [inapplicable(GROUP, name, reason) for name in NAMES]
    asked = _asked(subject, answers)
    split, score, confidence, loss = asked.name, asked.score, asked.confidence, asked.loss
    pair = {f"{split}/confidence": confidence, f"{split}/score": score}
    groups, ids = {split: asked.groups}, {} if asked.ids is None else {split: asked.ids}
    on = f"on {len(score)} {asked.what} of {subject.split}"
    surplus = 100 * float(confidence.mean() - score.mean())
    tendency = apart(surplus / 100, "fraction", "overconfident", "underconfident", "neither over- nor underconfident")
    kept = score_at_coverage(confidence, score, KEPT)
    even = np.log(max(subject.task.vocabulary.outputs, 1))
    return [
        sample(
            GROUP,
            NAMES[0],
            "calibration_error",
            pair,
            groups,
            asked.right,
            ids=ids,
            unit="fraction",
            how=f"expected calibration error with {BINS} equal-width bins of confidence, {on} (Guo et al. 2017)",
            meaning=f"Average gap between confidence and accuracy; the model is {tendency} on average.",
            better=LOWER,
            margin=POINT,
            measures=subject.headline,
            plot=_reliability(confidence, score),
        ),
        sample(
            GROUP,
            NAMES[1],
            "mean",
            {f"{split}/loss": loss},
            groups,
            ids=ids,
            unit="nats",
            how="mean negative log-likelihood of the true "
            f"answer{' per token under teacher forcing,' if subject.task.free_running else ''} {on}",
            meaning=f"Average surprise at the true answer; a uniform guess has {even:.2f} nats.",
            better=LOWER,
            margin=NATS,
            measures=f"{subject.headline}, {_tokens(subject):.3f} answers per example",
            plot=_quantiles(loss),
        ),
        sample(
            GROUP,
            NAMES[2],
            "selective_accuracy",
            pair,
            groups,
            asked.right,
            ids=ids,
            unit="fraction",
            how=f"score on the {KEPT:.0%} of the {asked.what} with the highest confidence {on} (Geifman and El-Yaniv 2017)",
            meaning=f"If the model may abstain on a fifth of the questions, accuracy is {100 * kept:.1f} %, against "
            f"{100 * score.mean():.1f} % on all.",
            better=HIGHER,
            margin=POINT,
            measures=subject.headline,
            plot=_by_coverage(confidence, score),
        ),
    ]


# -- private --------------------------------------------------------------------------------------------------------------


class _Asked(NamedTuple):
    """Answers whose confidence is measured."""

    name: str  # name of their set
    what: str
    score: np.ndarray
    confidence: np.ndarray
    loss: np.ndarray
    groups: np.ndarray | None
    ids: np.ndarray | None  # given if they are not the examples of the split
    right: tuple[str, ...]  # ("score",) if each score is right or wrong


def _asked(subject: Subject, answers: Answers) -> _Asked:
    if subject.headline != "token_accuracy":
        score, loss = answers.columns["score"], answers.columns["loss"]
        sure = np.where(np.isnan(loss), np.nan, answers.columns["confidence"])  # a NaN that XLA folds may come back as any number
        return _Asked(subject.split, "examples", score, sure, loss, answers.groups, None, subject.right)
    every = tokens_of(subject, subject.split)
    one = taken(every, spread(len(every.row)))
    return _Asked(f"{subject.split}, {len(one.row)} tokens", "tokens", one.right, one.confidence, one.loss, one.groups, one.ids, ("score",))


def _tokens(subject: Subject) -> float:
    """Returns the mean number of answers per example that count."""
    batch = subject.first(64)
    return float(batch["mask"].sum() / len(batch["mask"])) if "mask" in batch else 1.0


def _reliability(confidence: np.ndarray, score: np.ndarray) -> Plot:
    """Plots accuracy against confidence, in ten bins of confidence."""
    tenth = bin_of(confidence, 10)
    there = [i for i in range(10) if (tenth == i).any()]
    x = [round(100 * float(confidence[tenth == i].mean()), 3) for i in there]
    return Plot(
        "reliability", x, {"score": [round(100 * float(score[tenth == i].mean()), 3) for i in there]}, "confidence (%)", "accuracy (%)"
    )


def _quantiles(loss: np.ndarray) -> Plot:
    """Plots the quantiles of the loss, without interpolation if some are infinite."""
    percents = list(range(0, 101, 5))
    values = np.quantile(loss, np.array(percents) / 100, method="linear" if np.isfinite(loss).all() else "lower")
    return Plot("line", percents, {"loss": [round(float(value), 4) for value in values]}, "answers (%)", "loss below (nats)")


def _by_coverage(confidence: np.ndarray, score: np.ndarray) -> Plot:
    """Plots the score against coverage: the percentage of answers, the most confident first."""
    percents = list(range(10, 101, 10))
    right = [round(100 * score_at_coverage(confidence, score, percent / 100), 3) for percent in percents]
    return Plot("line", percents, {"right": right}, "coverage (%), most confident first", "accuracy (%)")
