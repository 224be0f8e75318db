"""Small pictures beside a number: inline SVG written by hand, so that a page of fifty stays small and is made in milliseconds.

    sketch(plot)                          one `Plot`: lines, bars, or reliability against its diagonal
    overlay(plot_before, plot_after)      the same axes twice, "before" dashed and "after" solid
    interval(value, ends, margin, ...)    a change with its 95 % interval, the zero line and the band of the margin
    track(value, ends, title)             a share with its interval, from 0 to 1

Ink is `currentColor` and colours are CSS variables with those of Okabe and Ito (2008) as they stand in plots.py, so a picture follows
its page from light to dark; lines also differ in dash and marker. The same input gives the same bytes, there are no ids, text is escaped.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from assay.diagnostics.measurement import Plot
from assay.reports.drawings.axis import Scale, ends_of, tick
from assay.reports.drawings.plots import COLOURS

WIDTH, HEIGHT = 320.0, 150.0  # CSS pixels; legends and long bars add to the height
CHARACTER = 5.9  # width of one at the font size, CSS pixels
FONT, SMALL_GAP = 11, 4.0
DASHES = ("", "5 2.5", "1.5 2.5")
INK = 4  # its place in COLOURS
MARKED = 24  # points of a line; with more, markers are noise, and only some are drawn where shapes tell lines apart
LONGEST = 20  # characters of a label or of a name; the rest is in its tooltip
HUGE = 1e100  # what is larger is left out, and what is smaller than its inverse is 0: an axis would overflow
HORIZONTAL_UP_TO = 40  # bars; more stand upright, without names


class Series(NamedTuple):
    """One line or one set of bars. `colour` and `dash` are places in COLOURS and DASHES; `marker` is a shape's number. -1: without."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    dash: int
    marker: int


def as_plot(plot: Plot | Mapping[str, Any] | None) -> Plot | None:
    """A Plot from what JSON made of it."""
    return Plot(**plot) if isinstance(plot, Mapping) else plot


