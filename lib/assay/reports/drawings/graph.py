"""A small graph: states and transitions of an automaton, or parts of a circuit and the flow between them.

    graph(plot)         one `Plot` of kind "graph"

A graph without cycles, except self-loops, is drawn from left to right, ordered by longest paths; others are drawn on a circle. A start node
has an incoming arrow, an accepting node a second ring. Edges between the same nodes share an arrow; weights set its strength and colour.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from assay.diagnostics.measurement import Plot
from assay.reports.drawings.axis import tick
from assay.reports.drawings.heat import NEGATIVE, POSITIVE
from assay.reports.drawings.ink import CHARACTER, INK, WIDTH, Series, coloured, finite, px, shortened, svg, text

RADIUS = 17.0  # of a node, CSS pixels
BENDS = (0.25, 0.4, 0.55, 0.75)  # bends of an arrow as fractions of its length, smallest first
LONGEST = 14  # maximum characters of a node's or an edge's label
PLAIN = Series("", (), (), INK, 0, -1)

Point = tuple[float, float]


class Arrow(NamedTuple):
    """All edges from one node to another."""

    said: str
    weight: float | None  # sum of the weights


def graph(plot: Plot, span: float | None = None, caption: str = "") -> str:
    """Returns SVG of a graph; edges to missing nodes are omitted.

    `span`: the weight of the strongest arrow; `caption` is drawn above the graph.
    """
    names = [str(name) for name in plot.labels]
    arrows = _arrows(plot.edges, len(names))
    title = f"{caption or plot.y_label or 'graph'}: {len(names)} nodes, {len(arrows)} edges"
    if not names:
        return svg(WIDTH, 60, f"{title}: nothing to draw", text(WIDTH / 2, 36, "nothing to draw", "middle", soft=True))
    head = text(0, 11, caption or plot.y_label, "start", soft=True, longest=52)
    places, radius = _places(len(names), arrows)
    span = span or max((abs(one.weight) for one in arrows.values() if one.weight is not None), default=0.0) or 1.0
    centre = (sum(x for x, _ in places) / len(places), sum(y for _, y in places) / len(places))
    roles = [*(str(role) for role in plot.rows), *[""] * len(names)][: len(names)]
    parts, ends = [], [y + way * (radius + (14 if way > 0 else 4)) for _, y in places for way in (-1, 1)]
    for (start, end), one in sorted(arrows.items()):
        if start == end:
            drawn, at = _loop(places[start], centre, radius, one, span, "start" in roles[start].split())
        else:
            drawn, at = _arrow(places, start, end, radius, one, span, (end, start) in arrows)
        parts.append(drawn)
        ends.append(at)
    parts += [_node(name, place, role, radius) for name, place, role in zip(names, places, roles, strict=True)]
    shift = (18.0 if head else 4.0) + 8 - min(ends)
    return svg(WIDTH, max(ends) + shift + 8, title, f'{head}<g transform="translate(0 {px(shift)})">{"".join(parts)}</g>')


# -- private --------------------------------------------------------------------------------------------------------------


def _arrows(edges: Sequence[tuple[int, int, str, float | None]], nodes: int) -> dict[tuple[int, int], Arrow]:
    found: dict[tuple[int, int], Arrow] = {}
    for start, end, said, weight in edges:
        if not (0 <= start < nodes and 0 <= end < nodes):
            continue
        known = float(weight) if weight is not None and finite(weight) else None
        before = found.get((start, end), Arrow("", None))
        weights = [one for one in (before.weight, known) if one is not None]
        found[start, end] = Arrow(", ".join(filter(None, (before.said, str(said)))), sum(weights) if weights else None)
    return found


def _places(nodes: int, arrows: Mapping[tuple[int, int], Arrow]) -> tuple[list[Point], float]:
    """Returns the positions of the nodes, and their radius."""
    layers = _layers(nodes, arrows)
    if layers is not None and nodes > 1:
        most, deep = max(map(len, layers)), len(layers)
        radius = min(RADIUS, (WIDTH - 40) / (3.2 * deep))
        pitch, high = (WIDTH - 64) / max(deep - 1, 1), max(3.6 * radius, 46.0)
        places = [(0.0, 0.0)] * nodes
        for depth, layer in enumerate(layers):
            for row, node in enumerate(layer):
                places[node] = (34 + depth * pitch, (row + (most - len(layer)) / 2) * high)
        return places, radius
    if nodes == 1:
        return [(WIDTH / 2, 0.0)], RADIUS
    radius, ring = min(RADIUS, 240 / nodes), min(106.0, max(54.0, 24.0 * nodes))
    angles = [-math.pi + 2 * math.pi * node / nodes for node in range(nodes)]
    return [(WIDTH / 2 + ring * math.cos(one), ring * math.sin(one)) for one in angles], radius


def _layers(nodes: int, arrows: Mapping[tuple[int, int], Arrow]) -> list[list[int]] | None:
    """Groups nodes by the length of the longest path to them; None if there are cycles."""
    depth, pairs = [0] * nodes, [(start, end) for start, end in arrows if start != end]
    for _ in range(nodes):
        moved = [(end, depth[start] + 1) for start, end in pairs if depth[end] <= depth[start]]
        if not moved:
            return [[node for node in range(nodes) if depth[node] == layer] for layer in range(max(depth) + 1)]
        for end, deeper in moved:
            depth[end] = max(depth[end], deeper)
    return None


def _arrow(places: Sequence[Point], start: int, end: int, radius: float, one: Arrow, span: float, both: bool) -> tuple[str, float]:
    """Draws an arrow between the borders of two nodes; also returns its vertical extent.

    It is bent if a reverse arrow exists or if it would cross a third node, by the smallest bend that clears all nodes.
    """
    (x0, y0), (x1, y1) = places[start], places[end]
    apart = math.hypot(x1 - x0, y1 - y0) or 1.0
    across = ((y1 - y0) / apart, -(x1 - x0) / apart)
    others = [place for node, place in enumerate(places) if node not in (start, end)]
    tried = [(16.0 if both else 0.0), *(way * share * apart for share in BENDS for way in ((1,) if both else (1, -1)))]
    middles = [((x0 + x1) / 2 + across[0] * bend, (y0 + y1) / 2 + across[1] * bend) for bend in tried]
    clear = [all(_apart((x0, y0), middle, (x1, y1), place) > radius + 5 for place in others) for middle in middles]
    chosen = clear.index(True) if any(clear) else 0
    middle, side = middles[chosen], -1.0 if tried[chosen] < 0 else 1.0
    first, last = _towards((x0, y0), middle, radius + 1), _towards((x1, y1), middle, radius + 3)
    path = f"M{px(first[0])} {px(first[1])}Q{px(middle[0])} {px(middle[1])} {px(last[0])} {px(last[1])}"
    top = ((first[0] + 2 * middle[0] + last[0]) / 4, (first[1] + 2 * middle[1] + last[1]) / 4)
    label = (top[0] + 7 * side * across[0], top[1] + 7 * side * across[1] + 3.5)
    reach = label[1] - 12 if label[1] < (y0 + y1) / 2 else label[1] + 4
    return _drawn(path, last, (last[0] - middle[0], last[1] - middle[1]), one, span, label), reach


def _apart(start: Point, middle: Point, end: Point, place: Point) -> float:
    """Returns the distance of a curve from a point, at sampled points of the curve."""
    found = []
    for step in range(1, 16):
        t = step / 16
        x, y = ((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c for a, b, c in zip(start, middle, end, strict=True))
        found.append(math.hypot(x - place[0], y - place[1]))
    return min(found)


def _loop(place: Point, centre: Point, radius: float, one: Arrow, span: float, first: bool) -> tuple[str, float]:
    """Draws a self-loop on the side facing away from the other nodes; also returns its vertical extent.

    The loop of a start node points up, because its incoming arrow is on the left.
    """
    x, y = place
    away = math.atan2(y - centre[1], x - centre[0]) if math.hypot(x - centre[0], y - centre[1]) > 1 else -math.pi / 2
    away = -math.pi / 2 if first and math.cos(away) < -0.5 else away
    ends = [(x + (radius + 1) * math.cos(away + turn), y + (radius + 1) * math.sin(away + turn)) for turn in (-0.5, 0.5)]
    pulls = [(x + (radius + 26) * math.cos(away + turn), y + (radius + 26) * math.sin(away + turn)) for turn in (-0.5, 0.5)]
    path = f"M{px(ends[0][0])} {px(ends[0][1])}C" + " ".join(f"{px(a)} {px(b)}" for a, b in (*pulls, ends[1]))
    at = (x + (radius + 26) * math.cos(away), y + (radius + 26) * math.sin(away) + 3.5)
    drawn = _drawn(path, ends[1], (ends[1][0] - pulls[1][0], ends[1][1] - pulls[1][1]), one, span, at)
    return drawn, at[1] - 12 if at[1] < y else at[1] + 4


def _drawn(path: str, tip: Point, way: Point, one: Arrow, span: float, label: Point) -> str:
    share = 0.35 if one.weight is None else min(1.0, abs(one.weight) / span)
    colour = PLAIN if one.weight is None else POSITIVE if one.weight >= 0 else NEGATIVE
    dash = ' stroke-dasharray="4 2.5"' if one.weight is not None and one.weight < 0 else ""
    line = f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="{0.9 + 2.2 * share:.2f}"{dash}/>'
    angle = math.atan2(way[1], way[0])
    corners = [(tip[0] + 8 * math.cos(angle + turn), tip[1] + 8 * math.sin(angle + turn)) for turn in (math.pi - 0.42, math.pi + 0.42)]
    head = " ".join(f"{px(a)},{px(b)}" for a, b in (_towards(tip, (tip[0] + way[0], tip[1] + way[1]), 2), *corners))
    said = one.said or ("" if one.weight is None else tick(one.weight))
    word = text(min(max(label[0], 12), WIDTH - 12), label[1], said, "middle", longest=LONGEST)
    return coloured(colour, f'{line}<polygon points="{head}" fill="currentColor"/>') + word


def _node(name: str, place: Point, role: str, radius: float) -> str:
    x, y = place
    rings = [radius, radius - 3] if "accept" in role.split() else [radius]
    drawn = "".join(
        f'<circle cx="{px(x)}" cy="{px(y)}" r="{px(ring)}" fill="none" stroke="currentColor" stroke-width="1.4"/>' for ring in rings
    )
    if "start" in role.split():
        tip = x - radius - 2
        drawn += f'<path d="M{px(tip - 14)} {px(y)}H{px(tip - 5)}" stroke="currentColor" stroke-width="1.4"/>'
        drawn += f'<polygon points="{px(tip)},{px(y)} {px(tip - 7)},{px(y - 3.5)} {px(tip - 7)},{px(y + 3.5)}" fill="currentColor"/>'
    if CHARACTER * len(name) <= 2 * radius - 10:
        return drawn + text(x, y + 4, name, "middle")
    return drawn + text(x, y + radius + 12, shortened(name, LONGEST), "middle", longest=LONGEST)


def _towards(start: Point, end: Point, length: float) -> Point:
    apart = math.hypot(end[0] - start[0], end[1] - start[1]) or 1.0
    return start[0] + (end[0] - start[0]) * length / apart, start[1] + (end[1] - start[1]) * length / apart
