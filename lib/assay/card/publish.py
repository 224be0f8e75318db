"""A finished study as files small enough to commit: its rows as JSON, its plot as SVG, its table as Markdown."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.card.plots import Curve, accuracy_by_length
from assay.card.table import DASH, format_seed, format_value
from assay.core.errors import UserError
from assay.train.workdir import write_text


def publish(workdir: str | Path, name: str, folder: str | Path) -> str:
    """Writes `folder/name.json` (rows without figures by length, command, environment) and `name.svg`; returns the Markdown table."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"--name={name!r} is no name of a file. Use letters, digits, _, - and dots.")
    path = Path(workdir) / "results.json"
    if not path.exists():
        raise UserError(f"no results.json in {workdir}. Give --workdir the folder of a finished study.")
    results = json.loads(path.read_text())
    rows = [{key: value for key, value in row.items() if key != "by_length"} for row in results["rows"]]
    kept = {"command": results.get("command", ""), "environment": results["environment"], "rows": rows}
    write_text(Path(folder) / f"{name}.json", json.dumps(kept, indent=1) + "\n")
    write_text(Path(folder) / f"{name}.svg", _picture(results["rows"]))
    return markdown(rows)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row: ours with interval, n and seeds, and the published cells with their sources."""
    lines = ["| run | split | metric | ours | 95 % interval | n | seed | steps | published |", "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        low, high = row["interval"] or (None, None)
        cells = [
            row["experiment"].rpartition(":")[2],
            row["split"],
            row["metric"],
            format_value(row["value"], row["unit"], row["metric"]),
            DASH
            if low is None
            else f"{format_value(low, row['unit'], row['metric'])} {DASH} {format_value(high, row['unit'], row['metric'])}",
            f"{row['n']:,}",
            format_seed(row["seed"]),
            f"{row['steps']:,}",
            "; ".join(_published(cell, row) for cell in row["published"]) or DASH,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _published(cell: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    spread = f" ± {100 * cell['spread']:.1f}" if cell["spread"] is not None else ""
    kind = "best" if cell["statistic"] == "max" else "mean"
    return f"{100 * cell['value']:.1f}{spread} % ({kind}; {cell['source']}) [{cell['tag']}]"


def _picture(rows: Sequence[Mapping[str, Any]]) -> str:
    joined: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if row["metric"] == "answer_accuracy" and isinstance(row["seed"], int):
            key = (row["experiment"].rpartition(":")[2], str(row["seed"]))
            joined.setdefault(key, {}).update({int(length): value for length, value in row["by_length"].items()})
    trained = [int(length) for row in rows if row["split"] == "iid" for length in row["by_length"]]
    span = (min(trained), max(trained)) if trained else None
    curves = [
        Curve(label, sorted(points), [points[x] for x in sorted(points)], (span[1] + 1,) if span else ())
        for (label, _), points in joined.items()
    ]
    chance = next((row["baselines"]["chance"] for row in rows if "chance" in row.get("baselines", {})), None)
    drawn = accuracy_by_length(curves, "answer_accuracy", chance, span)
    alone = '<svg xmlns="http://www.w3.org/2000/svg" color="#6e7781" font-family="sans-serif" '  # a grey that reads on light and dark
    return drawn.replace("<svg ", alone, 1) + "\n"
