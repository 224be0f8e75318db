"""Treats a finished run: each stage is trained, converted and evaluated as a run, and then all are measured alike.

What is written beside the runs is `stages.json`: {"schema": 1, "task", "metric", "split", "rows": [{name, spec, workdir, score, interval,
difference, difference_interval, p_value, n, cost, speed}], "environment"}. Scores are paired with those of the run that was treated, on the
same examples. Latency and throughput are measured in turns in this process, so that a slow minute of the machine hits all alike.
"""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from assay.cli import train as conduct
from assay.config.files import pipeline
from assay.core.errors import UserError
from assay.diagnostics.cost.cost import cost, example_batch
from assay.diagnostics.cost.speed import MANY, ONE, speed
from assay.dist import launch
from assay.reports.drawings.pareto import pareto, stages_of
from assay.reports.drawings.plots import standalone
from assay.reports.terminal.run import is_fraction
from assay.train import loop
from assay.train.checkpoint import fingerprint
from assay.train.experiment import assemble
from assay.train.progress import bar
from assay.train.step import make_step
from assay.train.workdir import WorkDir, environment, write_text
from assay.treatments.compression.distill import distill
from assay.treatments.compression.teacher import check_same, teachers
from assay.treatments.option import parse
from assay.treatments.pipeline.load import load, rebuild, treatments
from assay.treatments.pipeline.stages import Stage, plan
from assay.verdicts.comparison import Comparison, compare, headline, scores

STAGES, PICTURE, TAKEN = "stages.json", "pareto.svg", "taken_over.json"  # the last: of which checkpoint a stage goes on
UNTREATED = "untreated"
TITLES = ("parameters", "not zero", "on disk", "smaller", "FLOPs", "latency p50", "faster", "verdict", "batch of 64")
DETAILS = ("in memory", "folder", "peak memory", "XLA FLOPs", "compile", "latency p90", "examples/s", "in batches of 64")


def treat(source: str, specs: Sequence[str], workdir: str, overrides: Mapping[str, str], seconds: float) -> None:
    """Does the treatments, or those that FILE.py:NAME lists, to the run `source`, or to every run `seed_*` below it. Raises UserError."""
    specs = [one for spec in specs for one in (pipeline(spec) if spec.partition(":")[0].endswith(".py") else [spec])]
    root = Path(source)
    seeds = [] if WorkDir(root).config.exists() else sorted(root.glob("seed_*"))
    for path in seeds or [root]:
        _treat_run(str(path), specs, f"{workdir}/{path.name}" if seeds else workdir, overrides, seconds)


def measured(runs: Mapping[str, str], split: str, seconds: float) -> list[dict[str, Any]]:
    """The rows of stages.json for work directories by name, the untreated one first."""
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
    return [row | {"cost": costs[row["name"]]._asdict(), "speed": speeds[row["name"]]._asdict()} for row in rows]


def check_stage(stage: Stage) -> None:
    """What can be seen to be wrong with a stage is told before the first is trained. Raises UserError."""
    made = assemble(stage.config, treatments(stage.config["treatments"]))
    for spec in stage.config["treatments"]:
        if spec.startswith("distill:"):
            named = teachers(parse("distill", distill, spec.partition(":")[2])["from_"])
            for teacher in named:
                if WorkDir(teacher.workdir).config.exists():  # a stage before this one is not there yet
                    check_same(teacher, made.task)
    if made.treatment.given:  # of a teacher that may not be there yet
        return
    batch = made.first_batch()  # what is trained, and by what, fits
    state = jax.eval_shape(made.init_state, made.key, {}, batch)
    if made.settings.train.steps:
        jax.eval_shape(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer), state, batch)


