"""What was found in the files, as one record, and as a screen of plain text: `print(screen(found(...)))`."""

import textwrap
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from assay.core.number import number
from assay.data.files.clean import Cleaned
from assay.data.files.kinds import is_blank
from assay.data.files.parts import Divided
from assay.data.files.roles import Roles
from assay.data.files.table import Dropped, Table, size
from assay.data.files.values import missing

WIDTH, LINES = 100, 25
NAMED, LISTED, REASONS, NOTES = 6, 8, 6, 6  # columns per kind, classes, reasons and notes that the screen lists


class Found(NamedTuple):
    """Everything that is said about a data set before it is used."""

    source: str
    rows: int  # to use
    read: int  # rows, records or files in the source
    columns: Mapping[str, str]  # name -> kind
    target: str
    kind: str  # of the target: "classes", "labels" or "number"
    ignored: Mapping[str, str]  # name -> why
    classes: Mapping[str, int]  # rows of each; {} for numbers
    balance: float  # share of the rows that the rarest class has; 0 for numbers
    values: tuple[float, float, float] | None  # least, median and greatest target, for numbers
    repeated: int  # rows whose inputs and target came before
    conflicting: int  # inputs that came with several targets
    dropped: tuple[Dropped, ...]
    characters: int  # of the longest text
    words: int  # of the text with the most words, between white space
    missing: Mapping[str, float]  # input -> share of its cells, in the rows to use
    splits: Mapping[str, int]  # part -> rows
    notes: tuple[str, ...]


def found(read: Table, roles: Roles, cleaned: Cleaned, divided: Divided) -> Found:
    """Returns the record of a table as it was read, and of what was made of it."""
    table = cleaned.table
    left = (*table.dropped, *divided.dropped)
    texts = [cell for name in roles.texts for cell in table.columns[name].tolist() if not is_blank(cell)]
    targets = np.array(table.columns[roles.target].tolist(), np.float64) if roles.kind == "number" else None
    return Found(
        source=table.source,
        rows=size(table),
        read=size(read) + sum(each.count for each in read.dropped),
        columns={name: kind.name for name, kind in roles.kinds.items()},
        target=roles.target,
        kind=roles.kind,
        ignored=roles.ignored,
        classes=cleaned.classes,
        balance=min(cleaned.classes.values()) / size(table) if cleaned.classes else 0.0,
        values=None if targets is None else (float(targets.min()), float(np.median(targets)), float(targets.max())),
        repeated=cleaned.repeated,
        conflicting=cleaned.conflicting,
        dropped=left,
        characters=max((len(str(text)) for text in texts), default=0),
        words=max((len(str(text).split()) for text in texts), default=0),
        missing={name: float(missing(table.columns[name], roles.kinds[name]).mean()) for name in roles.inputs},
        splits={name: len(rows) for name, rows in divided.rows.items()},
        notes=tuple(dict.fromkeys((*table.notes, *roles.notes, *divided.notes))),
    )


def screen(found: Found) -> str:
    """Returns at most 25 lines of 100 characters, in plain English."""
    used = f"{found.rows:,} rows to use" + (f" of {found.read:,}" if found.read != found.rows else "")
    lines = [f"{_short(found.source, WIDTH - len(used) - 2)}: {used}"]
    lines += _target(found)
    lines += _inputs(found)
    unused = _some([f"{_short(name, 30)} ({why})" for name, why in found.ignored.items()], NAMED)
    lines += _wrapped(f"not used: {unused}")[:4] * bool(found.ignored)
    gaps = sorted(((share, name) for name, share in found.missing.items() if share), reverse=True)
    lines += _wrapped("missing: " + _some([f"{_short(name, 30)} {number(share, 'fraction')}" for share, name in gaps], NAMED)) * bool(gaps)
    if found.characters:
        lines.append(f"longest text: {found.characters:,} characters; most words: {found.words:,}")
    if found.dropped:
        lines.append("left out:")
        ordered = sorted(found.dropped, key=lambda each: -each.count)
        lines += [f"  {_short(_left(each), WIDTH - 2)}" for each in ordered[:REASONS]]
        rest = sum(each.count for each in ordered[REASONS:])
        lines += [f"  {rest:,} for other reasons"] * bool(rest)
    lines.append("parts: " + ", ".join(f"{name} {count:,}" for name, count in found.splits.items()))
    room = LINES - len(lines)
    notes = [line for said in found.notes for line in _wrapped(f"note: {said}", 6)]
    if len(notes) > room:
        notes = [*notes[: max(0, room - 1)], f"... {len(notes) - max(0, room - 1)} more lines of notes"][: max(0, room)]
    return "\n".join([*lines, *notes][:LINES])


# -- private --------------------------------------------------------------------------------------------------------------


def _target(found: Found) -> list[str]:
    if found.values is not None:
        least, median, most = found.values
        return [_short(f"target: {found.target}, a number from {least:g} to {most:g}, median {median:g}", WIDTH)]
    names = [f"{_short(name, 30)} {count:,}" for name, count in sorted(found.classes.items(), key=lambda pair: -pair[1])]
    what = "labels, any number per row" if found.kind == "labels" else "classes"
    rare = f"; the rarest has {number(found.balance, 'fraction')} of the rows"
    return _wrapped(f"target: {found.target}, {len(names):,} {what}: {_some(names, LISTED)}{rare}")[:4]


def _inputs(found: Found) -> list[str]:
    kinds: dict[str, list[str]] = {}
    for name in found.missing:
        kinds.setdefault(found.columns[name], []).append(_short(name, 30))
    return [line for kind, names in kinds.items() for line in _wrapped(f"{PLURAL.get(kind, kind)}: {_some(names, NAMED)}")[:2]]


PLURAL = {"text": "texts", "number": "numbers", "category": "categories", "boolean": "booleans", "date": "dates", "picture": "pictures"}


def _left(each: Dropped) -> str:
    places = ", ".join(map(str, each.lines))
    more = ", ..." if each.count > len(each.lines) else ""
    line = "line" if each.count == 1 else "lines"
    kind = line if each.lines and isinstance(each.lines[0], int) else "such as"
    return f"{each.count:,}: {each.reason}" + (f" ({kind} {places}{more})" if places else "")


def _some(names: list[str], most: int) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names):,} in all)" if len(names) > most else "")


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: max(1, most - 3)]}..."


def _wrapped(text: str, indent: int = 2) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), WIDTH, subsequent_indent=" " * indent) or [""]
