"""Runs a suite: a grid of tasks and models, as far as a time budget allows, on one page.

Runs follow the suite's order of importance. Each is written to `workdir/<task>/<model>/seed_<n>`, as any run. A finished run is read and
not repeated. A run that exceeds the remaining budget is skipped, and the page says so; the same command with a larger budget adds it. The
expected time of a run is its estimate, scaled by the median ratio of measured to estimated time so far.
"""

import re
import shlex
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from assay import config as configs
from assay.cli.train import run as train
from assay.config import modules
from assay.config.seeds import seeds_text
from assay.config.suites import Entry
from assay.core.errors import UserError
from assay.reports.grid import Cell, headline, missing, render
from assay.reports.table import DASH
from assay.reports.view import read_run
from assay.train.experiment import assemble
from assay.train.loop import FREE
from assay.train.workdir import EXTRA, WorkDir, held, write_text
from assay.treatments.pipeline.load import treatments

FIXED = {  # keys that identify a cell of the grid
    "seed": "a suite takes its seeds from --seeds=FIRST:LAST",
    "task.name": "each of its cells is a task",
    "evaluate.splits": "each of its cells is scored on one split",
}
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """Converts `10m`, `90s` or `2h` to seconds; empty: no limit. Raises UserError."""
    if not text:
        return float("inf")
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or float(found[1]) <= 0:
        raise UserError(f"--budget={text!r} is not a duration. Write a number above 0 with s, m or h, such as 10m.")
    return float(found[1]) * UNITS[found[2]]


def run(
    name: str,
    about: str,
    entries: Sequence[Entry],
    seeds: Sequence[int],
    overrides: Mapping[str, str],
    budget: str,
    workdir: str,
) -> None:
    """Runs what the budget allows, and writes `workdir/report.html` and `results.json` after each run. Raises UserError."""
    limit, began, root = seconds_of(budget), time.monotonic(), Path(workdir)
    if (root / "config.json").exists():
        raise UserError(f"{root} holds a single run. Give the suite another --workdir.")
    for key in FIXED:
        if key in overrides:
            raise UserError(f"--config.{key} cannot be changed for a suite: {FIXED[key]}. Omit it, or run one config with --config.")
    planned = [(entry, seed, folder_of(root, entry, seed)) for seed in seeds for entry in entries]
    there = [_is_there(path, entry, {**overrides, "seed": str(seed)}) for entry, seed, path in planned]  # before the first run starts
    command = shlex.join(
        ["assay", "study", f"--suite={name}", *([f"--budget={budget}"] if budget else []), f"--seeds={seeds_text(seeds)}"]
        + [f"--import={name}" for name in modules.given()]
        + [f"--config.{key}={value}" for key, value in overrides.items()]
        + [f"--workdir={workdir}"]
    )
    page = partial(_write, root, name, about, entries, seeds, command)
    taken: list[float] = []  # seconds of each run, divided by its estimate
    why: dict[Path, str] = {}  # reasons for runs that were skipped
    failed: list[str] = []
    with held(root):
        for (entry, seed, path), finished in zip(planned, there, strict=True):
            if finished:
                continue
            title = f"{entry.task}, {entry.model}, seed {seed}"
            expected, rest = entry.seconds * (float(np.median(taken)) if taken else 1.0), limit - (time.monotonic() - began)
            if expected > rest:
                why[path] = f"{title}: needs about {expected:.0f} s, but {max(rest, 0):.0f} s of the budget were left"
                continue
            print(f"{title}: about {expected:.0f} s", flush=True)
            started = time.monotonic()
            try:
                train(entry.spec, {**entry.overrides, **overrides, "seed": str(seed)}, path, summary=False)
            except UserError as error:  # the others can still run
                why[path] = f"{title}: {error}"
                failed.append(why[path])
            else:
                taken.append((time.monotonic() - started) / entry.seconds)
            page(why)
        _print(page(why))
    for text in why.values():
        print(f"not run: {text}")
    print(f"report: {root / 'report.html'}")
    if failed:
        raise UserError(f"{len(failed)} of {len(planned)} runs failed; the first: {failed[0]}")


def folder_of(root: Path, entry: Entry, seed: int) -> Path:
    """Returns the work directory of a run."""
    part = lambda text: re.sub(r"[^\w.-]+", "-", text).strip("-")  # noqa: E731
    return root / part(entry.task) / part(entry.model) / f"seed_{seed}"


# -- private --------------------------------------------------------------------------------------------------------------


def _is_there(path: Path, entry: Entry, overrides: Mapping[str, str]) -> bool:
    """Returns True if the run is finished. Raises UserError for an invalid config, and if the folder holds a run of another config."""
    config = configs.to_dict(configs.override(configs.load(entry.spec), {**entry.overrides, **overrides}))
    treated = treatments(config["treatments"])
    folder = WorkDir(path)
    if not folder.config.exists():
        if len(overrides) > 1:  # besides the seed: errors are better reported before the first run than after it
            assemble(config, treated)
        return False
    kept = folder.read_config()
    asked: dict[str, Any] = {
        **{key: kept[key] for key in EXTRA if key in kept},
        **config,
    }
    folder.check(asked, FREE)
    return folder.finished(asked) is not None


def _write(
    root: Path, name: str, about: str, entries: Sequence[Entry], seeds: Sequence[int], command: str, why: Mapping[Path, str]
) -> list[Cell]:
    cells: list[Cell] = []
    rows: list[dict[str, Any]] = []
    environment: Mapping[str, Any] = {}
    runs = 0
    for entry in entries:
        found: list[dict[str, Any]] = []
        link, reason = "", ""
        for seed in seeds:
            path = folder_of(root, entry, seed)
            reason = reason or why.get(path, "")
            if WorkDir(path).results.exists():
                view = read_run(path)
                environment = view.environment
                found += view.rows
                runs += 1
                link = link or str((path / "report.html").relative_to(root))
        cells.append(Cell(entry.task, entry.model, entry.split, entry.metric, found, link, reason))
        rows += found
    summary = f"{about} {runs} of {len(entries) * len(seeds)} runs are finished."
    write_text(root / "report.html", render(f"Suite: {name}", summary, cells, command))
    if rows:
        WorkDir.write_json(root / "results.json", {"schema": 1, "rows": rows, "environment": environment, "command": command})
    return cells


def _print(cells: Sequence[Cell]) -> None:
    """Prints the grid on a terminal."""
    from rich.console import Console
    from rich.table import Table

    tasks, models = (list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("task", "model"))
    table = Table(box=None, pad_edge=False)
    table.add_column("out-of-distribution accuracy, %", no_wrap=True)
    for model in models:
        table.add_column(model, justify="right", no_wrap=True)
    for task in tasks:
        shown = []
        for model in models:
            cell = next((cell for cell in cells if (cell.task, cell.model) == (task, model)), None)
            row = None if cell is None else headline(cell, cell.split)
            shown.append(
                "" if cell is None else "not run" if row is None else DASH if row["value"] is None else f"{100 * row['value']:.1f}"
            )
        table.add_row(task, *shown)
    console = Console(highlight=False)
    console.width = max(console.width, 34 + sum(len(model) + 3 for model in models))  # a pipe has no width limit
    console.print(table)
    for text in filter(None, map(missing, cells)):
        print(text)
