"""Trains a model on your own file or folder, beside a simple learner, and says which of the two to use.

    assay fit reviews.csv --workdir=runs/mine
    assay fit train.csv --test=test.csv --target=price --regression --workdir=runs/prices
    assay fit adult.csv --target=income --group=sex --group=race --budget=5m --workdir=runs/adult
    assay fit pictures/ --workdir=runs/pictures                              (one folder of pictures for each class)

DATA is a CSV or TSV file, JSONL, Parquet, Arrow, a data set saved by Hugging Face, a folder of pictures or of idx files,
or a data set of TFDS such as tfds/mnist. It is cleaned and divided into train, valid and test once; what was found is
printed before anything is trained. --quality=good and best train more models, and `valid` chooses by --metric. After
training, `valid` also sets the temperature of a classifier and, with two classes, its decision threshold.

WORKDIR is then a run: assay predict, diagnose, treat and compare take it. It also has fit.py, the config that was trained,
fit.json, what was found and the leaderboard, and issues.csv: suspect labels, duplicates, leaks and outliers, by line.
"""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from assay.cli.command import launch
from assay.cli.train import report
from assay.cli.train import run as train
from assay.config.overrides import override
from assay.config.schema import to_dict, typed
from assay.config.tasks import files
from assay.core.errors import UserError, unknown
from assay.core.file import read_json
from assay.core.plain import json_text
from assay.data.files.formats.tfds import is_tfds
from assay.data.files.found import screen
from assay.data.files.reader import read_parts
from assay.data.files.roles import roles
from assay.evals.rows import RIGHT
from assay.evals.summary import SUMMARIES
from assay.fitting import scores
from assay.fitting.board import Entry, best, by_group, cell, verdict
from assay.fitting.budget import affordable, seconds_of, step_seconds
from assay.fitting.issues import written
from assay.fitting.issues.search import searched
from assay.fitting.plans import QUALITIES, Plan, cut_of, plans, shortened, task_keys, task_name
from assay.fitting.simple import constant, simple, title_of
from assay.fitting.written import FILE, MARK, text_of
from assay.tasks.files.opened import HEADERS, FilesConfig, Opened, opened
from assay.tasks.files.pictures import PicturesConfig, loaded
from assay.tasks.table import build, find
from assay.tasks.task import Task
from assay.train.workdir import WorkDir, write_text
from assay.treatments.pipeline.load import treatments

SUMMARY, CANDIDATES = "fit.json", "candidates"
CHOSEN = ("task", "model", "evaluate", "treatments")  # groups of the config that fit sets

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "", "Work directory of the run; created if it does not exist.", flag_values=FLAGS)
TEST = flags.DEFINE_string("test", "", "File or folder to test on. Default: a part of DATA is held out.", flag_values=FLAGS)
TARGET = flags.DEFINE_string("target", "", "Column to predict. Default: found by its name.", flag_values=FLAGS)
TEXT = flags.DEFINE_multi_string("text", [], "Column to read as text; may be repeated.", flag_values=FLAGS)
IGNORE = flags.DEFINE_multi_string("ignore", [], "Column not to read; may be repeated.", flag_values=FLAGS)
REGRESSION = flags.DEFINE_bool("regression", False, "Predict a number instead of classes.", flag_values=FLAGS)
METRIC = flags.DEFINE_string(
    "metric", "", "Metric of early stopping, choice and leaderboard. Default: accuracy, exact_match or rmse.", flag_values=FLAGS
)
GROUP = flags.DEFINE_multi_string("group", [], "Column by whose values the metric is also listed; may be repeated.", flag_values=FLAGS)
BUDGET = flags.DEFINE_string("budget", "", "Time to train in, such as 90s, 5m or 1h. Default: no limit.", flag_values=FLAGS)
QUALITY = flags.DEFINE_string("quality", "fast", f"How many models are tried: {', '.join(QUALITIES)}.", flag_values=FLAGS)
DELIMITER = flags.DEFINE_string("delimiter", "", "Between the fields of a line. Default: found.", flag_values=FLAGS)
ENCODING = flags.DEFINE_string("encoding", "", "Encoding of text files. Default: found.", flag_values=FLAGS)
HEADER = flags.DEFINE_bool("has_header", None, "Whether the first line names the columns. Default: found.", flag_values=FLAGS)
ISSUES = flags.DEFINE_bool("issues", True, "Search the data for suspect labels, duplicates, leaks and outliers.", flag_values=FLAGS)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the training.", lower_bound=0, flag_values=FLAGS)


