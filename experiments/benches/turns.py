"""Two or more sides timed in turns, and each alone before and after: the ratio of two sides, or the reason why there is none."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from assay.core.machine import others, used
from assay.diagnostics.cost.disturbance import Timing, judge

ALONE = 2  # repeats of a side alone, before the turns and again after them


class Taken(NamedTuple):
    """Seconds of each side by turn, and how the timing went."""

    turns: Mapping[str, list[float]]
    timing: Timing


def take(
    sides: Mapping[str, Callable[[], float]],
    repeats: int,
    warm: int = 0,
    on_turn: Callable[[int, Mapping[str, float]], None] = lambda turn, seconds: None,
) -> Taken:
    """Times all sides in turns.

    Args:
        sides: each call works and returns the seconds of a step. The other sides must rest meanwhile.
        repeats: number of turns that count.
        warm: number of turns before these, which do not count.
        on_turn: reports the number of a turn, from `1 - warm`, and its seconds.
    """
    for turn in range(warm):
        on_turn(turn + 1 - warm, {side: call() for side, call in sides.items()})
    start = used()
    alone = {side: [call() for _ in range(ALONE)] for side, call in sides.items()}
    turns: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(repeats):
        for side, call in sides.items():
            turns[side].append(call())
        on_turn(turn + 1, {side: each[-1] for side, each in turns.items()})
    for side, call in sides.items():
        alone[side] += [call() for _ in range(ALONE)]
    return Taken(turns, judge(alone, turns, others(start, used())))


def ratio(taken: Taken, over: str, under: str) -> dict[str, Any]:
    """Returns the median ratio over the turns, with a bootstrap interval. A disturbed timing has no ratio."""
    told = {"timing": taken.timing.plain()}
    if taken.timing.disturbed:
        return {"ratio": None, **told}
    ratios = np.array(taken.turns[over]) / np.array(taken.turns[under])
    medians = np.median(np.random.default_rng(0).choice(ratios, (10_000, len(ratios))), axis=1)
    return {
        "ratio": float(np.median(ratios)),
        "ratio_interval": [float(np.quantile(medians, q)) for q in (0.025, 0.975)],
        "interval_method": "bootstrap 95 % of the median over repeats",
        "ratios": [round(float(value), 4) for value in ratios],
        **told,
    }
