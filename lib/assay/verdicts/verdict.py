"""Verdicts on the rows of two diagnoses: better, worse, no difference, or inconclusive, with the evidence.

    judge([Pair("generalisation", "score", before, after), ...])

Differences are after - before, paired by example (core/paired.py). Times have no examples: if both models were timed in turns, a
difference is a fraction of the time before (verdicts/turns.py).

Under no difference, at most 5 % of cards call any row better or worse. The primary row, the task's headline, is tested alone: by McNemar's
mid-p test at 3.5 %, which has the power of the exact test at 5 %. The other rows share the remaining 1.5 % by Holm's method, and all 5 %
once the primary row is better or worse (Wiens 2003, the fallback procedure). Rows on the same answers count once.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from assay.core.number import number
from assay.core.paired import Together
from assay.core.stats import Z, discordant, holm, mcnemar
from assay.diagnostics.intervals import statistic_difference, units_in
from assay.diagnostics.measurement import HIGHER, NEITHER, Measurement, in_bounds
from assay.diagnostics.statistics import WITHOUT

BETTER, WORSE, SAME, OPEN = "better", "worse", "no difference", "inconclusive"
LEVEL = 0.05  # family-wise error rate over all rows of a card
PRIMARY, ALONE = "generalisation/score", 0.7  # the row that is tested alone, and its fraction of LEVEL
MISSED, BEYOND = 0.025, 1.5  # probability of "no difference" for a difference of BEYOND margins, at most
ONLY, CORRECTED = "for the one row that is tested alone", "after correction for several rows"
CALIBRATED = "both models are consistent with perfect calibration"
ONCE = "measured once for each model, not in turns"
INFINITE = "some values are not finite"
BOUNDED = "one-sided bounds do not determine which value is larger"
ONE_PROGRAM = "the same program and the same parameters"


class Pair(NamedTuple):
    """A row of both diagnoses."""

    group: str
    name: str
    before: Measurement
    after: Measurement


class Change(NamedTuple):
    """Relative change of a time measured in turns: (after - before) / before."""

    value: float
    interval: tuple[float, float] | None  # confidence of at least 95 %; None if there are few turns
    p_value: float
    turns: int


class Verdict(NamedTuple):
    """The verdict on a row, with its evidence. `verdict` is "" if the row applies to neither model."""

    group: str
    name: str
    before: Measurement
    after: Measurement
    difference: float | None  # after - before
    interval: tuple[float, float] | None  # 95 % interval of the difference
    p_value: float | None  # two-sided; 0 for a deterministic quantity
    adjusted: float | None  # after Holm
    agreement: float | None  # fraction of examples on which both models are right or both are wrong
    verdict: str
    why: str
    relative: bool = False  # True if the difference is a fraction of `before`
    n: int = 0  # number of paired examples or turns
    repeats: str = ""  # group/name of the row that compares the same answers, and counts
    enough: bool = True  # whether a difference of BEYOND margins would rarely go unseen in so few examples
    grouped: bool = False  # whether examples come in groups


def judge(
    pairs: Sequence[Pair],
    groups: Mapping[str, Together] = {},
    changes: Mapping[str, Change] = {},
    one_program: bool = False,
    untimed: str = ONCE,
    resamples: int = 2000,
    flips: int = 10_000,
) -> list[Verdict]:
    """Returns a verdict for each pair, in order.

    `groups` are the groups of examples by set, `changes` those of times by row name. The rules apply in this order:

        no difference     the 95 % interval of the difference lies within the row's margin, and the examples are enough to show a
                          difference of 1.5 margins. This holds even if p is below 0.05: the difference is then too small to matter
        better, worse     p is below 0.05 after correction, and the row has a better direction
        inconclusive      otherwise, and also if a row applies to one model only

    Equal answers to all of a few examples are inconclusive: none of 128 leaves room for 1.5 points. A deterministic quantity (a size) is
    exact: within the margin there is no difference, beyond it p is 0, and the correction excludes it. `one_program`: both models are the
    same program, so nothing differs. `untimed`: the reason why times are not compared.
    """
    found = _repeated([_compared(pair, groups, changes, one_program, untimed, resamples, flips) for pair in pairs])
    tested = [one for one in found if one.p_value is not None and not one.verdict and not _exact(one) and not one.repeats]
    adjusted = {_key(one): p for one, p in zip(tested, _corrected(tested), strict=True)}
    return [_judged(one._replace(adjusted=adjusted.get(one.repeats or _key(one), one.p_value))) for one in found]


def margin(row: Measurement) -> float:
    """Returns the largest difference from this row that counts as none, in its unit."""
    return row.margin * abs(row.value or 0.0) if row.relative else row.margin


# -- private --------------------------------------------------------------------------------------------------------------


def _compared(
    pair: Pair,
    groups: Mapping[str, Together],
    changes: Mapping[str, Change],
    one_program: bool,
    untimed: str,
    resamples: int,
    flips: int,
) -> Verdict:
    """Returns the verdict of a pair that needs no p-value; otherwise "" with the difference and the p-value."""
    before, after = pair.before, pair.after
    plain = Verdict(pair.group, pair.name, before, after, None, None, None, None, None, "", "")
    told = [not row.applies or row.value is None for row in (before, after)]
    if all(told):
        return plain._replace(why=before.reason or after.reason)
    if any(told):
        reason = (before.reason or after.reason or "no value").removeprefix("does not apply: ").rstrip(".")
        return plain._replace(verdict=OPEN, why=f"only {'after' if told[0] else 'before'}: {reason}")
    assert before.value is not None and after.value is not None
    if before.timing or after.timing:
        if one_program:
            return plain._replace(verdict=SAME, why=ONE_PROGRAM)
        if pair.name not in changes:
            return plain._replace(verdict=OPEN, why=untimed)
        change = changes[pair.name]
        return plain._replace(difference=change.value, interval=change.interval, p_value=change.p_value, relative=True, n=change.turns)
    kinds = [(row.statistic, row.unit, row.measures, row.bound, row.bound and row.confidence) for row in (before, after)]
    if kinds[0] != kinds[1]:
        return plain._replace(verdict=OPEN, why="measured with different methods before and after")
    n = min(before.n, after.n)
    if not before.statistic:
        difference = 0.0 if _alike(before.value, after.value) else after.value - before.value
        if _exact(plain):
            if not np.isfinite(difference):
                return plain._replace(verdict=OPEN, why=INFINITE)
            return plain._replace(difference=difference, p_value=0.0 if difference else None, n=n)
        alike = not difference and before.interval == after.interval
        if before.bound and not alike:
            return plain._replace(difference=difference, verdict=OPEN, why=BOUNDED, n=n)
        why = "the same number and interval" if alike else "no examples to pair"
        return plain._replace(difference=difference, verdict=SAME if alike else OPEN, why=why, n=n)
    sizes = [{key: len(values) for key, values in row.columns.items()} for row in (before, after)]
    if sizes[0] != sizes[1]:
        return plain._replace(verdict=OPEN, why="measured on different examples than before")
    agreement = _agreement(before, after)
    if not any(values.size for values in before.columns.values()):
        return plain._replace(verdict=OPEN, why="no examples to pair")
    scale, units = _scale(before, after), units_in(before.statistic, before.columns, groups)
    grouped = any(groups.get(key.rpartition("/")[0]) is not None for key in before.columns)
    plain = plain._replace(agreement=agreement, n=n, enough=_enough(units, margin(before), scale), grouped=grouped)
    if all(np.array_equal(values, after.columns[key], equal_nan=True) for key, values in before.columns.items()):
        if one_program:
            return plain._replace(difference=0.0, interval=(0.0, 0.0), p_value=1.0, verdict=SAME, why=ONE_PROGRAM)
        if not np.isfinite([before.value, after.value]).all():
            return plain._replace(p_value=1.0)
        half = Z * scale / (units + 2)  # the interval of Agresti and Min for no difference in any of the examples
        known = 0 < half < math.inf and before.statistic not in WITHOUT
        return plain._replace(difference=0.0, interval=(-half, half) if known else None, p_value=1.0)
    right = before.right if tuple(before.right) == tuple(after.right) else ()
    bounded = all(in_bounds(row.unit, row.columns) for row in (before, after))
    found = statistic_difference(before.statistic, after.columns, before.columns, groups, right, bounded, resamples=resamples, flips=flips)
    known = bool(np.isfinite([found.low, found.high]).all()) and before.statistic not in WITHOUT
    interval = (found.low, found.high) if known else None
    value = found.value if np.isfinite(found.value) else None
    return plain._replace(difference=value, interval=interval, p_value=found.p_value)


def _repeated(found: Sequence[Verdict]) -> list[Verdict]:
    """Marks each row that compares the same answers as the primary row or an earlier one: of one fact, with the same difference."""
    first: dict[tuple, Verdict] = {}
    marked = {}
    for one in sorted(found, key=lambda one: _key(one) != PRIMARY):
        marked[_key(one)] = one
        if one.before.fact and one.difference is not None and one.p_value is not None and not _exact(one):
            told = first.setdefault((one.before.fact, one.after.fact, one.n, one.relative, round(one.difference, 12)), one)
            if told is not one:
                marked[_key(one)] = one._replace(repeats=_key(told), p_value=told.p_value)
    return [marked[_key(one)] for one in found]


def _corrected(tested: Sequence[Verdict]) -> list[float]:
    """Returns p-values that are compared with LEVEL: the primary row's alone, and the others' by Holm's method at what it leaves."""
    alone = next((one for one in tested if _key(one) == PRIMARY), None)
    others = [one for one in tested if one is not alone]
    p_values = holm([1.0 if one.p_value is None else one.p_value for one in others])
    if alone is None:
        return p_values.tolist()
    assert alone.p_value is not None
    before, after = alone.before, alone.after
    ((key, own),) = before.columns.items() if len(before.columns) == 1 else (("", np.zeros(0)),)
    p_value = alone.p_value / ALONE
    if key.rpartition("/")[2] in before.right and key.rpartition("/")[2] in after.right and not alone.grouped:
        p_value = max(alone.p_value, mcnemar(*discordant(after.columns[key], own), mid_p=True) / ALONE)
    left = 1.0 if p_value < LEVEL else 1 - ALONE
    given = iter(np.minimum(1.0, p_values / left).tolist())
    return [min(1.0, p_value) if one is alone else next(given) for one in tested]


