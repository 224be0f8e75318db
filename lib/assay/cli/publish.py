"""A finished study as files small enough to commit: its rows as JSON, its plots as SVG, its table as Markdown."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.core.errors import UserError
from assay.reports.drawings.plots import Curve, accuracy_by_length, score_by_step, standalone
from assay.reports.run import look_curves, read_run
from assay.reports.terminal.run import DASH, format_seed, format_value
from assay.train.workdir import write_text

DRAWN = ("answer_accuracy", "token_accuracy", "exact_match")  # the first that a study has


def publish(workdir: str | Path, name: str, folder: str | Path) -> str:
    """Writes `folder/name.json` (rows without figures by length, command, environment, looks at `valid`), `name.svg` where there are
    figures by length, and `name_steps.svg` where runs looked at `valid` as they learnt; returns the Markdown table."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"--name={name!r} is no name of a file. Use letters, digits, _, - and dots.")
    path = Path(workdir) / "results.json"
    if not path.exists():
        raise UserError(f"no results.json in {workdir}. Give --workdir the folder of a finished study.")
    results = json.loads(path.read_text())
    rows = [{key: value for key, value in row.items() if key != "by_length"} for row in results["rows"]]
    experiments = sorted({row["experiment"] for row in rows})  # a single run says its command by its config
    command = results.get("command") or f"python -m experiments.main --config=experiments/{experiments[0].replace(':', '.py:')} --workdir=W"
    head = json.dumps({"command": command, "environment": results["environment"]}, indent=1).removesuffix("\n}")
    body = ",\n".join(f"  {json.dumps(row)}" for row in rows)  # a line a row: a third of the size of a line a value
    curves, metric = look_curves(
        [read_run(run) for run in sorted(one.parent for one in Path(workdir).rglob("config.json")) if (run / path.name).exists()]
    )
    looks = ",\n".join(
        f"  {json.dumps({'run': curve.label, 'step': curve.x, metric: curve.y})}" for curve in curves if "valid" in curve.label
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
    """One line a row: ours with interval, n and seeds, and the published cells with their sources."""
    lines = ["| run | split | metric | ours | 95 % interval | n | seed | steps | published |", "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        published = "; ".join(_published(cell, row) for cell in row["published"]) or DASH
        cells = [row["experiment"].rpartition(":")[2], *_cells(row), f"{row['steps']:,}", published]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    """split, metric, value, interval, n, seeds."""
    ends = [format_value(end, row["unit"], row["metric"], plain=True) for end in row["interval"] or ()]
    value = format_value(row["value"], row["unit"], row["metric"])
    best = f"; best {format_value(row['best'], row['unit'], row['metric'], plain=True)}" if row.get("best") is not None else ""
    return [row["split"], row["metric"], value, f" {DASH} ".join(ends) or DASH, f"{row['n']:,}", format_seed(row["seed"]) + best]


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