def print_stages(found: Mapping[str, Any], console: Console | None = None) -> None:
    """A line for each stage: what it costs, what it scores, and whether it is faster or slower than the run that was treated."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    for name in (*TITLES, found["metric"], "change", "95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    first, factor = found["rows"][0], 100.0 if is_fraction("", found["metric"]) else 1.0
    for row in found["rows"]:
        price, pace = row["cost"], row["speed"]
        span = row["difference_interval"]
        table.add_row(
            row["name"],
            f"{price['parameters']:,}",
            f"{price['nonzero'] / max(price['parameters'], 1):.0%}",
            _bytes(price["bytes_on_disk"]),
            f"{first['cost']['bytes_on_disk'] / price['bytes_on_disk']:.2f}x",
            "-" if price["flops_per_example"] is None else f"{price['flops_per_example']:.3g}",
            f"{1e3 * pace['latency_p50_seconds']:.3g} ms",
            f"{pace['latency_ratio']:.2f}x",
            pace["verdict"],
            f"{pace['throughput_ratio']:.2f}x",
            f"{factor * row['score']:.4g}",
            "" if row["difference"] is None else f"{factor * row['difference']:+.2f}",
            "" if span is None else f"{factor * span[0]:+.2f} to {factor * span[1]:+.2f}",
        )
    if console is None:
        console = Console()
        console.width = max(console.width, 170)
    console.print(table)
    console.print(_details(found["rows"]))
    slower = [row["name"] for row in found["rows"] if row["speed"]["verdict"] == "slower"]
    note = f" Slower than {first['name']} on this device: {', '.join(slower)}." if slower else ""
    unit = " in per cent" if factor > 1 else ""
    console.print(
        f"{found['metric']} on {found['split']}{unit}, n = {first['n']}, paired with {first['name']}. faster: of one example, and of "
        f"batches of 64; below 1 it is slower.{note}"
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _treat_run(source: str, specs: Sequence[str], workdir: str, overrides: Mapping[str, str], seconds: float) -> None:
    if Path(workdir).resolve() == Path(source).resolve():
        raise UserError(f"--workdir={workdir} is the run that is treated, which stays as it is. Give another folder.")
    try:
        rebuild(source)
    except UserError as error:  # the folder is a flag of its own here
        raise UserError(str(error).replace("--workdir", "--from")) from None
    if not any(path.name.isdecimal() for path in WorkDir(source).checkpoints.glob("*")):
        raise UserError(f"no checkpoint in {WorkDir(source).path}, so there is nothing to treat. Train it first with experiments.main.")
    if not math.isfinite(seconds):
        raise UserError(f"--seconds={seconds} is no time. Give a number.")
    before = WorkDir(source).read_results()
    split = _split(source, before)
    stages = plan(source, specs, workdir, overrides, WorkDir(source).read_config())
    for stage in stages:
        stage.config["evaluate"]["splits"] = list(dict.fromkeys([*stage.config["evaluate"]["splits"], split]))
        check_stage(stage)
    _check_place(stages)
    words = [f"--from={source}", *(f"--treat={spec}" for spec in specs), *(f"--config.{key}={value}" for key, value in overrides.items())]
    command = " ".join(["python -m experiments.treat", *words, f"--workdir={workdir}"])
    path, renewed, took_over = Path(workdir) / STAGES, False, os.path.abspath(source)
    for i, stage in enumerate(stages):
        renewed |= _run(stage, i + 1, len(stages), command, took_over, path)
        took_over = stage.workdir
    if renewed or not path.exists():
        names = [UNTREATED, *(stage.name for stage in stages)]
        rows = measured(dict(zip(names, [source, *(stage.workdir for stage in stages)], strict=True)), split, seconds)
        specs_of = ["", *(stage.spec for stage in stages)]
        rows = [{"name": row["name"], "spec": spec, **row} for row, spec in zip(rows, specs_of, strict=True)]
        found = {"schema": 1, "task": before["rows"][0]["task"], "metric": headline(Path(source), split), "split": split, "rows": rows}
        WorkDir.write_json(path, {**found, "environment": environment()})
        if launch.leader():
            write_text(Path(workdir) / PICTURE, standalone(pareto(stages_of([workdir]))))
    if launch.leader():
        print_stages(json.loads(path.read_text()))
        print(f"stages: {path}\npicture: {Path(workdir) / PICTURE}\nreport: {WorkDir(workdir).report}")


def _check_place(stages: Sequence[Stage]) -> None:
    """Raises UserError where another pipeline lies in the folders: a finished one does not grow."""
    for stage in stages:
        folder = WorkDir(stage.workdir)
        folder.check_parts()
        if folder.config.exists() and folder.read_config()["treatments"] != list(stage.config["treatments"]):
            raise UserError(f"{stage.workdir} holds another treatment than stage {stage.name}, {stage.spec}. Choose another --workdir.")


def _run(stage: Stage, number: int, of: int, command: str, source: str, measured_in: Path) -> bool:
    """Trains, converts and evaluates a stage, anew where what it took over has changed since; whether anything was to be done."""
    folder = WorkDir(stage.workdir)
    stamp = folder.results.stat().st_mtime_ns if folder.results.exists() else None
    took, kept = folder.path / TAKEN, fingerprint(source)
    changed = took.exists() and json.loads(took.read_text()) != {"from": source, "checkpoint": kept}
    print(f"stage {number} of {of}: {stage.spec}", file=sys.stderr)
    if changed:
        measured_in.unlink(missing_ok=True)
    loop.run(stage.config, stage.workdir, treatments(stage.config["treatments"]), stage.experiment, from_step=0 if changed else None)
    WorkDir.write_json(took, {"from": source, "checkpoint": kept})
    renewed = folder.results.stat().st_mtime_ns != stamp
    if renewed or not folder.report.exists():
        measured_in.unlink(missing_ok=True)
        conduct.report(stage.workdir, command)
    return renewed


def _split(source: str, results: Mapping[str, Any]) -> str:
    """The split whose scores are paired: `test` where it was evaluated. Raises UserError where there are no predictions."""
    there = list(dict.fromkeys(row["split"] for row in results["rows"] if WorkDir(source).predictions(row["split"]).exists()))
    if not there:
        raise UserError(
            f"{source} has no evaluated split to compare with. Evaluate one: experiments.evaluate --workdir={source} --split=valid."
        )
    return "test" if "test" in there else there[0]


def _score(path: str, split: str, metric: str, compared: Comparison | None) -> dict[str, Any]:
    """The score of a run with its interval, and its difference from the untreated one."""
    rows = [row for row in WorkDir(path).read_results()["rows"] if (row["split"], row["metric"]) == (split, metric)]
    values = scores(path, split, metric)
    found: dict[str, Any] = {"score": rows[0]["value"] if rows else float(values.mean()), "interval": rows[0]["interval"] if rows else None}
    if compared is None:
        return {**found, "difference": None, "difference_interval": None, "p_value": None, "n": len(values)}
    low, high = compared.difference.low, compared.difference.high
    return {
        **found,
        "difference": compared.difference.value,
        "difference_interval": [low, high],
        "p_value": compared.difference.p_value,
        "n": compared.n,
    }


def _details(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What else was measured of each stage, by itself."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    for name in DETAILS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        price, pace = row["cost"], row["speed"]
        table.add_row(
            row["name"],
            *("-" if price[name] is None else _bytes(price[name]) for name in ("bytes_in_memory", "folder_bytes", "peak_memory_bytes")),
            "-" if price["xla_flops_per_example"] is None else f"{price['xla_flops_per_example']:.3g}",
            f"{pace['compile_seconds']:.2f} s",
            f"{1e3 * pace['latency_p90_seconds']:.3g} ms",
            f"{pace['examples_per_second']:.4g}",
            f"{pace['batched_examples_per_second']:.4g}",
        )
    return table


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
