"""Compares runs on the same examples: paired differences with intervals, and p-values with Holm's correction.

    assay compare --before=runs/A --after=runs/B
    assay compare --workdir=runs/overfitting --baseline=none --split=test --plot=differences.svg
    assay compare --pareto --workdir=runs/small --workdir=runs/small2
    assay compare a.jsonl b.jsonl --score=f1

--before and --after compare the diagnoses of two or more runs row by row, with a verdict for each row. A run without a
diagnosis of its checkpoint is diagnosed first. Latency and throughput are measured again, with all runs taking turns.
Where assay treat trained a control, as many updates without the treatment, verdicts are against the control.
Prints the card, and writes it to card.html and card.json in --out. The exit code is 1 if a row cannot be measured.

--workdir and --baseline compare the variants of a study with one of them, on one score. A variant is the folder
WORKDIR/<variant>/seed_<n> of a study, or a single run, named by its folder. Runs of the same name and seed in several
work directories, such as folds, count as one run with their mean score. --metric chooses the score. Prints the comparison;
--plot writes its picture.

--pareto compares the stages of a treatment (WORKDIR/stages.json) by score, size on disk and latency. Prints the
comparison, and writes the picture of the Pareto fronts to WORKDIR/pareto.svg or --plot.

Files of predictions from any program, as JSON Lines or CSV, are compared with the first of them, example by example. --id
names the field that identifies an example, --score the one with a number or true or false, --group the one whose examples
are resampled together. Prints the comparison; --out=card.json writes it.
"""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from assay.cli.command import launch
from assay.cli.diagnose import diagnose
from assay.cli.treat import APPLIED
from assay.config.schema import differences as config_differences
from assay.core.errors import UserError
from assay.core.file import read_json
from assay.core.plain import json_text
from assay.diagnostics.cost.speeds import Timed, timed
from assay.diagnostics.subject import Subject, held_out
from assay.dist.launch import leader
from assay.reports.card import card_page
from assay.reports.drawings.differences import differences
from assay.reports.drawings.pareto import pareto
from assay.reports.drawings.plots import standalone
from assay.reports.terminal.answers import print_answers
from assay.reports.terminal.card import print_card
from assay.reports.terminal.comparison import print_comparison
from assay.reports.terminal.stages import print_fronts
from assay.train.checkpoint import fingerprint
from assay.train.progress import bar
from assay.train.workdir import TOLD, WorkDir, check_writable, write_text
from assay.treatments.pipeline.load import load
from assay.verdicts import card as cards
from assay.verdicts.answers import compare as compare_answers
from assay.verdicts.comparison import as_json, compare, runs_of
from assay.verdicts.control import control_of
from assay.verdicts.diagnosis import ROWS, Diagnosis, read
from assay.verdicts.pareto import as_json as stages_as_json
from assay.verdicts.pareto import stages_of
from assay.verdicts.turns import CRASHED, Times, times
from assay.verdicts.verdict import ONCE

