"""Studies of one recipe, compared: how often one is called better or worse than the other."""

from typing import Any

import numpy as np

from assay.verdicts.comparison import difference_over
from assay.verdicts.verdict import LEVEL

SEEDS = (2, 3, 5, 10)
KINDS = ("seeds differ", "some fail", "groups")


def seeds(many: int, n: int, kind: str, trials: int) -> dict[str, Any]:
    """Compares two studies of one recipe with `many` seeds each.

    `kind`: "seeds differ" in skill; "some fail", four of five trainings learn; "groups" of examples of unequal size.
    """
    random, rejected = np.random.default_rng([many, n, len(kind)]), 0
    for _ in range(trials):
        number = np.sort(random.integers(0, max(6, n // 16), n)) if kind == "groups" else None
        easy = random.normal(1.5, 1.5, n) if number is None else random.normal(1.0, 1.2, number.max() + 1)[number]
        studies = []
        for _ in range(2):
            if kind == "some fail":
                rate = np.where(random.random(many) < 0.8, 0.98, 0.5)[:, None]
            else:
                rate = 1 / (1 + np.exp(-(easy + random.normal(0, 0.3, many)[:, None])))
            studies.append((random.random((many, n)) < rate).astype(float))
        rejected += difference_over(studies[0], studies[1], number, right=True).p_value < LEVEL
    return {"seeds": many, "n": n, "kind": kind, "trials": trials, "called": int(rejected)}
