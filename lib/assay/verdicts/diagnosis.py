"""A diagnosis of a finished run: every diagnostic that applies, as diagnosis.json, and as a page, diagnosis.html.

    diagnosis.json   {"schema", "task", "experiment", "model", "treatments", "split", "quick", "checkpoint", "vocabulary", "notes",
                      "failed", "columns", "rows", "suggestions", "environment"}; a row is what diagnostics/measurement.py says, without its
                      columns; `notes` are for the reader, `failed` what went wrong beside the rows, `columns` the hash of diagnosis.npz
    diagnosis.npz    the columns of the rows, [examples] each, and the ids and groups of the examples: what `compare` pairs

Two diagnoses of a run are the same bytes but for the rows of `timing`. What to do about it is chosen by the split for choices (`valid`),
and not by the one that the rows are measured on.
"""

import hashlib
import io
import json
import math
import shlex
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.diagnostics.measurement import Measurement, Plot, plain
from assay.diagnostics.subject import Run, Subject, choosing, held_out
from assay.diagnostics.table import DIAGNOSTICS, examine
from assay.reports.diagnosis import diagnosis_page
from assay.train.checkpoint import fingerprint
from assay.train.experiment import Experiment
from assay.train.progress import bar
from assay.train.state import all_params, final_params
from assay.train.workdir import WorkDir, check_writable, environment, write_bytes, write_text
from assay.treatments.pipeline.load import rebuild, restore
from assay.verdicts.recommend import recommend

SCHEMA = 1
ROWS, COLUMNS, PAGE = "diagnosis.json", "diagnosis.npz", "diagnosis.html"
FULL, QUICK = (512, 20.0), (128, 4.0)  # examples of a split, and seconds for timing
ABOUT = ("task", "experiment", "model", "treatments", "split", "quick", "checkpoint", "vocabulary", "environment")  # what a card reads
UNSAID = ("columns", "ids", "groups", "plot")  # of a measurement, written elsewhere or otherwise


class ExampleSet(NamedTuple):
    """The examples that a column is about."""

    ids: np.ndarray  # uint64 [n]: a hash of each
    groups: np.ndarray | None  # str [n]: what is drawn together


class Diagnosis(NamedTuple):
    about: dict[str, Any]  # all of diagnosis.json but rows and suggestions
    rows: list[Measurement]
    sets: Mapping[str, ExampleSet]
    suggestions: list[dict[str, Any]]


def diagnose(workdir: str | Path, quick: bool = False) -> Diagnosis:
    """Measures a run, and writes its diagnosis into its folder. Raises UserError where there is no checkpoint."""
    made, folder = rebuild(workdir), WorkDir(workdir)
    state = restore(made, workdir)
    examples, seconds = QUICK if quick else FULL
    params = final_params(state, made.treatment)["model"]
    run = Run(folder.read_config(), tuple(made.settings.treatments), int(state.step))
    subject = Subject(made.model, params, made.task, held_out(made.task), examples, _history(folder), _begun(made), seconds, run=run)
    check_writable(workdir)
    with bar("diagnosis", len(DIAGNOSTICS) + 1, "parts") as update:
        rows = examine(subject, on_done=lambda done, name: update(done, {}))
        update(len(DIAGNOSTICS), {})
        suggestions, failed = _suggestions(workdir, subject, rows)
    about = {
        "schema": SCHEMA,
        "task": made.task.name,
        "experiment": folder.read_config()["experiment"],
        "model": made.settings.model["name"],
        "treatments": list(made.settings.treatments),
        "split": subject.split,
        "quick": quick,
        "checkpoint": fingerprint(workdir),
        "vocabulary": json.loads(json.dumps(astuple(made.task.vocabulary))),  # as it is read again
        "notes": _notes(folder, int(state.step)),
        "failed": failed,
        "environment": environment(),
    }
    found = Diagnosis(about, rows, example_sets(subject, rows), suggestions)
    write(found, workdir)
    return found


def write(found: Diagnosis, workdir: str | Path, command: str = "") -> None:
    """diagnosis.json, .npz and .html. `command`: what made it; not given, that of a run."""
    folder = Path(workdir)
    rows = [_as_json(row) for row in found.rows]
    said = {key: value for key, value in found.about.items() if key != "environment"}
    columns = _packed(found)
    said["columns"] = hashlib.sha256(columns).hexdigest()[:32]
    write_bytes(folder / COLUMNS, columns)
    WorkDir.write_json(folder / ROWS, {**said, "rows": rows, "suggestions": found.suggestions, "environment": found.about["environment"]})
    quick = " --quick" if found.about["quick"] else ""
    write_text(
        folder / PAGE, diagnosis_page(found, command or f"python -m experiments.diagnose --workdir={shlex.quote(str(workdir))}{quick}")
    )


