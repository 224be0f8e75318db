"""Applies treatments to a finished run, stage by stage, and measures what each stage gains and costs.

    assay treat --from=runs/teacher --treat=quantize:int8 --workdir=runs/small
    assay treat --from=runs/teacher --treat=distill:student=small,T=4 --treat=prune:units=0.5 --treat=quantize:int8 \\
        --workdir=runs/small
    assay treat --from=runs/parity --apply=1 --workdir=runs/improved            (suggestion 1 of `assay diagnose`)

Treatments include distillation, pruning, quantization and factorization. `assay list --matrix` prints which treatment
applies to which models. Give --treat once per stage, in order, as NAME or NAME:OPTION=VALUE,.... Alternatively, give a
pipeline of a config file, such as experiments/compress/scan.py:small. Every stage also accepts steps=N, its number of
updates, and rate=R, its learning rate. The student of distill is small, another variant, FILE.py:VARIANT, or itself.
--config.KEY=VALUE overrides a key of every stage.

A stage that trains is compared with a control in WORKDIR/stages/: as many updates at the same rate from the same start,
without the treatment. It doubles the training time; --control=False leaves it out.

The run in --from is not changed. WORKDIR becomes the treated run, with the earlier stages in WORKDIR/stages/.
WORKDIR/stages.json and WORKDIR/pareto.svg compare the stages. With --apply, WORKDIR/applied.json holds the suggestion
and its predicted effect. Run the same command again to resume a stopped pipeline.
"""

import math
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from absl import flags

from assay.cli.command import launch
from assay.cli.train import report
from assay.config import modules
from assay.config.files import names_file, pipeline
from assay.core.errors import UserError
from assay.core.file import read_json
from assay.diagnostics.cost.cost import cost, example_batch
from assay.diagnostics.cost.speed import MANY, ONE, speed
from assay.dist.launch import leader
from assay.reports.drawings.pareto import pareto
from assay.reports.drawings.plots import standalone
from assay.reports.terminal.stages import print_stages
from assay.train import loop
from assay.train.checkpoint import fingerprint
from assay.train.progress import bar
from assay.train.workdir import WorkDir, environment, held, write_text
from assay.treatments.pipeline.check import check_stage
from assay.treatments.pipeline.load import load, rebuild, treatments
from assay.treatments.pipeline.stages import FOLDER, Stage, plan, plan_controls
from assay.verdicts.comparison import Comparison, compare, headline, mean_score, scores
from assay.verdicts.diagnosis import read
from assay.verdicts.pareto import read_stages, stages_of

STAGES, PICTURE, TAKEN = "stages.json", "pareto.svg", "taken_over.json"  # the last: the checkpoint that a stage starts from
APPLIED = "applied.json"  # in a treated run: {"from": WORKDIR, "suggestion": {...}}, to compare its diagnosis with the prediction
UNTREATED = "untreated"

FLAGS = flags.FlagValues()
FROM = flags.DEFINE_string("from", "", "Work directory of a finished run, or a folder of its seeds seed_<n>.", flag_values=FLAGS)
TREAT = flags.DEFINE_multi_string(
    "treat", [], "Treatment of a stage, as NAME or NAME:OPTION=VALUE,..., or a pipeline FILE.py:NAME", flag_values=FLAGS
)
APPLY = flags.DEFINE_integer(
    "apply", None, "Number of the suggestion to apply, from the diagnosis of --from; instead of --treat.", flag_values=FLAGS
)
WORKDIR = flags.DEFINE_string("workdir", "", "Work directory of the treated run.", flag_values=FLAGS)
SECONDS = flags.DEFINE_float(
    "seconds", 20.0, "Seconds to measure latency and throughput, all stages together.", lower_bound=0.0, flag_values=FLAGS
)
CONTROL = flags.DEFINE_bool(
    "control", True, "Also train a control: as many updates at the same rate, without the treatments.", flag_values=FLAGS
)


def treat(
    source: str,
    specs: Sequence[str],
    workdir: str,
    overrides: Mapping[str, str],
    seconds: float,
    control: bool = True,
    summary: bool = True,
) -> None:
    """Applies the treatments, or those that FILE.py:NAME lists, to the run `source` or to every run `seed_*` below it. Raises UserError."""
    specs = [one for spec in specs for one in (pipeline(spec) if names_file(spec) else [spec])]
    root = Path(source)
    seeds = [] if WorkDir(root).config.exists() else sorted(root.glob("seed_*"))
    for path in seeds or [root]:
        _treat_run(str(path), specs, f"{workdir}/{path.name}" if seeds else workdir, overrides, seconds, control, summary)