def _scale(before: Measurement, after: Measurement) -> float:
    """Returns the largest change of one example: 1 for fractions, otherwise the range of the values of both models."""
    if before.unit == "fraction":
        return 1.0
    values = np.concatenate([values for row in (before, after) for values in row.columns.values()])
    return float(np.ptp(values)) if np.isfinite(values).all() else math.inf


def _enough(units: float, within: float, scale: float) -> bool:
    """Returns True if a difference of BEYOND margins, made of changes of `scale` in single examples, shows in one of the examples at
    least, with a probability of 1 - MISSED."""
    share = BEYOND * within / scale if scale > 0 else 0.0
    return share >= 1 or (1 - share) ** units <= MISSED


def _judged(one: Verdict) -> Verdict:
    """Returns the comparison with its verdict, if it has none yet."""
    if one.verdict or (one.difference is None and one.p_value is None):
        return one
    row, difference = one.before, one.difference or 0.0
    within = row.margin if one.relative else margin(row)
    share = one.relative or row.relative
    size = f"±{number(row.margin, 'fraction')}" if share else f"±{number(within, row.unit).replace('%', 'points')}"
    if _exact(one):
        if not difference or abs(difference) <= within:
            return one._replace(verdict=SAME, p_value=None, adjusted=None, why=f"within {size}" if difference else "the same number")
        if row.better == NEITHER:
            return one._replace(verdict=OPEN, p_value=None, adjusted=None, why="the values differ, but neither direction is preferred")
        return one._replace(verdict=_direction(difference, row), why=f"beyond {size}, without sampling error" if within else "exact")
    if one.interval is not None and -within <= one.interval[0] and one.interval[1] <= within:
        if one.enough or one.relative:
            return one._replace(verdict=SAME, why=f"the interval lies within {size}")
        return one._replace(verdict=OPEN, why=f"{one.n} examples are too few to show a difference of 1.5 times {size}")
    if one.adjusted is not None and one.adjusted < LEVEL:
        if row.statistic == "calibration_error" and all(one.interval and one.interval[0] <= 0 for one in (row, one.after)):
            return one._replace(verdict=OPEN, why=CALIBRATED)
        if row.better == NEITHER:
            return one._replace(verdict=OPEN, why="the values differ, but neither direction is preferred")
        return one._replace(
            verdict=_direction(difference, row), why=f"p < {LEVEL} {ONLY if PRIMARY in (_key(one), one.repeats) else CORRECTED}"
        )
    if one.difference is None:
        return one._replace(verdict=OPEN, why=INFINITE)
    return one._replace(
        verdict=OPEN, why=f"p is not below {LEVEL}" + (f", and the interval extends beyond {size}" if within and one.interval else "")
    )


def _key(one: Verdict) -> str:
    return f"{one.group}/{one.name}"


def _direction(difference: float, row: Measurement) -> str:
    return BETTER if (difference > 0) == (row.better == HIGHER) else WORSE


def _exact(one: Verdict) -> bool:
    """Returns True for a deterministic quantity: a size, a count of operations."""
    rows = (one.before, one.after)
    return not one.relative and all(row.exact for row in rows)


def _alike(one: float, other: float) -> bool:
    return one == other or (np.isnan(one) and np.isnan(other))


def _agreement(before: Measurement, after: Measurement) -> float | None:
    """Returns the agreement over the columns that mark answers of both models as right or wrong."""
    keys = [key for key in before.columns if key.rpartition("/")[2] in before.right and key.rpartition("/")[2] in after.right]
    if not keys:
        return None
    one, other = (np.concatenate([row.columns[key] for key in keys]) for row in (before, after))
    return float(np.mean(one == other))
