"""Rules that suggest treatments from a diagnosis. Each is a pure function of rows and facts, and an entry of the table RULES.

A rule estimates the potential gain in score, and lists remedies, the best first, each with the minimum change of a row that it predicts.
Facts contains what rules need to know about a run. The thresholds are listed below, with their reasons.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.core.number import apart
from assay.diagnostics.measurement import POINT, Measurement

MEMORIZED, ANEW = 4.0, 2.0  # multiples of the run's steps: to undo memorization, and to learn another answer format
GAP = 0.08  # between training and held-out score; with 128 examples each, chance accounts for about half of it
HUE = 0.15  # score lost under other hues; shapes do not depend on hue, so a loss of a tenth exceeds chance
BRITTLE = 0.25  # score that healthy models lose under a corruption, mean over severities: digits under blur or noise
ROBUST = 0.1  # weight of a loss beyond BRITTLE: inputs may never be corrupted, and the highest severities are hard to recognize
FARTHER = 0.1  # score lost from inputs of training length to longer ones
LEARNT = 0.1  # share of the way from the best baseline to a perfect score; below it the task is not learned, and nothing can generalize
NOTHING = 0.03  # the same below which it is not learned even if certainly above the baseline, as hard data allow little
FALLING = 0.1  # share of the training loss that twice the steps still remove
FLAT = 0.02  # share of the training loss below which twice the steps change nothing
MORE = 4  # times the run's updates, where more may suffice
FEW = 100  # held-out examples below which a memorized training set is told although the gap is not certain
KNOWN = 0.8  # share of the way from the baseline to a perfect training score: memorized, where the held-out score lags
SHORT = 0.5  # weight of score missing within the training lengths: longer training may suffice
CEILING = 0.9  # score of 90 %, above which the remaining gain is in size
SURPLUS = 4.0  # ratio of width to directions in use: half of the width can be removed with a margin of two
LEAST_WIDTH = 32  # minimum width to prune
DEAD = 0.3  # fraction of hidden units that are dead
HALVING = 0.01  # value of halving the size or the operations, in score
LARGE = 1_000_000  # bytes; below this, model size is not a cost
SPIKE = 20.0  # ratio to the preceding gradient norms: healthy runs vary by a small factor, and tenfold when a rule is discovered
BOUND = 1.0  # clipping norm
RUNAWAY = 1.2  # ratio to the training loss of uniform guessing, which slow learning alone does not exceed
MASTERED = 0.95  # training score above which training has succeeded, whatever the gradients were
GONE = 0.9  # fraction of dead units beyond which a network does not recover
VANISHED = -2.0  # log10 of the ratio of the first block's gradient to the last block's
UNTRUE = 0.25  # weight of miscalibration: the predictions do not change
UNSURE = 0.08  # calibration error; a few hundred examples in 15 bins have 0.03 to 0.05 by chance alone (Guo et al. 2017)
LATE = 0.1  # ratio of the width of the late slope's interval to the held-out loss, for a constant learning rate


class Facts(NamedTuple):
    """Facts about a run that rules need."""

    kind: str  # type of inputs: images, text, tokens or numbers
    model: Mapping[str, Any]  # config.model
    optimizer: Mapping[str, Any]  # config.optimizer
    treatments: Sequence[str] = ()  # config.treatments
    side: int = 0  # image side in pixels; 0: no images
    states: bool = False  # whether the task has a running state that determines the answer
    steps: bool = False  # whether the model generates its answer token by token
    outputs: int = 2  # number of output classes
    places: int = 0  # highest coupled position in training; 0: the task does not couple positions
    farthest: int = 0  # highest coupled position in the evaluated splits
    lengths: tuple[int, int] = (1, 1)  # range of training lengths
    updates: int = 0  # training steps
    loss: float = 0.0  # median over the last quarter of training, in nats
    split: str = ""  # that the rows of scores were measured on


class Remedy(NamedTuple):
    """Treatment with its predicted effect."""

    spec: str
    effect: float  # minimum, in the row's unit
    again: float = 0.0  # multiple of the run's steps, at its learning rate, if much must be relearned; 0: the stage's defaults


class Found(NamedTuple):
    """Result of a rule."""

    stake: float  # potential gain in score; 0.01 is one percentage point
    why: str
    row: str  # group/name
    expects: str  # lower or higher
    unit: str
    remedies: Sequence[Remedy]  # the best first


Rows = Mapping[str, Measurement]
Rule = Callable[[Rows, Facts], Found | None]


# -- rules ----------------------------------------------------------------------------------------------------------------


def over_fitting(rows: Rows, facts: Facts) -> Found | None:
    """Detects memorization. Data augmentation helps most (experiments/generalise/overfitting.py), penalties less."""
    gap = rows.get("generalisation/train_test_gap")
    if gap is None or gap.unit != "fraction" or _value(gap) < GAP:
        return None
    unsure = _too_few(rows, gap)
    if gap.interval and gap.interval[0] < POINT and not unsure:
        return None
    varied = {
        "images": _augmented(facts, "images", f"shift:{max(1, facts.side // 12)}+rotate:12"),
        "text": _augmented(facts, "text", "dropout:0.1"),
        "tokens": "recombine",
        "numbers": "",
    }[facts.kind]
    size = _value(gap)
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
    lost = _value(score) - _value(colour)
    if lost < HUE:
        return None
    return Found(
        lost,
        f"the score drops by {100 * lost:.1f} percentage points when hues change: the model relies on colour",
        "generalisation/corruption: colour",
        "higher",
        colour.unit,
        [Remedy(_augmented(facts, "images", "colour:1"), 0.3 * lost, 1.0)],
    )


def brittle(rows: Rows, facts: Facts) -> Found | None:
    """Detects low robustness, and addresses the most harmful corruption."""
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
        f"the {worst.replace('_', ' ')} corruption lowers the score by {100 * known[worst]:.1f} percentage points",
        f"generalisation/corruption: {worst}",
        "higher",
        "fraction",
        [Remedy(_augmented(facts, *AGAINST[worst]), 0.1 * known[worst], 1.0)],
    )


def longer_inputs(rows: Rows, facts: Facts) -> Found | None:
    """Detects poor length generalization: the score drops beyond the training lengths."""
    inside, outside = rows.get("reasoning/in_distribution"), rows.get("reasoning/out_of_distribution")
    if inside is None or outside is None:
        return None
    lost = _value(inside) - _value(outside)
    if lost < FARTHER:
        return None
    return Found(
        lost,
        f"the score drops by {100 * lost:.1f} percentage points on inputs longer than those in training",
        "reasoning/out_of_distribution",
        "higher",
        outside.unit,
        [Remedy(spec, share * lost, ANEW) for spec, share in _of_steps(facts)],
    )


def not_learnt(rows: Rows, facts: Facts) -> Found | None:
    """Detects a model at its baseline, on training examples too: nothing else that is measured means anything yet.

    The first remedy follows the loss: one above that of guessing needs a smaller rate, one that still falls more updates, and one that does
    not move a larger rate.
    """
    learned = _learned(rows)
    if learned is None or learned.known:
        return None
    return Found(
        SHORT,  # below a known cause
        f"the score is {apart(learned.above, learned.unit, 'above', 'below')} that of the best answer without a model",
        f"{learned.row.group}/{learned.row.name}",
        "higher" if learned.unit else "lower",
        learned.row.unit,
        [
            *(Remedy(spec, share * learned.room, ANEW) for spec, share in _of_steps(facts) if spec.partition(":")[0] != "curriculum"),
            *(Remedy(spec, 0.1 * learned.room) for spec in _of_training(rows, facts)),
            *(Remedy(spec, share * learned.room, ANEW) for spec, share in _of_steps(facts) if spec.partition(":")[0] == "curriculum"),
        ],
    )


def under_trained(rows: Rows, facts: Facts) -> Found | None:
    """Detects training that ended early: the training score is low, and the loss still falls with more steps."""
    slope, trained, learned = rows.get("generalisation/learning_curve_slope"), _trained(rows), _learned(rows)
    if slope is None or trained is None or learned is None or not learned.known or trained > MASTERED or not facts.updates:
        return None
    fall = -slope.interval[1] if slope.interval else 0.0  # the least that the interval allows
    if facts.loss <= 0 or fall < FALLING * facts.loss:
        return None
    return Found(
        SHORT * (1 - trained),
        f"the training score is {100 * trained:.1f} %, and twice the steps still lower the loss by {100 * min(fall / facts.loss, 1):.0f} %",
        f"{learned.row.group}/{learned.row.name}",
        "higher" if learned.unit else "lower",
        learned.row.unit,
        [Remedy(f"longer:steps={MORE * facts.updates}", 0.1 * (1 - trained)), Remedy("larger:times=2", 0.05 * (1 - trained))],
    )


def needlessly_wide(rows: Rows, facts: Facts) -> Found | None:
    """Detects unused width: a high score with few directions in use or many dead units."""
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
    used = f"{100 * silent:.0f} % of the hidden units are dead"
    if directions and surplus >= SURPLUS:
        used = f"only {_value(directions):.0f} of {width} representation dimensions are in use"
    return Found(
        HALVING * (1 + math.log2(max(surplus, 1.0))) if surplus >= SURPLUS else 2 * HALVING,
        f"the score is {100 * _value(score):.1f} %, and {used}",
        "cost/parameters",
        "lower",
        size.unit,
        [Remedy(f"prune:{part}=0.5", 0.15 * _value(size)), Remedy("distill:student=small", 0.4 * _value(size))],
    )


def exploding_gradients(rows: Rows, facts: Facts) -> Found | None:
    """Detects gradient spikes, or divergence to a loss above uniform guessing, in training without gradient clipping."""
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
            f"a gradient norm was {_value(largest):.3g} times the median of the preceding ones, and gradients are not clipped",
            row,
            "lower" if nll else "higher",
            unit,
            [Remedy("clip:norm=1.0", effect)],
        )
    if norm is not None and nll is not None and _value(norm) > BOUND and facts.loss > RUNAWAY * even:
        return Found(
            1 - trained,
            f"the final training loss is {facts.loss:.2f} nats, above {even:.2f} for uniform guessing: steps are too large, and gradients "
            "are not clipped",
            "calibration/nll",
            "lower",
            nll.unit,
            [Remedy("clip:norm=1.0", max(POINT, 0.3 * (_value(nll) - even)))],
        )
    return None


def vanishing_gradients(rows: Rows, facts: Facts) -> Found | None:
    """Detects vanishing gradients in the first blocks. Fewer blocks shorten the path; with dead units, no gradient would pass at all."""
    balance, dead = rows.get("optimisation health/gradient_balance"), rows.get("optimisation health/dead_units")
    trained = _trained(rows)
    if balance is None or trained is None or _value(balance) > VANISHED or trained > MASTERED or (dead and _value(dead) > GONE):
        return None
    return Found(
        1 - trained,
        f"the gradient of the first block is 10^{_value(balance):.1f} times that of the last block",
        "generalisation/score",
        "higher",
        "fraction",
        [Remedy("prune:layers=0.5", 0.1 * (1 - trained))],
    )


def miscalibrated(rows: Rows, facts: Facts) -> Found | None:
    """Detects predicted probabilities that exceed the accuracy, or fall short of it."""
    error = rows.get("calibration/calibration_error")
    if error is None or _value(error) < UNSURE or (error.interval and error.interval[0] < POINT):
        return None
    said = {key.rpartition("/")[2]: float(np.mean(values)) for key, values in error.columns.items()}
    under = bool(said) and said["confidence"] - said["score"] < _value(error) / 2  # which label smoothing makes worse
    return Found(
        UNTRUE * _value(error),
        f"confidence differs from accuracy by {100 * _value(error):.1f} percentage points on average",
        "calibration/calibration_error",
        "lower",
        error.unit,
        [Remedy("calibrate", 0.25 * _value(error)), *([] if under else [Remedy("smooth:share=0.1", 0.1 * _value(error))])],
    )


def large(rows: Rows, facts: Facts) -> Found | None:
    """Detects large parameter files: 8-bit parameters take a quarter of the size of float32."""
    size = rows.get("cost/bytes_on_disk")
    if size is None or _value(size) < LARGE:
        return None
    return Found(
        2 * HALVING,  # a quarter of the size
        f"the parameters occupy {_value(size) / 1e6:.1f} MB on disk",
        "cost/bytes_on_disk",
        "lower",
        size.unit,
        [Remedy("quantize:int8", 0.5 * _value(size))],
    )


def noisy_end(rows: Rows, facts: Facts) -> Found | None:
    """Detects a constant learning rate that leaves noise in the last steps."""
    slope, nll, trained = rows.get("generalisation/learning_curve_slope"), rows.get("calibration/nll"), _trained(rows)
    if slope is None or nll is None or slope.interval is None or trained is None or facts.optimizer["schedule"] != "constant":
        return None
    spread = slope.interval[1] - slope.interval[0]
    if trained > 1 - POINT or spread < LATE * _value(nll):
        return None
    return Found(
        POINT,
        "the learning rate is constant, and the loss still fluctuates between steps",
        "calibration/nll",
        "lower",
        nll.unit,
        [Remedy("average:decay=0.99", POINT)],
    )


FIRST = ("exploding gradients", "vanishing gradients", "not learnt")  # if a task is not learned, the others mean nothing yet
RULES: Mapping[str, Rule] = {
    "exploding gradients": exploding_gradients,
    "vanishing gradients": vanishing_gradients,
    "not learnt": not_learnt,
    "spurious colour": spurious_colour,
    "over-fitting": over_fitting,
    "longer inputs": longer_inputs,
    "under-trained": under_trained,
    "brittle": brittle,
    "needlessly wide": needlessly_wide,
    "miscalibrated": miscalibrated,
    "large": large,
    "noisy end": noisy_end,
}
AGAINST: Mapping[str, tuple[str, str]] = {  # corruption -> (kind of inputs, augmentation that imitates it in training)
    "gaussian_noise": ("images", "noise:0.3"),
    "blur": ("images", "blur:1"),
    "contrast": ("images", "contrast:0.9"),
    "shift": ("images", "shift:2"),
    "replace": ("text", "noise:0.1"),
    "drop": ("text", "delete:0.1"),
}


# -- private --------------------------------------------------------------------------------------------------------------


def _value(row: Measurement) -> float:
    assert row.value is not None  # rows that do not apply are filtered out beforehand
    return float(row.value)


class _Learned(NamedTuple):
    """How far a model is from the best answer without one."""

    row: Measurement  # the score
    above: float  # score minus that of the best baseline, or its error minus the model's
    room: float  # from the baseline to a perfect score
    share: float  # of the room, on training or held-out examples, whichever is larger
    known: bool  # whether it has learned anything
    unit: str


def _learned(rows: Rows) -> _Learned | None:
    """Returns how much of the way from its baseline to a perfect score a model has come; None if it is unknown."""
    for score, above in (
        ("reasoning/in_distribution", "reasoning/above_baseline"),
        ("generalisation/score", "generalisation/above_baseline"),
    ):
        if score not in rows or above not in rows:
            continue
        row, by, gap = rows[score], _value(rows[above]), rows.get("generalisation/train_test_gap")
        room = 1 - (_value(row) - by) if row.unit else _value(row) + by  # an error's baseline is the room itself
        further = max(_value(gap) if row.unit else -_value(gap), 0.0) if gap else 0.0
        share, ends = (by + further) / room if room > 0 else 1.0, rows[above].interval
        return _Learned(row, by, room, share, share >= LEARNT or (share >= NOTHING and ends is not None and ends[0] > 0), row.unit)
    return None


def _of_training(rows: Rows, facts: Facts) -> Iterator[str]:
    """Yields how to train a model that has not learned, the most likely first."""
    slope, even, rate = rows.get("generalisation/learning_curve_slope"), math.log(max(facts.outputs, 2)), facts.optimizer["learning_rate"]
    further = f"longer:steps={MORE * facts.updates}" if facts.updates else "longer"
    faster, slower = (f"{further}{',' if ':' in further else ':'}rate={times * rate:g}" for times in (10, 0.1))
    falls = slope is not None and slope.interval is not None and slope.interval[1] < -FLAT * facts.loss
    order = [slower, further, faster] if facts.loss > RUNAWAY * even else [further, faster, slower] if falls else [faster, further, slower]
    yield from (*order[:2], "larger:times=2", order[2])


def _too_few(rows: Rows, gap: Measurement) -> str:
    """Returns what to say of a gap that is not certain because there are few held-out examples, though training examples are memorized."""
    score, learned = rows.get("generalisation/score"), _learned(rows)
    if not gap.interval or gap.interval[0] >= POINT or score is None or learned is None or score.n >= FEW or learned.share < KNOWN:
        return ""
    return f"; {score.n} held-out examples are too few to be sure, and --config.task.folds=5 uses all"


def _trained(rows: Rows) -> float | None:
    """Returns the training score, or else the in-distribution score; None if neither is known."""
    score, gap, inside = (rows.get(name) for name in ("generalisation/score", "generalisation/train_test_gap", "reasoning/in_distribution"))
    if score is not None and gap is not None and gap.unit == "fraction":
        return _value(score) + _value(gap)
    return _value(inside) if inside is not None else None


def _of_steps(facts: Facts) -> Iterator[tuple[str, float]]:
    """Yields remedies for poor length generalization, each with the minimum fraction of the lost score that it regains.

    A written-out state transfers fully to longer inputs; digit positions transfer where they are coupled.
    """
    if facts.states:
        yield "scratchpad", 0.1
        yield "supervise", 0.02
    if facts.places:
        yield f"couple:span={max(64, 4 * facts.places + 4, facts.farthest + 4)}", 0.05
    if facts.steps:
        yield "reverse", 0.02
        yield "recombine:of=phrases", 0.02
    if facts.lengths[1] > facts.lengths[0]:
        yield "curriculum:examples=20000", 0.01


def _augmented(facts: Facts, kind: str, parts: str) -> str:
    """Returns an `augment` spec that adds parts to the run's, because a second `augment` would replace them; "" if all are present."""
    there = [spec.partition(f"{kind}=")[2] for spec in facts.treatments if spec.startswith("augment:")]
    before = there[0].split("+") if there and there[0] else []
    names = [part.partition(":")[0] for part in before]
    new = [part for part in parts.split("+") if part.partition(":")[0] not in names]
    return f"augment:{kind}={'+'.join([*before, *new])}" if new else ""


def _width(model: Mapping[str, Any]) -> int:
    """Returns the number of features of the last representation."""
    if model["name"] == "cnn":
        return int(model["dense"] or model["filters"][-1])
    factor = {"resnet": 4, "bilstm": 2}.get(model["name"], 1)
    return factor * int(model.get("width", 0))
