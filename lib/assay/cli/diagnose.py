"""Measures what limits a finished run, and suggests treatments.

    assay diagnose --workdir=runs/parity
    assay diagnose --workdir=runs/parity --quick

Measures reasoning, long-range dependence, generalisation, calibration, cost, speed and optimisation health. Each row
states its value and interval, the method, and what it means. The suggested treatments follow in order, chosen by the
scores on the validation split. `assay treat --apply=N` applies one of them.

Writes diagnosis.json, diagnosis.npz and the page diagnosis.html to WORKDIR. If a measurement fails, its row states the
error and the exit code is 1. Compare two runs with `assay compare --before=A --after=B`.
"""

import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from assay.cli.command import launch
from assay.cli.python import own
from assay.config import modules
from assay.core.errors import UserError
from assay.core.file import parse_json, read_text
from assay.core.tree import PyTree
from assay.data.loader import counted
from assay.diagnostics.measurement import Measurement
from assay.diagnostics.subject import Run, Subject, choosing, held_out
from assay.diagnostics.table import DIAGNOSTICS, examine
from assay.dist.launch import leader
from assay.reports.diagnosis import diagnosis_page
from assay.reports.terminal.diagnosis import print_diagnosis
from assay.train.checkpoint import fingerprint
from assay.train.experiment import VALID, Experiment
from assay.train.measure import settled
from assay.train.progress import bar
from assay.train.state import all_params
from assay.train.workdir import WorkDir, check_writable, environment, write_bytes, write_text
from assay.treatments.pipeline.again import again
from assay.treatments.pipeline.load import rebuild, restore
from assay.verdicts.diagnosis import COLUMNS, PAGE, ROWS, SCHEMA, Diagnosis, as_json, example_sets, packed
from assay.verdicts.recommend import recommend

FULL, FEW = (512, 20.0), (128, 4.0)  # examples per split, and seconds of timing

UNSEEN = (
    "Suggestions are chosen by a tenth of 'train', which the model may have been trained on: then over-fitting is not seen. "
    "Pass data={'valid': ...} with examples that it was not."
)
COMMAND = "assay.diagnose(subject)"  # command shown on the page of an external model
FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "", "Work directory of a finished run.", flag_values=FLAGS)
QUICK = flags.DEFINE_bool("quick", False, "Use fewer examples and less time: half a minute instead of up to three.", flag_values=FLAGS)


def diagnose(workdir: str | Path, quick: bool = False, spared: Collection[str] = ()) -> Diagnosis:
    """Measures a run, and writes the diagnosis to its folder. Raises UserError if there is no checkpoint.

    Without the groups `spared` and without suggestions it is only returned, since the file of a run holds all of them.
    """
    made, folder = rebuild(workdir), WorkDir(workdir)
    state = restore(made, workdir)
    examples, seconds = FEW if quick else FULL
    params = settled(made, folder, state)
    run = _run(made, folder, int(state.step))
    subject = Subject(
        made.model, params, made.task, held_out(made.task), examples, _history(folder), _begun(made), seconds, run=run, again=again(workdir)
    )
    check_writable(workdir)
    names = [name for name, one in DIAGNOSTICS.items() if one.group not in spared]
    with bar("diagnosis", len(names) + 1, "parts") as update:
        rows = examine(subject, names, on_done=lambda done, name: update(done, {}))
        update(len(names), {})
        suggestions, failed = ([], []) if spared else _suggestions(subject, rows, partial(recommend, workdir))
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
    if not spared:
        write(found, workdir)
    return found


def write(found: Diagnosis, workdir: str | Path, command: str = "") -> None:
    """Writes diagnosis.json, .npz and .html. `command` is what made them; empty: `assay diagnose` on a run."""
    folder = Path(workdir)
    rows = [as_json(row) for row in found.rows]
    said = {key: value for key, value in found.about.items() if key != "environment"}
    columns = packed(found)
    said["columns"] = hashlib.sha256(columns).hexdigest()[:32]
    write_bytes(folder / COLUMNS, columns)
    WorkDir.write_json(folder / ROWS, {**said, "rows": rows, "suggestions": found.suggestions, "environment": found.about["environment"]})
    write_text(folder / PAGE, diagnosis_page(found, command or command_of(workdir, found.about["quick"])))


def command_of(workdir: str | Path, quick: bool) -> str:
    """Returns the command that diagnoses a run; for a model made elsewhere, the call, since a command does not know its code."""
    folder = WorkDir(workdir)
    if folder.config.exists() and str(folder.read_config()["model"].get("name")).startswith(modules.OWN):
        return f"assay.diagnose({str(workdir)!r}{', quick=True' if quick else ''})"
    words = [f"--workdir={workdir}", *(["--quick"] if quick else []), *(f"--import={name}" for name in modules.given())]
    return shlex.join(["assay", "diagnose", *words])


def examined(
    subject: Subject, model: str = "yours", on_done: Callable[[int, str], None] = lambda done, name: None, quick: bool = False
) -> Diagnosis:
    """Measures a subject, and suggests treatments. `model` names it in pages; `on_done(done, name)` is called before each diagnostic.

    `quick` lowers the subject's examples and seconds to those of `assay diagnose --quick`.
    """
    if quick:
        examples, seconds = min(subject.examples, FEW[0]), min(subject.seconds, FEW[1])
        subject = replace(subject, examples=examples, seconds=seconds, asked=subject.asked if examples == subject.examples else {})
    rows = examine(subject, on_done=on_done)
    suggestions, notes, failed = _remedies(subject, rows)
    about = {
        "schema": SCHEMA,
        "task": subject.task.name,
        "experiment": model,
        "model": model,
        "treatments": [],
        "split": subject.split,
        "quick": quick,
        "run": False,
        "checkpoint": _fingerprint(subject.params),
        "vocabulary": json.loads(json.dumps(astuple(subject.task.vocabulary))),  # as that of a run
        "notes": notes,
        "failed": failed,
        "environment": environment(),
    }
    return Diagnosis(about, rows, example_sets(subject, rows), suggestions)


