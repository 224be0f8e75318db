"""What a smaller or faster model costs in score: each stage of a treatment by its size, its latency and its score, and the Pareto front.

    python -m experiments.compare --pareto --workdir=runs/small

A model is on the front where no other is at least as good in both figures and better in one; between two on the front the choice is a
matter of taste, and off it there is none. Input is WORKDIR/stages.json, as the verb `treat` writes it; rows of one
treatment in several work directories, such as seeds, are joined by their mean, with the range as an error bar.
"""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table

from assay.core.errors import UserError
from assay.evals.rows import LOWER_IS_BETTER
from assay.reports.drawings.labels import Box, place_labels
from assay.reports.drawings.plots import COLOURS, INK, PAGE, svg
from assay.reports.terminal.run import DASH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCHEMA = 1
HEIGHT, FONT = 440, 11.5  # CSS pixels
LEFT, RIGHT, TOP, BOTTOM, BETWEEN = 74, 20, 34, 56, 54  # of the panels, CSS pixels
BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


class Stage(NamedTuple):
    """One model. Means over the work directories that have it."""

    name: str
    score: float
    interval: tuple[float, float] | None  # over examples, or the range over work directories where there are several
    size: float  # bytes on disk
    latency: float  # seconds of one example, p50
    faster: float  # than the first stage, measured in turns; below 1 is slower
    runs: int  # work directories that have it