def measured(runs: Mapping[str, str], split: str, seconds: float, controls: Mapping[str, str] = {}) -> list[dict[str, Any]]:
    """Returns the rows of stages.json for work directories by name, the untreated one first. `controls` are those of stages by name."""
    loaded = {name: load(path) for name, path in runs.items()}
    _, _, task = next(iter(loaded.values()))
    batches: Any = {rows: example_batch(task, "", rows) for rows in (ONE, MANY)}
    costs = {name: cost(model, params, batches[ONE]) for name, (model, params, _) in loaded.items()}
    with bar("speed", 100, "%") as update:
        speeds = speed(
            {name: (model, params, batches) for name, (model, params, _) in loaded.items()},
            seconds,
            lambda done, turns: update(round(100 * done / turns), {}),
        )
    first, *others = runs
    pairs = {name: {0: [Path(path)]} for name, path in runs.items()}
    metric = headline(Path(runs[first]), split)
    compared = {one.name: one for one in compare(pairs, first, split, metric)} if others else {}
    rows = [{"name": name, "workdir": path, **_score(path, split, metric, compared.get(name))} for name, path in runs.items()]
    rows = [{**row, "control": _beside(row["workdir"], controls.get(row["name"]), split, metric)} for row in rows]
    paces = {name: {**found._asdict(), "timing": found.timing.plain()} for name, found in speeds.items()}
    return [row | {"cost": costs[row["name"]]._asdict(), "speed": paces[row["name"]]} for row in rows]


def suggestion(source: str, number: int) -> dict[str, Any]:
    """Returns suggestion `number` of the diagnosis in `source`. Raises UserError if there is no diagnosis or no such suggestion."""
    root = Path(source)
    if not WorkDir(root).config.exists() and (seeds := sorted(root.glob("seed_*"))):
        raise UserError(
            f"--apply={number} applies a suggestion of one run's diagnosis, but {source} holds {len(seeds)} runs. Set --from to one, "
            f"such as {seeds[0]}."
        )
    found = read(source)
    if found.about["checkpoint"] != fingerprint(source):
        raise UserError(f"{source} has been trained further since its diagnosis. Diagnose it again: assay diagnose --workdir={source}")
    known = found.suggestions
    for one in known:
        if one["number"] == number:
            return one
    listed = "".join(f"\n  {one['number']}  {one['treatment']}  ({one['rule']})" for one in known)
    told = f"Its suggestions:{listed}" if known else "It suggests nothing; name a treatment with --treat."
    raise UserError(f"--apply={number} is not a suggestion of the diagnosis in {source}. {told}")


def apply(source: str, number: int, workdir: str, overrides: Mapping[str, str], seconds: float, control: bool = True) -> None:
    """Applies suggestion `number` to the run in `source`, and writes the treated run to `workdir`. Raises UserError."""
    chosen = suggestion(source, number)
    print(f"suggestion {number}: {chosen['treatment']}\n{chosen['rule']}")
    treat(source, [chosen["treatment"]], workdir, overrides, seconds, control)
    if leader():
        WorkDir.write_json(Path(workdir) / APPLIED, {"from": os.path.abspath(source), "suggestion": chosen})


def main(overrides: dict[str, str]) -> None:
    if APPLY.value is not None and TREAT.value:
        raise UserError(f"--apply={APPLY.value} and --treat={TREAT.value[0]} exclude each other. Give one of them.")
    if APPLY.value is not None:
        apply(FROM.value, APPLY.value, WORKDIR.value, overrides, SECONDS.value, CONTROL.value)
    elif TREAT.value:
        treat(FROM.value, TREAT.value, WORKDIR.value, overrides, SECONDS.value, CONTROL.value)
    else:
        raise UserError("missing --treat, or --apply=N for a suggestion of the run's diagnosis. See --help.")


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS, required=("from", "workdir"))


# -- private --------------------------------------------------------------------------------------------------------------


