"""Calibration: whether the model knows when it is right."""

import numpy as np

from assay.diagnose.measurement import BINS, HIGHER, LOWER, NATS, POINT, Measurement, Plot, inapplicable, sample
from assay.diagnose.subject import Answers, Subject

GROUP = "calibration"
NAMES = ("calibration_error", "nll", "selective_accuracy")
KEPT = 0.8  # of the examples, those that the model is surest of


def calibration(subject: Subject) -> list[Measurement]:
    """Of models that answer with probabilities. Confidence is that of the whole answer: of a class, the last token, or all tokens."""
    answers = subject.answers(subject.split)
    if "confidence" not in answers.columns:
        return [
            inapplicable(GROUP, name, "does not apply: the model answers with numbers or several heads, and not one class.")
            for name in NAMES
        ]
    split, score, confidence = subject.split, answers.columns["score"], answers.columns["confidence"]
    pair = {f"{split}/confidence": confidence, f"{split}/score": score}
    groups = {split: answers.groups}
    on = f"on {len(score)} examples of {split}"
    surplus = 100 * float(confidence.mean() - score.mean())
    asked = f"{subject.headline}, {_asked(subject):.3f} answers an example"
    tendency = "over" if surplus > 0 else "under"
    kept = np.argsort(-confidence, kind="stable")[: max(1, round(KEPT * len(score)))]
    return [
        sample(
            GROUP,
            NAMES[0],
            "calibration_error",
            pair,
            groups,
            unit="fraction",
            how=f"expected calibration error, {BINS} equal bins of confidence, {on} (Guo et al. 2017)",
            meaning=f"Confidence is off by this much on average; the model is {tendency}-confident by {abs(surplus):.1f} points.",
            better=LOWER,
            margin=POINT,
            measures=subject.headline,
            plot=_reliability(answers),
        ),
        sample(
            GROUP,
            NAMES[1],
            "mean",
            {f"{split}/loss": answers.columns["loss"]},
            groups,
            unit="nats",
            how="mean negative log-likelihood of the true "
            f"answer{' of a token, the true ones before it given,' if subject.task.free_running else ''} {on}",
            meaning="The surprise at the truth; a model that guesses evenly has "
            f"{np.log(max(subject.task.vocabulary.outputs, 1)):.2f} nats.",
            better=LOWER,
            margin=NATS,
            measures=asked,
        ),
        sample(
            GROUP,
            NAMES[2],
            "selective_accuracy",
            pair,
            groups,
            unit="fraction",
            how=f"score on the {KEPT:.0%} of the examples with the highest confidence {on} (Geifman and El-Yaniv 2017)",
            meaning=f"Where it may decline a fifth of the questions, it has {100 * score[kept].mean():.1f} % right, against "
            f"{100 * score.mean():.1f} % of all.",
            better=HIGHER,
            margin=POINT,
            measures=subject.headline,
        ),
    ]


# -- private --------------------------------------------------------------------------------------------------------------


def _asked(subject: Subject) -> float:
    """How many answers of an example count on average."""
    batch = subject.first(64)
    return float(batch["mask"].sum() / len(batch["mask"])) if "mask" in batch else 1.0


def _reliability(answers: Answers) -> Plot:
    """The share that is right against confidence, by tenths of confidence."""
    confidence, score = answers.columns["confidence"], answers.columns["score"]
    tenth = np.minimum((confidence * 10).astype(int), 9)
    there = [i for i in range(10) if (tenth == i).any()]
    x = [round(100 * float(confidence[tenth == i].mean()), 3) for i in there]
    return Plot(
        "reliability", x, {"score": [round(100 * float(score[tenth == i].mean()), 3) for i in there]}, "confidence (%)", "right (%)"
    )