def sketch(plot: Plot) -> str:
    """SVG of a plot. Points that are None, NaN or infinite are left out (also those that have no logarithm, on an axis that needs one)."""
    series = [Series(name, plot.x, y, index, index // len(COLOURS), index) for index, (name, y) in enumerate(plot.lines.items())]
    return _draw(plot, series)


def overlay(before: Plot | None, after: Plot | None) -> str:
    """SVG of two plots of one row on the same axes; of one alone, where the other is missing or of another kind. "" where both are."""
    if before is not None and after is not None and before.kind != after.kind:
        before = None
    shown = [(name, plot) for name, plot in (("before", before), ("after", after)) if plot is not None]
    if not shown:
        return ""
    base = shown[-1][1]
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
    """SVG of a share with its interval on the way from 0 to 1, 320 x 26 CSS pixels."""
    scale = Scale(0, 1, 4, WIDTH - 8)
    low, high, middle = (scale(min(max(end, 0.0), 1.0)) for end in (*ends, value))
    rule = _rectangle(4, 5, WIDTH - 12, 2, 0.16) + _text(4, 24, "0 %", "start", soft=True) + _text(WIDTH - 8, 24, "100 %", "end", soft=True)
    inner = f'<path d="M{_n(low)} 6H{_n(high)}" stroke="currentColor" stroke-width="6" stroke-opacity=".35"/>{_marker(0, middle, 6, 4)}'
    return _svg(WIDTH, 26, title, rule + _coloured(Series("", (), (), 0, 0, 0), inner), "track")


def interval(value: float, ends: Sequence[float] | None, margin: float, low: float, high: float, title: str, colour: str = "") -> str:
    """SVG of a change, 160 x 22 CSS pixels: a point with its interval between `low` and `high`, the zero line, and the band of +- margin.
    What lies beyond ends in an arrow. `colour`: a CSS colour, else ink."""
    width, height, edge = 160.0, 22.0, 7.0
    span = max(abs(low), abs(high), 1e-12)
    scale = Scale(-span, span, edge, width - edge)
    place = lambda end: min(max(scale(end), edge), width - edge)  # noqa: E731
    middle = height / 2
    parts = []
    if margin > 0:
        left, right = place(-margin), place(margin)
        parts.append(_rectangle(left, 2, right - left, height - 4, 0.1))
    parts.append(f'<path d="M{_n(place(0))} 1V{_n(height - 1)}" stroke="currentColor" stroke-opacity=".45"/>')
    points = []
    if ends is not None and all(_finite(end) for end in ends):
        points.append(f'<path d="M{_n(place(ends[0]))} {_n(middle)}H{_n(place(ends[1]))}" stroke="currentColor" stroke-width="2"/>')
        for end, way in zip(ends, (-1, 1), strict=True):
            if abs(end) > span:
                x = place(way * span)
                points.append(f'<path d="M{_n(x)} {_n(middle - 4)}l{5 * way} 4l{-5 * way} 4z" fill="currentColor"/>')
            else:
                points.append(f'<path d="M{_n(place(end))} {_n(middle - 3.5)}v7" stroke="currentColor" stroke-width="1.5"/>')
    if _finite(value):
        points.append(_marker(0, place(value), middle, 3.6))
    parts.append(f'<g style="color:{html.escape(colour)}">{"".join(points)}</g>' if colour else "".join(points))
    return _svg(width, height, title, "".join(parts), "change")


# -- private: the three kinds -----------------------------------------------------------------------------------------------


def _draw(plot: Plot, series: Sequence[Series], key: Sequence[Series] = ()) -> str:
    """`key`: what the legend tells apart, where that is not the series one by one."""
    log = plot.y_label.strip().endswith("(log)") and plot.kind != "reliability"
    series = [_known(one, log) for one in series]
    values = [y for one in series for y in one.y]
    percent = "%" in plot.y_label  # values are in hundredths
    key = key or (series if len(series) > 1 else ())
    title = " against ".join(text for text in (plot.y_label, plot.x_label) if text)
    title = ": ".join(text for text in (title, ", ".join(one.name for one in key)) if text)
    if not values:
        note = _text(WIDTH / 2, HEIGHT / 2, "nothing to draw", "middle", soft=True)
        return _svg(WIDTH, HEIGHT, f"{title}: nothing to draw", note)
    if plot.kind == "reliability":
        return _reliability(plot, series, key, title)
    if plot.kind == "bar":
        if plot.labels and _upright(plot, series):
            return _bars(plot, series, key, title, log, percent)
        if plot.labels and len(plot.labels) <= HORIZONTAL_UP_TO:
            return _long_bars(plot, series, key, title, log, percent)
        return _bars(plot, series, key, title, log, percent)
    return _lines(plot, series, key, title, log, percent)


def _lines(plot: Plot, series: Sequence[Series], key: Sequence[Series], title: str, log: bool, percent: bool) -> str:
    head, top = _head(plot.y_label, key)
    height = HEIGHT - 22 + top
    ys = [y for one in series for y in one.y]
    low, high = (0.0, 100.0) if percent and min(ys) >= 0 and max(ys) <= 100 else ends_of(ys, log)
    labels = [tick(end, percent) for end in (low, high)]
    left = _room(labels)
    y = Scale(low, high, height - 30, top, log)
    xs = [x for one in series for x in one.x]
    first, last = min(xs), max(xs)
    x = Scale(first, last, left + 6, WIDTH - 12) if first < last else Scale(first - 1, last + 1, left + 6, WIDTH - 12)
    names = dict(zip(plot.x, plot.labels, strict=False))
    ends = [_short(names.get(end, tick(end)), 14) for end in dict.fromkeys((first, last))]
    parts = [head, _axes(left, top, height - 30, WIDTH - 6, labels), _below(left, height, ends, [x(first), x(last)], plot.x_label)]
    parts += [_line(one, x, y, len(series) > 2) for one in reversed(series)]  # dashes over what is solid: two that coincide are both seen
    return _svg(WIDTH, height, title, "".join(parts))


def _reliability(plot: Plot, series: Sequence[Series], key: Sequence[Series], title: str) -> str:
    head, top = _head(plot.y_label, key, right=220.0)
    width, height = 220.0, 178.0 - 22 + top
    whole = 100.0 if "%" in plot.y_label else 1.0
    ticks = [tick(0, whole > 1), tick(whole, whole > 1)]
    left = _room(ticks)
    x, y = Scale(0, whole, left, width - 10), Scale(0, whole, height - 30, top)
    parts = [head, _axes(left, top, height - 30, width - 6, ticks)]
    parts.append(_below(left, height, ticks, [x(0), x(whole)], plot.x_label, right=width))
    diagonal = f"M{_n(x(0))} {_n(y(0))}L{_n(x(whole))} {_n(y(whole))}"
    parts.append(f'<path d="{diagonal}" fill="none" stroke="currentColor" stroke-opacity=".5" stroke-dasharray="2 3"/>')
    for one in series:
        gaps = "".join(f"M{_n(x(a))} {_n(y(a))}V{_n(y(b))}" for a, b in zip(one.x, one.y, strict=True))
        gap = f'<path d="{gaps}" fill="none" stroke="currentColor" stroke-width="5" stroke-opacity=".28"/>'
        dots = "".join(_marker(one.marker if len(series) == 1 else one.colour, x(a), y(b), 3.2) for a, b in zip(one.x, one.y, strict=True))
        parts.append(_coloured(one, gap + dots))
    return _svg(width, height, title, "".join(parts))


def _bars(plot: Plot, series: Sequence[Series], key: Sequence[Series], title: str, log: bool, percent: bool) -> str:
    """Upright: a slot for each place of x, with its label below."""
    head, top = _head(plot.y_label, key, bars=True)
    height = HEIGHT - 22 + top
    low, high = ends_of([y for one in series for y in one.y], log, zero=True)
    labels = [tick(end, percent) for end in (low, high)]
    left = _room(labels)
    y = Scale(low, high, height - 30, top, log)
    places = _places(plot, series)
    slot = (WIDTH - 8 - left) / len(places)
    width = min(30.0, 0.7 * slot) / len(series)
    floor = y(low if log else min(max(0.0, low), high))
    parts = [head, _axes(left, top, height - 30, WIDTH - 6, labels)]
    parts.append(
        f'<path d="M{_n(left)} {_n(floor)}H{_n(WIDTH - 6)}" stroke="currentColor" stroke-opacity=".45"/>' if low < 0 < high else ""
    )
    for index, one in enumerate(series):
        found = dict(zip(one.x, one.y, strict=True))
        drawn = []
        for place, where in enumerate(places):
            if where in found:
                start = left + (place + 0.5) * slot + (index - len(series) / 2) * width
                end = y(found[where])
                drawn.append(_rectangle(start, min(end, floor), max(width - 1, 0.6), max(abs(floor - end), 0.8)))
        parts.append(_coloured(one, "".join(drawn)))
    names = [str(label) for label in plot.labels] if len(plot.labels) == len(places) else [tick(where) for where in places]
    centres = [left + (place + 0.5) * slot for place in range(len(places))]
    if all(CHARACTER * len(name) + SMALL_GAP <= slot for name in names):
        parts += [_text(centre, height - 18, name, "middle") for centre, name in zip(centres, names, strict=True)]
        parts.append(_text((left + WIDTH) / 2, height - 4, plot.x_label, "middle", soft=True))
    else:
        ends = [_short(names[0], 14), _short(names[-1], 14)]
        parts.append(_below(left, height, ends, [centres[0], centres[-1]], plot.x_label))
    return _svg(WIDTH, height, title, "".join(parts))


def _long_bars(plot: Plot, series: Sequence[Series], key: Sequence[Series], title: str, log: bool, percent: bool) -> str:
    """Lying: a row for each label, with the value at the end of its bar."""
    head, top = _head(plot.y_label, key, bars=True)
    rows = len(plot.labels)
    thick = (11.0 if rows <= 12 else 8.0) if len(series) == 1 else 7.0
    pitch = thick * len(series) + 5
    height = top + pitch * rows + 4
    low, high = ends_of([y for one in series for y in one.y], log, zero=True)
    names = [str(label) for label in plot.labels]
    left = min(130.0, max(CHARACTER * min(len(name), LONGEST) for name in names) + 8)
    x = Scale(low, high, left, WIDTH - 50, log)
    floor = x(low if log else min(max(0.0, low), high))
    parts = [head, f'<path d="M{_n(floor)} {_n(top - 2)}V{_n(height - 2)}" stroke="currentColor" stroke-opacity=".35"/>']
    for row, name in enumerate(names):
        parts.append(_text(left - 6, top + pitch * (row + 0.5) + 1.5, name, "end", longest=LONGEST))
    places = _places(plot, series)
    for index, one in enumerate(series):
        drawn, values = [], []
        for where, value in zip(one.x, one.y, strict=True):
            start, end = top + pitch * places.index(where) + 2.5 + thick * index, x(value)
            drawn.append(_rectangle(min(end, floor), start, max(abs(end - floor), 0.8), thick - 1))
            values.append(_text(max(end, floor) + 4, start + thick / 2 + 3.2, tick(value, percent), "start", soft=True))
        parts += [_coloured(one, "".join(drawn)), *values]
    return _svg(WIDTH, height, title, "".join(parts))


# -- private: parts of a drawing --------------------------------------------------------------------------------------------


def _head(y_label: str, key: Sequence[Series], bars: bool = False, right: float = WIDTH) -> tuple[str, float]:
    """What the axis shows, and below it the legend, if any; and where the drawing starts, from the top."""
    parts = [_text(0, 11, y_label, "start", soft=True, longest=52)] if y_label else []
    x, y = 0.0, (11.0 if y_label else -6.0) + (17 if key else 0)
    for one in key:
        wide = 13.0 if bars or one.dash < 0 else 23.0
        width = wide + CHARACTER * min(len(one.name), LONGEST) + 13
        if x and x + width > right + 13:
            x, y = 0.0, y + 15
        if bars:
            mark = _rectangle(x, y - 8, 8, 8)
        else:
            mark = "" if one.dash < 0 else f'<path d="M{_n(x)} {_n(y - 4)}h18" stroke="currentColor" stroke-width="1.8"{_dash(one)}/>'
            mark += "" if one.marker < 0 else _marker(one.marker, x + (wide - 5) / 2, y - 4)
        parts.append(_coloured(one, mark) + _text(x + wide, y, one.name, "start", longest=LONGEST))
        x += width
    return "".join(parts), y + (15 if key else 12)


def _axes(left: float, top: float, bottom: float, right: float, labels: Sequence[str]) -> str:
    """Two thin rules and the ends of the upright one."""
    rules = f'<path d="M{_n(left)} {_n(bottom)}H{_n(right)}" stroke="currentColor" stroke-opacity=".45"/>'
    grid = "".join(f"M{_n(left)} {_n(y)}H{_n(right)}" for y in (top, (top + bottom) / 2))
    rules += f'<path d="{grid}" stroke="currentColor" stroke-opacity=".12"/>'
    ends = [_text(left - 5, y, label, "end") for y, label in zip((bottom + 1, top + 4), labels, strict=True)]
    return rules + "".join(ends)


def _below(left: float, height: float, ends: Sequence[str], places: Sequence[float], label: str, right: float = WIDTH) -> str:
    """The ends of the lying axis, and between them what it shows, if there is room; else below them."""
    used = sum(map(len, ends)) * CHARACTER
    parts = [_text(places[0], height - 18, ends[0], "start" if len(ends) > 1 else "middle")]
    if len(ends) > 1:
        parts.append(_text(places[-1], height - 18, ends[-1], "end"))
    fits = len(ends) > 1 and used + CHARACTER * len(label) + 16 <= places[-1] - places[0]
    parts.append(_text((left + right) / 2, height - (18 if fits else 4), label, "middle", soft=True, longest=44))
    return "".join(parts)


def _line(one: Series, x: Scale, y: Scale, several: bool) -> str:
    """A line through its points, in the order of x; a marker at each where they are few, at some where there are several lines."""
    points = [(x(a), y(b)) for a, b in sorted(zip(one.x, one.y, strict=True), key=lambda pair: pair[0])]
    path = "M" + "L".join(f"{_n(a)} {_n(b)}" for a, b in points) if points else ""
    drawn = f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linejoin="round"{_dash(one)}/>' if points else ""
    every = 1 if len(points) <= MARKED else len(points) // 6
    if several or every == 1:
        drawn += "".join(_marker(one.marker, a, b) for a, b in points[every // 2 :: every])
    return _coloured(one, drawn)


def _dash(one: Series) -> str:
    dash = DASHES[one.dash % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _marker(shape: int, x: float, y: float, size: float = 2.6) -> str:
    if shape % 4 == 0:
        return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{size:g}" fill="currentColor"/>'
    if shape % 4 == 1:
        return _rectangle(x - size, y - size, 2 * size, 2 * size)
    ways = ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)) if shape % 4 == 2 else ((0, -1.4), (1.3, 1), (-1.3, 1))
    corners = " ".join(f"{_n(x + size * a)},{_n(y + size * b)}" for a, b in ways)
    return f'<polygon points="{corners}" fill="currentColor"/>'


def _rectangle(x: float, y: float, width: float, height: float, opacity: float = 1.0) -> str:
    faint = "" if opacity == 1 else f' fill-opacity="{opacity:g}"'
    return f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" fill="currentColor"{faint}/>'


def _coloured(one: Series, drawn: str) -> str:
    index = one.colour % len(COLOURS)
    colour = "currentColor" if index == INK else f"var(--line-{index}, {COLOURS[index]})"
    return f'<g style="color:{colour}">{drawn}</g>'


def _text(x: float, y: float, text: str, anchor: str, soft: bool = False, longest: int = 60) -> str:
    """Text at a place; what is cut off is in a tooltip."""
    text = _clean(text)
    if not text:
        return ""
    short = _short(text, longest)
    faint = ' fill-opacity=".72"' if soft else ""
    title = f"<title>{html.escape(text)}</title>" if short != text else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{_n(x)}" y="{_n(y)}"{where}{faint}>{title}{html.escape(short)}</text>'


def _svg(width: float, height: float, title: str, body: str, kind: str = "sketch") -> str:
    head = f'viewBox="0 0 {_n(width)} {_n(height)}" style="width:{_n(width)}px" role="img" aria-label="{html.escape(_clean(title))}"'
    return f'<svg class="{kind}" {head} font-size="{FONT}" fill="currentColor">{body}</svg>'


# -- private: values --------------------------------------------------------------------------------------------------------


def _known(one: Series, log: bool) -> Series:
    """Without the points that cannot be drawn."""
    pairs = zip(one.x, one.y, strict=False)
    known = [(float(x), float(y) if abs(y) > 1 / HUGE else 0.0) for x, y in pairs if _finite(x) and _finite(y)]
    kept = [(x, y) for x, y in known if y > 0 or not log]
    return one._replace(x=[x for x, _ in kept], y=[y for _, y in kept])


def _finite(value: float | None) -> bool:
    return value is not None and abs(value) < HUGE


def _places(plot: Plot, series: Sequence[Series]) -> list[float]:
    """Where bars stand: each x, also those without a value, so that labels keep their places."""
    if len(plot.labels) and len(plot.labels) == len(plot.x):
        return [float(x) for x in plot.x]
    return sorted({x for one in series for x in one.x})


def _upright(plot: Plot, series: Sequence[Series]) -> bool:
    """Whether every label fits under its bar."""
    longest = max((len(str(label)) for label in plot.labels), default=0)
    return (CHARACTER * longest + SMALL_GAP) * len(plot.labels) <= WIDTH - 48


def _room(labels: Sequence[str]) -> float:
    return max(CHARACTER * max(map(len, labels)) + 8, 24.0)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "\u2026"


def _clean(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


def _n(value: float) -> str:
    """A coordinate, two decimals at most."""
    return f"{round(value, 2) + 0.0:g}" if abs(value) < 1e5 else f"{value:.0f}"
