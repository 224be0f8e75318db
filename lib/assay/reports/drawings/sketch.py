"""Small plots next to a number: handwritten inline SVG, so that a page of fifty remains small and renders in milliseconds.

    sketch(plot)                          one `Plot`: lines, bars, reliability against its diagonal, or a kind with its own file
    overlay(plot_before, plot_after)      shared axes, "before" dashed and "after" solid; or two plots with one scale
    interval(value, ends, margin, ...)    a change with its 95 % interval, the zero line and the band of the margin
    track(value, ends, title)             a fraction with its interval, from 0 to 1

Ink is `currentColor`, and colours are CSS variables with the palette of Okabe and Ito (2008) in plots.py. A plot therefore follows its page
from light to dark mode; lines also differ in dash and marker. Equal input gives equal bytes, there are no ids, and text is escaped.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from assay.diagnostics.measurement import Plot
from assay.reports.drawings.axis import Scale, ends_of, tick
from assay.reports.drawings.graph import graph
from assay.reports.drawings.heat import heat, strongest
from assay.reports.drawings.ink import (
    CHARACTER,
    HEIGHT,
    HUGE,
    INK,
    LONGEST,
    SMALL_GAP,
    WIDTH,
    Series,
    below,
    coloured,
    dashes,
    finite,
    legend,
    marker,
    px,
    rectangle,
    room,
    rules,
    shortened,
    svg,
    text,
)
from assay.reports.drawings.picture import picture
from assay.reports.drawings.plots import COLOURS
from assay.reports.drawings.scatter import scatter
from assay.reports.drawings.tokens import tokens

MARKED = 24  # maximum points of a line with a marker each; longer lines have a few, and only if shapes distinguish lines
HORIZONTAL_UP_TO = 40  # maximum number of horizontal bars; more are vertical, without names
WHOLE = {"heat": heat, "tokens": tokens, "picture": picture, "graph": graph}  # kinds without axes to share


def as_plot(plot: Plot | Mapping[str, Any] | None) -> Plot | None:
    """Restores a Plot from JSON data."""
    return Plot(**plot) if isinstance(plot, Mapping) else plot


def sketch(plot: Plot) -> str:
    """Returns SVG of a plot. Points that are None, NaN or infinite are omitted, as are values without a logarithm on a log axis."""
    if plot.kind in WHOLE:
        return WHOLE[plot.kind](plot)
    series = [Series(name, plot.x, y, index, index // len(COLOURS), index) for index, (name, y) in enumerate(plot.lines.items())]
    return _draw(plot, series)


def overlay(before: Plot | None, after: Plot | None) -> str:
    """Returns SVG of two plots of one row on shared axes, or of one if the other is missing or of another kind. "" if both are missing."""
    if before is not None and after is not None and before.kind != after.kind:
        before = None
    shown = [(name, plot) for name, plot in (("before", before), ("after", after)) if plot is not None]
    if not shown:
        return ""
    base = shown[-1][1]
    if base.kind in WHOLE:
        span = max(_span(plot) for _, plot in shown) or None
        return "".join(WHOLE[base.kind](plot, span, name) for name, plot in shown)
    labels = list(dict.fromkeys(label for _, plot in shown for label in plot.labels))
    lines = list(dict.fromkeys(line for _, plot in shown for line in plot.lines))
    several = max(len(plot.lines) for _, plot in shown) > 1
    series: list[Series] = []
    for name, plot in shown:
        x = [labels.index(label) for label in plot.labels] if labels and len(plot.labels) == len(plot.x) else plot.x
        series += [
            Series(name, x, y, int(name == "after"), int(name == "before"), lines.index(line) if several else len(series))
            for line, y in plot.lines.items()
        ]
    key = [Series(name, (), (), int(name == "after"), int(name == "before"), -1) for name, _ in shown]
    key += [Series(line, (), (), INK, -1, index) for index, line in enumerate(lines)] if several else []
    return _draw(base._replace(labels=labels, x=range(len(labels)) if labels else base.x), series, key)


def track(value: float, ends: Sequence[float], title: str) -> str:
    """Returns SVG of a fraction with its interval on a line from 0 to 1, 320 x 26 CSS pixels."""
    scale = Scale(0, 1, 4, WIDTH - 8)
    low, high, middle = (scale(min(max(end, 0.0), 1.0)) for end in (*ends, value))
    rule = rectangle(4, 5, WIDTH - 12, 2, 0.16) + text(4, 24, "0 %", "start", soft=True) + text(WIDTH - 8, 24, "100 %", "end", soft=True)
    inner = f'<path d="M{px(low)} 6H{px(high)}" stroke="currentColor" stroke-width="6" stroke-opacity=".35"/>{marker(0, middle, 6, 4)}'
    return svg(WIDTH, 26, title, rule + coloured(Series("", (), (), 0, 0, 0), inner), "track")


def interval(value: float, ends: Sequence[float] | None, margin: float, low: float, high: float, title: str, colour: str = "") -> str:
    """Returns SVG of a change, 160 x 22 CSS pixels.

    It shows a point with its interval between `low` and `high`, the zero line, and the band of +- margin. Ends out of range are arrows.
    `colour`: a CSS colour; the default is ink.
    """
    width, height, edge = 160.0, 22.0, 7.0
    span = max(abs(low), abs(high), 1e-12)
    scale = Scale(-span, span, edge, width - edge)
    place = lambda end: min(max(scale(end), edge), width - edge)  # noqa: E731
    middle = height / 2
    parts = []
    if margin > 0:
        left, right = place(-margin), place(margin)
        parts.append(rectangle(left, 2, right - left, height - 4, 0.1))
    parts.append(f'<path d="M{px(place(0))} 1V{px(height - 1)}" stroke="currentColor" stroke-opacity=".45"/>')
    points = []
    if ends is not None and all(finite(end) for end in ends):
        points.append(f'<path d="M{px(place(ends[0]))} {px(middle)}H{px(place(ends[1]))}" stroke="currentColor" stroke-width="2"/>')
        for end, way in zip(ends, (-1, 1), strict=True):
            if abs(end) > span:
                x = place(way * span)
                points.append(f'<path d="M{px(x)} {px(middle - 4)}l{5 * way} 4l{-5 * way} 4z" fill="currentColor"/>')
            else:
                points.append(f'<path d="M{px(place(end))} {px(middle - 3.5)}v7" stroke="currentColor" stroke-width="1.5"/>')
    if finite(value):
        points.append(marker(0, place(value), middle, 3.6))
    parts.append(f'<g style="color:{html.escape(colour)}">{"".join(points)}</g>' if colour else "".join(points))
    return svg(width, height, title, "".join(parts), "change")


# -- private: kinds with axes -----------------------------------------------------------------------------------------------


def _draw(plot: Plot, series: Sequence[Series], key: Sequence[Series] = ()) -> str:
    """Draws the plot by kind. `key`: legend entries, if they differ from the series."""
    log = plot.y_label.strip().endswith("(log)") and plot.kind != "reliability"
    series = [_known(one, log) for one in series]
    values = [y for one in series for y in one.y]
    percent = "%" in plot.y_label  # values are in per cent
    key = key or (series if len(series) > 1 else ())
    title = " against ".join(text for text in (plot.y_label, plot.x_label) if text)
    title = ": ".join(text for text in (title, ", ".join(one.name for one in key)) if text)
    if not values:
        note = text(WIDTH / 2, HEIGHT / 2, "nothing to draw", "middle", soft=True)
        return svg(WIDTH, HEIGHT, f"{title}: nothing to draw", note)
    if plot.kind == "reliability":
        return _reliability(plot, series, key, title)
    if plot.kind == "scatter":
        return scatter(plot, series, key, title, log, percent)
    if plot.kind == "bar":
        if plot.labels and _upright(plot, series):
            return _bars(plot, series, key, title, log, percent)
        if plot.labels and len(plot.labels) <= HORIZONTAL_UP_TO:
            return _long_bars(plot, series, key, title, log, percent)
        return _bars(plot, series, key, title, log, percent)
    return _lines(plot, series, key, title, log, percent)


def _lines(plot: Plot, series: Sequence[Series], key: Sequence[Series], title: str, log: bool, percent: bool) -> str:
    head, top = legend(plot.y_label, key)
    height = HEIGHT - 22 + top
    ys = [y for one in series for y in one.y]
    low, high = (0.0, 100.0) if percent and min(ys) >= 0 and max(ys) <= 100 else ends_of(ys, log)
    labels = [tick(end, percent) for end in (low, high)]
    left = room(labels)
    y = Scale(low, high, height - 30, top, log)
    xs = [x for one in series for x in one.x]
    first, last = min(xs), max(xs)
    x = Scale(first, last, left + 6, WIDTH - 12) if first < last else Scale(first - 1, last + 1, left + 6, WIDTH - 12)
    names = dict(zip(plot.x, plot.labels, strict=False))
    ends = [shortened(names.get(end, tick(end)), 14) for end in dict.fromkeys((first, last))]
    parts = [head, rules(left, top, height - 30, WIDTH - 6, labels), below(left, height, ends, [x(first), x(last)], plot.x_label)]
    parts += [
        _line(one, x, y, len(series) > 2) for one in reversed(series)
    ]  # later series first, so that coinciding lines both remain visible
    return svg(WIDTH, height, title, "".join(parts))


def _reliability(plot: Plot, series: Sequence[Series], key: Sequence[Series], title: str) -> str:
    head, top = legend(plot.y_label, key, right=220.0)
    width, height = 220.0, 178.0 - 22 + top
    whole = 100.0 if "%" in plot.y_label else 1.0
    ticks = [tick(0, whole > 1), tick(whole, whole > 1)]
    left = room(ticks)
    x, y = Scale(0, whole, left, width - 10), Scale(0, whole, height - 30, top)
    parts = [head, rules(left, top, height - 30, width - 6, ticks)]
    parts.append(below(left, height, ticks, [x(0), x(whole)], plot.x_label, right=width))
    diagonal = f"M{px(x(0))} {px(y(0))}L{px(x(whole))} {px(y(whole))}"
    parts.append(f'<path d="{diagonal}" fill="none" stroke="currentColor" stroke-opacity=".5" stroke-dasharray="2 3"/>')
    for one in series:
        gaps = "".join(f"M{px(x(a))} {px(y(a))}V{px(y(b))}" for a, b in zip(one.x, one.y, strict=True))
        gap = f'<path d="{gaps}" fill="none" stroke="currentColor" stroke-width="5" stroke-opacity=".28"/>'
        dots = "".join(marker(one.marker if len(series) == 1 else one.colour, x(a), y(b), 3.2) for a, b in zip(one.x, one.y, strict=True))
        parts.append(coloured(one, gap + dots))
    return svg(width, height, title, "".join(parts))


def _bars(plot: Plot, series: Sequence[Series], key: Sequence[Series], title: str, log: bool, percent: bool) -> str:
    """Draws vertical bars: one slot per x, with its label below."""
    head, top = legend(plot.y_label, key, bars=True)
    height = HEIGHT - 22 + top
    low, high = ends_of([y for one in series for y in one.y], log, zero=True)
    labels = [tick(end, percent) for end in (low, high)]
    left = room(labels)
    y = Scale(low, high, height - 30, top, log)
    places = _places(plot, series)
    slot = (WIDTH - 8 - left) / len(places)
    width = min(30.0, 0.7 * slot) / len(series)
    floor = y(low if log else min(max(0.0, low), high))
    parts = [head, rules(left, top, height - 30, WIDTH - 6, labels)]
    parts.append(
        f'<path d="M{px(left)} {px(floor)}H{px(WIDTH - 6)}" stroke="currentColor" stroke-opacity=".45"/>' if low < 0 < high else ""
    )
    for index, one in enumerate(series):
        found = dict(zip(one.x, one.y, strict=True))
        drawn = []
        for place, where in enumerate(places):
            if where in found:
                start = left + (place + 0.5) * slot + (index - len(series) / 2) * width
                end = y(found[where])
                drawn.append(rectangle(start, min(end, floor), max(width - 1, 0.6), max(abs(floor - end), 0.8)))
        parts.append(coloured(one, "".join(drawn)))
    names = [str(label) for label in plot.labels] if len(plot.labels) == len(places) else [tick(where) for where in places]
    centres = [left + (place + 0.5) * slot for place in range(len(places))]
    if all(CHARACTER * len(name) + SMALL_GAP <= slot for name in names):
        parts += [text(centre, height - 18, name, "middle") for centre, name in zip(centres, names, strict=True)]
        parts.append(text((left + WIDTH) / 2, height - 4, plot.x_label, "middle", soft=True))
    else:
        ends = [shortened(names[0], 14), shortened(names[-1], 14)]
        parts.append(below(left, height, ends, [centres[0], centres[-1]], plot.x_label))
    return svg(WIDTH, height, title, "".join(parts))


def _long_bars(plot: Plot, series: Sequence[Series], key: Sequence[Series], title: str, log: bool, percent: bool) -> str:
    """Draws horizontal bars: one row per label, with the value at the end of its bar."""
    head, top = legend(plot.y_label, key, bars=True)
    rows = len(plot.labels)
    thick = (11.0 if rows <= 12 else 8.0) if len(series) == 1 else 7.0
    pitch = thick * len(series) + 5
    height = top + pitch * rows + 4
    low, high = ends_of([y for one in series for y in one.y], log, zero=True)
    names = [str(label) for label in plot.labels]
    left = min(130.0, max(CHARACTER * min(len(name), LONGEST) for name in names) + 8)
    x = Scale(low, high, left, WIDTH - 50, log)
    floor = x(low if log else min(max(0.0, low), high))
    parts = [head, f'<path d="M{px(floor)} {px(top - 2)}V{px(height - 2)}" stroke="currentColor" stroke-opacity=".35"/>']
    for row, name in enumerate(names):
        parts.append(text(left - 6, top + pitch * (row + 0.5) + 1.5, name, "end", longest=LONGEST))
    places = _places(plot, series)
    for index, one in enumerate(series):
        drawn, values = [], []
        for where, value in zip(one.x, one.y, strict=True):
            start, end = top + pitch * places.index(where) + 2.5 + thick * index, x(value)
            drawn.append(rectangle(min(end, floor), start, max(abs(end - floor), 0.8), thick - 1))
            values.append(text(max(end, floor) + 4, start + thick / 2 + 3.2, tick(value, percent), "start", soft=True))
        parts += [coloured(one, "".join(drawn)), *values]
    return svg(WIDTH, height, title, "".join(parts))


def _line(one: Series, x: Scale, y: Scale, several: bool) -> str:
    """Draws a line through its points, in the order of x; every point has a marker if they are few, some if there are several lines."""
    points = [(x(a), y(b)) for a, b in sorted(zip(one.x, one.y, strict=True), key=lambda pair: pair[0])]
    path = "M" + "L".join(f"{px(a)} {px(b)}" for a, b in points) if points else ""
    drawn = (
        f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linejoin="round"{dashes(one)}/>' if points else ""
    )
    every = 1 if len(points) <= MARKED else len(points) // 6
    if several or every == 1:
        drawn += "".join(marker(one.marker, a, b) for a, b in points[every // 2 :: every])
    return coloured(one, drawn)


# -- private: values --------------------------------------------------------------------------------------------------------


def _known(one: Series, log: bool) -> Series:
    """Removes points that cannot be drawn."""
    pairs = zip(one.x, one.y, strict=False)
    known = [(float(x), float(y) if abs(y) > 1 / HUGE else 0.0) for x, y in pairs if finite(x) and finite(y)]
    kept = [(x, y) for x, y in known if y > 0 or not log]
    return one._replace(x=[x for x, _ in kept], y=[y for _, y in kept])


def _span(plot: Plot) -> float:
    """Returns the value of the strongest colour: the largest value, or edge weight."""
    return strongest([[weight for *_, weight in plot.edges]]) if plot.kind == "graph" else strongest(plot.values)


def _places(plot: Plot, series: Sequence[Series]) -> list[float]:
    """Returns the positions of bars: every x, also without a value, so that labels keep their positions."""
    if len(plot.labels) and len(plot.labels) == len(plot.x):
        return [float(x) for x in plot.x]
    return sorted({x for one in series for x in one.x})


def _upright(plot: Plot, series: Sequence[Series]) -> bool:
    """Returns True if every label fits under its bar."""
    longest = max((len(str(label)) for label in plot.labels), default=0)
    return (CHARACTER * longest + SMALL_GAP) * len(plot.labels) <= WIDTH - 48