def _treat_run(
    source: str, specs: Sequence[str], workdir: str, overrides: Mapping[str, str], seconds: float, control: bool, summary: bool
) -> None:
    if os.path.realpath(workdir) == os.path.realpath(source):
        raise UserError(f"--workdir={workdir} is the run to treat, which is not changed. Give another folder.")
    try:
        rebuild(source)
    except UserError as error:  # here another flag names the folder
        raise UserError(str(error).replace("--workdir", "--from")) from None
    if not any(path.name.isdecimal() for path in WorkDir(source).checkpoints.glob("*")):
        raise UserError(f"no checkpoint in {WorkDir(source).path}, so there is nothing to treat. Train it first with assay train.")
    if not math.isfinite(seconds):
        raise UserError(f"--seconds={seconds} is not a duration. Give a finite number.")
    before = WorkDir(source).read_results()
    split = _split(source, before)
    base = WorkDir(source).read_config()
    try:
        stages = plan(source, specs, workdir, overrides, base)
        for stage in stages:
            stage.config["evaluate"]["splits"] = list(dict.fromkeys([*stage.config["evaluate"]["splits"], split]))
            check_stage(stage)
    except UserError as error:  # here another flag names the treatments
        raise type(error)(re.sub(r"(Change|Change it in|from) --config\.treatments", r"\1 --treat", str(error))) from None
    controls = plan_controls(source, stages, workdir, base) if control else [None] * len(stages)
    several = {one.workdir: one for one in controls if one is not None}
    _check_place([*stages, *several.values()])
    words = [f"--from={source}", *(f"--treat={spec}" for spec in specs), *(f"--config.{key}={value}" for key, value in overrides.items())]
    words += [f"--import={name}" for name in modules.given()] + ([] if control else ["--control=False"])
    command = shlex.join(["assay", "treat", *words, f"--workdir={workdir}"])
    if str(base["model"].get("name")).startswith(modules.OWN):  # a command does not know its code
        command = f"assay.treat({source!r}, {list(specs)!r}, {workdir!r}{f', {dict(overrides)!r}' if overrides else ''})"
    path, renewed = Path(workdir) / STAGES, False
    with held(Path(workdir) / FOLDER):  # the last stage trains in `workdir`, which it holds itself
        for arm, listed in (("stage", stages), ("control", list(several.values()))):
            took_over = os.path.abspath(source)
            for i, stage in enumerate(listed):
                print(f"{arm} {i + 1} of {len(listed)}: {stage.spec or 'the same updates without the treatments'}", file=sys.stderr)
                renewed |= _run(stage, command, took_over, path)
                took_over = stage.workdir
        if renewed or not path.exists():
            names = [UNTREATED, *(stage.name for stage in stages)]
            beside = {stage.name: one.workdir for stage, one in zip(stages, controls, strict=True) if one is not None}
            rows = measured(dict(zip(names, [source, *(stage.workdir for stage in stages)], strict=True)), split, seconds, beside)
            _check_scores(rows, split)
            told = zip(rows, ["", *(stage.spec for stage in stages)], [0, *_updates(stages)], strict=True)
            rows = [
                {"name": row["name"], "spec": spec, "updates": updates, **row, "control": _inside(row["control"], workdir)}
                for row, spec, updates in told
            ]
            found = {"schema": 1, "task": before["rows"][0]["task"], "metric": headline(Path(source), split), "split": split, "rows": rows}
            WorkDir.write_json(path, {**found, "environment": environment()})
            if leader():
                write_text(Path(workdir) / PICTURE, standalone(pareto(stages_of([workdir]))))
    with suppress(OSError):
        (Path(workdir) / FOLDER).rmdir()  # empty after a single stage without a control
    if summary and leader():
        print_stages(read_stages(path))
        print(f"stages: {path}\npicture: {Path(workdir) / PICTURE}\nreport: {WorkDir(workdir).report}")


def _check_place(stages: Sequence[Stage]) -> None:
    """Raises UserError if the folders hold another pipeline; a finished pipeline cannot be extended."""
    for stage in stages:
        folder = WorkDir(stage.workdir)
        folder.check_parts()
        if folder.config.exists() and folder.read_config()["treatments"] != list(stage.config["treatments"]):
            raise UserError(f"{stage.workdir} holds treatments other than those of {stage.name}. Choose another --workdir.")


