"""Compares runs on the same examples: paired differences, intervals, p-values corrected by Holm.

    assay compare --before=runs/A --after=runs/B [--after=runs/C ...] [--out=DIR] [--seconds=20]
    assay compare --workdir=runs/overfitting --baseline=none --split=test
    assay compare --workdir=runs/a --workdir=runs/b --baseline=a --split=valid --metric=nll
    assay compare --workdir=runs/overfitting --baseline=none --plot=differences.svg
    assay compare --pareto --workdir=runs/small [--workdir=runs/small2 ...] [--plot=pareto.svg]

With --before and --after every row of two or more diagnoses stands side by side, with a verdict each: in the terminal, and as card.html and
card.json in --out. A run that has no diagnosis of its checkpoint is diagnosed first. Times are measured again, all runs in turns.
With --baseline the variants of a study are compared with one of them by one score. A variant is the folder WORKDIR/<variant>/seed_<n>
of a study, or a run by its folder's name. Runs with one name and one seed in several work directories, such as folds, count as one: the
mean of their scores. With --pareto the stages of a treatment (WORKDIR/stages.json) stand side by side, by score, size on disk and latency,
and the picture of their Pareto fronts is written to WORKDIR/pareto.svg.
"""

import json
import math
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
from assay.diagnostics.cost.speeds import Timed, timed
from assay.diagnostics.subject import Subject, held_out
from assay.dist.launch import leader
from assay.reports.card import card_page
from assay.reports.drawings.differences import differences
from assay.reports.drawings.pareto import pareto
from assay.reports.drawings.plots import standalone
from assay.reports.terminal.card import print_card
from assay.reports.terminal.comparison import print_comparison
from assay.reports.terminal.stages import print_fronts
from assay.train.checkpoint import fingerprint
from assay.train.progress import bar
from assay.train.workdir import WorkDir, check_writable, write_text
from assay.treatments.pipeline.load import load
from assay.verdicts import card as cards
from assay.verdicts.comparison import as_json, compare, runs_of
from assay.verdicts.diagnosis import ROWS, Diagnosis, read
from assay.verdicts.pareto import as_json as stages_as_json
from assay.verdicts.pareto import stages_of
from assay.verdicts.turns import CRASHED, Times, times
from assay.verdicts.verdict import ONCE

CARD, PAGE = "card.json", "card.html"
FIRST = ""  # no name of a run
SHOWN = 6  # runs that a mistake lists

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a finished run or study; may be given several times.", flag_values=FLAGS)
BASELINE = flags.DEFINE_string("baseline", "", "Name of the variant that the others are compared with.", flag_values=FLAGS)
SPLIT = flags.DEFINE_string("split", "test", "Name of an evaluated split.", flag_values=FLAGS)
METRIC = flags.DEFINE_string("metric", "", "A score of predictions/SPLIT.jsonl; empty: the headline.", flag_values=FLAGS)
FORMAT = flags.DEFINE_enum("format", "text", ["text", "jsonl"], "For people, or a JSON object a line.", flag_values=FLAGS)
PLOT = flags.DEFINE_string(
    "plot",
    "",
    "A file that the picture is written to, as SVG; empty: none, and WORKDIR/pareto.svg of the first with --pareto.",
    flag_values=FLAGS,
)
PARETO = flags.DEFINE_bool(
    "pareto", False, "Score against size and latency, from WORKDIR/stages.json, in place of paired differences.", flag_values=FLAGS
)
BEFORE = flags.DEFINE_string(
    "before", "", "Folder of the run that others are set against, row by row of their diagnoses.", flag_values=FLAGS
)
AFTER = flags.DEFINE_multi_string(
    "after", [], "Folder of a run after a treatment, or of any other of the task; may be given several times.", flag_values=FLAGS
)
OUT = flags.DEFINE_string(
    "out", "", "Folder that card.html and card.json are written to; empty: that of the first --after.", flag_values=FLAGS
)
SECONDS = flags.DEFINE_float("seconds", 20.0, "Seconds in which times are measured, of all runs together.", flag_values=FLAGS)


