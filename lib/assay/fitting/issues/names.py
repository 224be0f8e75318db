"""Names of classes that may be one class, and classes that only one part has."""

import re
from collections import Counter

from assay.data.files.content import spelled
from assay.fitting.issues.issue import Issue
from assay.fitting.issues.rows import Rows, of_all
from assay.tasks.files.opened import Opened

BETWEEN = re.compile(r"(?<=\w)[\s_\-]+(?=[^\W_])")  # not the sign of -1


def similar_names(rows: Rows) -> list[Issue]:
    """Returns the classes or labels that differ from a commoner one in case, spaces, hyphens or underscores only."""
    if rows.roles.kind == "number":
        return []
    counts, first = Counter[str](), dict[str, int]()
    for row, cell in enumerate(rows.table.columns[rows.roles.target].tolist()):
        for name in cell if isinstance(cell, list) else [cell]:
            counts[name] += 1
            first.setdefault(name, row)
    alike: dict[str, list[str]] = {}
    for name, _ in counts.most_common():
        alike.setdefault(BETWEEN.sub(" ", spelled(name)), []).append(name)
    issues = []
    for usual, *others in alike.values():
        for name in others:
            shown = [f"{one!r} ({counts[one]:,} row{'' if counts[one] == 1 else 's'})" for one in (name, usual)]
            why = f"{' and '.join(shown)} differ in case, spaces or hyphens only"
            score = counts[usual] / (counts[usual] + counts[name])
            issues.append(of_all(rows, "similar names", score, name, why, usual, line=rows.places[first[name]]))
    return issues


def missing_classes(found: Opened, rows: Rows) -> list[Issue]:
    """Returns the classes or labels of which all rows are in one part, so that they are not learned or not tested."""
    if found.roles.kind == "number" or len(found.parts) < 2:
        return []
    counts = {
        part: Counter(name for cell in table.columns[found.roles.target].tolist() for name in (cell if isinstance(cell, list) else [cell]))
        for part, table in found.parts.items()
    }
    issues = []
    for name in found.classes:
        inside = [part for part in counts if counts[part][name]]
        if len(inside) == 1:
            number = counts[inside[0]][name]
            why = f"{'its only row is' if number == 1 else f'all {number:,} rows are'} in {inside[0]}"
            issues.append(of_all(rows, "class in one part", 1.0, name, why, part=inside[0]))
    return issues
