"""Treating and comparing a model made elsewhere, without a run of it: `treat(subject, ...)`, `compare(subject, ...)`.

A treatment starts from a run, so the given parameters become one of no updates, in WORKDIR/stages/0_given. A comparison with a run that was
treated so is that of the two folders. Any other pairs the diagnoses, and times the models in turns.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.cli import compare as comparing
from assay.cli import diagnose as diagnosing
from assay.cli import treat as treating
from assay.cli.python import own
from assay.config.files import names_file, pipeline
from assay.core.errors import UserError
from assay.diagnostics.cost.speeds import timed
from assay.diagnostics.subject import Subject, held_out
from assay.models.brought import own as models
from assay.train.workdir import WorkDir
from assay.treatments.folder import pieces
from assay.treatments.pipeline.check import check_stage
from assay.treatments.pipeline.load import load
from assay.treatments.pipeline.stages import FOLDER, SHARE, plan
from assay.verdicts import card as cards
from assay.verdicts.diagnosis import Diagnosis
from assay.verdicts.turns import times

UNTRAINED = {"train.steps": "0"}
GIVEN = "0_given"  # folder of the run of no updates, beside the stages
Measured = str | Path | Diagnosis | Subject


def treat(subject: Subject, specs: Sequence[str], workdir: str | Path, overrides: Mapping[str, str], seconds: float, control: bool) -> None:
    """Applies treatments to a subject's model as it was given. Stages without `steps=` are as long as a run of the subject would be."""
    base = Path(workdir) / FOLDER / GIVEN
    specs = _timed(specs, int(own.config_of(subject).train.steps))
    for stage in plan(str(base), specs, str(workdir), overrides, own.written_of(subject, UNTRAINED)):
        check_stage(stage)  # before anything is written
    own.fit(subject, base, UNTRAINED)
    treating.treat(str(base), specs, str(workdir), overrides, seconds, control, False)


def compare(before: Measured, afters: Mapping[str, Measured], seconds: float) -> dict[str, Any]:
    """Returns the card of runs, diagnoses and subjects, of which at least one is a subject."""
    folders = [one for one in afters.values() if isinstance(one, str | Path)]
    if isinstance(before, Subject) and len(folders) == len(afters):
        base = given_of(folders[0], before)
        if base and all(given_of(one, before) == base for one in folders):
            return comparing.card_of(base, [str(one) for one in folders], seconds)
    for one in (before, *afters.values()):
        if isinstance(one, Subject) and not one.model.opaque and own.tasks.TRAIN in one.task.splits:
            own.register(one)  # runs of it can then be read
    alone = not any(isinstance(one, str | Path) for one in (before, *afters.values()))
    first = _diagnosis(before, alone)
    found = {}
    for name, one in afters.items():
        found[name] = _diagnosis(one, alone)
        cards.check(first, found[name], name)
    subjects = {name: one for name, one in {cards.BEFORE: before, **afters}.items() if not isinstance(one, Diagnosis)}
    several = {name: _subject(one) for name, one in subjects.items()} if cards.BEFORE in subjects else {}
    several = {name: one for name, one in several.items() if not one.model.opaque}  # an answering function has no program to time
    measured = timed(several, seconds) if cards.BEFORE in several and len(several) > 1 else {}
    in_turns = {name: times(measured[cards.BEFORE], measured[name]) for name in measured if name != cards.BEFORE}
    workdirs = {name: str(one) for name, one in subjects.items() if not isinstance(one, Subject)}
    return cards.build(first, found, in_turns, {}, workdirs)


def given_of(workdir: str | Path, subject: Subject) -> str:
    """Returns the folder of the run of no updates from which a run was treated, if it is of this subject; otherwise ""."""
    try:
        rows = json.loads((Path(workdir) / treating.STAGES).read_text(encoding="utf-8"))["rows"]
        base = str(rows[0]["workdir"])
        written = WorkDir(base).read_config()
    except (OSError, ValueError, KeyError, IndexError, TypeError, UserError):
        return ""
    if os.path.basename(base) != GIVEN or subject.model.opaque or own.tasks.TRAIN not in subject.task.splits:
        return ""
    known = own.register(subject)
    same = written["model"].get("begun") == known.model["begun"] and written["task"].get("examples") == known.config["examples"]
    return base if same and not models.missing(written["model"]) else ""


# -- private --------------------------------------------------------------------------------------------------------------


def _timed(specs: Sequence[str], steps: int) -> list[str]:
    """Returns treatments, those of pipeline files included, with the steps of their stages: a run of no updates says none."""
    found = []
    for one in [one for spec in specs for one in (pipeline(spec) if names_file(spec) else [spec])]:
        name, _, options = one.partition(":")
        given = {pair.partition("=")[0]: pair.partition("=")[2] for pair in pieces([pair for pair in options.split(",") if pair])}
        trained = name == "quantize" and given.get("train", "").lower() == "true"
        share = SHARE["prune"] if trained else SHARE.get(name, 1.0)
        untold = share and "steps" not in given
        found.append(f"{one}{',' if options else ':'}steps={max(1, round(share * steps))}" if untold else one)
    return found


def _diagnosis(one: Measured, alone: bool) -> Diagnosis:
    if isinstance(one, Diagnosis):
        return one
    if isinstance(one, Subject):
        examples = one.examples if alone else diagnosing.FULL[0]  # those of runs
        return diagnosing.examined(one if examples == one.examples else replace(one, examples=examples, asked={}))
    comparing.check_run(str(one), "compare(before, after)")
    return comparing.diagnosed(str(one), quick=False)


def _subject(one: str | Path | Subject) -> Subject:
    if isinstance(one, Subject):
        return one
    model, params, task = load(one)
    return Subject(model, params, task, held_out(task))