class Stages(NamedTuple):
    """Stages of one metric on one split, in the order of the first work directory; the first is what the others are compared with."""

    metric: str
    split: str
    stages: Sequence[Stage]


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points (cost, score) are on the Pareto front: lower costs and higher scores are better. Equal points are so together."""
    return [
        not any(cost <= own_cost and score >= own_score and (cost, score) != (own_cost, own_score) for cost, score in points)
        for own_cost, own_score in points
    ]


def fronts(found: Stages) -> tuple[list[bool], list[bool]]:
    """The fronts of size and of latency."""
    sign = -1 if found.metric in LOWER_IS_BETTER else 1
    by_size = front([(one.size, sign * one.score) for one in found.stages])
    return by_size, front([(one.latency, sign * one.score) for one in found.stages])


def stages_of(workdirs: Sequence[str | Path]) -> Stages:
    """The stages of all work directories, or of the seeds below one, joined by what was done. Raises UserError where a stages.json is
    missing, damaged or of another metric."""
    folders = [folder for workdir in workdirs for folder in _seeds(Path(workdir))]
    every = [(folder, _read(folder / "stages.json")) for folder in folders]
    first, told = every[0]
    for workdir, other in every[1:]:
        for key in ("task", "metric", "split"):
            if other.get(key) != told.get(key):
                raise UserError(
                    f"the {key} of {workdir} is {other.get(key)!r}, and that of {first} is {told.get(key)!r}: other questions were asked. "
                    "Give --workdir folders of one task."
                )
    rows: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}  # by what was done, from the first treatment to the last
    for _, one in every:
        done: tuple[str, ...] = ()
        for row in one["rows"]:
            done = (*done, row.get("spec", row["name"]))
            same = rows.setdefault(done, [])
            if row["workdir"] not in [other["workdir"] for other in same]:  # one untreated run, treated in several ways
                same.append(row)
    return Stages(told["metric"], told["split"], [_joined(name, rows[done]) for done, name in _names(rows).items()])


def pareto(found: Stages) -> str:
    """SVG: score against size on disk, and against latency, both on logarithmic scales. The front is a step line through filled points."""
    lower = found.metric in LOWER_IS_BETTER
    factor = 1.0 if lower else 100.0
    width = (PAGE - LEFT - RIGHT - BETWEEN) / 2
    costs = ([one.size for one in found.stages], [one.latency for one in found.stages])
    texts = ("size on disk (log scale)", "latency of one example, median (log scale)")

    def draw(figure: "Figure") -> None:
        for i, (x, text, units, on) in enumerate(zip(costs, texts, (BYTES, SECONDS), fronts(found), strict=True)):
            corner = ((LEFT + i * (width + BETWEEN)) / PAGE, BOTTOM / HEIGHT)
            axes = figure.add_axes((*corner, width / PAGE, (HEIGHT - TOP - BOTTOM) / HEIGHT))
            scores = [factor * one.score for one in found.stages]
            ends = [tuple(factor * end for end in one.interval or (one.score, one.score)) for one in found.stages]
            _limits(axes, x, [*scores, *(end for pair in ends for end in pair)], units)
            lines = _draw_points(axes, x, scores, ends, on, lower)
            axes.set_xlabel(text)
            unit = "" if lower else " (%)"
            axes.set_ylabel(f"{found.metric.replace('_', ' ')} on {found.split}{unit}" if i == 0 else "")
            axes.tick_params(labelleft=i == 0)
            note = f"better is {'lower' if lower else 'higher'} and further left"
            axes.annotate(note, (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points", fontsize="small", alpha=0.75)
            _label(axes, [one.name for one in found.stages], x, scores, ends, on, lines)

    listed = (f"{one.name} {factor * one.score:.4g}, {quantity(one.size, BYTES)}, {quantity(one.latency, SECONDS)}" for one in found.stages)
    return svg(draw, PAGE, HEIGHT, f"{found.metric} against size and latency: {'; '.join(listed)}", layout=None)


def print_stages(found: Stages, console: Console | None = None) -> None:
    """A line for each stage: how much smaller and faster than the first it is, and on which front."""
    table = Table(box=None, pad_edge=False)
    several = max(one.runs for one in found.stages) > 1
    interval = "range over runs" if several else "interval"
    for column in ("name", "runs", found.metric, interval, "size", "times smaller", "latency", "times faster"):
        table.add_column(column, justify="left" if column == "name" else "right", no_wrap=True)
    table.add_column("on the front of", no_wrap=True)
    for one, of_size, of_latency in zip(found.stages, *fronts(found), strict=True):
        on = " and ".join(name for name, is_on in (("size", of_size), ("latency", of_latency)) if is_on) or DASH
        span = DASH if one.interval is None else f"{one.interval[0]:.4f} to {one.interval[1]:.4f}"
        smaller = found.stages[0].size / one.size
        cells = [one.name, str(one.runs), f"{one.score:.4f}", span, quantity(one.size, BYTES), f"{smaller:.2f}"]
        table.add_row(*cells, quantity(one.latency, SECONDS), f"{one.faster:.2f}{' (slower)' if one.faster < 0.995 else ''}", on)
    if console is None:
        console = Console()
        console.width = max(console.width, 140)  # a pipe has no width to keep to
    console.print(table, markup=False)
    first = found.stages[0].name
    console.print(f"Split {found.split}; size: parameters on disk; latency: one example, median; times: against {first}.", markup=False)


def as_json(found: Stages) -> list[dict[str, Any]]:
    """The stages as plain data, with the fronts that they are on."""
    told = {"metric": found.metric, "split": found.split}
    each = zip(found.stages, *fronts(found), strict=True)
    return [
        {**told, **one._asdict(), "smaller": found.stages[0].size / one.size, "front_of_size": of_size, "front_of_latency": of_latency}
        for one, of_size, of_latency in each
    ]


def quantity(value: float, units: Sequence[tuple[float, str]]) -> str:
    """A value in the largest unit that leaves it at least 1, to three digits."""
    factor, name = next((unit for unit in units if value >= 0.9995 * unit[0]), units[-1])
    digits = max(0, 2 - math.floor(math.log10(max(value / factor, 1.0)) + 1e-9))
    text = f"{value / factor:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {name}"


# -- private --------------------------------------------------------------------------------------------------------------


def _seeds(folder: Path) -> list[Path]:
    """The folder itself, or those of its seeds."""
    each = sorted(path.parent for path in folder.glob("seed_*/stages.json"))
    return each if each and not (folder / "stages.json").exists() else [folder]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent} has no {path.name}: python -m experiments.treat writes it. Choose another --workdir.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Make it again, or choose another --workdir.") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise UserError(f"{path} is of another schema than {SCHEMA}, the one that is known. Make it again, or choose another --workdir.")
    broken = UserError(f"{path} is damaged: a row needs a name, a score, a size and a latency above 0. Make it again.")
    try:
        names = [row["name"] for row in found["rows"]]
        numbers = [(row["score"], *_cost(row)) for row in found["rows"]]
        intervals = [end for row in found["rows"] for end in row["interval"] or ()]
        whole = all(math.isfinite(number) for one in (*numbers, intervals) for number in one)
        if (
            not names
            or not whole
            or any(min(one[1:]) <= 0 for one in numbers)
            or not isinstance(found["metric"], str)
            or not found["split"]
        ):
            raise broken
    except (KeyError, TypeError):
        raise broken from None
    if len(set(names)) < len(names):
        raise UserError(f"{path} has two rows of one name among {', '.join(names)}. Make it again.")
    return found


def _cost(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Bytes on disk, seconds of one example, and how much faster than the first that is."""
    return row["cost"]["bytes_on_disk"], row["speed"]["latency_p50_seconds"], row["speed"]["latency_ratio"]


def _names(rows: Mapping[tuple[str, ...], Sequence[Mapping[str, Any]]]) -> dict[tuple[str, ...], str]:
    """What each stage is called: by its name, or where others have the same, by its treatment."""
    names = [same[0]["name"] for same in rows.values()]
    found: dict[tuple[str, ...], str] = {}
    for done, name in zip(rows, names, strict=True):
        label = name if names.count(name) == 1 else done[-1] or name
        found[done] = label if label not in found.values() else f"{label} ({len(found)})"
    return found


def _joined(name: str, rows: Sequence[Mapping[str, Any]]) -> Stage:
    scores = [row["score"] for row in rows]
    size, latency, faster = (sum(values) / len(rows) for values in zip(*(_cost(row) for row in rows), strict=True))
    interval = tuple(rows[0]["interval"]) if rows[0]["interval"] and len(rows) == 1 else None
    interval = (min(scores), max(scores)) if len(rows) > 1 else interval
    return Stage(name, sum(scores) / len(rows), interval, size, latency, faster, len(rows))