class Asked(NamedTuple):
    """What a user says about the data and the training."""

    test: str = ""
    target: str = ""
    text: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    regression: bool = False
    metric: str = ""
    delimiter: str = ""
    encoding: str = ""
    header: str = ""  # "yes", "no", or "": found
    group: tuple[str, ...] = ()  # columns
    quality: str = "fast"
    budget: str = ""  # "": no limit
    seed: int = 0
    issues: bool = True  # whether the data are searched for what may be wrong with them


NOTHING = Asked()


class Fit(NamedTuple):
    """What was trained, and how good it is."""

    sentence: str  # which to use
    metric: str
    entries: list[Entry]  # the leaderboard
    chosen: Entry  # of them, by `valid`
    groups: Mapping[str, list[dict[str, Any]]]  # column -> rows of `board.by_group`


def fit(data: str, workdir: str, asked: Asked = NOTHING, overrides: Mapping[str, str] = {}, quiet: bool = False) -> Fit:
    """Trains on a file or folder, writes the run to `workdir`, prints what was found, and returns the leaderboard. Raises UserError."""
    begun, allowed, folder = time.monotonic(), seconds_of(asked.budget) if asked.budget else None, Path(workdir)
    _check_asked(asked, overrides)
    before = _before(folder, data, asked, overrides)
    task, found = looked(data, asked)
    say = (lambda *words: None) if quiet else lambda *words: print(*words, flush=True)
    say(screen(found.found))
    made = build(to_dict(task), asked.seed)
    known = [*made.metrics, *(name for name, one in SUMMARIES.items() if one.registered)]
    if asked.metric and asked.metric not in known:
        raise unknown("metric", asked.metric, known, "--metric")
    _check_groups(found, asked.group)
    metric, path = asked.metric or scores.HEADLINES[found.roles.kind], os.path.relpath(folder / FILE)
    listed = plans(task, found, asked.quality, asked.metric)
    say(f"training {title_of(found)} ...")
    learners = [constant(found), simple(found, made, cut_of(found, asked.metric))]
    entries = [Entry(one.name, one.title, one.parts, one.seconds) for one in learners]
    say(f"{entries[-1].title}: {', '.join(f'{part} {cell(entries[-1], part, metric)}' for part in found.parts if part != 'train')}")
    _check_metric(metric, entries[-1])
    if allowed is not None:
        listed = _within(listed, before.get("steps", {}), overrides, allowed - (time.monotonic() - begun), say)
    kept = {"schema": 1, "asked": _told(data, asked, overrides), "steps": {plan.name: int(plan.config.train.steps) for plan in listed}}
    write_text(folder / SUMMARY, json_text({**before, **kept}, indent=1) + "\n")
    write_text(folder / FILE, text_of(listed, found.roles.target, Path(data).name, path))
    trained = [_trained(plan, path, folder, asked.seed, overrides, len(listed) == 1, quiet) for plan in listed]
    took = {row["name"]: row["seconds"] for row in before.get("leaderboard", ())}
    models = [entry._replace(seconds=took.get(entry.name, entry.seconds) if read else entry.seconds) for entry, read in trained]
    model = best(models, metric)
    if len(listed) > 1:
        _promote(folder / CANDIDATES / model.name, folder)
    entries += models
    chosen = best(entries, metric)
    sentence = verdict(chosen, entries[1] if chosen is model else model, metric)
    part = "test" if "test" in found.parts else "valid"
    columns = {name: found.parts[part].columns[name].tolist() for name in asked.group} if part in found.parts else {}
    groups = {name: by_group([entries[1], model], column, part, metric) for name, column in columns.items()}
    done = Fit(sentence, metric, entries, chosen, groups)
    searched_before = {key: value for key, value in before.items() if key == "issues"}
    write_text(folder / SUMMARY, json_text({**kept, **_summary(found, done), **searched_before}, indent=1) + "\n")
    say(_text(done, part, workdir))
    if asked.issues:
        _search(found, made, folder, quiet)
    else:
        report(folder)
    return done


def looked(data: str, asked: Asked) -> tuple[ConfigDict, Opened]:
    """Returns the config of the task on a file or folder, with every choice written out, and the data set. Raises UserError."""
    data, test = (one if is_tfds(one) or not one else os.path.abspath(os.path.expanduser(one)) for one in (data, asked.test))
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
        tuple(GROUP.value),
        QUALITY.value,
        BUDGET.value,
        SEED.value,
        ISSUES.value,
    )
    fit(paths[0], WORKDIR.value, asked, overrides)


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS, required=("workdir",), files=True)


