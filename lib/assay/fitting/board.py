"""The leaderboard of a data set: every model and simple learner on the same rows, and which of them to use.

The choice is by a metric of `valid`, and the figures beside it are of `test`. Where the simple learner is chosen, the first sentence says
so.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from assay.core.number import DASH
from assay.data.files.kinds import is_blank
from assay.evals.rows import RIGHT
from assay.fitting import scores
from assay.fitting.scores import Records

ALPHA = 0.05  # p-value below which a difference without an interval is certain
GROUPS = 20  # groups of a column that are listed, the largest ones
MISSING, OTHER = "missing", "all other values"


class Entry(NamedTuple):
    """One row: a model, or a simple learner."""

    name: str
    title: str
    parts: Mapping[str, Records]  # "valid" and "test" -> the answer to each row, in the order of rows
    seconds: float  # to train


def best(entries: Sequence[Entry], metric: str) -> Entry:
    """Returns the entry with the best `valid`, or `test` where there is none; equal ones go to the first, so list simple ones first."""
    sign = -1 if scores.lower(metric) else 1
    part = "valid" if all(entry.parts.get("valid") for entry in entries) else "test"

    def score(entry: Entry) -> float:
        found = sign * scores.value(metric, entry.parts[part]) if entry.parts.get(part) else float("-inf")
        return found if found == found else float("-inf")

    return max(entries, key=score)


def verdict(chosen: Entry, other: Entry, metric: str) -> str:
    """Returns the first sentence: which of two to use, with their figures and whether they differ."""
    part = "test" if chosen.parts.get("test") and other.parts.get("test") else "valid"
    own, theirs = chosen.parts[part], other.parts[part]
    found = scores.difference(metric, own, theirs)
    certain = found.low > 0 or found.high < 0 or (found.low != found.low and found.p_value < ALPHA)
    beside, with_interval = scores.shown(metric, scores.value(metric, theirs)), scores.shown_with_interval(metric, own)
    if metric in RIGHT:
        figures = f"it is right for {with_interval} of {len(own):,} rows of {part}, {other.title} for {beside}"
    else:
        figures = f"its {scores.title_of(metric)} on {len(own):,} rows of {part} is {with_interval}, that of {other.title} {beside}"
    said = scores.shown_change(metric, found)
    return f"Use {chosen.title}: {figures}; a difference of {said}{'' if certain else ', which may be chance'}."


def cell(entry: Entry, part: str, metric: str) -> str:
    """Returns the metric of a part with its interval, or a dash."""
    return scores.shown_with_interval(metric, entry.parts[part]) if entry.parts.get(part) else DASH


def by_group(entries: Sequence[Entry], column: Sequence[Any], part: str, metric: str) -> list[dict[str, Any]]:
    """Returns {group, n, NAME of each entry: {value, low, high}} for each value of a column, the commonest first.

    `column` has the value of each row of the part. Beyond GROUPS values, the others are one group.
    """
    present = {str(value) for value in column if not is_blank(value)}
    missing, other = (_unused(name, present) for name in (MISSING, OTHER))
    names = [missing if is_blank(value) else str(value) for value in column]
    known = {name for name, _ in Counter(names).most_common(GROUPS)}
    names = [name if name in known else other for name in names]
    found = []
    for name, count in Counter(names).most_common():
        inside = [i for i, one in enumerate(names) if one == name]
        values = {entry.name: scores.interval(metric, [entry.parts[part][i] for i in inside])._asdict() for entry in entries}
        found.append({"group": name, "n": count, **values})
    return found


# -- private --------------------------------------------------------------------------------------------------------------


def _unused(name: str, present: set[str]) -> str:
    """Returns the name, in brackets if a value is called so."""
    return name if name not in present else _unused(f"({name})", present)
