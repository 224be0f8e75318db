"""Labelled text from a CSV file: `read_csv("train.csv", text="text", label="label")` returns one `Row` per record.

Files are UTF-8 with or without a byte-order mark. Quoted fields may contain commas, doubled quotes and newlines; lines end in LF, CRLF or
CR. Any problem with a file raises a UserError that names file, line and reason; the line is the physical one on which the record starts.
Class ids follow the sorted labels of the training file, in numerical order if all are integers. Labels that Unicode considers equal, such
as an accented letter and its decomposition, are one class.
"""

import codecs
import csv
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import numpy as np
from jaxtyping import Int

from assay.core.errors import UserError

SHOWN = 20  # number of labels that an error lists
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
LONGEST = min(sys.maxsize, 2**31 - 1)  # characters of a field; the csv module stops at 131,072 by default


class Keys(NamedTuple):
    """What a user changes when a file is not as expected."""

    file: str = "config.task.train and config.task.test"
    text: str = "config.task.text"
    label: str = "config.task.label"
    once: bool = False  # whether the file is read only once, so that it may be a pipe


KEYS = Keys()  # of a run's own files


class Row(NamedTuple):
    """One record. `line` is the line where it starts in the file, from 1; `label` is "" if no label column was requested."""

    text: str
    label: str
    line: int


def read_csv(path: str | Path, text: str = "text", label: str = "label", keys: Keys = KEYS) -> list[Row]:
    """Reads every record of a file whose header names the columns `text` and `label`; with `label=""` no label column is read.

    Spaces around labels are stripped; texts are unchanged. Blank lines are skipped. Raises UserError, which names `keys`.
    """
    path = os.path.expanduser(path)
    records = _records(str(path), _decoded(path, keys))
    try:
        line, header = next(records)
    except StopIteration:
        raise UserError(f"{path} is empty. Its first line must name the columns, such as {text},{label or 'label'}.") from None
    places = [_place(str(path), line, header, name, key) for name, key in ((text, keys.text), (label, keys.label)) if name]
    rows = []
    for line, fields in records:
        if len(fields) != len(header):
            raise _bad(path, line, f"{len(fields)} fields, but the header names {len(header)} ({', '.join(header)}); is a comma unquoted?")
        name = fields[places[1]].strip() if label else ""
        if label and not name:
            raise _bad(path, line, f"the label (column {label!r}) is empty")
        rows.append(Row(fields[places[0]], name, line))
    if not rows:
        raise UserError(f"{path} has a header and no rows below it.")
    return rows


def read_table(path: str | Path) -> list[tuple[int, dict[str, str]]]:
    """Reads every record of a file as (the line where it starts, {column: field}). Raises UserError for the problems that `read_csv` has,
    and for a column that the header names twice."""
    path = os.path.expanduser(path)
    records = _records(str(path), _decoded(path, Keys("the path", once=True)))
    line, header = next(records, (1, []))
    names = [field.strip() for field in header]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise _bad(path, line, f"the header names the column {twice!r} {names.count(twice)} times")
    found = []
    for line, fields in records:
        if len(fields) != len(names):
            raise _bad(path, line, f"{len(fields)} fields, but the header names {len(names)} ({', '.join(names)}); is a comma unquoted?")
        found.append((line, dict(zip(names, fields, strict=True))))
    return found


def classes_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Returns the distinct labels in the order of their class ids: numerical if all are integers, otherwise as strings."""
    spellings: dict[str, str] = {}
    for row in rows:
        spellings.setdefault(normalize("NFC", row.label), row.label)
    names = set(spellings.values())
    if all(INTEGER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def class_ids(path: str | Path, rows: Sequence[Row], classes: Sequence[str]) -> Int[np.ndarray, "rows"]:
    """Returns the class id of each row. Raises UserError, which names `path`, for a label missing from the training file."""
    ids = {normalize("NFC", name): i for i, name in enumerate(classes)}
    for row in rows:
        if normalize("NFC", row.label) not in ids:
            known = ", ".join(classes[:SHOWN]) + (f", ... ({len(classes)} in all)" if len(classes) > SHOWN else "")
            raise _bad(path, row.line, f"the training file has no label {row.label!r}; it has: {known}")
    return np.array([ids[normalize("NFC", row.label)] for row in rows], np.int64)


# -- private --------------------------------------------------------------------------------------------------------------


def _bad(path: str | Path, line: int, reason: str) -> UserError:
    return UserError(f"{path}, line {line}: {reason}.")


def _decoded(path: str | Path, keys: Keys) -> str:
    if os.path.isdir(path):  # os.path returns False, where pathlib raises, for a name that no file can have
        raise UserError(f"{path} is a folder. Give a CSV file.")
    if not os.path.exists(path):
        raise UserError(f"no CSV file {str(path)!r} (from {Path.cwd()}). Set {keys.file}.")
    if not (os.path.isfile(path) or keys.once):
        raise UserError(f"{path} is a pipe or a device, but a run reads its files several times. Save it as a file and set {keys.file}.")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    if b"\0" in data:  # whether csv refuses it depends on Python's version
        place = data.index(b"\0")
        wide = " It looks like UTF-16: save it as UTF-8." if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
        raise _bad(path, _line_at(data, place), f"a NUL byte at offset {place}, so this is not a text file.{wide}".rstrip("."))
    body = data.removeprefix(codecs.BOM_UTF8)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        place = error.start + len(data) - len(body)
        reason = f"not UTF-8: byte 0x{data[place]:02x} at offset {place} ({error.reason}). Save the file as UTF-8"
        raise _bad(path, _line_at(data, place), reason) from None


def _line_at(data: bytes, place: int) -> int:
    before = data[:place]
    return 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")


def _records(path: str, content: str) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, fields) of every record that is not a blank line."""
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        before = csv.field_size_limit(LONGEST)  # a setting of the whole process
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _bad(path, line, REASONS.get(str(error), str(error))) from None
        finally:
            csv.field_size_limit(before)
        if fields:
            yield line, fields


def _place(path: str, line: int, header: list[str], name: str, key: str) -> int:
    names = [field.strip() for field in header]
    if names.count(name) == 1:
        return names.index(name)
    if name in names:
        raise _bad(path, line, f"the header names the column {name!r} {names.count(name)} times")
    other = next((mark for mark in ("\t", ";", "|") if len(names) == 1 and mark in names[0]), None)
    hint = f" Fields must be separated by commas, not by {other!r}." if other else ""
    raise _bad(path, line, f"no column {name!r}. Columns: {', '.join(names)}.{hint} Name the column with {key}")


REASONS = {
    "unexpected end of data": "a quote opens here or below and is never closed",
    "',' expected after '\"'": "text follows a closing quote; a quote inside a quoted field is written twice",
}