def card_of(before: str, afters: Sequence[str], seconds: float) -> dict[str, Any]:
    """The card of runs by their folders. Raises UserError for folders that are no runs, or runs that were asked other questions."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise UserError(f"--seconds={seconds} is no time to measure in. Give a number above 0.")
    check_run(before, "--before")
    names = short_names(afters)
    for name, path in zip(names, afters, strict=True):
        check_run(path, "--after")
        task, other = _task(before), _task(path)
        if task and other and task != other:  # told before a diagnosis, which takes minutes
            raise cards.different("tasks", task, other, name)
    there = [path for path in (before, *afters) if (Path(path) / ROWS).exists()]
    quick = bool(read(there[0]).about["quick"]) if there else False
    first = diagnosed(before, quick)
    found = {}
    for name, path in zip(names, afters, strict=True):
        found[name] = diagnosed(path, quick)
        cards.check(first, found[name], name)  # before the next is diagnosed
    workdirs = dict(zip(names, afters, strict=True))
    applied = {name: said for name, path in workdirs.items() if (said := _applied(path))}
    return cards.build(first, found, retime(before, workdirs, seconds), applied, {cards.BEFORE: before, **workdirs})


def write_card(card: dict[str, Any], folder: str | Path) -> tuple[Path, Path]:
    """card.json and card.html, and where they are."""
    rows, page = Path(folder) / CARD, Path(folder) / PAGE
    drawn = card_page(card)  # before anything is written
    write_text(page, drawn)
    WorkDir.write_json(rows, card)
    return rows, page


def diagnosed(workdir: str, quick: bool) -> Diagnosis:
    """The diagnosis of a run, made where it has none of its present checkpoint. Raises UserError where one is there that cannot be read."""
    if (Path(workdir) / ROWS).exists():
        found = read(workdir)
        kept = fingerprint(workdir)
        if not kept or found.about["checkpoint"] == kept:
            return found
        print(f"{workdir} has another checkpoint than when it was diagnosed", file=sys.stderr)
    print(f"diagnosing {workdir}", file=sys.stderr)
    diagnose(workdir, quick)
    return read(workdir)  # as the others are: lists where tuples were


def check_run(workdir: str, flag: str) -> None:
    """Raises UserError where a folder holds no run, and names the runs below it, such as those of a study."""
    root = Path(workdir)
    if WorkDir(root).config.exists() or (root / ROWS).exists():
        return
    runs = sorted({path.parent for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}/config.json")})
    if runs:
        listed = ", ".join(str(path.relative_to(root)) for path in runs[:SHOWN]) + (", ..." if len(runs) > SHOWN else "")
        raise UserError(f"{workdir} holds {len(runs)} runs, and {flag} takes one. Give {flag} one of them: {listed}.")
    raise UserError(f"no run in {workdir}: it has neither a config.json nor a {ROWS}. Give {flag} the folder of a finished run.")


def short_names(paths: Sequence[str]) -> list[str]:
    """The ends of paths that tell them apart. Raises UserError where two are the same folder."""
    whole = [Path(path).absolute() for path in paths]
    resolved = [path.resolve() for path in whole]
    twice = next((path for i, path in enumerate(paths) if resolved[i] in resolved[:i]), None)
    if twice is not None:
        raise UserError(f"--after={twice} is given twice. Give each run once.")
    for parts in range(1, max(len(path.parts) for path in whole) + 1):
        names = ["/".join(path.parts[-parts - path.name.startswith("seed_") :]) for path in whole]
        if len(set(names)) == len(names) and cards.BEFORE not in names:
            return names
    return [str(path) for path in whole]


def retime(before: str, afters: Mapping[str, str], seconds: float) -> dict[str, Times]:
    """Of each run after, by name, in about `seconds` in all. Where one of several fails, each takes turns with the run before alone. Raises
    UserError for a checkpoint that cannot be read."""
    untimed = {name: _untimed(before, path) for name, path in afters.items()}
    same = {name for name, path in afters.items() if one_program(before, path)}
    wanted = {name: path for name, path in afters.items() if not untimed[name] and name not in same}
    try:
        found = _in_turns({FIRST: before, **wanted}, seconds) if wanted else {}
    except UserError:
        raise
    except Exception as error:  # it takes neither the other rows with it nor the other runs
        if len(wanted) > 1:
            return {name: retime(before, {name: path}, seconds / len(afters))[name] for name, path in afters.items()}
        untimed |= dict.fromkeys(wanted, f"{CRASHED} {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        found, wanted = {}, {}
    return {
        name: times(found[FIRST], found[name]) if name in wanted else Times({}, {}, {}, name in same, untimed[name] or ONCE)
        for name in afters
    }


def one_program(before: str | Path, after: str | Path) -> bool:
    """Whether two folders hold the same checkpoint of the same configuration: one run, or its copy."""
    kept = fingerprint(before)
    if not kept or kept != fingerprint(after):
        return False
    return not {*config_differences(WorkDir(before).read_config(), WorkDir(after).read_config())} - {"experiment"}


OF_CARDS, OF_SCORES = ("before", "after", "out", "seconds"), ("workdir", "baseline", "split", "metric", "format", "plot", "pareto")


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("compare takes no --config overrides: it reads what runs have written.")
    cards, scores = ([f"--{name}" for name in names if FLAGS[name].present] for names in (OF_CARDS, OF_SCORES))
    if cards and scores:
        raise UserError(
            f"{' and '.join(cards)} and {' and '.join(scores)} are of two comparisons. Give --before and --after, or --workdir."
        )
    if cards:
        _card()
        return
    if not WORKDIR.value:
        raise UserError("missing --before and --after, or --workdir. See --help.")
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
        print(json.dumps(as_json(one)))


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS)


# -- private --------------------------------------------------------------------------------------------------------------


def _card() -> None:
    missing = [f"--{flag.name}" for flag in (BEFORE, AFTER) if not flag.value]
    if missing:
        raise UserError(f"missing {' and '.join(missing)}. See --help.")
    out = OUT.value or AFTER.value[0]
    check_writable(out)  # a card takes minutes
    card = card_of(BEFORE.value, AFTER.value, SECONDS.value)
    rows, page = write_card(card, out)
    if leader():
        print_card(card)
        print(f"card: {rows}\npage: {page}")
    failed = cards.crashed(card)
    if failed:
        print(f"error: {', '.join(failed)} could not be measured; the rows say what happened.", file=sys.stderr)
        sys.exit(1)


def _pareto() -> None:
    if BASELINE.value or METRIC.value:
        raise UserError("--pareto takes neither --baseline nor --metric: stages.json holds one metric, and its first row is the baseline.")
    found = stages_of(WORKDIR.value)
    path = Path(PLOT.value) if PLOT.value else Path(WORKDIR.value[0]) / "pareto.svg"
    write_text(path, standalone(pareto(found)))
    if FORMAT.value == "text":
        print_fronts(found)
        print(f"picture: {path}")
        return
    for one in stages_as_json(found):
        print(json.dumps(one))


def _in_turns(runs: Mapping[str, str], seconds: float) -> dict[str, Timed]:
    subjects = {}
    for name, path in runs.items():
        model, params, task = load(path)
        subjects[name] = Subject(model, params, task, held_out(task))
    with bar("speed", 100, "%") as update:
        return timed(subjects, seconds, lambda done, turns: update(round(100 * done / turns), {}))


def _untimed(before: str, after: str) -> str:
    """Why two runs cannot be timed, or ""."""
    missing = [str(path) for path in (before, after) if not fingerprint(path)]
    return f"not measured in turns: no checkpoint in {' and '.join(missing)}" if missing else ""


def _task(workdir: str) -> str:
    """ "" where a diagnosis without a run lies in the folder."""
    folder = WorkDir(workdir)
    return str(folder.read_config()["task"].get("name")) if folder.config.exists() else ""


def _applied(workdir: str) -> dict[str, Any] | None:
    """What was suggested, and done to get the run; None where nothing was."""
    path = Path(workdir) / APPLIED
    if not path.exists():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if not {"row", "expects"} <= set(said["suggestion"]) or not isinstance(said["from"], str):
            raise ValueError("it lacks a row or what is expected of it")
        return dict(said)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}. Remove it, or apply the suggestion again with experiments.treat.") from None
