"""Writes a finished study to files small enough to commit, and prints its results as a Markdown table.

    assay publish --workdir=runs/demo --name=parity_demo
    assay publish --workdir=runs/demo --name=parity_demo --out=results
    assay publish --readme=experiments/results/README.md      (updates the tables of all published results in that page)
    assay publish --cells=experiments/results/CELLS.md        (compares all results with published ones, in that page)

Writes NAME.json to --out, NAME.svg if there are scores by length, and NAME_steps.svg if there are validations.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from assay.cli.command import launch
from assay.config.reproduce import training_command
from assay.config.suites import PLANNED
from assay.core.errors import UserError
from assay.core.file import read_text
from assay.core.plain import json_text
from assay.reports import cells
from assay.reports.drawings.plots import Curve, accuracy_by_length, score_by_step, standalone
from assay.reports.results import MARKS, tables
from assay.reports.run import look_curves
from assay.reports.table import DASH, format_n, format_seed, format_value
from assay.reports.view import read_run
from assay.tasks.published import value_text
from assay.train.workdir import EXTRA, write_text
from assay.verdicts.result_file import read_results

LISTED = ("configs", "seen_in_training", "rows", "looks")  # parts of a result file with one line per entry
DRAWN = ("answer_accuracy", "token_accuracy", "exact_match")  # the first of these that a study has


FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a finished study or run.", flag_values=FLAGS)
NAME = flags.DEFINE_string("name", "", "Name of the files, without extension.", flag_values=FLAGS)
README = flags.DEFINE_string(
    "readme", "", "Markdown page whose tables of results are rewritten from the files in --out.", flag_values=FLAGS
)
CELLS = flags.DEFINE_string("cells", "", "Markdown page of every published value, written from the files in --out.", flag_values=FLAGS)
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
    results = read_results(path)
    if not results.get("rows"):
        raise UserError(f"{path} has no rows to publish. Set --workdir to the folder of a finished study.")
    rows = [{key: value for key, value in row.items() if key != "by_length"} for row in results["rows"]]
    runs = [read_run(run) for run in sorted(one.parent for one in Path(workdir).rglob("config.json")) if (run / path.name).exists()]
    curves, metric = look_curves(runs)
    command = results.get("command") or training_command(runs[0].config if runs else rows[0], "W")  # a study's results say theirs
    found: dict[str, Any] = {"command": placeless(command), "environment": results.get("environment", {})}
    configs = {run.config["experiment"]: _resolved(run.config) for run in reversed(runs) if "experiment" in run.config}
    if configs:  # of a pipeline, that of its last stage, whose folder comes first
        found["configs"] = configs
    looks = [{"run": curve.label, "step": curve.x, metric: curve.y} for curve in curves if "valid" in curve.label]
    write_text(Path(folder) / f"{name}.json", written({**found, "rows": rows, **({"looks": looks} if looks else {})}))
    if curves:
        write_text(Path(folder) / f"{name}_steps.svg", standalone(score_by_step(curves, metric)))
    drawn = [row for row in results["rows"] if row.get("by_length")]
    if drawn:
        write_text(Path(folder) / f"{name}.svg", _picture(drawn))
    return markdown(rows)


def placeless(command: str) -> str:
    """Returns a command without the folder of this machine: an absolute work directory becomes `runs/` and its last part."""
    said, mark, remark = command.partition("  # ")
    try:
        words = shlex.split(said)
    except ValueError:  # an open quote, in a file written by hand
        return command
    if not any(word.startswith("--workdir=/") for word in words):
        return command
    shorter = [f"--workdir=runs/{Path(word).name}" if word.startswith("--workdir=/") else word for word in words]
    return shlex.join(shorter) + mark + remark


def written(results: Mapping[str, Any]) -> str:
    """Returns the text of a result file: one line per row, config and curve, a third of the size of one line per value."""
    parts = []
    for key, value in results.items():
        if key in LISTED and isinstance(value, Mapping):
            lines = ",\n".join(f"  {json_text(name)}: {json_text(one)}" for name, one in value.items())
            parts.append(f" {json_text(key)}: {{\n{lines}\n }}")
        elif key in LISTED:
            lines = ",\n".join(f"  {json_text(one)}" for one in value)
            parts.append(f" {json_text(key)}: [\n{lines}\n ]")
        else:
            parts.append(json_text({key: value}, indent=1).removeprefix("{\n").removesuffix("\n}"))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config of a run without what differs between its seeds or says where it came from."""
    return {key: value for key, value in config.items() if key not in (*EXTRA, "seed")}


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
    kind = "best" if cell["statistic"] == "max" else "mean"
    value = value_text(cell["value"], cell["spread"], cell.get("range"))
    return f"{value} ({kind}; {cell['source']}) [{cell['tag']}]"


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
    if not (WORKDIR.value and NAME.value) and not README.value and not CELLS.value:
        several = "--workdir and --name of a study, --readme=experiments/results/README.md, or --cells=FILE.md"
        raise UserError(f"nothing to publish: give {several}.")
    if WORKDIR.value or NAME.value:
        print(publish(WORKDIR.value, NAME.value, OUT.value))
    if README.value:
        planned = [(task, f"{experiment}:{name}") for tasks, experiment, variants in PLANNED for task in tasks for name in variants]
        render(README.value, OUT.value, planned)
    if CELLS.value:
        write_text(Path(CELLS.value), cells.page(Path(OUT.value)))


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS)
