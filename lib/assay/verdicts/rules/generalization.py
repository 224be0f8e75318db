"""Rules on new inputs: memorized examples, colours, corruptions, longer inputs, and confidences that are not true."""

from collections.abc import Mapping

import numpy as np

from assay.diagnostics.measurement import POINT, Measurement
from assay.verdicts.rules.rule import ANEW, Facts, Found, Remedy, Rows, certain, of_steps, progress_of, value

MEMORIZED = 4.0  # multiple of the run's steps: to undo memorization
GAP = 0.08  # between training and held-out score; with 128 examples each, chance accounts for about half of it
HUE = 0.15  # score lost under other hues; shapes do not depend on hue, so a loss of a tenth exceeds chance
BRITTLE = 0.25  # score that healthy models lose under a corruption, mean over severities: digits under blur or noise
ROBUST = 0.1  # weight of a loss beyond BRITTLE: inputs may never be corrupted, and the highest severities are hard to recognize
FARTHER = 0.1  # score lost from inputs of training length to longer ones
FEW = 100  # held-out examples below which a memorized training set is told although the gap is not certain
KNOWN = 0.8  # share of the way from the baseline to a perfect training score: memorized, where the held-out score lags
UNTRUE = 0.25  # weight of miscalibration: the predictions do not change
UNSURE = 0.08  # calibration error; a few hundred examples in 15 bins have 0.03 to 0.05 by chance alone (Guo et al. 2017)
AGAINST: Mapping[str, tuple[str, str]] = {  # corruption -> (kind of inputs, augmentation that imitates it in training)
    "gaussian_noise": ("images", "noise:0.3"),
    "blur": ("images", "blur:1"),
    "contrast": ("images", "contrast:0.9"),
    "shift": ("images", "shift:2"),
    "replace": ("text", "noise:0.1"),
    "drop": ("text", "delete:0.1"),
}


def over_fitting(rows: Rows, facts: Facts) -> Found | None:
    """Detects memorization. Data augmentation helps most (experiments/generalise/overfitting.py), penalties less."""
    gap = rows.get("generalisation/train_test_gap")
    if gap is None or gap.unit != "fraction" or value(gap) < GAP:
        return None
    unsure = _too_few(rows, gap)
    if gap.interval and gap.interval[0] < POINT and not unsure:
        return None
    varied = {
        "images": augmented(facts, "images", f"shift:{max(1, facts.side // 12)}+rotate:12"),
        "text": augmented(facts, "text", "dropout:0.1"),
        "tokens": "recombine",
        "numbers": "",
    }[facts.kind]
    size = value(gap)
    share = (
        0.05 if facts.kind == "images" else 0.01
    )  # of the gap; shifted images resemble new images more than texts with dropped tokens resemble new texts
    return Found(
        size,
        f"the training score is {100 * size:.1f} percentage points above the held-out score{unsure}",
        "generalisation/train_test_gap",
        "lower",
        gap.unit,
        [
            Remedy(varied, share * size, MEMORIZED),
            *(Remedy(spec, 0.01 * size) for spec in ("l2:weight=1e-3", "smooth:share=0.1", "average:decay=0.99")),
        ],
    )


def spurious_colour(rows: Rows, facts: Facts) -> Found | None:
    """Detects predictions that depend on hue, although shapes do not."""
    score, colour = rows.get("generalisation/score"), rows.get("generalisation/corruption: colour")
    if score is None or colour is None:
        return None
    lost = value(score) - value(colour)
    if lost < HUE or not certain(score, colour):
        return None
    return Found(
        lost,
        f"the score drops by {100 * lost:.1f} percentage points when hues change: the model relies on colour",
        "generalisation/corruption: colour",
        "higher",
        colour.unit,
        [Remedy(augmented(facts, "images", "colour:1"), 0.3 * lost, 1.0)],
    )


def brittle(rows: Rows, facts: Facts) -> Found | None:
    """Detects low robustness, and addresses the most harmful corruption."""
    score = rows.get("generalisation/score")
    losses = {name: value(score) - value(rows[row]) for name in AGAINST if score and (row := f"generalisation/corruption: {name}") in rows}
    known = {name: lost for name, lost in losses.items() if AGAINST[name][0] == facts.kind}
    if not known:
        return None
    worst = max(known, key=lambda name: known[name])
    assert score is not None
    if known[worst] < BRITTLE or not certain(score, rows[f"generalisation/corruption: {worst}"]):
        return None
    return Found(
        ROBUST * (known[worst] - BRITTLE),
        f"the {worst.replace('_', ' ')} corruption lowers the score by {100 * known[worst]:.1f} percentage points",
        f"generalisation/corruption: {worst}",
        "higher",
        "fraction",
        [Remedy(augmented(facts, *AGAINST[worst]), 0.1 * known[worst], 1.0)],
    )


def longer_inputs(rows: Rows, facts: Facts) -> Found | None:
    """Detects poor length generalization: the score drops beyond the training lengths."""
    inside, outside = rows.get("reasoning/in_distribution"), rows.get("reasoning/out_of_distribution")
    if inside is None or outside is None:
        return None
    lost = value(inside) - value(outside)
    if lost < FARTHER or not certain(inside, outside):
        return None
    return Found(
        lost,
        f"the score drops by {100 * lost:.1f} percentage points on inputs longer than those in training",
        "reasoning/out_of_distribution",
        "higher",
        outside.unit,
        [Remedy(spec, share * lost, ANEW) for spec, share in of_steps(facts)],
    )


def miscalibrated(rows: Rows, facts: Facts) -> Found | None:
    """Detects predicted probabilities that exceed the accuracy, or fall short of it."""
    error = rows.get("calibration/calibration_error")
    if error is None or value(error) < UNSURE or (error.interval and error.interval[0] < POINT):
        return None
    said = {key.rpartition("/")[2]: float(np.mean(values)) for key, values in error.columns.items()}
    under = bool(said) and said["confidence"] - said["score"] < value(error) / 2  # which label smoothing makes worse
    return Found(
        UNTRUE * value(error),
        f"confidence differs from accuracy by {100 * value(error):.1f} percentage points on average",
        "calibration/calibration_error",
        "lower",
        error.unit,
        [Remedy("calibrate", 0.25 * value(error)), *([] if under else [Remedy("smooth:share=0.1", 0.1 * value(error))])],
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _too_few(rows: Rows, gap: Measurement) -> str:
    """Returns what to say of a gap that is not certain because there are few held-out examples, though training examples are memorized."""
    score, learned = rows.get("generalisation/score"), progress_of(rows)
    if not gap.interval or gap.interval[0] >= POINT or score is None or learned is None or score.n >= FEW or learned.share < KNOWN:
        return ""
    return f"; {score.n} held-out examples are too few to be sure, and --config.task.folds=5 uses all"


def augmented(facts: Facts, kind: str, parts: str) -> str:
    """Returns an `augment` spec that adds parts to the run's, because a second `augment` would replace them; "" if all are present."""
    there = [spec.partition(f"{kind}=")[2] for spec in facts.treatments if spec.startswith("augment:")]
    before = there[0].split("+") if there and there[0] else []
    names = [part.partition(":")[0] for part in before]
    new = [part for part in parts.split("+") if part.partition(":")[0] not in names]
    return f"augment:{kind}={'+'.join([*before, *new])}" if new else ""
