"""What rules are made of: facts about a run, a remedy with its predicted effect, and readings of rows that several rules share."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from assay.diagnostics.measurement import Measurement

LEARNT = 0.1  # share of the way from the best baseline to a perfect score; below it the task is not learned, and nothing can generalize
NOTHING = 0.03  # the same below which it is not learned even if certainly above the baseline, as hard data allow little
ANEW = 2.0  # multiple of the run's steps to learn another answer format
SHORT = 0.5  # weight of score missing within the training lengths: longer training may suffice
MASTERED = 0.95  # training score above which training has succeeded, whatever the gradients were


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
    epoch: int = 0  # steps of a pass over the training examples; 0: they are endless
    loss: float = 0.0  # median over the last quarter of training, in nats
    pace: float = 0.0  # seconds of a step; 0: unknown
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


def value(row: Measurement) -> float:
    assert row.value is not None  # rows that do not apply are filtered out beforehand
    return float(row.value)


def certain(one: Measurement, other: Measurement) -> bool:
    """Returns whether the interval of the difference of two scores excludes 0 (Newcombe 1998); without intervals, only exact values do."""
    if not (one.interval and other.interval):
        return max(one.n, other.n) <= 1
    return value(one) - value(other) > math.hypot(value(one) - one.interval[0], other.interval[1] - value(other))


class Progress(NamedTuple):
    """How far a model is from the best answer without one."""

    row: Measurement  # the score
    above: float  # score minus that of the best baseline, or its error minus the model's
    room: float  # from the baseline to a perfect score
    share: float  # of the room, on training or held-out examples, whichever is larger
    known: bool  # whether it has learned anything
    unit: str


def progress_of(rows: Rows) -> Progress | None:
    """Returns how much of the way from its baseline to a perfect score a model has come; None if it is unknown."""
    for score, above in (
        ("reasoning/in_distribution", "reasoning/above_baseline"),
        ("generalisation/score", "generalisation/above_baseline"),
    ):
        if score not in rows or above not in rows:
            continue
        row, by, gap = rows[score], value(rows[above]), rows.get("generalisation/train_test_gap")
        room = 1 - (value(row) - by) if row.unit else value(row) + by  # an error's baseline is the room itself
        further = max(value(gap) if row.unit else -value(gap), 0.0) if gap else 0.0
        share, ends = (by + further) / room if room > 0 else 1.0, rows[above].interval
        return Progress(row, by, room, share, share >= LEARNT or (share >= NOTHING and ends is not None and ends[0] > 0), row.unit)
    return None


def training_score(rows: Rows) -> float | None:
    """Returns the training score, or else the in-distribution score; None if neither is known."""
    score, gap, inside = (rows.get(name) for name in ("generalisation/score", "generalisation/train_test_gap", "reasoning/in_distribution"))
    if score is not None and gap is not None and gap.unit == "fraction":
        return value(score) + value(gap)
    return value(inside) if inside is not None else None


def of_steps(facts: Facts) -> Iterator[tuple[str, float]]:
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