# -- private --------------------------------------------------------------------------------------------------------------


def _check_asked(asked: Asked, overrides: Mapping[str, str]) -> None:
    """Raises UserError for what fit decides itself, and for options that exclude each other."""
    if asked.quality not in QUALITIES:
        raise unknown("quality", asked.quality, QUALITIES, "--quality")
    if taken := [key for key in overrides if key.split(".")[0] in CHOSEN]:
        raise UserError(
            f"fit chooses task, model, evaluation and treatments, so it takes no --config.{taken[0]}. Train its config with changes: "
            "assay train --config=WORKDIR/fit.py --config.KEY=VALUE."
        )
    if asked.budget and "train.steps" in overrides:
        raise UserError("--budget and --config.train.steps both say how long to train. Give one of them.")


def _told(data: str, asked: Asked, overrides: Mapping[str, str]) -> dict[str, Any]:
    """Returns what decides the models of a fit, as fit.json keeps it."""
    told = {key: value for key, value in asked._asdict().items() if key not in ("group", "issues", "test")}
    given = {"data": data, "test": asked.test}
    paths = {key: one if is_tfds(one) or not one else os.path.abspath(os.path.expanduser(one)) for key, one in given.items()}
    return json.loads(json_text({**paths, **told, "overrides": dict(overrides)}))


