"""The rules by which a diagnosis suggests treatments, each a pure function of rows and facts, and a line of the table RULES.

A rule finds how much is at stake, in points of the score (0.01), and its remedies, the best first, each with the change of a row that it
brings at least. What it asks of a run is in Facts. The numbers that it goes by are below, with their reasons.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.diagnostics.measurement import POINT, Measurement

BY_HEART, ANEW = 4.0, 2.0  # times the steps of the run, to unlearn what is known by heart, and to learn another form of the answer
GAP = 0.08  # between training and held-out score: with 128 examples of each, what chance may do is about half of it
HUE = 0.15  # lost under other hues: no shape depends on them, so that a tenth is more than accident
BRITTLE = 0.25  # lost under a corruption, the mean over severities, by models that nothing ails: digits lose as much under blur or noise
ROBUST = 0.1  # what a point beyond that counts: nobody has asked for corrupted inputs, and the highest severities are hard to read
FARTHER = 0.1  # between inputs as long as those of training and longer ones
LEARNT = 0.05  # above the best baseline, below which a task is not learnt, and there is nothing to carry over
SHORT = 0.5  # what a point counts that is missing within the lengths of training: it may need time only
CEILING = 0.9  # of the score: nine in ten are right, so that what is left to win is size
SURPLUS = 4.0  # times the directions in use: half of the width can go then, and as much is left over
LEAST_WIDTH = 32  # of what is cut
DEAD = 0.3  # of the hidden units
HALVING = 0.01  # what half the size, or half the operations, is worth in points
LARGE = 1_000_000  # bytes, below which a model's size is no cost anywhere
SPIKE = 20.0  # times the gradients before it: those of a healthy run vary by a factor of a few, and by ten where a rule is found
BOUND = 1.0  # norm to which gradients are clipped
RUNAWAY = 1.2  # times the loss of an even guess on training examples, which a model that only learns slowly never has
MASTERED = 0.95  # of the training score, above which training has come to its end whatever its gradients were
GONE = 0.9  # of the units: a network that does not come back
VANISHED = -2.0  # powers of ten between the gradients of the first and the last block
UNTRUE = 0.25  # what a point of confidence counts: the answers stay as they are
UNSURE = 0.08  # of confidence, on average: a few hundred examples in 15 bins have 0.03 to 0.05 by chance alone (Guo et al. 2017)
LATE = 0.1  # width of the interval of the late slope over the held-out loss, under a rate that never falls


class Facts(NamedTuple):
    """Of a run, as far as rules ask."""

    kind: str  # images, text, tokens or numbers: what the model reads
    model: Mapping[str, Any]  # config.model
    optimizer: Mapping[str, Any]  # config.optimizer
    treatments: Sequence[str] = ()  # as the config has them
    side: int = 0  # of an image, in pixels
    states: bool = False  # whether a running state gives the answer
    steps: bool = False  # whether the model writes its answer token by token
    outputs: int = 2  # classes of an answer
    places: int = 0  # the highest position that tokens share with others; 0: the task couples none
    lengths: tuple[int, int] = (1, 1)  # of training
    updates: int = 0  # of training
    loss: float = 0.0  # of the last quarter of training, its median, in nats


class Remedy(NamedTuple):
    spec: str
    effect: float  # at least, in the row's unit
    again: float = 0.0  # times the run's own steps, at its own rate, where much is to be learnt anew; 0: as the stage has it


class Found(NamedTuple):
    """What a rule says."""

    stake: float  # points of the score, 0.01 is one
    why: str
    row: str  # group/name
    expects: str  # lower or higher
    unit: str
    remedies: Sequence[Remedy]  # the best first


Rows = Mapping[str, Measurement]
Rule = Callable[[Rows, Facts], Found | None]


# -- rules ----------------------------------------------------------------------------------------------------------------


def over_fitting(rows: Rows, facts: Facts) -> Found | None:
    """What was learnt by heart. Other pictures or texts do most (experiments/generalise/overfitting.py), penalties less."""
    gap = rows.get("generalisation/train_test_gap")
    if gap is None or gap.unit != "fraction" or _value(gap) < GAP or (gap.interval and gap.interval[0] < POINT):
        return None
    varied = {
        "images": _augmented(facts, "images", f"shift:{max(1, facts.side // 12)}+rotate:12"),
        "text": _augmented(facts, "text", "dropout:0.1"),
        "tokens": "recombine",
        "numbers": "",
    }[facts.kind]
    size = _value(gap)
    share = 0.05 if facts.kind == "images" else 0.01  # of the gap; pictures that move are nearer to other pictures than texts with holes
    return Found(
        size,
        f"training examples score {100 * size:.1f} points above held-out ones",
        "generalisation/train_test_gap",
        "lower",
        gap.unit,
        [
            Remedy(varied, share * size, BY_HEART),
            *(Remedy(spec, 0.01 * size) for spec in ("l2:weight=1e-3", "smooth:share=0.1", "average:decay=0.99")),
        ],
    )


def spurious_colour(rows: Rows, facts: Facts) -> Found | None:
    """The answer hangs on the hue, which no shape does."""
    score, colour = rows.get("generalisation/score"), rows.get("generalisation/corruption: colour")
    if score is None or colour is None:
        return None
    lost = _value(score) - _value(colour)
    if lost < HUE:
        return None
    return Found(
        lost,
        f"pictures in other hues score {100 * lost:.1f} points lower: the colour gives the answer",
        "generalisation/corruption: colour",
        "higher",
        colour.unit,
        [Remedy(_augmented(facts, "images", "colour:1"), 0.3 * lost, 1.0)],
    )


def brittle(rows: Rows, facts: Facts) -> Found | None:
    """The corruption that costs most."""
    score = rows.get("generalisation/score")
    losses = {
        name: _value(score) - _value(rows[row]) for name in AGAINST if score and (row := f"generalisation/corruption: {name}") in rows
    }
    known = {name: lost for name, lost in losses.items() if AGAINST[name][0] == facts.kind}
    if not known:
        return None
    worst = max(known, key=lambda name: known[name])
    if known[worst] < BRITTLE:
        return None
    return Found(
        ROBUST * (known[worst] - BRITTLE),
        f"under {worst.replace('_', ' ')} the score is {100 * known[worst]:.1f} points lower",
        f"generalisation/corruption: {worst}",
        "higher",
        "fraction",
        [Remedy(_augmented(facts, *AGAINST[worst]), 0.1 * known[worst], 1.0)],
    )


def longer_inputs(rows: Rows, facts: Facts) -> Found | None:
    """What holds at the lengths of training breaks beyond them."""
    inside, outside = rows.get("reasoning/in_distribution"), rows.get("reasoning/out_of_distribution")
    above = rows.get("reasoning/above_baseline")
    if inside is None or outside is None or (above is not None and _value(above) < LEARNT):
        return None
    lost = _value(inside) - _value(outside)
    if lost < FARTHER:
        return None
    return Found(
        lost,
        f"inputs longer than those of training score {100 * lost:.1f} points lower",
        "reasoning/out_of_distribution",
        "higher",
        outside.unit,
        [Remedy(spec, share * lost, ANEW) for spec, share in _of_steps(facts)],
    )


def not_learnt(rows: Rows, facts: Facts) -> Found | None:
    """The score is that of a guess where the inputs are like those of training."""
    inside, above = rows.get("reasoning/in_distribution"), rows.get("reasoning/above_baseline")
    if inside is None or above is None or _value(above) >= LEARNT:
        return None
    missing = 1 - _value(inside)
    return Found(
        SHORT * missing,
        f"the score is {100 * _value(above):.1f} points above the best baseline",
        "reasoning/in_distribution",
        "higher",
        inside.unit,
        [Remedy(spec, share * missing, ANEW) for spec, share in _of_steps(facts)],
    )


def needlessly_wide(rows: Rows, facts: Facts) -> Found | None:
    """The score has no room, and representations use few of their directions, or many units say nothing."""
    score, gap = rows.get("generalisation/score"), rows.get("generalisation/train_test_gap")
    directions, dead, size = (
        rows.get(name) for name in ("optimisation health/effective_rank", "optimisation health/dead_units", "cost/parameters")
    )
    width = _width(facts.model)
    if score is None or size is None or score.unit != "fraction" or _value(score) < CEILING or (gap and _value(gap) >= GAP):
        return None
    surplus = width / max(_value(directions), 1.0) if directions else 0.0
    silent = _value(dead) if dead else 0.0
    if width < LEAST_WIDTH or (surplus < SURPLUS and silent < DEAD):
        return None
    part = "channels" if facts.kind == "images" and "filters" in facts.model else "units"
    used = f"{100 * silent:.0f} % of the units say nothing"
    if directions and surplus >= SURPLUS:
        used = f"{_value(directions):.0f} of {width} directions are in use"
    return Found(
        HALVING * (1 + math.log2(max(surplus, 1.0))) if surplus >= SURPLUS else 2 * HALVING,
        f"{100 * _value(score):.1f} % are right, and {used}",
        "cost/parameters",
        "lower",
        size.unit,
        [Remedy(f"prune:{part}=0.5", 0.15 * _value(size)), Remedy("distill:student=small", 0.4 * _value(size))],
    )


def exploding_gradients(rows: Rows, facts: Facts) -> Found | None:
    """A gradient stood out, or training ran away to answers that an even guess beats; nothing bounds a step."""
    largest, norm, nll = (
        rows.get(name) for name in ("optimisation health/largest_gradient", "optimisation health/gradient_norm", "calibration/nll")
    )
    trained, even = _trained(rows), math.log(max(facts.outputs, 2))
    if trained is None or facts.optimizer["clip_norm"] or trained > MASTERED:
        return None
    if largest is not None and _value(largest) >= SPIKE:
        row, unit, effect = (
            ("calibration/nll", nll.unit, max(POINT, 0.1 * _value(nll))) if nll else ("generalisation/score", "fraction", POINT)
        )
        return Found(
            1 - trained,
            f"a gradient was {_value(largest):.3g} times those before it, and none is clipped",
            row,
            "lower" if nll else "higher",
            unit,
            [Remedy("clip:norm=1.0", effect)],
        )
    if norm is not None and nll is not None and _value(norm) > BOUND and facts.loss > RUNAWAY * even:
        return Found(
            1 - trained,
            f"training ended at {facts.loss:.2f} nats, above the {even:.2f} of an even guess: steps are too long, and no gradient is "
            "clipped",
            "calibration/nll",
            "lower",
            nll.unit,
            [Remedy("clip:norm=1.0", max(POINT, 0.3 * (_value(nll) - even)))],
        )
    return None


def vanishing_gradients(rows: Rows, facts: Facts) -> Found | None:
    """The first blocks have next to none: fewer blocks have less to pass it through. Where units are dead, none would."""
    balance, dead = rows.get("optimisation health/gradient_balance"), rows.get("optimisation health/dead_units")
    trained = _trained(rows)
    if balance is None or trained is None or _value(balance) > VANISHED or trained > MASTERED or (dead and _value(dead) > GONE):
        return None
    return Found(
        1 - trained,
        f"the first block's gradient is 10^{_value(balance):.1f} times the last one's",
        "generalisation/score",
        "higher",
        "fraction",
        [Remedy("prune:layers=0.5", 0.1 * (1 - trained))],
    )


def over_confident(rows: Rows, facts: Facts) -> Found | None:
    """Probabilities do not say how often the answer is right."""
    error = rows.get("calibration/calibration_error")
    if error is None or _value(error) < UNSURE or (error.interval and error.interval[0] < POINT):
        return None
    said = {key.rpartition("/")[2]: float(np.mean(values)) for key, values in error.columns.items()}
    if said and said["confidence"] - said["score"] < _value(error) / 2:  # under-confident, which smoothing makes worse
        return None
    return Found(
        UNTRUE * _value(error),
        f"confidence is off by {100 * _value(error):.1f} points on average",
        "calibration/calibration_error",
        "lower",
        error.unit,
        [Remedy("smooth:share=0.1", 0.1 * _value(error))],
    )


def large(rows: Rows, facts: Facts) -> Found | None:
    """Four bytes a number where one does."""
    size = rows.get("cost/bytes_on_disk")
    if size is None or _value(size) < LARGE:
        return None
    return Found(
        2 * HALVING,  # a fourth
        f"the parameters take {_value(size) / 1e6:.1f} MB",
        "cost/bytes_on_disk",
        "lower",
        size.unit,
        [Remedy("quantize:int8", 0.5 * _value(size))],
    )


def noisy_end(rows: Rows, facts: Facts) -> Found | None:
    """The learning rate never falls, so that the last steps wander about."""
    slope, nll, trained = rows.get("generalisation/learning_curve_slope"), rows.get("calibration/nll"), _trained(rows)
    if slope is None or nll is None or slope.interval is None or trained is None or facts.optimizer["schedule"] != "constant":
        return None
    spread = slope.interval[1] - slope.interval[0]
    if trained > 1 - POINT or spread < LATE * _value(nll):
        return None
    return Found(
        POINT,
        "the learning rate never fell, and the loss still varies from step to step",
        "calibration/nll",
        "lower",
        nll.unit,
        [Remedy("average:decay=0.99", POINT)],
    )


RULES: Mapping[str, Rule] = {
    "exploding gradients": exploding_gradients,
    "vanishing gradients": vanishing_gradients,
    "spurious colour": spurious_colour,
    "over-fitting": over_fitting,
    "longer inputs": longer_inputs,
    "not learnt": not_learnt,
    "brittle": brittle,
    "needlessly wide": needlessly_wide,
    "over-confident": over_confident,
    "large": large,
    "noisy end": noisy_end,
}
AGAINST: Mapping[str, tuple[str, str]] = {  # corruption -> the kind of inputs, and the augmentation that shows it in training
    "gaussian_noise": ("images", "noise:0.3"),
    "blur": ("images", "blur:1"),
    "contrast": ("images", "contrast:0.9"),
    "shift": ("images", "shift:2"),
    "replace": ("text", "noise:0.1"),
    "drop": ("text", "delete:0.1"),
}


# -- private --------------------------------------------------------------------------------------------------------------


def _value(row: Measurement) -> float:
    assert row.value is not None  # of those that do not apply none is asked
    return float(row.value)


def _trained(rows: Rows) -> float | None:
    """The score on training examples, or on such as they are."""
    score, gap, inside = (rows.get(name) for name in ("generalisation/score", "generalisation/train_test_gap", "reasoning/in_distribution"))
    if score is not None and gap is not None and gap.unit == "fraction":
        return _value(score) + _value(gap)
    return _value(inside) if inside is not None else None


def _of_steps(facts: Facts) -> Iterator[tuple[str, float]]:
    """Remedies for a computation that does not reach far, and the share of what is lost that they win at least. A state that is written
    down carries over whole; positions of digits carry over where they are shared."""
    if facts.states:
        yield "scratchpad", 0.1
        yield "supervise", 0.02
    if facts.places:
        yield f"couple:span={max(64, 4 * facts.places + 4)}", 0.05
    if facts.steps:
        yield "reverse", 0.02
        yield "recombine:of=phrases", 0.02
    if facts.lengths[1] > facts.lengths[0]:
        yield "curriculum:examples=20000", 0.01


def _augmented(facts: Facts, kind: str, parts: str) -> str:
    """`augment` with these parts after those that the run has, which a second one would replace; "" where it has them all."""
    there = [spec.partition(f"{kind}=")[2] for spec in facts.treatments if spec.startswith("augment:")]
    before = there[0].split("+") if there and there[0] else []
    names = [part.partition(":")[0] for part in before]
    new = [part for part in parts.split("+") if part.partition(":")[0] not in names]
    return f"augment:{kind}={'+'.join([*before, *new])}" if new else ""


def _width(model: Mapping[str, Any]) -> int:
    """Features of the last representation."""
    if model["name"] == "cnn":
        return int(model["dense"] or model["filters"][-1])
    factor = {"resnet": 4, "bilstm": 2}.get(model["name"], 1)
    return factor * int(model.get("width", 0))
