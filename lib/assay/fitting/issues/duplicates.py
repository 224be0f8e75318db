"""Rows that say the same: equal inputs with other labels, and texts or pictures that are nearly equal.

Of nearly equal rows each is listed with the nearest one, and with the nearest one of another part, since such a pair lets the test score
look better than it is.
"""

import numpy as np

from assay.data.files.clean import BY_CHANCE
from assay.data.files.table import size
from assay.fitting.issues.issue import LEFT, Issue
from assay.fitting.issues.near import Pairs
from assay.fitting.issues.rows import Rows, classes_of, given, issue, joined, stacked
from assay.tasks.files.opened import Opened


def contradictions(found: Opened, rows: Rows) -> list[Issue]:
    """Returns the rows whose inputs another row has with another label, whatever their spelling. `rows`: all parts.

    Rows that were left out are among them.
    Not for numbers, which may be measured twice, and not for tables of short cells where many rows are equal by chance.
    """
    if found.roles.kind == "number":
        return []
    if found.left:
        rows = stacked(rows, joined(found.roles, [(LEFT, table) for table in found.left]))
    _, content, counts = np.unique(rows.keys, return_inverse=True, return_counts=True)
    if not (found.roles.texts or found.roles.pictures) and size(rows.table) - len(counts) > BY_CHANCE * size(rows.table):
        return []
    repeated = np.flatnonzero(counts[content] > 1)
    repeated = repeated[np.argsort(content[repeated], kind="stable")]
    issues, what = list[Issue](), "picture" if found.roles.pictures else "inputs"
    for group in np.split(repeated, np.flatnonzero(np.diff(content[repeated])) + 1) if len(repeated) else []:
        names = [given(rows, row) for row in group.tolist()]
        usual = max(dict.fromkeys(names), key=names.count)
        certain = names.count(usual) * 2 > len(names)
        first = int(group[names.index(usual)])
        for row, name in zip(group.tolist(), names, strict=True):
            if name != usual:
                why = f"the same {what} as another row, with another label ({usual})"
                issues.append(issue(rows, row, "contradicting labels", 1.0, why, usual if certain else "", first))
    return issues


def near(rows: Rows, pairs: Pairs, measure: str) -> list[Issue]:
    """Returns the pairs of nearly equal rows that are listed; `measure` says what their likeness is. Equal contents are no pair."""
    other = rows.keys[pairs.first] != rows.keys[pairs.second]
    first, second, likeness = (column[other] for column in (pairs.first, pairs.second, pairs.likeness))
    across = rows.parts[first] != rows.parts[second]
    chosen = np.zeros(len(first), bool)
    order = np.argsort(-likeness, kind="stable")
    for kept in (order, order[across[order]]):
        for end in (first, second):
            chosen[kept[np.unique(end[kept], return_index=True)[1]]] = True
    labels = classes_of(rows)
    issues = []
    for pair in np.flatnonzero(chosen).tolist():
        one, twin = int(first[pair]), int(second[pair])
        why = f"{measure} {likeness[pair]:.3f}"
        if rows.roles.kind != "number" and labels[one] != labels[twin]:
            why += f"; the labels differ: {labels[one]}, {labels[twin]}"
        why += f"; one is in {rows.parts[one]}, the other in {rows.parts[twin]}" if across[pair] else ""
        issues.append(issue(rows, one, "near duplicate", likeness[pair], why, "", twin))
    return issues
