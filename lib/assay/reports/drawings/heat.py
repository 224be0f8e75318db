"""A matrix as colours, with row and column labels: attention, patching by layer and position, confusion, agreement of models.

    heat(plot)                     one `Plot` of kind "heat"
    cells(values, ...)             the colours alone: a map over an image

Blue is above 0 and orange below; strength is the fraction of the largest value. Numbers are printed in the cells if there is room, else in
tooltips of matrices of up to 150 cells. Matrices with more than 96 rows or columns are drawn as means over blocks, with a note.
"""

import math
from collections.abc import Sequence

from assay.diagnostics.measurement import Plot
from assay.reports.drawings.axis import tick
from assay.reports.drawings.ink import CHARACTER, HUGE, WIDTH, Series, coloured, finite, px, rectangle, shortened, svg, text

Values = Sequence[Sequence[float | None]]

POSITIVE, NEGATIVE = Series("", (), (), 0, 0, -1), Series("", (), (), 1, 0, -1)
MOST = 96  # maximum rows or columns
LEVELS = 16  # steps of strength, so that cells of equal colour share a path
STRONG, READABLE = 0.92, 0.55  # opacity of the strongest colour: without and with text on it
TOLD = 150  # maximum number of cells with a tooltip each
TALLEST, HIGHEST = 22.0, 300.0  # maximum height of a cell and of the matrix, CSS pixels
LINE = 11.0  # distance between labels
WIDEST = 6.6  # width of a character in labels that must not overlap the colours


def heat(plot: Plot, span: float | None = None, caption: str = "") -> str:
    """Returns SVG of a matrix. `span`: the value of the strongest colour, so that two plots can share a scale; `caption` is drawn above."""
    title = ": ".join(part for part in (caption, " by ".join(filter(None, (plot.y_label, plot.x_label))) or "matrix") if part)
    values, by_row, by_column = reduced(plot.values)
    if not strongest(plot.values) and not any(finite(value) for row in values for value in row):
        return svg(WIDTH, 60, f"{title}: nothing to draw", text(WIDTH / 2, 36, "nothing to draw", "middle", soft=True))
    span = span or strongest(values) or 1.0
    rows, columns = len(values), max(map(len, values))
    names, below = [str(name) for name in plot.rows][::by_row], [str(name) for name in plot.labels][::by_column]
    left = min(112.0, max([WIDEST * min(len(name), 18) for name in names], default=0.0) + (6 if names else 0))
    wide = (WIDTH - left - 2) / columns
    high = min(max(wide, 3.0), TALLEST, HIGHEST / rows)
    head, top = colour_key(span, diverges(plot), caption)
    if plot.y_label:
        head, top = head + text(0, top + 8, plot.y_label, "start", soft=True, longest=52), top + 14
    said = [[tick(value) if finite(value) else "" for value in row] for row in values]  # type: ignore[arg-type]
    longest = max((len(one) for row in said for one in row), default=0)
    written = high >= 13 and CHARACTER * longest + 4 <= wide
    parts = [head, cells(values, left, top, wide, high, span, READABLE if written else STRONG, names, below)]
    if written:
        for i, row in enumerate(said):
            parts += [text(left + (j + 0.5) * wide, top + (i + 0.5) * high + 4, one, "middle") for j, one in enumerate(row)]
    edge = f"M{px(left)} {px(top)}h{px(wide * columns)}v{px(high * rows)}h{px(-wide * columns)}z"
    parts.append(f'<path d="{edge}" fill="none" stroke="currentColor" stroke-opacity=".3"/>')
    every = max(1, math.ceil(LINE / high))
    parts += [text(left - 5, top + (i + 0.5) * high + 4, name, "end", longest=18) for i, name in enumerate(names) if i % every == 0]
    bottom, drawn = _column_labels(below, left, top + high * rows, wide)
    parts.append(drawn)
    notes = [plot.x_label, f"means over {by_row} x {by_column} cells" if by_row * by_column > 1 else ""]
    said_below = "; ".join(filter(None, notes))
    if said_below:
        parts.append(text(left + wide * columns / 2, bottom + 12, said_below, "middle", soft=True, longest=44))
        bottom += 14
    return svg(WIDTH, bottom + 4, title, "".join(parts))


