"""A scatter plot with a colour and shape per set: examples in two directions of an embedding, accuracy against cost of models.

scatter(plot, series, key)      one `Plot` of kind "scatter"; `series` and `key` as sketch.py makes them
"""

from collections.abc import Sequence

from assay.diagnostics.measurement import Plot
from assay.reports.drawings.axis import Scale, ends_of, tick
from assay.reports.drawings.ink import HEIGHT, WIDTH, Series, below, coloured, legend, marker, room, rules, svg, text

MOST = 1500  # maximum number of points; evenly spaced ones are drawn if there are more
NAMED = 12  # maximum number of points with labels next to them


def scatter(plot: Plot, series: Sequence[Series], key: Sequence[Series], title: str, log: bool, percent: bool) -> str:
    """Returns SVG of the points of all series on shared axes. `labels` of the plot name its points, and are drawn if points are few."""
    head, top = legend(plot.y_label, [one._replace(dash=-1) for one in key])
    height = HEIGHT + 60 + top
    xs, ys = ([value for one in series for value in getattr(one, axis)] for axis in "xy")
    (first, last), (low, high) = ends_of(xs, False), ends_of(ys, log)
    labels = [tick(end, percent) for end in (low, high)]
    left = room(labels)
    x, y = Scale(first, last, left + 6, WIDTH - 10), Scale(low, high, height - 34, top + 4, log)
    parts = [head, rules(left, top, height - 30, WIDTH - 6, labels)]
    every = -(-len(xs) // MOST)
    names = {float(where): str(name) for where, name in zip(plot.x, plot.labels, strict=False)} if len(plot.labels) == len(plot.x) else {}
    for one in series:
        points = list(zip(one.x, one.y, strict=True))[::every]
        drawn = "".join(marker(one.marker, x(a), y(b), 3.0) for a, b in points)
        parts.append(coloured(one, f'<g fill-opacity=".75">{drawn}</g>'))
        if names and len(xs) <= NAMED:
            for a, b in points:
                right = x(a) > WIDTH * 0.7
                parts.append(text(x(a) + (-6 if right else 6), y(b) + 4, names.get(a, ""), "end" if right else "start", longest=16))
    parts.append(below(left, height, [tick(first), tick(last)], [x(first), x(last)], plot.x_label))
    return svg(WIDTH, height, title, "".join(parts))
