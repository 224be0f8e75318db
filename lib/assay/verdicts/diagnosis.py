"""The diagnosis of a finished run: all applicable diagnostics, written as diagnosis.json and as a page, diagnosis.html.

    diagnosis.json   {"schema", "task", "experiment", "model", "treatments", "split", "quick", "checkpoint", "vocabulary", "notes",
                      "failed", "columns", "rows", "suggestions", "environment"}. A row has the fields of diagnostics/measurement.py except
                      its columns; `notes` address the reader, `failed` lists other failures, `columns` is the hash of diagnosis.npz
    diagnosis.npz    the columns of the rows, [examples] each, and the ids and groups of the examples, which `compare` pairs

Two diagnoses of a run are identical bytes except for rows with `timing`. Suggestions are based on the split for choices (`valid`), not on
the split that the rows are measured on.
"""

import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from assay.core.errors import UserError
from assay.core.file import read_bytes, read_json
from assay.diagnostics.measurement import Measurement, Plot, plain
from assay.diagnostics.subject import Subject
from assay.evals.written import a_count, a_number, a_number_or_none, a_text, ends

SCHEMA = 1
ROWS, COLUMNS, PAGE = "diagnosis.json", "diagnosis.npz", "diagnosis.html"
ABOUT = ("task", "experiment", "model", "treatments", "split", "quick", "checkpoint", "vocabulary", "environment")  # keys that a card reads
UNSAID = ("columns", "ids", "groups", "plot")  # fields of a measurement that are stored elsewhere or in another form


FIELDS: Mapping[str, Callable[[Any], bool]] = {  # what the fields of a row may be
    **dict.fromkeys(
        ("group", "name", "unit", "how", "meaning", "reason", "better", "statistic", "measures", "bound", "caution", "fact"), a_text
    ),
    **dict.fromkeys(("applies", "timing", "relative", "exact", "crashed"), lambda value: isinstance(value, bool)),
    **{"value": a_number_or_none, "n": a_count, "interval": ends, "margin": a_number, "confidence": a_number},
}


class ExampleSet(NamedTuple):
    """The examples of a column."""

    ids: np.ndarray  # uint64 [n]: a hash of each example
    groups: np.ndarray | None  # str [n]: examples of a group are resampled together


class Diagnosis(NamedTuple):
    """Diagnosis of a model: rows, suggestions, and the columns and examples that a comparison pairs."""

    about: dict[str, Any]  # diagnosis.json without rows and suggestions
    rows: list[Measurement]
    sets: Mapping[str, ExampleSet]
    suggestions: list[dict[str, Any]]


def read(workdir: str | Path) -> Diagnosis:
    """Reads the diagnosis of a run. Raises UserError if it is missing, damaged, or of another schema."""
    path = Path(workdir) / ROWS
    again = f"Diagnose it: assay diagnose --workdir={workdir}"
    try:
        said = read_json(path)
        schema = said.get("schema")
    except FileNotFoundError:
        raise UserError(f"no {ROWS} in {workdir}. {again}") from None
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {error}. {again}") from None
    if schema == SCHEMA and "columns" not in said:
        raise UserError(f"{path} was written by an older version, without the hash of {COLUMNS}. {again}")
    if schema != SCHEMA:
        raise UserError(f"{path} has schema {schema}, but this version reads {SCHEMA}. {again}")
    try:
        packed = read_bytes(path.with_name(COLUMNS))
        if hashlib.sha256(packed).hexdigest()[:32] != said["columns"]:
            raise ValueError(f"{COLUMNS} does not match its hash")
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
        rows = [_as_row(row, kept) for row in said["rows"]]
        sets = {
            name.partition("|")[2]: ExampleSet(ids, kept.get(f"groups|{name.partition('|')[2]}"))
            for name, ids in kept.items()
            if name.startswith("ids|")
        }
        about = {key: value for key, value in said.items() if key not in ("rows", "suggestions", "columns")}
        missing = [key for key in ABOUT if key not in about]
        if missing:
            raise KeyError(missing[0])
        if not all(
            isinstance(one["number"], int) and isinstance(one["treatment"], str) and isinstance(one["rule"], str)
            for one in said["suggestions"]
        ):
            raise ValueError("a suggestion has no number, treatment or rule")
        return Diagnosis(about, rows, sets, said["suggestions"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} or {COLUMNS} beside it is damaged ({type(error).__name__}: {error}). {again}") from None


def example_sets(subject: Subject, rows: Sequence[Measurement]) -> dict[str, ExampleSet]:
    """Returns the examples of each set that a column names: an evaluated split, two joined splits, or numbered parts."""
    found: dict[str, ExampleSet] = {}
    for row in rows:
        for key, values in row.columns.items():
            name = key.rpartition("/")[0]
            parts = [subject.asked.get(part) for part in name.split("+")]
            if any(part is None for part in parts):
                ids, together = row.ids.get(name), row.groups.get(name)
                numbers = np.arange(len(values), dtype=np.uint64) if ids is None else ids
                found[name] = ExampleSet(numbers, None if together is None else np.asarray(together).astype(str))
                continue
            groups = [part.groups for part in parts if part is not None and part.groups is not None]
            ids = np.concatenate([part.ids for part in parts if part is not None])
            found[name] = ExampleSet(ids, np.concatenate(groups) if len(groups) == len(parts) else None)
    return found


# -- private --------------------------------------------------------------------------------------------------------------


def as_json(row: Measurement) -> dict[str, Any]:
    said = {key: value for key, value in row._asdict().items() if key not in UNSAID}
    said["interval"] = None if row.interval is None else [float(end) if math.isfinite(end) else None for end in row.interval]
    said["right"] = list(row.right)
    said["columns"] = sorted(row.columns)
    said["plot"] = None if row.plot is None else plain(row.plot)
    return said


def _as_row(said: Mapping[str, Any], kept: Mapping[str, np.ndarray]) -> Measurement:
    if wrong := next((name for name, rule in FIELDS.items() if name in said and not rule(said[name])), ""):
        raise ValueError(f"the {wrong} of a row is {said[wrong]!r}")
    columns = {name: kept[f"{said['group']}/{said['name']}|{name}"] for name in said["columns"]}
    plot = None if said["plot"] is None else Plot(**said["plot"])
    interval = None if said["interval"] is None else tuple(_end(said["interval"], side) for side in (0, 1))
    right = said["right"] if "right" in said else _old_right(columns)
    return Measurement(**{**said, "columns": columns, "plot": plot, "interval": interval, "right": tuple(right)})


def _end(interval: Sequence[float | None], side: int) -> float:
    """Returns an end of an interval from JSON, where null means infinity."""
    end = interval[side]
    return (-math.inf, math.inf)[side] if end is None else end


def _old_right(columns: Mapping[str, np.ndarray]) -> Sequence[str]:
    """Returns the default for files of older versions: scores of zeros and ones count as right or wrong."""
    scores = [values for key, values in columns.items() if key.rpartition("/")[2] == "score"]
    return ("score",) if scores and all(np.isin(values, (0.0, 1.0)).all() for values in scores) else ()


def packed(found: Diagnosis) -> bytes:
    """Returns the bytes of diagnosis.npz; equal columns give equal bytes."""
    arrays = {f"{row.group}/{row.name}|{name}": values for row in found.rows for name, values in row.columns.items()}
    for name, examples in found.sets.items():
        arrays[f"ids|{name}"] = examples.ids
        if examples.groups is not None:
            arrays[f"groups|{name}"] = examples.groups.astype(str)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return packed.getvalue()
