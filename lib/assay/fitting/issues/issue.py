"""A suspicion about the data as a record, and everything that was found in a data set."""

from collections.abc import Mapping
from typing import NamedTuple

KINDS = (  # in the order in which they are listed
    "suspect label",
    "unlikely number",
    "contradicting labels",
    "near duplicate",
    "leak column",
    "similar names",
    "class in one part",
    "outlier",
)
ALL, LEFT = "all", "left out"  # in place of a part: the issue is about a column or a name; the row is in no part
MOST = 1_000  # issues of a kind that are kept


class Issue(NamedTuple):
    """One suspicion. The fields are the columns of issues.csv."""

    kind: str
    source: str  # file or folder
    line: int | str  # where the row starts in its file, from 1; of pictures the path; "" for a column or a name
    part: str  # "train", "valid", "test", two of them with +, ALL or LEFT
    score: float  # from 0 to 1: how sure
    given: str  # label, number, name or column
    suggested: str
    other: int | str  # line or path of the other row of a pair
    why: str
    excerpt: str  # the row in words; "" for pictures


class Searched(NamedTuple):
    """What was found in a data set."""

    issues: tuple[Issue, ...]  # by kind, the surest first; at most MOST of a kind
    counts: Mapping[str, int]  # of all issues of each kind found
    notes: tuple[str, ...]  # what was searched only in part, or not at all
