"""Trains a model on your own file or folder, beside a simple learner, and says which of the two to use.

    assay fit reviews.csv --workdir=runs/mine
    assay fit train.csv --test=test.csv --target=price --regression --workdir=runs/prices
    assay fit pictures/ --workdir=runs/pictures                              (one folder of pictures for each class)

DATA is a CSV or TSV file, JSONL, Parquet, Arrow, a data set saved by Hugging Face, or a folder of pictures. It is cleaned
and divided into train, valid and test once; what was found is printed before anything is trained. --quality=good and best
train more models, and `valid` chooses.

WORKDIR is then a run: assay predict, diagnose, treat and compare take it. It also has fit.py, the config that was trained,
and fit.json, what was found and the leaderboard.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from assay.cli.command import launch
from assay.cli.train import run as train
from assay.config.schema import to_dict, typed
from assay.config.tasks import files
from assay.core.errors import UserError, unknown
from assay.core.plain import json_text
from assay.data.files.found import screen
from assay.data.files.reader import read_parts
from assay.data.files.roles import roles
from assay.evals.summary import SUMMARIES
from assay.fitting.board import Entry, best, score_text, verdict
from assay.fitting.plans import QUALITIES, Plan, plans, task_keys, task_name
from assay.fitting.simple import constant, correct, simple, title_of
from assay.fitting.written import FILE, text_of
from assay.tasks.files.opened import HEADERS, FilesConfig, Opened, opened
from assay.tasks.files.pictures import PicturesConfig, loaded
from assay.tasks.table import build, find
from assay.train.workdir import WorkDir, write_text

SUMMARY, CANDIDATES = "fit.json", "candidates"

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "", "Work directory of the run; created if it does not exist.", flag_values=FLAGS)
TEST = flags.DEFINE_string("test", "", "File or folder to test on. Default: a part of DATA is held out.", flag_values=FLAGS)
TARGET = flags.DEFINE_string("target", "", "Column to predict. Default: found by its name.", flag_values=FLAGS)
TEXT = flags.DEFINE_multi_string("text", [], "Column to read as text; may be repeated.", flag_values=FLAGS)
IGNORE = flags.DEFINE_multi_string("ignore", [], "Column not to read; may be repeated.", flag_values=FLAGS)
REGRESSION = flags.DEFINE_bool("regression", False, "Predict a number instead of classes.", flag_values=FLAGS)
METRIC = flags.DEFINE_string("metric", "", "Metric of early stopping. Default: accuracy, exact_match or r2.", flag_values=FLAGS)
QUALITY = flags.DEFINE_string("quality", "fast", f"How many models are tried: {', '.join(QUALITIES)}.", flag_values=FLAGS)
DELIMITER = flags.DEFINE_string("delimiter", "", "Between the fields of a line. Default: found.", flag_values=FLAGS)
ENCODING = flags.DEFINE_string("encoding", "", "Encoding of text files. Default: found.", flag_values=FLAGS)
HEADER = flags.DEFINE_bool("has_header", None, "Whether the first line names the columns. Default: found.", flag_values=FLAGS)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the training.", lower_bound=0, flag_values=FLAGS)


class Asked(NamedTuple):
    """What a user says about the data."""

    test: str = ""
    target: str = ""
    text: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    regression: bool = False
    metric: str = ""
    delimiter: str = ""
    encoding: str = ""
    header: str = ""  # "yes", "no", or "": found


NOTHING = Asked()


def fit(
    data: str, workdir: str, asked: Asked = NOTHING, quality: str = "fast", seed: int = 0, overrides: Mapping[str, str] = {}
) -> list[Entry]:
    """Trains on a file or folder, writes the run to `workdir`, prints what was found, and returns the leaderboard. Raises UserError."""
    if quality not in QUALITIES:
        raise unknown("quality", quality, QUALITIES, "--quality")
    task, found = looked(data, asked)
    print(screen(found.found), flush=True)
    made = build(to_dict(task), seed)
    known = [*made.metrics, *(name for name, one in SUMMARIES.items() if one.registered)]
    if asked.metric and asked.metric not in known:
        raise unknown("metric", asked.metric, known, "--metric")
    listed = plans(task, found, quality, asked.metric)
    folder = Path(workdir)
    path = os.path.relpath(folder / FILE)
    _check(folder)
    write_text(folder / FILE, text_of(listed, found.roles.target, Path(data).name, path))
    print(f"training {title_of(found)} ...", file=sys.stderr, flush=True)
    learners = [constant(found), simple(found, made)]
    print(f"{learners[1].title}: {_scores(found, learners[1].answers)}", flush=True)
    entries = [
        Entry(one.name, one.title, _part(found, one.answers, "valid"), _part(found, one.answers, "test"), one.seconds) for one in learners
    ]
    models = [_trained(plan, path, folder, found, seed, overrides, alone=len(listed) == 1) for plan in listed]
    lower = found.roles.kind == "number"
    chosen = best(models, lower)
    if len(listed) > 1:
        _promote(folder / CANDIDATES / chosen.name, folder)
    entries += models
    write_text(folder / SUMMARY, _summary(found, entries, best(entries, lower)))
    _print(found, entries, chosen, workdir, lower)
    return entries


def looked(data: str, asked: Asked) -> tuple[ConfigDict, Opened]:
    """Returns the config of the task on a file or folder, with every choice written out, and the data set. Raises UserError."""
    data, test = (os.path.abspath(os.path.expanduser(one)) if one else "" for one in (data, asked.test))
    tables = read_parts((data, test) if test else data, asked.delimiter, asked.encoding, HEADERS[asked.header])
    played = roles(tables["train"], asked.target, asked.text, asked.ignore, asked.regression)
    name = "files/pictures" if played.pictures else "files/texts" if played.texts else "files/table"
    keys = {"test": test, "target": played.target, "kind": played.kind, "text": tuple(asked.text), "ignore": tuple(asked.ignore)}
    keys |= {"delimiter": asked.delimiter, "encoding": asked.encoding, "header": asked.header}
    task = files(name, data, **keys)
    config: FilesConfig = typed(find(name).config, to_dict(task), "task")
    found = opened(config)
    assert task_name(found) == name
    task.update(task_keys(found))
    if name == "files/pictures":  # broken ones are found while they are read
        found, _ = loaded(typed(PicturesConfig, to_dict(task), "task"))
    return task, found


def main(overrides: dict[str, str], paths: Sequence[str]) -> None:
    if len(paths) != 1:
        raise UserError(
            f"give one file or folder, such as assay fit reviews.csv --workdir=runs/mine; got {len(paths) or 'none'}. See --help."
        )
    if any(key.startswith(("task.", "model.")) or key == "treatments" for key in overrides):
        raise UserError(
            "fit chooses task, model and treatments. Train its config with changes: assay train --config=WORKDIR/fit.py --config.KEY=VALUE."
        )
    asked = Asked(
        os.path.expanduser(TEST.value),
        TARGET.value,
        tuple(TEXT.value),
        tuple(IGNORE.value),
        REGRESSION.value,
        METRIC.value,
        DELIMITER.value,
        ENCODING.value,
        "" if HEADER.value is None else "yes" if HEADER.value else "no",
    )
    fit(paths[0], WORKDIR.value, asked, QUALITY.value, SEED.value, overrides)


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS, required=("workdir",), files=True)


# -- private --------------------------------------------------------------------------------------------------------------


def _check(folder: Path) -> None:
    """Raises UserError if the folder holds a run of another kind."""
    if WorkDir(folder).config.exists() and not (folder / FILE).exists():
        raise UserError(f"{folder} holds a run that assay fit did not make. Choose another --workdir.")


def _trained(plan: Plan, path: str, folder: Path, found: Opened, seed: int, overrides: Mapping[str, str], alone: bool) -> Entry:
    """Trains a model as `assay train` does, and returns its row of the leaderboard."""
    workdir, begun = folder if alone else folder / CANDIDATES / plan.name, time.monotonic()
    changed = {**overrides, **({"seed": str(seed)} if seed else {})}
    train(f"{path}:{plan.name}", changed, workdir, summary=False)
    run = WorkDir(workdir)
    rows = {split: _rows(run, split, found) for split in ("valid", "test") if split in found.parts}
    return Entry(plan.name, plan.title, rows.get("valid"), rows.get("test"), time.monotonic() - begun)


def _rows(run: WorkDir, split: str, found: Opened) -> np.ndarray:
    """Returns the score of each row of a part, in the order of rows."""
    records = [json.loads(line) for line in run.predictions(split).read_text(encoding="utf-8").splitlines()]
    metric = {"classes": "accuracy", "labels": "exact_match", "number": "mse"}[found.roles.kind]
    scores = np.full(len(records), np.nan)
    for record in records:
        scores[record["id"]] = np.nan if record["scores"][metric] is None else record["scores"][metric]
    return scores


def _part(found: Opened, answers: Mapping[str, list[Any]], split: str) -> np.ndarray | None:
    return correct(found, answers, split) if split in answers else None


def _scores(found: Opened, answers: Mapping[str, list[Any]]) -> str:
    lower = found.roles.kind == "number"
    return ", ".join(f"{split} {score_text(_part(found, answers, split), lower)}" for split in ("valid", "test") if split in answers)


def _promote(source: Path, target: Path) -> None:
    """Copies the run of the chosen model to the work directory. Raises UserError if it holds the run of another one."""
    there, chosen = WorkDir(target), WorkDir(source)
    if there.config.exists() and there.read_config()["experiment"] != chosen.read_config()["experiment"]:
        raise UserError(f"{target} holds the run of another model than {source.name}, which is the best one now. Choose another --workdir.")
    shutil.copytree(source, target, dirs_exist_ok=True)


def _summary(found: Opened, entries: Sequence[Entry], chosen: Entry) -> str:
    rows = [
        {
            "name": entry.name,
            "title": entry.title,
            "seconds": round(entry.seconds, 1),
            **{split: None if rows is None else float(np.mean(rows)) for split, rows in (("valid", entry.valid), ("test", entry.test))},
        }
        for entry in entries
    ]
    facts = {**found.found._asdict(), "dropped": [asdict(each) for each in found.found.dropped]}
    return json_text({"schema": 1, "found": facts, "leaderboard": rows, "chosen": chosen.name}, indent=1) + "\n"


def _print(found: Opened, entries: Sequence[Entry], model: Entry, workdir: str, lower: bool) -> None:
    _, plain, *_ = entries
    chosen = best(entries, lower)
    other = plain if chosen is model else model
    print(f"\n{verdict(chosen, other, lower)}\n")
    what = "root mean squared error" if lower else "right"
    width = max(len(entry.title) for entry in entries)
    print(f"{'':<{width}}  {'seconds':>8}  {'valid: ' + what:<28}  test (95 % interval)")
    for entry in entries:
        print(f"{entry.title:<{width}}  {entry.seconds:>8.1f}  {score_text(entry.valid, lower):<28}  {score_text(entry.test, lower)}")
    print(f"\nreport: {WorkDir(workdir).report}\nnext: assay diagnose --workdir={workdir}")
