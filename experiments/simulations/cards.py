"""Cards of two models whose true difference is known: how often each verdict is given, and the power of the row that is tested alone."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from assay.core.stats import mcnemar
from assay.diagnostics.measurement import HIGHER, LOWER, NATS, POINT, Measurement, sample
from assay.verdicts.verdict import BETTER, LEVEL, SAME, WORSE, Pair, judge

SIZES = (20, 50, 128, 200, 512, 899, 3680)
GAINS = (0.0, 0.005, 0.015, 0.02, 0.05)
DISCORDANT = (0.04, 0.06, 0.1)
MOST_ROWS = 899  # examples up to which a card has all rows: swaps of 3,680 take minutes
KEYS = ("any", "called", "same")

Columns = Mapping[str, np.ndarray]


def answers(random: np.random.Generator, n: int, gain: float, discordant: float, kind: str) -> tuple[Columns, Columns, np.ndarray | None]:
    """Returns the columns of two models on the same examples, and their groups: score, confidence and loss.

    The second has `gain` more right answers on average. `kind`: "plain"; "losses only", where no answer improves; "constant confidence",
    where all confidences tie; "groups" of unequal size that are right or wrong together for the most part.
    """
    groups = np.sort(random.integers(0, max(6, n // 12), n)) if kind == "groups" else None
    easy = random.random(n) if groups is None else 0.7 * random.random(groups.max() + 1)[groups] + 0.3 * random.random(n)
    first = (easy < 0.85 - max(gain, 0)).astype(float)
    up, down = (discordant + gain) / 2, (discordant - gain) / 2
    if kind == "losses only":
        up, down = 0.0, -gain
    unit = random.random(n)
    second = np.where(first == 1, (unit >= down / first.mean()).astype(float), (unit < up / max(1 - first.mean(), 1e-9)).astype(float))
    columns = []
    for score in (first, second):
        sure = np.full(n, 0.85) if kind == "constant confidence" else np.clip(random.beta(8, 1.5, n), 0.3, 0.999)
        loss = np.where(score == 1, -np.log(sure), random.exponential(2.0, n))
        columns.append({"score": score, "confidence": sure, "loss": loss})
    return columns[0], columns[1], groups


def rows(columns: Columns, groups: np.ndarray | None, all_rows: bool) -> list[Measurement]:
    """Returns the rows of a diagnosis that depend on answers, as `assay diagnose` makes them."""
    score, together = {"test/score": columns["score"]}, {"test": groups}
    points: dict[str, Any] = {"unit": "fraction", "margin": POINT}
    found = [
        sample("generalisation", "score", "mean", score, together, ("score",), better=HIGHER, fact="the answers on test", **points),
        sample("reasoning", "in_distribution", "mean", score, together, ("score",), better=HIGHER, fact="the answers on test", **points),
        sample("calibration", "nll", "mean", {"test/loss": columns["loss"]}, together, unit="nats", margin=NATS, better=LOWER),
    ]
    if all_rows:
        pair = {"test/confidence": columns["confidence"], **score}
        found += [
            sample("calibration", "calibration_error", "calibration_error", pair, together, ("score",), better=LOWER, **points),
            sample("calibration", "selective_accuracy", "selective_accuracy", pair, together, ("score",), better=HIGHER, **points),
        ]
    return found


def cards(n: int, gain: float, discordant: float, kind: str, many: int, resamples: int) -> dict[str, Any]:
    """Judges `many` cards, and counts those with a wrong verdict. With one resample, a card has the rows that need none."""
    random, counts = np.random.default_rng([n, int(1e4 * abs(gain)), int(1e3 * discordant), len(kind)]), Counter[str]()
    for _ in range(many):
        first, second, groups = answers(random, n, gain, discordant, kind)
        pairs = [
            Pair(one.group, one.name, one, other)
            for one, other in zip(*(rows(columns, groups, n <= MOST_ROWS and resamples > 1) for columns in (first, second)), strict=True)
        ]
        found = judge(pairs, {"test": groups}, resamples=resamples, flips=2000)
        primary = next(one for one in found if one.name == "score")
        counts["any"] += any(one.verdict in (BETTER, WORSE) for one in found)
        counts["called"] += primary.verdict == (BETTER if gain > 0 else WORSE)
        counts["same"] += primary.verdict == SAME
    return {"n": n, "gain": gain, "discordant": discordant, "kind": kind, "cards": many, **{key: counts[key] for key in KEYS}}


def card_tasks(many: int) -> list[tuple[Callable[..., dict[str, Any]], tuple]]:
    """Returns the cards to draw: without a difference for every n and kind, and with one for the score alone."""
    equal = [(n, 0.0, share, "plain") for n in SIZES for share in (0.06,)]
    equal += [(n, 0.0, 0.06, kind) for n in (50, 200, 512) for kind in ("groups", "constant confidence")]
    different = [(n, gain, max(0.06, abs(gain)), "plain") for n in SIZES for gain in GAINS[1:]]
    different += [(n, -0.015, 0.015, "losses only") for n in (20, 128, 194, 200, 230, 256, 400, 512, 899)]
    power = [(512, 0.02, share, "plain") for share in DISCORDANT]
    return [
        *((cards, (*one, 3 * many, 2000)) for one in equal),
        *((cards, (*one, 3 * many, 1)) for one in different),
        *((cards, (*one, 4 * many, 1)) for one in power),
    ]


def power_of_mcnemar(n: int, gain: float, discordant: float) -> float:
    """Returns the power of exact McNemar's test at 5 % for a share of discordant answers, by summation."""
    from scipy.stats import binom

    total, up = 0.0, (discordant + gain) / 2 / discordant
    for m in range(n + 1):
        weight = float(binom.pmf(m, n, discordant))
        if weight > 1e-12:
            rejected = [b for b in range(m + 1) if mcnemar(b, m - b) < LEVEL]
            total += weight * float(binom.pmf(rejected, m, up).sum())
    return total