def page(found: Diagnosis) -> str:
    """Returns the diagnosis as one HTML page that opens offline."""
    return diagnosis_page(found, COMMAND)


def save(found: Diagnosis, folder: str | Path) -> None:
    """Creates a folder and writes diagnosis.json, .npz and .html to it; `read` of verdicts/diagnosis.py reads them."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create the folder {folder}: {error.strerror}. Choose another.") from None
    write(found, folder, COMMAND)


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("diagnose takes no --config overrides, since it measures the run as it is.")
    found = diagnose(WORKDIR.value, QUICK.value)
    if leader():
        print_diagnosis(found, workdir=shlex.quote(WORKDIR.value.rstrip("/")))
        print(f"rows: {Path(WORKDIR.value) / ROWS}\npage: {Path(WORKDIR.value) / PAGE}")
    crashed = [f"{row.group}/{row.name}" for row in found.rows if row.crashed]
    if crashed:
        print(f"failed: {', '.join(crashed)}; their rows state the errors.", file=sys.stderr)
    for one in found.about["failed"]:
        print(f"failed: {one}", file=sys.stderr)
    if crashed or found.about["failed"]:
        sys.exit(1)


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS, required=("workdir",))


# -- private --------------------------------------------------------------------------------------------------------------


def _for_choices(subject: Subject, rows: Sequence[Measurement]) -> list[Measurement]:
    """Returns the rows that treatments are chosen by, with scores on the split for model selection."""
    split = choosing(subject.task)
    if split == subject.split:
        return list(rows)
    names = [name for name, one in DIAGNOSTICS.items() if one.choosing]
    of_scores = {(DIAGNOSTICS[name].group, row) for name in names for row in DIAGNOSTICS[name].names}
    other = examine(replace(subject, split=split, choosing=True), names)
    seen = {(row.group, row.name) for row in other}
    return [row for row in rows if (row.group, row.name) not in seen | of_scores] + other


def _remedies(subject: Subject, rows: Sequence[Measurement]) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Returns the suggestions for a model made elsewhere, notes on them, and the errors met on the way."""
    try:
        task = own.register(subject).task
    except UserError as error:
        return [], [f"No treatments are suggested: {error}"], []
    except Exception as error:  # the rows stay as they are
        return [], [], [f"the suggestions: {type(error).__name__}: {' '.join(str(error).split())[:300]}"]
    held = replace(subject, task=task, asked={key: one for key, one in subject.asked.items() if key == "answer"})
    found, failed = _suggestions(held, rows, lambda chosen: own.suggested(subject, chosen))
    return found, [] if VALID in subject.task.splits else [UNSEEN], failed


def _suggestions(
    subject: Subject, rows: Sequence[Measurement], suggest: Callable[[Sequence[Measurement]], list[dict[str, Any]]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the suggestions, and the errors met on the way; on an error the rows stay as they are."""
    try:
        chosen = _for_choices(subject, rows)
        known = {(row.group, row.name) for row in rows if row.crashed}
        failed = [
            f"{row.group}/{row.name} on {choosing(subject.task)}: {row.reason}"
            for row in chosen
            if row.crashed and (row.group, row.name) not in known
        ]
        return suggest(chosen), failed
    except Exception as error:
        return [], [f"the suggestions: {type(error).__name__}: {' '.join(str(error).split())[:300]}"]


def _run(made: Experiment, folder: WorkDir, step: int) -> Run:
    """Returns the facts of a run: its treated settings, and the steps taken up to its newest checkpoint, `step` or later."""
    settings = made.settings
    steps = max([step, *(int(path.name) for path in folder.checkpoints.iterdir() if path.name.isdecimal())])
    config = {**folder.read_config(), "train": asdict(settings.train), "model": dict(settings.model)}
    return Run(config, tuple(settings.treatments), steps, drawn=lambda: (counted(made.sample, step) for step in range(steps)))


def _notes(folder: WorkDir, step: int) -> list[str]:
    if folder.results.exists():
        return []
    steps = folder.read_config().get("train", {}).get("steps")
    return [f"The run has not finished; this diagnosis measures its checkpoint of step {step:,}{f' of {steps:,}' if steps else ''}."]


def _history(folder: WorkDir) -> list[dict[str, Any]]:
    """Returns the complete lines of metrics.jsonl."""
    found = []
    if folder.metrics.is_file():
        for line in read_text(folder.metrics, "replace").splitlines():
            try:
                found.append(parse_json(line))
            except ValueError:
                break
    return [line for line in found if isinstance(line, dict) and "step" in line]


def _begun(made: Experiment) -> Callable[[], PyTree]:
    """Returns a function that gives the initial parameters of the run."""

    def begun() -> PyTree:
        start = jax.jit(made.init_state)(made.key, made.given(loaded=False), made.first_batch(), made.started())
        return all_params(start)["model"]

    return begun


def _fingerprint(params: PyTree) -> str:
    """Returns a hash of the parameters."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.asarray(leaf).tobytes())
    return f"sha256 {found.hexdigest()[:16]}"
