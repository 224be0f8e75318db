"""The leaderboard of a data set: every model and simple learner on the same rows, and which of them to use.

The choice is by `valid`, and the figures beside it are of `test`. Where the simple learner is chosen, the first sentence says so.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from assay.core.number import DASH, change, limits, number
from assay.core.paired import difference_of, interval_of, mean


class Entry(NamedTuple):
    """One row: a model, or a simple learner."""

    name: str
    title: str
    valid: np.ndarray | None  # score of each row of `valid`; None if there is no such part
    test: np.ndarray | None
    seconds: float  # to train


def best(entries: Sequence[Entry], lower: bool) -> Entry:
    """Returns the entry with the best mean on `valid`; equal ones go to the first, so list simple learners first."""

    def score(entry: Entry) -> float:
        rows = entry.valid if entry.valid is not None and len(entry.valid) else entry.test
        if rows is None:
            return 0.0
        return -float(np.sqrt(rows.mean())) if lower else float(rows.mean())

    return max(entries, key=score)


def verdict(chosen: Entry, other: Entry, lower: bool) -> str:
    """Returns the first sentence: which of two to use, with their figures and whether they differ. `lower`: the score is an error."""
    part = "test" if chosen.test is not None and other.test is not None else "valid"
    own, theirs = getattr(chosen, part), getattr(other, part)
    right = () if lower else ("score",)
    found = difference_of(mean, {"rows/score": own}, {"rows/score": theirs}, right=right)
    differs = found.low > 0 or found.high < 0
    if lower:
        figures = f"its root mean squared error on {len(own):,} rows of {part} is {rooted(own)}, that of {other.title} {rooted(theirs)}"
        said = f"{'a' if differs else 'no certain'} difference (p = {found.p_value:.2g})"
    else:
        beside = number(float(theirs.mean()), "fraction")
        figures = f"it is right for {score_text(own, lower)} of {len(own):,} rows of {part}, {other.title} for {beside}"
        ends = limits((found.low, found.high), "fraction", signed=True)
        said = f"a difference of {change(found.value, 'fraction')} (95 %: {ends}){'' if differs else ', which may be chance'}"
    return f"Use {chosen.title}: {figures}; {said}."


def score_text(rows: np.ndarray | None, lower: bool) -> str:
    """Returns the mean of a part with its 95 % interval, or the root of the mean of squared errors."""
    if rows is None or not len(rows):
        return DASH
    if lower:
        return rooted(rows)
    found = interval_of(mean, {"rows/score": rows}, right=("score",))
    return f"{number(found.value, 'fraction')} ({limits((found.low, found.high), 'fraction')})"


def rooted(squares: np.ndarray) -> str:
    """Returns the root of a mean of squared errors as text."""
    return f"{np.sqrt(squares.mean()):.4g}"
