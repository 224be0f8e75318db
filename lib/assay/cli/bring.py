"""The diagnosis of a model that was trained elsewhere: the same rows, page and card as those of a run.

    found = examined(bring(apply, params, data), "mine")      # diagnostics/bring.py
    save(found, "mine")                                       # diagnosis.json, .npz and .html
    card = build(found, {"other": examined(bring(apply, other, data), "other")})

It has no folder with a config, so nothing can be done to it by `assay treat`, and nothing is suggested. Two diagnoses are compared
where both were brought with the same data and names.
"""

import hashlib
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import jax
import numpy as np

from assay.cli.diagnose import write
from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.diagnostics.subject import Subject
from assay.diagnostics.table import examine
from assay.reports.diagnosis import diagnosis_page
from assay.train.workdir import environment
from assay.verdicts.diagnosis import SCHEMA, Diagnosis, example_sets

COMMAND = "examined(bring(apply, params, data))"  # what made the diagnosis, as the page says it


def examined(subject: Subject, model: str = "yours", on_done: Callable[[int, str], None] = lambda done, name: None) -> Diagnosis:
    """Measures a subject. `model`: how pages and tables name it; `on_done(done, name)` is told before each diagnostic."""
    rows = examine(subject, on_done=on_done)
    about = {
        "schema": SCHEMA,
        "task": subject.task.name,
        "experiment": model,
        "model": model,
        "treatments": [],
        "split": subject.split,
        "quick": False,
        "run": False,
        "checkpoint": _fingerprint(subject.params),
        "vocabulary": list(astuple(subject.task.vocabulary)),
        "notes": [],
        "failed": [],
        "environment": environment(),
    }
    return Diagnosis(about, rows, example_sets(subject, rows), [])


def page(found: Diagnosis) -> str:
    """The diagnosis as one HTML page that opens offline."""
    return diagnosis_page(found, COMMAND)


def save(found: Diagnosis, folder: str | Path) -> None:
    """Writes diagnosis.json, .npz and .html into a folder, which is made; verdicts/diagnosis.py reads them."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}. Choose another.") from None
    write(found, folder, COMMAND)


# -- private --------------------------------------------------------------------------------------------------------------


def _fingerprint(params: PyTree) -> str:
    """A hash of the parameters."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.asarray(leaf).tobytes())
    return f"sha256 {found.hexdigest()[:16]}"
