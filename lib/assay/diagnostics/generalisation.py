"""Generalisation: the score on held-out and corrupted examples, and whether more training would help."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from assay.core.number import apart, change, from_to, limits
from assay.data.corrupt import corrupt_images, corrupt_tokens
from assay.data.source import Examples
from assay.diagnostics.measurement import HIGHER, LOWER, NATS, POINT, SHARE, Measurement, Plot, inapplicable, sample
from assay.diagnostics.reasoning import above_baseline, beside, reasons
from assay.diagnostics.subject import Subject, limited
from assay.evals.rows import baselines

GROUP = "generalisation"
IMAGES = ("gaussian_noise", "blur", "shift", "contrast", "colour")
TEXTS = ("replace", "drop")  # random replacement and deletion of characters or tokens
SEVERITIES = (1, 2, 3, 4, 5)
RARE, OUTLYING = 0.0005, 0.1  # share of outliers on either side, and of the range that all other pixels need at least
QUICK = (1, 3, 5)  # severities for small diagnoses
FEW = 256  # number of examples below which only QUICK severities are used


def held_out(subject: Subject) -> list[Measurement]:
    """Measures the headline on held-out examples, and the gap between training and held-out examples."""
    test = subject.answers(subject.split)
    what, split, better = subject.headline, subject.split, subject.better
    unit = "fraction" if better == HIGHER else ""
    value = test.mean
    said = f"Accuracy on held-out examples is {100 * value:.1f} %" if unit else f"The error on held-out examples is {value:.4g}"
    margin: dict[str, Any] = {"margin": POINT} if unit else {"margin": SHARE, "relative": True}
    score = sample(
        GROUP,
        "score",
        test.statistic,
        test.scores(split),
        {split: test.groups},
        subject.right,
        unit=unit,
        how=f"{what} on {len(test.ids)} examples of the split {split}",
        meaning=f"{said} ({what.replace('_', ' ')}).",
        better=better,
        measures=what,
        fact=f"the answers on {split}",
        plot=beside(test, {} if subject.task.members else baselines(test.records, subject.task, what), what),
        **margin,
    )
    above = [] if reasons(subject) else [above_baseline(GROUP, subject, split, test, score)]  # otherwise it is a row of that group
    if "train" not in subject.task.splits or split == "train":
        reason = "does not apply: the task has no split `train` besides the held-out one."
        return [score, *above, *_further(subject), inapplicable(GROUP, "train_test_gap", reason)]
    train = subject.answers("train")
    difference = train.mean - value
    than = apart(difference, unit, "higher than", "lower than", "the same as")
    learnt = ": part of what the model memorized does not generalize" if difference and (difference > 0) == (better == HIGHER) else ""
    gap = sample(
        GROUP,
        "train_test_gap",
        "gap",
        train.scores("train") | test.scores(split),
        {"train": train.groups, split: test.groups},
        subject.right,
        unit=unit,
        how=f"{what} on {len(train.ids)} training examples minus {what} on {len(test.ids)} examples of {split}",
        meaning=f"Training examples score {than} held-out ones{learnt}.",
        better=LOWER if unit else HIGHER,
        plot=Plot(
            "bar",
            [0, 1],
            {"score": [round((100 if unit else 1) * one.mean, 3) for one in (train, test)]},
            "",
            f"{what.replace('_', ' ')} (%)" if unit else what,
            ["train", split],
        ),
        measures=what,
        **margin,
    )
    return [score, *above, *_further(subject), gap]


def learning_curve(subject: Subject) -> list[Measurement]:
    """Measures the slope of the training loss: nats per doubling of the steps, over the last half of training."""
    name = "learning_curve_slope"
    points = [(line["step"], line["loss"]) for line in subject.history if line.get("loss") is not None and line["step"] > 0]
    if len(points) < 8:
        reason = "does not apply: no training record with at least 8 losses was found (metrics.jsonl)."
        return [inapplicable(GROUP, name, reason)]
    step, loss = (np.array(column, float) for column in zip(*points, strict=True))
    late = step >= step[-1] / 2
    slope, half = _slope(np.log2(step[late]), loss[late])
    ends = (slope - half, slope + half)
    shown = np.unique(np.linspace(0, len(step) - 1, 40).round().astype(int))
    return [
        Measurement(
            GROUP,
            name,
            slope,
            unit="nats",
            n=int(late.sum()),
            interval=ends,
            how="least squares fit of the training loss on log2(step) over the last half of the steps, from metrics.jsonl",
            meaning=f"Doubling the number of steps changes the training loss by {change(slope, 'nats')}: {_direction(*ends)}.",
            plot=Plot("line", step[shown].tolist(), {"loss": [round(float(value), 5) for value in loss[shown]]}, "step", "training loss"),
        )
    ]


def corruptions(subject: Subject) -> list[Measurement]:
    """Measures the headline on corrupted held-out examples, averaged over severities (Hendrycks and Dietterich 2019)."""
    names = IMAGES if subject.images else TEXTS
    scale = ""
    if subject.images:
        pixels = _pixels(subject)
        if isinstance(pixels, str):
            return [inapplicable(GROUP, f"corruption: {name}", f"does not apply: {pixels}") for name in names]
        changes: Mapping[str, Callable] = {name: partial(_image, pixels=pixels, name=name) for name in names}
        channels, scale = subject.first(1)["inputs"].shape[-1], f", for pixels from {pixels[0]:.3g} to {pixels[1]:.3g}"
    elif subject.task.alphabet is not None and subject.task.vocabulary.pooled:
        changes, channels = {name: partial(_text, subject=subject, name=name) for name in names}, 0
    else:
        reason = "does not apply: inputs are neither images nor texts with one answer; changing a token would change the true answer."
        return [inapplicable(GROUP, f"corruption: {name}", reason) for name in names]
    severities = SEVERITIES if subject.examples >= FEW else QUICK
    clean = subject.answers(subject.split).columns["score"]
    rows, share = [], subject.better == HIGHER  # otherwise the score is an error, of any size
    factor, unit = (100, "fraction") if share else (1, "")
    margin: dict[str, Any] = {"margin": POINT} if share else {"margin": SHARE, "relative": True}
    for name in names:
        if name == "colour" and channels != 3:
            what = "are grayscale" if channels == 1 else f"have {channels} channels, and a hue needs red, green and blue"
            rows.append(inapplicable(GROUP, f"corruption: {name}", f"does not apply: the images {what}."))
            continue
        each = [
            subject.answers(subject.split, partial(changes[name], severity=severity), f"{subject.split}~{name}{severity}").columns["score"]
            for severity in severities
        ]
        average = np.mean(each, axis=0)
        curve = [round(factor * float(values.mean()), 3) for values in (clean, *each)]
        rows.append(
            sample(
                GROUP,
                f"corruption: {name}",
                "mean",
                {f"{subject.split}/score": average},
                {subject.split: subject.answers(subject.split).groups},
                unit=unit,
                how=f"{subject.headline} on {len(average)} examples of {subject.split}, averaged over severities "
                f"{', '.join(map(str, severities))}{scale}",
                meaning=f"The score {from_to(curve[0] / factor, curve[-1] / factor, unit)} under the {name.replace('_', ' ')} corruption "
                "at the highest severity.",
                better=subject.better,
                plot=Plot("line", [0, *severities], {"score": curve}, "severity", "score (%)" if share else subject.headline),
                **margin,
            )
        )
    return rows


def domain_shift(subject: Subject) -> list[Measurement]:
    """Measures how much lower the headline is on a shifted domain: `test` of a task that declares a domain shift."""
    if not subject.task.shifted or "valid" not in subject.task.splits:
        return [inapplicable(GROUP, "domain_shift", "does not apply: the task has a single domain.")]
    own, other = subject.answers("valid"), subject.answers("test")
    scores = [own.mean, other.mean]
    what = subject.headline.replace("_", " ")
    return [
        sample(
            GROUP,
            "domain_shift",
            "gap",
            own.scores("valid") | other.scores("test"),
            {"valid": own.groups, "test": other.groups},
            subject.right,
            unit="fraction",
            how=f"{what} on {len(own.ids)} examples of valid, drawn like the training data, minus {what} on {len(other.ids)} of test",
            meaning=f"Accuracy is {100 * scores[1]:.1f} % on the shifted domain ({subject.task.shifted}) and "
            f"{100 * scores[0]:.1f} % on the training domain.",
            better=LOWER,
            margin=POINT,
            plot=Plot("bar", [0, 1], {"score": [round(100 * score, 3) for score in scores]}, "", f"{what} (%)", ["valid", "test"]),
        )
    ]


# -- private --------------------------------------------------------------------------------------------------------------


def _further(subject: Subject) -> list[Measurement]:
    """Returns rows of the scores beside the headline: the absolute error and R2 of a regression, and the share of correct labels."""
    answers, split = subject.answers(subject.split), subject.split
    groups, on, rows = {split: answers.groups}, f"on {len(answers.ids)} examples of the split {split}", []
    if "mae" in answers.columns:
        error = answers.columns["mae"]
        rows.append(
            sample(
                GROUP,
                "mae",
                "mean",
                {f"{split}/mae": error},
                groups,
                how=f"mean absolute error {on}",
                meaning=f"Predictions are {error.mean():.4g} away from the targets on average.",
                better=LOWER,
                margin=SHARE,
                relative=True,
            )
        )
        targets = np.array([record["target"] for record in answers.records], float)
        if targets.ndim > 1:
            rows.append(inapplicable(GROUP, "r2", "does not apply: an example has several numbers, each with an R2 of its own."))
        else:
            columns = {f"{split}/score": answers.columns["score"], f"{split}/target": targets}
            how = f"1 - squared error over squared distance from the mean target, {on}"
            rows.append(
                sample(
                    GROUP,
                    "r2",
                    "determination",
                    columns,
                    groups,
                    how=how,
                    meaning="1 is a perfect prediction, 0 that of the mean target.",
                    better=HIGHER,
                    margin=POINT,
                )
            )
    if "label_accuracy" in answers.columns:
        right = answers.columns["label_accuracy"]
        rows.append(
            sample(
                GROUP,
                "label_accuracy",
                "mean",
                {f"{split}/label_accuracy": right},
                groups,
                unit="fraction",
                how=f"share of correct labels {on}",
                meaning=f"{100 * right.mean():.1f} % of the single labels are correct.",
                better=HIGHER,
                margin=POINT,
            )
        )
    return rows


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns the least squares slope and the half-width of its 95 % interval (Student's t)."""
    from scipy.special import stdtrit  # slow to import

    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    left = y - y.mean() - slope * centred
    error = np.sqrt(left @ left / max(len(x) - 2, 1) / (centred @ centred))
    return slope, float(stdtrit(max(len(x) - 2, 1), 0.975) * error)


