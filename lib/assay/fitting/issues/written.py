"""issues.csv, and what is printed of it: `text_of(searched)`, `screen(searched, path)`, `read(path)`."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from assay.core.file import read_text
from assay.fitting.issues.issue import MOST, Issue, Searched

FILE = "issues.csv"
PLURALS = {
    "suspect label": "suspect labels",
    "unlikely number": "unlikely numbers",
    "near duplicate": "near duplicates",
    "leak column": "leak columns",
    "class in one part": "classes in one part only",
    "outlier": "outliers",
}


def text_of(issues: Sequence[Issue]) -> str:
    """Returns the text of issues.csv (RFC 4180): a header, and one row for each issue."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(Issue._fields)
    table.writerows([f"{value:.4f}" if name == "score" else value for name, value in each._asdict().items()] for each in issues)
    return text.getvalue()


def read(path: Path) -> list[dict[str, str]] | None:
    """Returns the rows of issues.csv; None if it is not as it was written, since users may edit it."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except (OSError, ValueError, csv.Error):
        return None
    return rows if all(set(row) == set(Issue._fields) and None not in row.values() for row in rows) else None


def name_of(kind: str, count: int) -> str:
    """Returns the name of a kind beside a number."""
    return kind if count == 1 else PLURALS.get(kind, kind)


def screen(searched: Searched, path: Path) -> str:
    """Returns what is printed: a line for each kind with its count; "" if nothing is suspect and all was searched."""
    if not searched.counts and not searched.notes:
        return ""
    lines = [f"suspect in the data ({path}):" if searched.counts else "nothing is suspect in the data"]
    width = max((len(f"{count:,}") for count in searched.counts.values()), default=0)
    for kind, count in searched.counts.items():
        across = sum(each.kind == kind == "near duplicate" and "+" in each.part for each in searched.issues)
        said = f", {across:,} of them in two parts" if across else ""
        kept = f", of which the surest {MOST:,} are listed" if count > MOST else ""
        lines.append(f"  {count:>{width},} {name_of(kind, count)}{said}{kept}")
    return "\n".join([*lines, *(f"  note: {note}" for note in searched.notes)])