def cells(
    values: Values,
    left: float,
    top: float,
    wide: float,
    high: float,
    span: float,
    strong: float = STRONG,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> str:
    """Draws the colours of a matrix, cells of `wide` x `high` CSS pixels; missing values are blank. Small labelled matrices have
    tooltips."""
    told = bool(rows or columns) and sum(map(len, values)) <= TOLD
    paths: dict[tuple[bool, int], list[str]] = {}
    single: dict[bool, list[str]] = {True: [], False: []}
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if value is None or not finite(value):
                continue
            level = min(LEVELS, math.ceil(LEVELS * abs(value) / span - 1e-9)) if span else 0
            x, y = left + j * wide, top + i * high
            if told:
                name = ", ".join(filter(None, (rows[i] if i < len(rows) else "", columns[j] if j < len(columns) else "")))
                title = _escaped(f"{name}: {tick(value)}" if name else tick(value))
                cell = rectangle(x, y, wide, high, round(strong * level / LEVELS, 3))
                single[value >= 0].append(cell.replace("/>", f"><title>{title}</title></rect>"))
            elif level:
                paths.setdefault((value > 0, level), []).append(f"M{px(x)} {px(y)}h{px(wide)}v{px(high)}h{px(-wide)}z")
    for (positive, level), drawn in sorted(paths.items()):
        opacity = f"{strong * level / LEVELS:.3f}".rstrip("0")
        single[positive].append(f'<path d="{"".join(drawn)}" fill="currentColor" fill-opacity="{opacity}"/>')
    return "".join(coloured(one, "".join(single[one is POSITIVE])) for one in (POSITIVE, NEGATIVE) if single[one is POSITIVE])


def colour_key(span: float, diverging: bool, caption: str = "") -> tuple[str, float]:
    """Draws the colour scale from minimum to maximum, after a caption; also returns the top of the drawing below it."""
    x, parts = 0.0, []
    if caption:
        parts.append(text(0, 11, caption, "start", longest=26))
        x = WIDEST * min(len(caption), 26) + 12
    for one, steps, end in ((NEGATIVE, range(8, 0, -1), -span), (POSITIVE, range(1, 9), span)):
        if one is NEGATIVE and not diverging:
            parts.append(text(x, 11, "0", "start"))
            x += CHARACTER + 5
            continue
        said = tick(end)
        if one is NEGATIVE:
            parts.append(text(x, 11, said, "start"))
            x += WIDEST * len(said) + 5
        parts.append(coloured(one, "".join(rectangle(x + 7 * i, 3, 7, 9, round(STRONG * step / 8, 3)) for i, step in enumerate(steps))))
        x += 56
        if one is POSITIVE:
            parts.append(text(x + 5, 11, said, "start"))
    return "".join(parts), 20.0


def diverges(plot: Plot) -> bool:
    """Returns True if colours extend to both sides of 0."""
    return plot.scale == "diverging" or (
        plot.scale != "zero" and any(value < 0 for row in plot.values for value in row if value is not None and finite(value))
    )


def strongest(values: Values) -> float:
    """Returns the largest absolute value; 0 if there is none."""
    return max(
        (abs(value) for row in values for value in row if value is not None and finite(value) and abs(value) > 1 / HUGE), default=0.0
    )


def reduced(values: Values) -> tuple[Values, int, int]:
    """Returns means over blocks, so that neither side exceeds MOST; also the rows and columns per block."""
    by_row, by_column = math.ceil(len(values) / MOST) or 1, math.ceil(max(map(len, values), default=0) / MOST) or 1
    if by_row == by_column == 1:
        return values, 1, 1
    found = []
    for i in range(0, len(values), by_row):
        block = values[i : i + by_row]
        widest = max(map(len, block))
        parts = [[value for row in block for value in row[j : j + by_column]] for j in range(0, widest, by_column)]
        known = [[value for value in part if value is not None and finite(value)] for part in parts]
        found.append([sum(part) / len(part) if part else None for part in known])
    return found, by_row, by_column


# -- private --------------------------------------------------------------------------------------------------------------


def _column_labels(names: Sequence[str], left: float, bottom: float, wide: float) -> tuple[float, str]:
    """Draws column labels: horizontal if all fit, else vertical and as many as fit; also returns where they end."""
    if not names:
        return bottom, ""
    if all(CHARACTER * len(name) + 4 <= wide for name in names):
        return bottom + 14, "".join(text(left + (j + 0.5) * wide, bottom + 12, name, "middle") for j, name in enumerate(names))
    every, parts = max(1, math.ceil(LINE / wide)), []
    for j, name in enumerate(names):
        if j % every == 0 and name:
            x, y = left + (j + 0.5) * wide + 4, bottom + 5
            parts.append(text(x, y, name, "end", longest=12).replace("<text ", f'<text transform="rotate(-90 {px(x)} {px(y)})" ', 1))
    return bottom + CHARACTER * max(len(shortened(name, 12)) for name in names) + 8, "".join(parts)


def _escaped(words: str) -> str:
    drawn = text(0, 0, words, "start", longest=10**6)
    return drawn.partition(">")[2].removesuffix("</text>")