def _direction(low: float, high: float) -> str:
    """Returns what the interval of a slope shows; changes below NATS per doubling do not matter."""
    if low > -NATS and high < NATS:
        return "it has levelled off"
    if high < 0:
        return "it is still falling"
    return "it is rising" if low > 0 else f"whether it still falls is not clear (95 % interval {limits((low, high), 'nats', signed=True)})"


def _image(examples: Examples, pixels: tuple[float, float], name: str, severity: int) -> Examples:
    low, high = pixels
    scaled = np.clip((examples.input.astype(np.float64) - low) / (high - low), 0.0, 1.0)  # rounding may leave [0, 1]
    return examples._replace(input=low + (high - low) * corrupt_images(scaled, examples.id, name, severity))


def _pixels(subject: Subject) -> tuple[float, float] | str:
    """Returns the least and greatest possible value of a pixel, or why there is none.

    It is the range that the task states, if its source has that scale, otherwise [0, 1] for fractions within it, otherwise the range over
    all examples measured, from 0 on unless some are negative, unless a few outliers make it.
    """
    source = limited(subject.task.source(subject.split), subject.examples)
    values = source.fetch(source.indices(1)).input
    if not np.isfinite(values).all():
        return f"{int((~np.isfinite(values)).sum())} pixels are not finite."
    shape = values.shape[1:]
    if shape[0] in (1, 3) and shape[-1] not in (1, 3) and shape[0] < min(shape[1:]):
        return f"the images have shape {shape}: their channels come first. Bring them as [examples, height, width, channels]."
    low, high = float(values.min()), float(values.max())
    stated = subject.task.bounds
    if subject.run is None and stated is not None and stated.low <= low and high <= stated.high:
        return stated.low, stated.high
    if low >= 0 and high <= 1 and not np.issubdtype(values.dtype, np.integer):
        return 0.0, 1.0
    if not high > low:
        return f"all pixels are {low:.3g}."
    usual = np.quantile(values, [RARE, 1 - RARE])
    if np.ptp(usual) < OUTLYING * (high - low):
        return (
            f"pixels lie in {low:.3g} to {high:.3g}, but nearly all in {usual[0]:.3g} to {usual[1]:.3g}. "
            "State their range, such as bring(..., bounds=(0, 1)), after clipping."
        )
    return min(0.0, low), high


def _text(examples: Examples, subject: Subject, name: str, severity: int) -> Examples:
    assert subject.task.alphabet is not None
    tokens, length = corrupt_tokens(examples.input, examples.input_length, examples.id, name, severity, subject.task.alphabet)
    return examples._replace(input=tokens, input_length=length.astype(np.int64))
