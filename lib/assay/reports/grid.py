"""A page with a grid of tasks by models: out-of-distribution accuracy in each cell, with the accuracy-by-length curve behind it.

Cells are coloured from chance to perfect accuracy; a cell that was not run says so. `render(title, summary, cells, command)` renders the
page. Equal cells give equal bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from assay.evals.rows import mean_rows
from assay.reports.drawings.plots import Curve, accuracy_by_length
from assay.reports.page import template
from assay.reports.table import DASH, format_seed, without_value
from assay.tasks.published import value_text

WIDTH, HEIGHT = 100.0, 40.0  # of the curve in a cell, in viewBox units
CURVE_POINTS = 60  # maximum points of the curve in a cell; neighbours are averaged


class Cell(NamedTuple):
    """One model on one task. `rows`: its rows of results.json over all seeds; empty if it was not run."""

    task: str  # name on the page
    model: str
    split: str  # the out-of-distribution split
    metric: str
    rows: Sequence[Mapping[str, Any]] = ()
    link: str = ""  # link to its report, relative to the page
    why: str = ""  # reason why it was not run


def render(title: str, summary: str, cells: Sequence[Cell], command: str) -> str:
    """Renders the page. Tasks and models keep the order of `cells`."""
    tasks, models = (list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("task", "model"))
    found = {(cell.task, cell.model): cell for cell in cells}
    lines = [(task, [_shown(found.get((task, model))) for model in models]) for task in tasks]
    sections = [_section(task, [cell for cell in cells if cell.task == task and cell.rows]) for task in tasks]
    return template("grid.html.j2").render(
        title=title,
        summary=summary,
        models=models,
        lines=lines,
        sections=[section for section in sections if section is not None],
        command=command,
    )


def headline(cell: Cell, split: str) -> Mapping[str, Any] | None:
    """Returns the row of a split, the mean over seeds if there are several, or None if it was not measured.

    If a seed has no value, the row has none: a mean of what is left would be one of other seeds. Its `caution` says how many have none.
    """
    rows = [row for row in cell.rows if (row["split"], row["metric"]) == (split, cell.metric)]
    if len(rows) > 1 and (why := without_value(rows)):
        return {**rows[0], "value": None, "interval": None, "seed": [row["seed"] for row in rows], "caution": why}
    return next(iter([*mean_rows(rows), *rows]), None)


def missing(cell: Cell) -> str:
    """Returns why a cell that was run has no value, such as `t, lstm: 1 of 2 seeds has no value`, or ""."""
    row = headline(cell, cell.split)
    if row is None or row["value"] is not None:
        return ""
    return f"{cell.task}, {cell.model}: {row.get('caution') or 'no value'}"


def curve_of(cell: Cell) -> dict[int, float]:
    """Returns accuracy by length over all splits, averaged over seeds."""
    values: dict[int, list[float]] = {}
    for row in cell.rows:
        if row["metric"] == cell.metric and isinstance(row["seed"], int):
            for length, value in (row.get("by_length") or {}).items():
                values.setdefault(int(length), []).append(value)
    return {length: float(np.mean(values[length])) for length in sorted(values)}


# -- private --------------------------------------------------------------------------------------------------------------


def _shown(cell: Cell | None) -> dict[str, Any]:
    """Returns the template's data for a cell."""
    if cell is None:
        return {"text": "", "share": None, "note": "", "path": "", "link": "", "detail": ""}
    row = headline(cell, cell.split)
    if row is None:
        return {"text": "not run", "share": None, "note": "", "path": "", "link": "", "detail": cell.why}
    chance = (row.get("baselines") or {}).get("chance", 0.0)
    trained = headline(cell, "iid") or headline(cell, "train")
    interval = row["interval"]
    spread = "" if interval is None else f", 95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}"
    detail = f"{cell.metric.replace('_', ' ')} on {row['split']}{spread}; n {row['n']:,}; seed {format_seed(row['seed'])}"
    detail += f"; {row['steps']:,} updates" + (f"; {row['caution']}" if row["value"] is None and row.get("caution") else "")
    return {
        "text": DASH if row["value"] is None else f"{100 * row['value']:.1f}",
        "share": round(100 * max(0.0, ((row["value"] or 0.0) - chance) / max(1 - chance, 1e-9))),
        "note": "" if trained is None or trained["value"] is None else f"in {100 * trained['value']:.0f}",
        "path": Markup(_spark(curve_of(cell))),
        "link": cell.link,
        "detail": detail,
    }


def _spark(curve: Mapping[int, float]) -> str:
    """Returns the points of a polyline: accuracy from 0 at the bottom to 1 at the top, against length."""
    if len(curve) < 3:
        return ""
    lengths, values = np.array(list(curve)), np.array(list(curve.values()))
    parts = np.array_split(np.arange(len(lengths)), min(CURVE_POINTS, len(lengths)))
    x = (np.array([lengths[part].mean() for part in parts]) - lengths[0]) / max(lengths[-1] - lengths[0], 1)
    y = np.array([values[part].mean() for part in parts])
    return " ".join(f"{WIDTH * a:.1f},{HEIGHT * (1 - b):.1f}" for a, b in zip(x, y, strict=True))


def _section(task: str, cells: Sequence[Cell]) -> dict[str, Any] | None:
    """Returns the full-size curves of one task, and its published numbers."""
    drawn = {cell.model: curve_of(cell) for cell in cells}
    rows = [row for row in (headline(cell, cell.split) for cell in cells) if row is not None]
    if not rows:
        return None
    curves = [Curve(name, list(curve), list(curve.values())) for name, curve in drawn.items() if len(curve) > 2]
    chance = next((row["baselines"]["chance"] for row in rows if "chance" in (row.get("baselines") or {})), None)
    trained = [int(length) for cell in cells for row in cell.rows if row["split"] == "iid" for length in row.get("by_length") or {}]
    span = (min(trained), max(trained)) if trained else None
    figure = Markup(accuracy_by_length(curves, cells[0].metric, chance, span)) if curves else ""
    published = dict.fromkeys(_published(cell, row["model"]) for row in rows for cell in row["published"])
    notes = dict.fromkeys([*(row["note"] for row in rows if row.get("note")), *filter(None, map(missing, cells))])
    return {"task": task, "figure": figure, "published": list(published), "notes": list(notes)}


def _published(cell: Mapping[str, Any], model: str) -> str:
    kind = "best" if cell["statistic"] == "max" else "mean"
    return f"{value_text(cell['value'], cell['spread'], cell.get('range'))} ({kind}, {model}; {cell['source']}) [{cell['tag']}]"
