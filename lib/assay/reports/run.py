"""The report of one or more runs as one self-contained HTML page.

`render([read_run(path), ...], title)` renders the page: a summary computed from the rows, the results table, accuracy against length, loss,
attention, a description of each run, and the command. Equal input gives equal bytes: no dates, no random ids. All text is escaped; only the
drawings of plots.py are marked safe.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from assay.core.number import duration
from assay.reports.drawings import plots
from assay.reports.page import template
from assay.reports.table import DASH, NOT_PRIVATE, UNTREATED, arrange, format_seed, format_value, is_fraction, without_value
from assay.reports.view import RunView

HEADLINES = (
    "verified",
    "answer_accuracy",
    "exact_match",
    "accuracy",
    "bits_per_byte",
    "token_accuracy",
)  # the first metric that a task has is the headline
LENGTHS = re.compile(r"(\d+)-(\d+)")
LENGTHS_AVERAGED, STEPS_AVERAGED = 21, 9  # with 8 examples per length, each point of the line averages 168


class Figure(NamedTuple):
    """A drawing for wide pages and one for phones (or the same twice), with title and caption."""

    title: str
    wide: Markup
    narrow: Markup
    caption: str


def render(runs: Sequence[RunView], title: str, command: str = "", notes: Sequence[str] = ()) -> str:
    """Renders the page. `command` reproduces these runs; `notes` are sentences below the table."""
    board = runs[0].board if len(runs) == 1 else None
    return template("report.html.j2").render(
        title=str(runs[0].rows[0]["task"]) if board and runs[0].rows else title,
        summary=board.sentence if board else summarise(runs),
        board=board,
        table=arrange(runs),
        notes=notes,
        accuracy=_accuracy_figures(runs),
        scores=_score_figures(runs),
        loss=_loss_figures(runs),
        looks=_look_figures(runs),
        gradients=_gradient_figures(runs),
        attention=_attention_figures(runs),
        issues=runs[0].issues if len(runs) == 1 else None,
        answers=runs[0].answers if len(runs) == 1 else None,
        runs=[_describe(run) for run in runs if run.config or run.environment or run.metrics],
        command=command,
    )


def summarise(runs: Sequence[RunView]) -> str:
    """Returns one sentence with the headline metric of every run, on lengths (or a split) not seen in training."""
    rows: dict[str, dict[str, list[dict]]] = {}
    for run in runs:
        for row in run.rows:
            rows.setdefault(row["task"], {}).setdefault(run.label, []).append(row)
    if not rows:
        return "There are no results yet."
    clauses = [_task_clause(task, labels) for task, labels in rows.items()]
    return "; ".join(clauses[:3]) + (f"; and {len(clauses) - 3} more tasks" if len(clauses) > 3 else "") + "."


def look_curves(runs: Sequence[RunView]) -> tuple[list[plots.Curve], str]:
    """Returns the validation curves of runs, with the same metric on training batches, and the name of the metric."""
    curves, metric = [], ""
    for run in runs:
        looks = [
            (line["step"], name, value)
            for line in run.metrics
            for name, value in line.items()
            if name.startswith("valid_") and value is not None
        ]
        if len(looks) < 2 or not is_fraction("fraction", looks[0][1].removeprefix("valid_")):
            continue
        metric = looks[0][1].removeprefix("valid_")
        batches = [(line["step"], line[metric]) for line in run.metrics if line.get(metric) is not None]
        curves += [plots.Curve(f"{run.label}, training batches", *zip(*batches, strict=True))] if batches else []
        curves.append(plots.Curve(f"{run.label}, valid", *zip(*((step, value) for step, _, value in looks), strict=True)))
    return curves, metric


def _task_clause(task: str, labels: Mapping[str, Sequence[dict]]) -> str:
    every = [row for rows in labels.values() for row in rows]
    metrics = list(dict.fromkeys(row["metric"] for row in every))
    metric = next((name for name in HEADLINES if name in metrics), metrics[0])
    splits = list(dict.fromkeys(row["split"] for row in every if row["metric"] == metric))
    split = next((name for name in splits if LENGTHS.fullmatch(name)), "test" if "test" in splits else splits[-1])
    found = {label: [row for row in rows if (row["split"], row["metric"]) == (split, metric)] for label, rows in labels.items()}
    found = {label: rows for label, rows in found.items() if rows}
    where = f"lengths {split.replace('-', DASH)}" if LENGTHS.fullmatch(split) else f"split {split}"
    chance = _agreed(row["baselines"]["chance"] for rows in found.values() for row in rows if "chance" in (row.get("baselines") or {}))
    means = {format_seed(row["seed"]) for rows in found.values() for row in rows if not isinstance(row["seed"], int)}
    remarks = [next(iter(means)).replace("mean", "means of seeds")] if len(means) == 1 else []
    remarks += [] if chance is None else [f"chance {format_value(chance, every[0]['unit'], metric)}"]
    tail = f" ({'; '.join(remarks)})" if remarks else ""
    parts = [f"{label} {_headline(rows)}" for label, rows in found.items()]
    if len(parts) > 4:
        order = sorted(found, key=lambda label: max(row["value"] or 0 for row in found[label]))
        parts = [f"from {order[0]} {_headline(found[order[0]])} to {order[-1]} {_headline(found[order[-1]])}, {len(order)} runs"]
    return f"{metric.replace('_', ' ').capitalize()} on {task}, {where}: {', '.join(parts)}{tail}"


def _headline(rows: Sequence[dict]) -> str:
    """Returns the mean row if there is one, else the value, else the range over seeds."""
    means = [row for row in rows if not isinstance(row["seed"], int)]
    if means or len(rows) == 1:
        row = (means or rows)[0]
        return format_value(row["value"], row["unit"], row["metric"])
    ordered = sorted((row for row in rows if row["value"] is not None), key=lambda row: row["value"])
    ends = [format_value(row["value"], row["unit"], row["metric"]) for row in (ordered[:1] + ordered[-1:] if len(ordered) > 1 else ordered)]
    return f"{' to '.join(ends) or DASH} ({without_value(rows) or f'{len(rows)} seeds'})"


def _accuracy_figures(runs: Sequence[RunView]) -> list[Figure]:
    """Returns one figure per task and metric: answer accuracy if the task has it, else each metric with values by length."""
    groups: dict[tuple[str, str], list[tuple[str, dict]]] = {}
    for run in runs:
        for row in run.rows:
            if row.get("by_length") and row["split"] not in ("train", "valid") and is_fraction(row["unit"], row["metric"]):
                groups.setdefault((row["task"], row["metric"]), []).append((run.label, row))
    answered = {task for task, metric in groups if metric == "answer_accuracy"}
    figures = []
    for (task, metric), rows in groups.items():
        if task in answered and metric != "answer_accuracy":
            continue
        curves = _length_curves(rows)
        if not any(curve.x for curve in curves):  # no value is finite
            continue
        chance = _agreed(row["baselines"]["chance"] for _, row in rows if "chance" in (row.get("baselines") or {}))
        trained = [int(length) for _, row in rows if row["split"] == "iid" for length in row["by_length"]]
        span = (min(trained), max(trained)) if trained else None
        faint = _faint(curves, "faint points are single lengths")
        caption = f"{task}: {metric.replace('_', ' ')} in per cent against length in tokens."
        caption += f" Lines are moving averages over up to {LENGTHS_AVERAGED} lengths, never across the boundary of two splits{faint}."
        caption += f" Shaded: the lengths seen in training, {span[0]}{DASH}{span[1]} tokens." if span else ""
        wide, narrow = (plots.accuracy_by_length(curves, metric, chance, span, LENGTHS_AVERAGED, wide) for wide in (True, False))
        figures.append(Figure(f"{task}, {metric.replace('_', ' ')}", Markup(wide), Markup(narrow), caption))
    return figures


def _score_figures(runs: Sequence[RunView]) -> list[Figure]:
    """Returns one figure per task and split that is not a range of lengths: the headline of every run, each seed and the mean."""
    groups: dict[tuple[str, str], dict[str, list[dict]]] = {}
    for run in runs:
        for row in run.rows:
            ranged = row.get("by_length") and (row["split"] == "iid" or row["split"][:1].isdigit())
            if not ranged and row["split"] not in ("train", "valid") and is_fraction(row["unit"], row["metric"]):
                groups.setdefault((row["task"], row["split"]), {}).setdefault(run.label, []).append(row)
    figures = []
    for (task, split), labels in groups.items():
        metrics = {row["metric"] for rows in labels.values() for row in rows}
        metric = next((name for name in HEADLINES if name in metrics), min(metrics))
        points = []
        for label, rows in labels.items():
            same = [row for row in rows if row["metric"] == metric]
            means = [row for row in same if not isinstance(row["seed"], int)]
            for row in (row for row in [*(row for row in same if isinstance(row["seed"], int)), *means] if row["value"] is not None):
                strong = row in means or len(same) == 1
                ends = row["interval"]
                interval = (ends[0], ends[1]) if ends and None not in ends else None
                points.append(plots.Point(label, row["value"], interval, strong))
        if len(points) < 2:  # the table has it
            continue
        chance = _agreed(row["baselines"]["chance"] for rows in labels.values() for row in rows if "chance" in (row.get("baselines") or {}))
        faint = "" if all(point.strong for point in points) else "; faint points beneath them are single seeds"
        caption = f"{task}, split {split}: {metric.replace('_', ' ')} in per cent. Bars are 95 % intervals{faint}."
        wide, narrow = (plots.scores(points, metric, chance, wide) for wide in (True, False))
        figures.append(Figure(f"{task}, {split}", Markup(wide), Markup(narrow), caption))
    return figures


def _length_curves(rows: Sequence[tuple[str, dict]]) -> list[plots.Curve]:
    """Joins the splits of each (label, seed) into one curve. A mean over seeds is drawn only if its seeds are not."""
    single = {label for label, row in rows if isinstance(row["seed"], int)}
    splits: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for label, row in rows:
        if isinstance(row["seed"], int) or label not in single:
            points = {int(length): value for length, value in row["by_length"].items() if value is not None}
            splits.setdefault((label, str(row["seed"])), {})[row["split"]] = points
    curves = []
    for (label, _), parts in splits.items():
        joined = sorted((length, value) for part in parts.values() for length, value in part.items())
        breaks = sorted(min(part) for part in parts.values() if part)
        curves.append(plots.Curve(label, [length for length, _ in joined], [value for _, value in joined], breaks))
    return curves


def _loss_figures(runs: Sequence[RunView]) -> list[Figure]:
    curves = []
    for run in runs:
        points = [(line["step"], line["loss"]) for line in run.metrics if line.get("loss") is not None]
        if points:
            curves.append(plots.Curve(run.label, *zip(*points, strict=True)))
    if not curves:
        return []
    plain = all(str(row["treatment"] or "none") in UNTREATED for run in runs for row in run.rows)
    unit = "nats" if plain else ""  # a treatment may add a term to the cross-entropy
    faint = _faint(curves, "faint lines are the logged values")
    caption = f"Training loss{' in nats' if unit else ''}, on a logarithmic scale, against training step."
    caption += f" Lines are geometric moving averages over up to {STEPS_AVERAGED} logged steps{faint}.{_released(runs)}"
    wide, narrow = (plots.loss_by_step(curves, unit, STEPS_AVERAGED, wide) for wide in (True, False))
    return [Figure("Loss", Markup(wide), Markup(narrow), caption)]


def _look_figures(runs: Sequence[RunView]) -> list[Figure]:
    """Returns the headline metric during training, on training batches and on `valid`, for runs that validated."""
    curves, metric = look_curves(runs)
    if not curves:
        return []
    caption = f"{metric.replace('_', ' ').capitalize()} in per cent, on training batches and on the split valid, against training step."
    wide, narrow = (plots.score_by_step(curves, metric, wide) for wide in (True, False))
    caption += f" The step axis is logarithmic.{_released(runs)}"
    return [Figure("Training progress", Markup(wide), Markup(narrow), caption)]


def _gradient_figures(runs: Sequence[RunView]) -> list[Figure]:
    """Returns the gradient norm per block at the first logged step, for runs under the treatment `gradients`."""
    curves = []
    for run in runs:
        line = next((line for line in run.metrics if any(name.startswith("gradient/") for name in line)), {})
        norms = {name: value for name, value in line.items() if name.startswith("gradient/")}
        for part in sorted({name.rpartition("block_")[0] for name in norms}):  # an encoder-decoder has two stacks
            blocks = sorted((int(name.rpartition("_")[2]), value) for name, value in norms.items() if name.startswith(f"{part}block_"))
            half = part.removeprefix("gradient/").strip("/")
            curves.append(plots.Curve(f"{run.label} {half}".strip(), *zip(*blocks, strict=True)))
    if not curves:
        return []
    caption = (
        "Norm of the gradient of each block's parameters at the first logged step, on a logarithmic scale; block 0 is next to the input."
    )
    caption += _released(runs)
    wide, narrow = (plots.gradient_by_block(curves, wide) for wide in (True, False))
    return [Figure("Gradient", Markup(wide), Markup(narrow), caption)]


def _released(runs: Sequence[RunView]) -> str:
    """Returns the part of a caption that marks curves computed from private examples; "" if there are none."""
    return f" {NOT_PRIVATE}" if any(line.get("private") is False for run in runs for line in run.metrics) else ""


def _faint(curves: Sequence[plots.Curve], singles: str) -> str:
    """Returns the part of a caption that explains faint points or lines, if there are any."""
    labels = {curve.label for curve in curves}
    if len(labels) < len(curves):
        return "; thin lines are single seeds, thick lines are means over seeds"
    return f"; {singles}" if len(labels) <= plots.POINTS_UP_TO else ""


def _attention_figures(runs: Sequence[RunView]) -> list[Figure]:
    figures = []
    for run in runs:
        if run.attention is not None:
            drawn = Markup(plots.attention_picture(run.attention.weights, run.attention.tokens))
            figures.append(Figure(run.label, drawn, drawn, run.attention.caption))
    return figures


def _describe(run: RunView) -> dict:
    """Returns the description of one run: its name, facts in a line, configuration and environment as (path, value) pairs."""
    seeds = list(dict.fromkeys(format_seed(row["seed"]) for row in run.rows if isinstance(row["seed"], int)))
    facts = [f"seed {', '.join(seeds)}"] if seeds else []
    if run.metrics:
        last = run.metrics[-1]
        facts.append(f"{last['step']:,} training steps")
        seconds = [line["elapsed_seconds"] for line in run.metrics if line.get("elapsed_seconds") is not None]
        if seconds:
            facts.append(f"trained for {duration(seconds[-1])}")
        speeds = [line["examples_per_second"] for line in run.metrics if line.get("examples_per_second") is not None]
        if speeds:
            facts.append(f"median {np.median(speeds):,.0f} examples per second")
    if run.timing:
        facts.append(_split(run.timing))
    if run.environment.get("commit"):
        facts.append(f"commit {run.environment['commit']}")
    return {"label": run.label, "facts": facts, "config": list(_flatten(run.config)), "environment": list(_flatten(run.environment))}


def _split(timing: Mapping) -> str:
    """Returns the breakdown of the step time; compilation is reported separately."""
    seconds = dict(timing["seconds"])
    compiled = seconds.pop("compile")
    whole = max(sum(seconds.values()), 1e-9)
    shares = ", ".join(f"{kind} {100 * value / whole:.0f} %" for kind, value in seconds.items())
    return f"{1e3 * whole / max(timing['steps'], 1):.3g} ms per step ({shares}), {compiled:.1f} s until the first call was compiled"


def _flatten(tree: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields (dotted path, value) of a nested dict; a list of plain values is one value."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _flatten(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list) and any(isinstance(value, Mapping | list) for value in tree):
        for index, value in enumerate(tree):
            yield from _flatten(value, f"{path}.{index}" if path else str(index))
    elif path:
        yield path, tree if isinstance(tree, str) else json.dumps(tree, default=str)


def _agreed(values: Iterator[float]) -> float | None:
    """Returns the common value, or None if values differ."""
    found = {value for value in values if value is not None and math.isfinite(value)}
    return found.pop() if len(found) == 1 else None