def _before(folder: Path, data: str, asked: Asked, overrides: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fit.json of a fit that is resumed or read again, or {}. Raises UserError if the folder holds something else."""
    script, summary = folder / FILE, folder / SUMMARY
    if script.exists() and MARK not in script.read_text(encoding="utf-8", errors="replace"):
        raise UserError(f"{script} was not written by assay fit, which writes a file of that name. Choose another --workdir.")
    if WorkDir(folder).config.exists() and not script.exists():
        raise UserError(f"{folder} holds a run that assay fit did not make. Choose another --workdir.")
    begun = WorkDir(folder).config.exists() or any((folder / CANDIDATES).glob("*/config.json"))
    if not (begun and summary.exists()):
        return {}
    try:
        found = read_json(summary)
        was = found["asked"]
        changed = [key for key, value in _told(data, asked, overrides).items() if was.get(key) != value]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{summary} does not say how its fit was made. Choose another --workdir.") from None
    if changed:
        key = changed[0]
        now = _told(data, asked, overrides)[key]
        raise UserError(
            f"{folder} holds a fit with {key}={was.get(key)!r}, and now it is {now!r}. Choose another --workdir, or the same {key}."
        )
    return dict(found)


def _check_metric(metric: str, plain: Entry) -> None:
    """Raises UserError for a metric that `valid` does not have, such as the AUROC of one class."""
    rows = plain.parts.get("valid")
    if rows and math.isnan(scores.value(metric, rows)):
        raise UserError(
            f"{scores.title_of(metric)} cannot choose between models: on valid ({len(rows):,} rows) it has no value. Change --metric."
        )


def _check_groups(found: Opened, names: Sequence[str]) -> None:
    """Raises UserError for columns that are not there."""
    part = found.parts["test" if "test" in found.parts else "train"]
    for name in names:
        if name not in part.columns:
            raise unknown(f"column of {part.source}", name, part.columns, "--group=NAME")


def _within(
    listed: Sequence[Plan], steps: Mapping[str, int], overrides: Mapping[str, str], seconds: float, say: Callable[[str], None]
) -> list[Plan]:
    """Returns the plans with the steps that they can take in a time; `steps`: those that a fit which is resumed already has."""
    begun = time.monotonic()
    missing = [plan for plan in listed if plan.name not in steps]
    paces = {plan.name: step_seconds(override(plan.config, overrides), treatments) for plan in missing}
    share = max(0.0, seconds - (time.monotonic() - begun)) / len(listed)
    found = []
    for plan in listed:
        fits = steps.get(plan.name) or affordable(plan.config.train.steps, paces[plan.name], share)
        if fits < plan.config.train.steps:
            say(f"{plan.title}: {fits:,} of {plan.config.train.steps:,} steps, as many as --budget allows")
        found.append(shortened(plan, fits) if fits < plan.config.train.steps else plan)
    return found


def _trained(plan: Plan, path: str, folder: Path, seed: int, overrides: Mapping[str, str], alone: bool, quiet: bool) -> tuple[Entry, bool]:
    """Trains a model as `assay train` does, and returns its row of the leaderboard and whether it was only read."""
    workdir, begun = folder if alone else folder / CANDIDATES / plan.name, time.monotonic()
    changed, run = {**overrides, **({"seed": str(seed)} if seed else {})}, WorkDir(workdir)
    read = run.results.exists()
    train(f"{path}:{plan.name}", changed, workdir, quiet, summary=False)
    parts = {split: _records(run, split) for split in ("valid", "test") if run.predictions(split).exists()}
    return Entry(plan.name, plan.title, parts, time.monotonic() - begun), read


def _records(run: WorkDir, split: str) -> list[dict[str, Any]]:
    """Returns the answers to a part, in the order of rows."""
    found = [json.loads(line) for line in run.predictions(split).read_text(encoding="utf-8").splitlines()]
    return sorted(found, key=lambda record: record["id"])


def _promote(source: Path, target: Path) -> None:
    """Copies the run of the chosen model to the work directory. Raises UserError if it holds another run."""
    there, chosen = WorkDir(target), WorkDir(source)
    if there.config.exists() and there.read_config() != chosen.read_config():
        raise UserError(f"{target} holds another run than {source}, which is the best one now. Choose another --workdir.")
    shutil.copytree(source, target, dirs_exist_ok=True)


def _summary(found: Opened, made: Fit) -> dict[str, Any]:
    rows = [
        {
            "name": entry.name,
            "title": entry.title,
            "seconds": round(entry.seconds, 1),
            **{part: scores.interval(made.metric, records)._asdict() for part, records in entry.parts.items()},
        }
        for entry in made.entries
    ]
    facts = {**found.found._asdict(), "dropped": [asdict(each) for each in found.found.dropped]}
    said = {"sentence": made.sentence, "metric": made.metric, "chosen": made.chosen.name}
    said |= {"title": scores.title_of(made.metric), "unit": scores.unit_of(made.metric)}
    return {**said, "leaderboard": rows, "groups": made.groups, "found": facts}


def _search(found: Opened, task: Task, folder: Path, quiet: bool) -> None:
    """Writes what is suspect in the data to issues.csv, counts it in fit.json and prints it, and draws the report again."""
    suspect = searched(found, task, (lambda _: None) if quiet else lambda text: print(f"{text} ...", file=sys.stderr, flush=True))
    write_text(folder / written.FILE, written.text_of(suspect.issues))
    summary = {**read_json(folder / SUMMARY), "issues": {"counts": suspect.counts, "notes": suspect.notes}}
    write_text(folder / SUMMARY, json_text(summary, indent=1) + "\n")
    report(folder)
    if not quiet and (said := written.screen(suspect, folder / written.FILE)):
        print(said, flush=True)


def _text(made: Fit, part: str, workdir: str) -> str:
    """Returns what is printed in the end: the first sentence, the leaderboard, the groups, and the next command."""
    what = "right" if made.metric in RIGHT else scores.title_of(made.metric)
    rows = [["", "seconds", f"valid: {what}", "test (95 % interval)"]]
    rows += [[one.title, f"{one.seconds:.1f}", *(cell(one, split, made.metric) for split in ("valid", "test"))] for one in made.entries]
    lines = ["", made.sentence, "", *_aligned(rows)]
    titles = {entry.name: entry.title for entry in made.entries}
    for name, groups in made.groups.items():
        models = [key for key in groups[0] if key in titles]
        listed = [[row["group"], f"{row['n']:,}", *(scores.shown_interval(made.metric, row[key]) for key in models)] for row in groups]
        lines += ["", *_aligned([[name, f"rows of {part}", *(titles[key] for key in models)], *listed])]
    simple = " --simple" if made.chosen.name == "simple" else ""
    after = [f"report: {WorkDir(workdir).report}", f"answers: assay predict --workdir={workdir} --input=FILE{simple}"]
    return "\n".join([*lines, "", *after, f"next: assay diagnose --workdir={workdir}"])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns rows of cells as lines with straight columns; the second one, of numbers, ends at the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    pad = [str.rjust if i == 1 else str.ljust for i in range(len(widths))]
    return ["  ".join(f(text, width) for f, text, width in zip(pad, row, widths, strict=True)).rstrip() for row in rows]