CARD, PAGE = "card.json", "card.html"
FIRST = cards.BEFORE  # key of the run before; no later run has this name
SHOWN = 6  # runs that an error message lists

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a finished run or study", flag_values=FLAGS)
BASELINE = flags.DEFINE_string("baseline", "", "Name of the variant to compare the others with.", flag_values=FLAGS)
SPLIT = flags.DEFINE_string("split", "test", "Name of an evaluated split.", flag_values=FLAGS)
METRIC = flags.DEFINE_string(
    "metric", "", "Name of a score in predictions/SPLIT.jsonl. Default: the headline metric of the task.", flag_values=FLAGS
)
FORMAT = flags.DEFINE_enum(
    "format", "text", ["text", "jsonl"], "Format of the output: readable text, or one JSON object per line.", flag_values=FLAGS
)
PLOT = flags.DEFINE_string(
    "plot",
    "",
    "SVG file to write the picture to. Default: none, or pareto.svg in the first --workdir with --pareto.",
    flag_values=FLAGS,
)
PARETO = flags.DEFINE_bool(
    "pareto", False, "Compare score, size and latency from WORKDIR/stages.json, instead of paired differences.", flag_values=FLAGS
)
BEFORE = flags.DEFINE_string(
    "before", "", "Work directory of the run to compare the others with, row by row of their diagnoses.", flag_values=FLAGS
)
AFTER = flags.DEFINE_multi_string("after", [], "Work directory of a treated run, or of any other run of the same task", flag_values=FLAGS)
OUT = flags.DEFINE_string(
    "out",
    "",
    "Folder to write card.html and card.json to. Default: the first --after. For files of predictions: the JSON file to write.",
    flag_values=FLAGS,
)
SECONDS = flags.DEFINE_float("seconds", 20.0, "Seconds to measure latency and throughput, all runs together.", flag_values=FLAGS)
ID = flags.DEFINE_string(
    "id", "", "Field that identifies an example in files of predictions. Default: id, else the line.", flag_values=FLAGS
)
SCORE = flags.DEFINE_string(
    "score",
    "",
    "Field with the score of each example, such as scores.nll. Default: score, correct or accuracy, else prediction == target.",
    flag_values=FLAGS,
)
GROUP = flags.DEFINE_string("group", "", "Field whose examples are resampled together, such as the document.", flag_values=FLAGS)
LOWER = flags.DEFINE_bool("lower_is_better", False, "The score in files of predictions is an error.", flag_values=FLAGS)