def _run(stage: Stage, command: str, source: str, measured_in: Path) -> bool:
    """Trains, converts and evaluates a stage, from scratch if the run it starts from has changed. Returns True if there was work to do."""
    folder = WorkDir(stage.workdir)
    stamp = folder.results.stat().st_mtime_ns if folder.results.exists() else None
    took, kept = folder.path / TAKEN, fingerprint(source)
    changed = took.exists() and _taken(took) != {"from": source, "checkpoint": kept}
    if changed:
        measured_in.unlink(missing_ok=True)
    treated = treatments(stage.config["treatments"])
    loop.run(stage.config, stage.workdir, treated, stage.experiment, from_step=0 if changed else None, overrides=stage.overrides)
    WorkDir.write_json(took, {"from": source, "checkpoint": kept})
    renewed = folder.results.stat().st_mtime_ns != stamp
    if renewed or not folder.report.exists():
        measured_in.unlink(missing_ok=True)
        report(stage.workdir, command)
    return renewed


def _taken(path: Path) -> Any:
    """Returns what a stage noted about the checkpoint that it started from. Raises UserError."""
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Choose another --workdir.") from None


def _split(source: str, results: Mapping[str, Any]) -> str:
    """Returns the split whose scores are paired: `test` if it was evaluated. Raises UserError if there are no predictions."""
    there = list(dict.fromkeys(row["split"] for row in results["rows"] if WorkDir(source).predictions(row["split"]).exists()))
    if not there:
        raise UserError(f"{source} has no evaluated split to compare with. Evaluate one: assay evaluate --workdir={source} --split=valid.")
    return "test" if "test" in there else there[0]


def _score(path: str, split: str, metric: str, compared: Comparison | None) -> dict[str, Any]:
    """Returns the score of a run with its interval, and its difference from the untreated run."""
    found = _own_score(path, split, metric)
    if compared is None:
        return {**found, "difference": None, "difference_interval": None, "p_value": None}
    return {**found, **_change(compared)}


def _beside(path: str, control: str | None, split: str, metric: str) -> dict[str, Any] | None:
    """Returns the score of a stage's control, and the difference of the stage from it."""
    if control is None:
        return None
    compared = compare({"control": {0: [Path(control)]}, "stage": {0: [Path(path)]}}, "control", split, metric)
    return {"workdir": control, **_own_score(control, split, metric), **_change(next(one for one in compared if one.name == "stage"))}


def _inside(control: dict[str, Any] | None, workdir: str) -> dict[str, Any] | None:
    """Returns the control with its folder relative to the work directory, which may be moved."""
    return None if control is None else {**control, "workdir": os.path.relpath(control["workdir"], os.path.abspath(workdir))}


def _check_scores(rows: Sequence[Mapping[str, Any]], split: str) -> None:
    """Raises UserError if a score is not finite: then the stages have no order, and stages.json would be read as damaged."""
    lost = [row["name"] for row in rows if row["score"] is None or not math.isfinite(row["score"])]
    if lost:
        raise UserError(
            f"the score of {', '.join(lost)} on {split} is not finite, so the stages cannot be compared. Each stage is a run with its own "
            "report; try a milder treatment in another --workdir."
        )


def _updates(stages: Sequence[Stage]) -> list[int]:
    """Returns the updates of each stage's model since the treated run, or since its initialization."""
    found: list[int] = []
    for stage in stages:
        steps, inherits = int(stage.config["train"]["steps"]), any(spec.startswith("inherit:") for spec in stage.config["treatments"])
        found.append(steps + (found[-1] if inherits and found else 0))
    return found


def _own_score(path: str, split: str, metric: str) -> dict[str, Any]:
    rows = [row for row in WorkDir(path).read_results()["rows"] if (row["split"], row["metric"]) == (split, metric)]
    values = scores(path, split, metric)
    value, interval = (rows[0]["value"], rows[0]["interval"]) if rows else (mean_score(path, split, metric), None)
    return {"score": value, "interval": interval, "n": len(values)}


def _change(compared: Comparison) -> dict[str, Any]:
    low, high = compared.difference.low, compared.difference.high
    known = math.isfinite(low) and math.isfinite(high)
    interval = [low, high] if known else None
    return {
        "difference": compared.difference.value,
        "difference_interval": interval,
        "p_value": compared.difference.p_value,
        "n": compared.n,
    }
