"""Files of predictions that any program may have written: JSON Lines, or CSV with a header.

    file = read("a.jsonl")
    file.value(0, "scores.accuracy")         # a dotted name reads inside an object

A line holds one example: an id, and either a score or a prediction with its target.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.errors import UserError
from assay.core.file import parse_json, read_text
from assay.data.csv import read_table

ABSENT = object()  # what a line lacks; None is a value
TRUE, FALSE = ("true", "yes"), ("false", "no")  # in CSV, in any case


class AnswerFile(NamedTuple):
    """The lines of a file. Fields of CSV are texts, those of JSON have their own types."""

    path: str
    records: Sequence[Mapping[str, Any]]
    lines: list[int]  # the line of each record, from 1
    typed: bool  # True for JSON

    def value(self, index: int, name: str) -> Any:
        """Returns a field of a record, or ABSENT. `a.b` is the field `b` of the object `a`, if no field is named `a.b`."""
        found: Any = self.records[index]
        if name in found:
            return found[name]
        for part in name.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return ABSENT
            found = found[part]
        return found

    def has(self, name: str) -> bool:
        """Returns whether every record has the field."""
        return all(self.value(index, name) is not ABSENT for index in range(len(self.records)))

    def columns(self) -> list[str]:
        """Returns the names of the first record's fields, dotted where they lie in an object."""
        first = self.records[0]
        return [
            name
            for key, value in first.items()
            for name in ([f"{key}.{one}" for one in value] if isinstance(value, Mapping) and value else [key])
        ]

    def at(self, index: int) -> str:
        """Returns the file and line of a record, for messages."""
        return f"{self.path}, line {self.lines[index]}"


def read(path: str | Path) -> AnswerFile:
    """Reads a file; one whose name ends in .csv is CSV. Raises UserError if it is missing, empty, or holds a line that is no object."""
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder, not a file. Compare runs with --before={path} --after=..., or --workdir={path}.")
    if not os.path.exists(path):
        raise UserError(f"no file {path!r} (from {Path.cwd()}). Give files of predictions, as JSON Lines or CSV.")
    if path.lower().endswith(".csv"):
        table = read_table(path)
        lines = [line for line, _ in table]
        records: Sequence[Mapping[str, Any]] = [fields for _, fields in table]
    else:
        lines, records = _objects(path)
    if not records:
        raise UserError(f"{path} is empty. Each line holds an example: a JSON object, or below the header of a .csv file its fields.")
    return AnswerFile(path, records, lines, typed=not path.lower().endswith(".csv"))


def key_of(value: Any) -> str:
    """Returns an id as text: 1, 1.0 and "1" are one id. Returns "" for what is no id."""
    if value is ABSENT or value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def score_of(value: Any, typed: bool) -> float | None:
    """Returns a score as a number: 1 for true, 0 for false, NaN where there is none (null, an empty field). None for anything else."""
    if value is None or (not typed and not value.strip()):
        return math.nan
    if isinstance(value, str):
        text = value.strip().lower()
        if typed or "_" in text:
            return None
        if text in (*TRUE, *FALSE):
            return float(text in TRUE)
    if not isinstance(value, (str, int, float)):  # a boolean is an int
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except ValueError:
        return None


# -- private --------------------------------------------------------------------------------------------------------------


def _objects(path: str) -> tuple[list[int], list[dict[str, Any]]]:
    """Returns the line numbers and objects of JSON Lines. Blank lines are skipped."""
    try:
        text = read_text(path).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). Give JSON Lines, or a file named .csv."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Give another file.") from None
    lines: list[int] = []
    records: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: a JSON string may hold other separators
        if not line.strip():
            continue
        try:
            found = parse_json(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number} is not JSON ({error}). Each line is one object; CSV files are named .csv.") from None
        if not isinstance(found, dict):
            raise UserError(f"{path}, line {number} is not an object but {_kind(found)}. Write one example a line, as {{'id': ...}}.")
        lines.append(number)
        records.append(found)
    return lines, records


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else "null" if value is None else f"{str(value)[:40]!r}"