def card_of(before: str, afters: Sequence[str], seconds: float) -> dict[str, Any]:
    """Returns the card of runs by their folders. Raises UserError for folders without a run, or runs of different tasks or examples."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise UserError(f"--seconds={seconds} is not a duration. Give a number above 0.")
    check_run(before, "--before")
    names = short_names(afters)
    for name, path in zip(names, afters, strict=True):
        check_run(path, "--after")
        task, other = _task(before), _task(path)
        if task and other and task != other:  # reported before a diagnosis, which takes minutes
            raise cards.different("tasks", task, other, name)
    there = [path for path in (before, *afters) if (Path(path) / ROWS).exists()]
    quick = bool(read(there[0]).about["quick"]) if there else False
    first = diagnosed(before, quick)
    found = {}
    for name, path in zip(names, afters, strict=True):
        found[name] = diagnosed(path, quick)
        cards.check(first, found[name], name)  # before the next run is diagnosed
    workdirs = dict(zip(names, afters, strict=True))
    controls = {name: one for name, path in workdirs.items() if (one := control_of(path, before))}
    beside = {name: (one, _of_control(one.workdir, quick) if one.workdir else None) for name, one in controls.items()}
    applied = {name: said for name, path in workdirs.items() if (said := _applied(path))}
    return cards.build(first, found, retime(before, workdirs, seconds), applied, {cards.BEFORE: before, **workdirs}, beside)


def write_card(card: dict[str, Any], folder: str | Path) -> tuple[Path, Path]:
    """Writes card.json and card.html, and returns their paths."""
    rows, page = Path(folder) / CARD, Path(folder) / PAGE
    drawn = card_page(card)  # before any file is written
    write_text(page, drawn)
    WorkDir.write_json(rows, card)
    return rows, page


def diagnosed(workdir: str, quick: bool) -> Diagnosis:
    """Returns the diagnosis of a run, and diagnoses it if its checkpoint has none. Raises UserError if the diagnosis cannot be read."""
    if (Path(workdir) / ROWS).exists():
        found = read(workdir)
        kept = fingerprint(workdir)
        if not kept or found.about["checkpoint"] == kept:
            return found
        print(f"the checkpoint of {workdir} has changed since its diagnosis", file=sys.stderr)
    print(f"diagnosing {workdir}", file=sys.stderr)
    diagnose(workdir, quick)
    return read(workdir)  # as the others are read: lists in place of tuples


def check_run(workdir: str, flag: str) -> None:
    """Raises UserError if a folder holds no run, and names the runs below it, such as those of a study."""
    root = Path(workdir)
    if WorkDir(root).config.exists() or (root / ROWS).exists():
        return
    runs = sorted({path.parent for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}/config.json")})
    if runs:
        listed = ", ".join(str(path.relative_to(root)) for path in runs[:SHOWN]) + (", ..." if len(runs) > SHOWN else "")
        raise UserError(f"{workdir} holds {len(runs)} runs, but {flag} takes one. Set {flag} to one of them: {listed}.")
    raise UserError(f"no run in {workdir}: it has neither a config.json nor a {ROWS}. Set {flag} to the folder of a finished run.")


def short_names(paths: Sequence[str]) -> list[str]:
    """Returns the shortest endings of the paths that differ. Raises UserError if two are the same folder."""
    whole = [Path(path).absolute() for path in paths]
    resolved = [os.path.realpath(path) for path in whole]  # Path.resolve raises RuntimeError for a link to itself
    twice = next((path for i, path in enumerate(paths) if resolved[i] in resolved[:i]), None)
    if twice is not None:
        raise UserError(f"--after={twice} is given twice. Give each run once.")
    for parts in range(1, max(len(path.parts) for path in whole) + 1):
        names = ["/".join(path.parts[-parts - path.name.startswith("seed_") :]) for path in whole]
        if len(set(names)) == len(names) and cards.BEFORE not in names:
            return names
    return [str(path) for path in whole]


def retime(before: str, afters: Mapping[str, str], seconds: float) -> dict[str, Times]:
    """Times each run after the treatment, by name, in about `seconds` in total. If one of several fails, each takes turns with the run
    before alone. Raises UserError for a checkpoint that cannot be read."""
    untimed = {name: _untimed(before, path) for name, path in afters.items()}
    same = {name for name, path in afters.items() if one_program(before, path)}
    wanted = {name: path for name, path in afters.items() if not untimed[name] and name not in same}
    try:
        found = _in_turns({FIRST: before, **wanted}, seconds) if wanted else {}
    except UserError:
        raise
    except Exception as error:  # the other rows and the other runs stay
        if len(wanted) > 1:
            return {name: retime(before, {name: path}, seconds / len(afters))[name] for name, path in afters.items()}
        untimed |= dict.fromkeys(wanted, f"{CRASHED} {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        found, wanted = {}, {}
    return {
        name: times(found[FIRST], found[name]) if name in wanted else Times({}, {}, {}, name in same, untimed[name] or ONCE)
        for name in afters
    }


def one_program(before: str | Path, after: str | Path) -> bool:
    """Returns True if two folders hold the same checkpoint of the same configuration: one run, or its copy."""
    kept = fingerprint(before)
    if not kept or kept != fingerprint(after):
        return False
    return not {*config_differences(WorkDir(before).read_config(), WorkDir(after).read_config())}.difference(TOLD)


OF_CARDS, OF_SCORES = ("before", "after", "out", "seconds"), ("workdir", "baseline", "split", "metric", "format", "plot", "pareto")
OF_FILES, WITH_FILES = ("id", "score", "group", "lower_is_better"), ("out", "format")  # the latter also belong to the others


def main(overrides: dict[str, str], files: Sequence[str] = ()) -> None:
    if overrides:
        raise UserError("compare takes no --config overrides, since it reads the files of finished runs.")
    cards, scores, of_files = ([f"--{name}" for name in names if FLAGS[name].present] for names in (OF_CARDS, OF_SCORES, OF_FILES))
    if files:
        others = [flag for flag in (*cards, *scores) if flag.removeprefix("--") not in WITH_FILES]
        if others:
            raise UserError(f"{files[0]!r} is read as a file of predictions, which excludes {' and '.join(others)}. Give files or runs.")
        _files([os.path.expanduser(path) for path in files])
        return
    if of_files:
        raise UserError(f"{' and '.join(of_files)} needs files of predictions. Give them too: assay compare A.jsonl B.jsonl.")
    if cards and scores:
        raise UserError(
            f"{' and '.join(cards)} and {' and '.join(scores)} belong to two comparisons. Give --before and --after, or --workdir."
        )
    if cards:
        _card()
        return
    if not WORKDIR.value:
        raise UserError("missing --before and --after, or --workdir, or files of predictions. See --help.")
    if PARETO.value:
        _pareto()
        return
    if not BASELINE.value:
        raise UserError("missing --baseline. See --help.")
    found = compare(runs_of(WORKDIR.value), BASELINE.value, SPLIT.value, METRIC.value)
    if PLOT.value:
        write_text(Path(PLOT.value), standalone(differences(found)))
    if FORMAT.value == "text":
        print_comparison(found)
        return
    for one in found:
        print(json_text(as_json(one)))


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS, files=True)


# -- private --------------------------------------------------------------------------------------------------------------


def _of_control(workdir: str, quick: bool) -> Diagnosis:
    """Returns the rows of a control that verdicts are against: without those of cost and speed, unless it has been diagnosed."""
    if (Path(workdir) / ROWS).exists():
        return diagnosed(workdir, quick)
    print(f"diagnosing {workdir}", file=sys.stderr)
    return diagnose(workdir, quick, cards.UNTRAINED)


def _card() -> None:
    missing = [f"--{flag.name}" for flag in (BEFORE, AFTER) if not flag.value]
    if missing:
        raise UserError(f"missing {' and '.join(missing)}. See --help.")
    out = OUT.value or AFTER.value[0]
    check_writable(out, "--out")  # checked first, since a card takes minutes
    card = card_of(BEFORE.value, AFTER.value, SECONDS.value)
    rows, page = write_card(card, out)
    if leader():
        print_card(card)
        print(f"card: {rows}\npage: {page}")
    failed = cards.crashed(card)
    if failed:
        print(f"error: {', '.join(failed)} could not be measured; the rows state the errors.", file=sys.stderr)
        sys.exit(1)


def _files(paths: Sequence[str]) -> None:
    card = compare_answers(paths, ID.value, SCORE.value, GROUP.value, LOWER.value)
    if OUT.value:
        WorkDir.write_json(Path(OUT.value), card)
    if FORMAT.value == "text":
        print_answers(card)
        return
    for one in card["files"]:
        print(json_text(one))


def _pareto() -> None:
    if BASELINE.value or METRIC.value:
        raise UserError(
            "--pareto takes neither --baseline nor --metric, since stages.json holds one metric and its first row is the baseline."
        )
    found = stages_of(WORKDIR.value)
    path = Path(PLOT.value) if PLOT.value else Path(WORKDIR.value[0]) / "pareto.svg"
    write_text(path, standalone(pareto(found)))
    if FORMAT.value == "text":
        print_fronts(found)
        print(f"picture: {path}")
        return
    for one in stages_as_json(found):
        print(json_text(one))


def _in_turns(runs: Mapping[str, str], seconds: float) -> dict[str, Timed]:
    subjects = {}
    for name, path in runs.items():
        model, params, task = load(path)
        subjects[name] = Subject(model, params, task, held_out(task))
    with bar("speed", 100, "%") as update:
        return timed(subjects, seconds, lambda done, turns: update(round(100 * done / turns), {}))


def _untimed(before: str, after: str) -> str:
    """Returns the reason why two runs cannot be timed, or ""."""
    missing = [str(path) for path in (before, after) if not fingerprint(path)]
    return f"not measured in turns: no checkpoint in {' and '.join(missing)}" if missing else ""


def _task(workdir: str) -> str:
    """Returns the name of the task, or "" if the folder holds a diagnosis without a run."""
    folder = WorkDir(workdir)
    return str(folder.read_config()["task"].get("name")) if folder.config.exists() else ""


def _applied(workdir: str) -> dict[str, Any] | None:
    """Returns the suggestion that was applied to make the run, or None."""
    path = Path(workdir) / APPLIED
    if not path.exists():
        return None
    try:
        said = read_json(path)
        if not {"row", "expects"} <= set(said["suggestion"]) or not isinstance(said["from"], str):
            raise ValueError("it lacks a row or its expected change")
        return dict(said)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}. Remove it, or apply the suggestion again with assay treat.") from None