def _limits(axes: "Axes", x: Sequence[float], y: Sequence[float], units: Sequence[tuple[float, str]]) -> None:
    """Limits with room for labels, and ticks at round values."""
    axes.set_xscale("log")
    low, high = min(x), max(x)
    room = max((high / low) ** 0.16, 1.15)
    axes.set_xlim(low / room, high * room)
    margin = 0.14 * max(max(y) - min(y), 0.02 * max(abs(value) for value in y), 1e-6)
    axes.set_ylim(min(y) - margin, max(y) + margin)
    axes.minorticks_off()
    axes.set_xticks(_round_ticks(low / room, high * room))
    axes.xaxis.set_major_formatter(lambda value, _: quantity(value, units))
    axes.grid(color=INK, alpha=0.12, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=3)
    axes.spines[["left", "bottom"]].set_alpha(0.5)


def _round_ticks(low: float, high: float) -> list[float]:
    """Round values inside of a range, at least three where a digit is enough to tell them apart, and seven at most."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8), tuple(d / 10 for d in range(10, 100))):
        ticks = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(ticks) >= 3:
            break
    return ticks[:: -(-len(ticks) // 7)]


def _draw_points(
    axes: "Axes", x: Sequence[float], y: Sequence[float], ends: Sequence[tuple[float, ...]], on: Sequence[bool], lower: bool
) -> list[tuple[list[float], list[float]]]:
    """Draws the front and the points; returns the front's line, as lists of x and y, for labels to keep off."""
    members = sorted({(x[i], y[i]) for i in range(len(x)) if on[i]}, key=lambda point: (point[0], point[1] if lower else -point[1]))
    end = axes.get_xlim()[1]
    line_x, line_y = [], []
    for i, (cost, score) in enumerate(members):
        line_x += [cost, members[i + 1][0] if i + 1 < len(members) else end]
        line_y += [score, score]
    axes.plot(line_x, line_y, color=COLOURS[0], linewidth=1.6, alpha=0.7, solid_joinstyle="miter", zorder=1.8)
    for cost, score, pair, is_on in zip(x, y, ends, on, strict=True):
        colour = COLOURS[0] if is_on else INK
        if pair[0] < pair[1]:
            axes.plot([cost, cost], pair, color=colour, linewidth=1.4, alpha=0.8 if is_on else 0.55, solid_capstyle="butt", zorder=2)
        if is_on:
            axes.plot([cost], [score], "o", color=colour, markersize=9, markeredgewidth=0, zorder=3)
        else:
            axes.plot([cost], [score], "o", color=INK, markersize=6, markeredgewidth=0, alpha=0.7, zorder=2.5)
    return [(line_x, line_y)]


def _label(
    axes: "Axes",
    names: Sequence[str],
    x: Sequence[float],
    y: Sequence[float],
    ends: Sequence[tuple[float, ...]],
    on: Sequence[bool],
    lines: Sequence[tuple[list[float], list[float]]],
) -> None:
    """Names beside their points: off each other, the points, their bars and the front."""
    scale = 72 / axes.figure.dpi  # from Matplotlib's pixels to CSS pixels

    def at(cost: float, score: float) -> tuple[float, float]:
        across, up = axes.transData.transform((cost, score)) * scale
        return float(across), float(up)

    points = [at(*point) for point in zip(x, y, strict=True)]
    taken = [Box(across - 6, up - 6, across + 6, up + 6) for across, up in points]
    for cost, pair in zip(x, ends, strict=True):
        (across, low), (_, high) = at(cost, pair[0]), at(cost, pair[1])
        taken.append(Box(across - 1.5, low, across + 1.5, high))
    for line_x, line_y in lines:
        corners = [at(*point) for point in zip(line_x, line_y, strict=True)]
        for (left, low), (right, high) in pairwise(corners):
            taken.append(Box(min(left, right) - 1, min(low, high) - 1, max(left, right) + 1, max(low, high) + 1))
    inside = axes.get_window_extent()
    frame = Box(inside.x0 * scale, inside.y0 * scale, inside.x1 * scale, inside.y1 * scale + TOP / 3)
    shown = [name if len(name) <= 32 else name[:31] + "\u2026" for name in names]
    sizes = [(0.52 * FONT * len(name) + 2, 1.15 * FONT) for name in shown]  # a reader's font is not known here, and most are narrower
    places = place_labels(points, sizes, taken, frame)
    for name, cost, score, point, place, is_on in zip(shown, x, y, points, places, on, strict=True):
        middle = (place.left + place.right) / 2 - point[0], (place.low + place.high) / 2 - point[1]
        far = math.hypot(*place.nearest(point)) > 16
        axes.annotate(
            name,
            (cost, score),
            middle,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=FONT,
            alpha=1.0 if is_on else 0.9,
            fontweight="bold" if is_on else "normal",
            arrowprops={"arrowstyle": "-", "color": INK, "alpha": 0.35, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 5} if far else None,
            annotation_clip=False,
        )
