"""JSON: one object per line (JSONL), or one array of objects. Objects inside objects become columns named `outer.inner`.

Lines that hold no object are left out and counted, up to a fifth of them. A key that a record lacks is a missing cell; `NaN` is one too.
"""

import json
from array import array
from collections.abc import Iterable, Mapping
from io import TextIOWrapper
from typing import Any

import numpy as np

from assay.core.errors import UserError
from assay.core.file import parse_json
from assay.data.files.formats.text import encoding_of, opened
from assay.data.files.table import Dropped, Table, column_of, dropped

MOST_BAD = 0.2  # share of lines that may be left out
SHARED = 50_000  # distinct strings of a column that are kept as one copy each
SHORT = 64  # characters of such a string


def read_records(path: str, encoding: str = "") -> Table:
    """Reads JSONL or JSON. Raises UserError, with file and line, for what is neither."""
    code = encoding_of(path, encoding)
    with opened(path, code) as text:
        filled = (line for line in text if line.strip("\ufeff \t\r\n"))
        start = next(filled, "").lstrip("\ufeff \t")
        several = next(filled, None) is not None
    if not start:
        raise UserError(f"{path} is empty. Give one JSON object per line, or an array of objects.")
    with opened(path, code) as text:
        columns, lines, left = _from_lines(path, text) if several and _is_object(start) else _from_whole(path, text)
    if not len(lines):
        raise UserError(f"{path} has no records. Give one JSON object per line, or an array of objects.")
    return Table(columns, lines, path, left, code.notes)


# -- private --------------------------------------------------------------------------------------------------------------

Read = tuple[dict[str, np.ndarray], np.ndarray, tuple[Dropped, ...]]


def _is_object(line: str) -> bool:
    """Says whether a line is an object of its own, or a broken one, but no beginning of an object of many lines."""
    if line[0] == "[":
        return False
    try:
        return isinstance(parse_json(line), dict)
    except ValueError:
        return line.rstrip().endswith("}")


def _from_lines(path: str, text: TextIOWrapper) -> Read:
    columns, lines, bad = _Columns(), array("q"), list[int]()
    reason = ""
    for number, line in enumerate(text, 1):
        line = line.strip("\ufeff \t\r\n")
        if not line:
            continue
        try:
            record = parse_json(line)
            if not isinstance(record, dict):
                raise ValueError(f"{_kind(record)} and no object")
        except ValueError as error:
            bad.append(number)
            reason = reason or _said(error)
            continue
        lines.append(number)
        columns.add(record)
    if len(bad) > MOST_BAD * (len(bad) + len(lines)):
        raise UserError(
            f"{path}, line {bad[0]}: no JSON object ({reason}), as {len(bad):,} of {len(bad) + len(lines):,} lines. "
            "Give one object per line, or an array of objects."
        )
    return columns.arrays(), np.array(lines, np.int64), (dropped("not a JSON object", bad),) if bad else ()


def _from_whole(path: str, text: TextIOWrapper) -> Read:
    content = text.read().lstrip("\ufeff")
    try:
        data = parse_json(content)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: no JSON ({error.msg}).") from None
    except ValueError as error:
        raise UserError(f"{path}: no JSON ({error}).") from None
    if isinstance(data, dict):
        lists = [value for value in data.values() if isinstance(value, list) and value and all(isinstance(each, dict) for each in value)]
        if len(lists) > 1:
            raise UserError(f"{path} holds several arrays of objects. Save the one to use as a file of its own.")
        sizes = {len(value) if isinstance(value, (list, dict)) else 0 for value in data.values()}
        if not lists and len(data) > 1 and len(sizes) == 1 and sizes.pop() > 1:
            raise UserError(f"{path} holds columns, not records. Save one JSON object per row, or an array of objects.")
        data = lists[0] if lists else [data]
    elif not isinstance(data, list):
        raise UserError(f"{path} holds {_kind(data)}. Give one JSON object per line, or an array of objects.")
    columns, lines, bad = _Columns(), array("q"), list[int]()
    for number, record in enumerate(data, 1):
        if isinstance(record, dict):
            lines.append(number)
            columns.add(record)
        else:
            bad.append(number)
    if len(bad) > MOST_BAD * len(data):
        raise UserError(f"{path}: element {bad[0]} of the array is {_kind(data[bad[0] - 1])}, as {len(bad):,} of {len(data):,} are.")
    return columns.arrays(), np.array(lines, np.int64), (dropped("an element of the array that is no object", bad),) if bad else ()


class _Columns:
    """Collects records whose keys may differ."""

    def __init__(self) -> None:
        self.count = 0
        self.cells = dict[str, list[Any]]()
        self.copies = dict[str, dict[str, str]]()

    def add(self, record: Mapping[str, Any]) -> None:
        for name, cell in flattened(record):
            column = self.cells.get(name)
            if column is None:
                column = self.cells[name] = []
                self.copies[name] = {}
            if len(column) < self.count:
                column.extend([None] * (self.count - len(column)))
            elif len(column) > self.count:  # a key with a dot, and an object inside an object, of one name
                continue
            if isinstance(cell, str) and len(cell) <= SHORT and len(self.copies[name]) < SHARED:
                cell = self.copies[name].setdefault(cell, cell)
            column.append(cell)
        self.count += 1

    def arrays(self) -> dict[str, np.ndarray]:
        for column in self.cells.values():
            column.extend([None] * (self.count - len(column)))
        return {name: column_of(column, self.count) for name, column in self.cells.items()}


def flattened(record: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Yields names and cells. Lists stay, with what is neither text nor number in them as JSON."""
    for name, value in record.items():
        if isinstance(value, dict):
            if value:
                yield from flattened(value, f"{before}{name}.")
            else:
                yield f"{before}{name}", None
        else:
            yield f"{before}{name}", cell_of(value)


def cell_of(value: Any) -> Any:
    """Returns a value as a cell: NaN is missing, and elements of lists that are lists or objects become JSON."""
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, list):
        return [json.dumps(each, ensure_ascii=False, default=str) if isinstance(each, (list, dict)) else each for each in value]
    return value


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a truth value", type(None): "null", dict: "an object"}
    return names.get(type(value), "a number")


def _said(error: ValueError) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)
