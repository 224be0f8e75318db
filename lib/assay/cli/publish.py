"""Writes a finished study to files small enough to commit, and prints its results as a Markdown table.

    assay publish --workdir=runs/demo --name=parity_demo
    assay publish --workdir=runs/demo --name=parity_demo --out=results
    assay publish --readme=experiments/results/README.md      (updates the tables of all published results in that page)

Writes NAME.json to --out, NAME.svg if there are scores by length, and NAME_steps.svg if there are validations.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from assay.cli.command import launch
from assay.config.suites import PLANNED
from assay.core.errors import UserError
from assay.core.file import read_text
from assay.core.plain import json_text
from assay.reports.drawings.plots import Curve, accuracy_by_length, score_by_step, standalone
from assay.reports.results import MARKS, published, tables
from assay.reports.run import look_curves
from assay.reports.table import DASH, format_n, format_seed, format_value
from assay.reports.view import read_run
from assay.train.workdir import write_text

DRAWN = ("answer_accuracy", "token_accuracy", "exact_match")  # the first of these that a study has


FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a finished study or run.", flag_values=FLAGS)
NAME = flags.DEFINE_string("name", "", "Name of the files, without extension.", flag_values=FLAGS)
README = flags.DEFINE_string(
    "readme", "", "Markdown page whose tables of results are rewritten from the files in --out.", flag_values=FLAGS
)
OUT = flags.DEFINE_string("out", "experiments/results", "Folder of the published files.", flag_values=FLAGS)


def render(readme: str | Path, folder: str | Path, planned: Sequence[tuple[str, str]] = ()) -> None:
    """Writes the tables of all published results between the marks of the page `readme`, and the `planned` pairs (task, experiment) that
    were not run. Links are relative to the page. Raises UserError if it has no marks."""
    path = Path(readme)
    if not path.is_file():
        raise UserError(f"no file {str(readme)!r} to update. Set --readme.")
    try:
        before, start, rest = read_text(path).partition(MARKS[0])
    except ValueError as error:
        raise UserError(f"{readme} is not text ({error}). Set --readme to a Markdown page.") from None
    _, end, after = rest.partition(MARKS[1])
    if not (start and end):
        raise UserError(f"{readme} has no {MARKS[0]} and {MARKS[1]} to write between.")
    write_text(path, f"{before}{start}\n{tables(Path(folder), planned, path.parent)}\n{end}{after}")


def publish(workdir: str | Path, name: str, folder: str | Path) -> str:
    """Writes a study to a folder, and returns its Markdown table.

    Files: `name.json` (rows without scores by length, command, environment, validations), `name.svg` if there are scores by length, and
    `name_steps.svg` if runs were validated during training.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"--name={name!r} is not a file name. Use letters, digits, _, - and dots.")
    path = Path(workdir) / "results.json"
    if not path.exists():
        raise UserError(f"no results.json in {workdir}. Set --workdir to the folder of a finished study.")
    results = published(path)
    if not results.get("rows"):
        raise UserError(f"{path} has no rows to publish. Set --workdir to the folder of a finished study.")
    rows = [{key: value for key, value in row.items() if key != "by_length"} for row in results["rows"]]
    experiments = sorted({row["experiment"] for row in rows})  # the command of a single run follows from its config
    command = results.get("command") or f"assay train --config=experiments/{experiments[0].replace(':', '.py:')} --workdir=W"
    head = json_text({"command": command, "environment": results.get("environment", {})}, indent=1).removesuffix("\n}")
    body = ",\n".join(f"  {json_text(row)}" for row in rows)  # one line per row takes a third of the size of one line per value
    curves, metric = look_curves(
        [read_run(run) for run in sorted(one.parent for one in Path(workdir).rglob("config.json")) if (run / path.name).exists()]
    )
    looks = ",\n".join(
        f"  {json_text({'run': curve.label, 'step': curve.x, metric: curve.y})}" for curve in curves if "valid" in curve.label
    )
    tail = f' ],\n "looks": [\n{looks}\n' if looks else ""
    write_text(Path(folder) / f"{name}.json", f'{head},\n "rows": [\n{body}\n{tail} ]\n}}\n')
    if curves:
        write_text(Path(folder) / f"{name}_steps.svg", standalone(score_by_step(curves, metric)))
    drawn = [row for row in results["rows"] if row.get("by_length")]
    if drawn:
        write_text(Path(folder) / f"{name}.svg", _picture(drawn))
    return markdown(rows)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns one line per row: our value with interval, n and seeds, and the published values with their sources."""
    lines = ["| run | split | metric | ours | 95 % interval | n | seed | steps | published |", "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        published = "; ".join(_published(cell, row) for cell in row["published"]) or DASH
        cells = [row["experiment"].rpartition(":")[2], *_cells(row), f"{row['steps']:,}", published]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    """Returns split, metric, value, interval, n and seeds."""
    ends = [format_value(end, row["unit"], row["metric"], plain=True) for end in row["interval"] or ()]
    value = format_value(row["value"], row["unit"], row["metric"])
    best = f"; best {format_value(row['best'], row['unit'], row['metric'], plain=True)}" if row.get("best") is not None else ""
    return [row["split"], row["metric"], value, f" {DASH} ".join(ends) or DASH, format_n(row), format_seed(row["seed"]) + best]


def _published(cell: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    spread = f" ± {100 * cell['spread']:.1f}" if cell["spread"] is not None else ""
    kind = "best" if cell["statistic"] == "max" else "mean"
    return f"{100 * cell['value']:.1f}{spread} % ({kind}; {cell['source']}) [{cell['tag']}]"


def _picture(rows: Sequence[Mapping[str, Any]]) -> str:
    have = {row["metric"] for row in rows}
    metric = next((name for name in DRAWN if name in have), min(have))
    joined: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if row["metric"] == metric and isinstance(row["seed"], int):
            key = (row["experiment"].rpartition(":")[2], str(row["seed"]))
            joined.setdefault(key, {}).update({int(length): value for length, value in row["by_length"].items()})
    trained = [int(length) for row in rows if row["split"] == "iid" for length in row["by_length"]]
    span = (min(trained), max(trained)) if trained else None
    curves = [
        Curve(label, sorted(points), [points[x] for x in sorted(points)], (span[1] + 1,) if span else ())
        for (label, _), points in joined.items()
    ]
    chance = next((row["baselines"]["chance"] for row in rows if "chance" in row.get("baselines", {})), None)
    return standalone(accuracy_by_length(curves, metric, chance, span))


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("publish takes no --config overrides, since it reads the files of a study.")
    if not (WORKDIR.value and NAME.value) and not README.value:
        raise UserError("nothing to publish: give --workdir and --name of a study, or --readme=experiments/results/README.md.")
    if WORKDIR.value or NAME.value:
        print(publish(WORKDIR.value, NAME.value, OUT.value))
    if README.value:
        planned = [(task, f"{experiment}:{name}") for tasks, experiment, variants in PLANNED for task in tasks for name in variants]
        render(README.value, OUT.value, planned)


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS)
