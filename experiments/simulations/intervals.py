"""Means of values whose distribution is known: how often the interval of a row holds the truth."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from assay.diagnostics.measurement import sample


def _loss(random: np.random.Generator, n: int) -> np.ndarray:
    return np.where(random.random(n) < 0.05, random.exponential(3.0, n), random.exponential(0.02, n))


Drawn = tuple[np.ndarray, np.ndarray | None]
MEANS: Mapping[str, tuple[Callable[[np.random.Generator, int], Drawn], float, dict[str, Any]]] = {  # draw, truth, how the row is made
    "right or wrong, .95": (lambda random, n: ((random.random(n) < 0.95) * 1.0, None), 0.95, {"unit": "fraction", "right": ("score",)}),
    "shares, mostly 1": (
        lambda random, n: (np.where(random.random(n) < 0.9, 1.0, random.random(n)), None),
        0.95,
        {"unit": "fraction"},
    ),
    "shares, narrow": (lambda random, n: (random.uniform(0.45, 0.55, n), None), 0.5, {"unit": "fraction"}),
    "normal": (lambda random, n: (random.normal(1.0, 1.0, n), None), 1.0, {"unit": "nats"}),
    "losses, 5 % large": (lambda random, n: (_loss(random, n), None), 0.05 * 3 + 0.95 * 0.02, {"unit": "nats"}),
    "losses, lognormal 1": (lambda random, n: (random.lognormal(0, 1, n), None), math.exp(0.5), {"unit": "nats"}),
    "losses, lognormal 2": (lambda random, n: (random.lognormal(0, 2, n), None), math.exp(2), {"unit": "nats"}),
}


def intervals(name: str, n: int, trials: int) -> dict[str, Any]:
    """Draws means of `n` values, and counts those whose interval holds the truth, those without an interval, and those with a caution."""
    draw, truth, more = MEANS[name]
    random, counts = np.random.default_rng([n, len(name)]), Counter[str]()
    right = more.get("right", ())
    for _ in range(trials):
        values, groups = draw(random, n)
        row = sample("a", "row", "mean", {"test/score": values}, {"test": groups}, right, unit=more["unit"])
        counts["caution"] += bool(row.caution)
        counts["none"] += row.interval is None
        counts["held"] += row.interval is not None and row.interval[0] <= truth <= row.interval[1]
    return {"values": name, "n": n, "trials": trials, **{key: counts[key] for key in ("held", "none", "caution")}}
