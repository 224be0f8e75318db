"""Verdicts on the rows of two diagnoses: better, worse, no difference, or inconclusive, with the evidence.

    judge([Pair("generalisation", "score", before, after), ...])

Differences are after - before, paired by example (core/paired.py). P-values are corrected by Holm's method over all rows that have one.
Times have no examples: if both models were timed in turns, a difference is a fraction of the time before (verdicts/turns.py).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from assay.core.number import number
from assay.core.paired import Together, difference_of
from assay.core.stats import holm
from assay.diagnostics.measurement import HIGHER, NEITHER, Measurement
from assay.diagnostics.statistics import WITHOUT, statistic_of

BETTER, WORSE, SAME, OPEN = "better", "worse", "no difference", "inconclusive"
LEVEL = 0.05  # family-wise error rate over all rows of a card
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

        no difference     all examples are answered alike, or the 95 % interval of the difference lies within the row's margin. This holds
                          even if p is below 0.05: the difference is then too small to matter
        better, worse     p is below 0.05 after Holm's correction, and the row has a better direction
        inconclusive      otherwise, and also if a row applies to one model only

    A deterministic quantity (a size) is exact: within the margin there is no difference, beyond it p is 0, and Holm's correction excludes
    it. `one_program`: both models are the same program, so their times do not differ. `untimed`: the reason why times are not compared.
    """
    found = [_compared(pair, groups, changes, one_program, untimed, resamples, flips) for pair in pairs]
    tested = [one for one in found if one.p_value is not None and not _exact(one)]
    adjusted = dict(zip(map(id, tested), holm([one.p_value for one in tested if one.p_value is not None]).tolist(), strict=True))
    return [_judged(one._replace(adjusted=adjusted.get(id(one), one.p_value))) for one in found]


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
    if all(np.array_equal(values, after.columns[key], equal_nan=True) for key, values in before.columns.items()):
        same = plain._replace(difference=0.0, interval=(0.0, 0.0), p_value=1.0, agreement=agreement, verdict=SAME, n=n)
        return same._replace(why=f"the same on each of {n} examples")
    right = before.right if tuple(before.right) == tuple(after.right) else ()
    statistic = statistic_of(before.statistic)
    found = difference_of(statistic, after.columns, before.columns, groups, resamples=resamples, flips=flips, right=right)
    known = np.isfinite([found.low, found.high]).all() and before.statistic not in WITHOUT
    interval = (found.low, found.high) if known else None
    value = found.value if np.isfinite(found.value) else None
    return plain._replace(difference=value, interval=interval, p_value=found.p_value, agreement=agreement, n=n)


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
        return one._replace(verdict=SAME, why=f"the interval lies within {size}")
    if one.adjusted is not None and one.adjusted < LEVEL:
        if row.better == NEITHER:
            return one._replace(verdict=OPEN, why="the values differ, but neither direction is preferred")
        return one._replace(verdict=_direction(difference, row), why=f"p < {LEVEL} after Holm's correction")
    if one.difference is None:
        return one._replace(verdict=OPEN, why=INFINITE)
    return one._replace(
        verdict=OPEN, why=f"p is not below {LEVEL}" + (f", and the interval extends beyond {size}" if within and one.interval else "")
    )


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
