"""The plot of a Pareto front: score against size on disk, and against latency. See verdicts/pareto.py for the front itself."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from assay.evals.rows import LOWER_IS_BETTER
from assay.reports.drawings.labels import Box, place_labels
from assay.reports.drawings.plots import COLOURS, INK, PAGE, svg
from assay.verdicts.pareto import Stages, fronts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT, FONT = 440, 11.5  # CSS pixels
LEFT, RIGHT, TOP, BOTTOM, BETWEEN = 74, 20, 34, 56, 54  # margins of the panels, CSS pixels
BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def pareto(found: Stages) -> str:
    """Returns SVG of score against size on disk and against latency, on log scales. The front is a step line through filled points."""
    lower = found.metric in LOWER_IS_BETTER
    factor = 1.0 if lower else 100.0
    width = (PAGE - LEFT - RIGHT - BETWEEN) / 2
    costs = ([one.size for one in found.stages], [one.latency for one in found.stages])
    disturbed = ", disturbed" if any(one.faster is None for one in found.stages) else ""
    texts = ("size on disk (log scale)", f"latency of one example, median (log scale{disturbed})")

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


def quantity(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Formats a value to three digits, in the largest unit in which it is at least 1."""
    factor, name = next((unit for unit in units if value >= 0.9995 * unit[0]), units[-1])
    digits = max(0, 2 - math.floor(math.log10(max(value / factor, 1.0)) + 1e-9))
    text = f"{value / factor:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {name}"


# -- private --------------------------------------------------------------------------------------------------------------


def _limits(axes: "Axes", x: Sequence[float], y: Sequence[float], units: Sequence[tuple[float, str]]) -> None:
    """Sets axis limits with room for labels, and ticks at round values."""
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
    """Returns round values in a range: at least three if one digit can distinguish them, and at most seven."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8), tuple(d / 10 for d in range(10, 100))):
        ticks = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(ticks) >= 3:
            break
    return ticks[:: -(-len(ticks) // 7)]


def _draw_points(
    axes: "Axes", x: Sequence[float], y: Sequence[float], ends: Sequence[tuple[float, ...]], on: Sequence[bool], lower: bool
) -> list[tuple[list[float], list[float]]]:
    """Draws the front and the points; returns the front's line, as lists of x and y, which labels must avoid."""
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
    """Places names next to their points, clear of each other, the points, their bars and the front."""
    scale = 72 / axes.figure.dpi  # converts Matplotlib's pixels to CSS pixels

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
    sizes = [(0.52 * FONT * len(name) + 2, 1.15 * FONT) for name in shown]  # the reader's font is unknown, and most are narrower
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