def read(workdir: str | Path) -> Diagnosis:
    """What `diagnose` wrote. Raises UserError where there is none, or one of another schema, or a damaged one."""
    path = Path(workdir) / ROWS
    again = f"Diagnose it: python -m experiments.diagnose --workdir={workdir}"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        schema = said.get("schema")
    except FileNotFoundError:
        raise UserError(f"no {ROWS} in {workdir}. {again}") from None
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {error}. {again}") from None
    if schema == SCHEMA and "columns" not in said:
        raise UserError(f"{path} was written by an older version, without the hash of {COLUMNS}. {again}")
    if schema != SCHEMA:
        raise UserError(f"{path} has schema {schema}, and this version reads {SCHEMA}. {again}")
    try:
        packed = path.with_name(COLUMNS).read_bytes()
        if hashlib.sha256(packed).hexdigest()[:32] != said["columns"]:
            raise ValueError(f"{COLUMNS} is not the one that it was written with")
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
        return Diagnosis(about, rows, sets, said["suggestions"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} or {COLUMNS} beside it is damaged ({type(error).__name__}: {error}). {again}") from None


def example_sets(subject: Subject, rows: Sequence[Measurement]) -> dict[str, ExampleSet]:
    """Of every set that a column names: a split as it was answered, two joined, or numbered parts."""
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


def _for_choices(subject: Subject, rows: Sequence[Measurement]) -> list[Measurement]:
    """The rows as a remedy is chosen by them: scores on the split for choices."""
    split = choosing(subject.task)
    if split == subject.split:
        return list(rows)
    names = [name for name, one in DIAGNOSTICS.items() if one.choosing]
    of_scores = {(DIAGNOSTICS[name].group, row) for name in names for row in DIAGNOSTICS[name].names}
    other = examine(replace(subject, split=split, choosing=True), names)
    seen = {(row.group, row.name) for row in other}
    return [row for row in rows if (row.group, row.name) not in seen | of_scores] + other


def _suggestions(workdir: str | Path, subject: Subject, rows: Sequence[Measurement]) -> tuple[list[dict[str, Any]], list[str]]:
    """What to try, and what went wrong on the way: then the rows stand as they are."""
    try:
        chosen = _for_choices(subject, rows)
        known = {(row.group, row.name) for row in rows if row.crashed}
        failed = [
            f"{row.group}/{row.name} on {choosing(subject.task)}: {row.reason}"
            for row in chosen
            if row.crashed and (row.group, row.name) not in known
        ]
        return recommend(workdir, chosen), failed
    except Exception as error:
        return [], [f"the suggestions: {type(error).__name__}: {' '.join(str(error).split())[:300]}"]


def _notes(folder: WorkDir, step: int) -> list[str]:
    if folder.results.exists():
        return []
    steps = folder.read_config().get("train", {}).get("steps")
    return [f"The run has not ended: measured is its checkpoint of step {step:,}{f' of {steps:,}' if steps else ''}."]


def _history(folder: WorkDir) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that are whole."""
    found = []
    if folder.metrics.exists():
        for line in folder.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
    return [line for line in found if isinstance(line, dict) and "step" in line]


def _begun(made: Experiment) -> Callable[[], PyTree]:
    """The parameters that the run began with."""

    def begun() -> PyTree:
        start = jax.jit(made.init_state)(made.key, made.given(loaded=False), made.first_batch(), made.started())
        return all_params(start)["model"]

    return begun


def _as_json(row: Measurement) -> dict[str, Any]:
    said = {key: value for key, value in row._asdict().items() if key not in UNSAID}
    said["interval"] = None if row.interval is None else [float(end) if math.isfinite(end) else None for end in row.interval]
    said["right"] = list(row.right)
    said["columns"] = sorted(row.columns)
    said["plot"] = None if row.plot is None else plain(row.plot)
    return said


def _as_row(said: Mapping[str, Any], kept: Mapping[str, np.ndarray]) -> Measurement:
    columns = {name: kept[f"{said['group']}/{said['name']}|{name}"] for name in said["columns"]}
    plot = None if said["plot"] is None else Plot(**said["plot"])
    interval = None if said["interval"] is None else tuple(_end(said["interval"], side) for side in (0, 1))
    right = said["right"] if "right" in said else _old_right(columns)
    return Measurement(**{**said, "columns": columns, "plot": plot, "interval": interval, "right": tuple(right)})


def _end(interval: Sequence[float | None], side: int) -> float:
    """An end of an interval as JSON has it, where infinity is null."""
    end = interval[side]
    return (-math.inf, math.inf)[side] if end is None else end


def _old_right(columns: Mapping[str, np.ndarray]) -> Sequence[str]:
    """What files of older versions do not say: scores of zeros and ones are taken as right or wrong."""
    scores = [values for key, values in columns.items() if key.rpartition("/")[2] == "score"]
    return ("score",) if scores and all(np.isin(values, (0.0, 1.0)).all() for values in scores) else ()


def _packed(found: Diagnosis) -> bytes:
    """diagnosis.npz; the same columns are the same bytes."""
    arrays = {f"{row.group}/{row.name}|{name}": values for row in found.rows for name, values in row.columns.items()}
    for name, examples in found.sets.items():
        arrays[f"ids|{name}"] = examples.ids
        if examples.groups is not None:
            arrays[f"groups|{name}"] = examples.groups.astype(str)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return packed.getvalue()
