"""Primitives of small plots: text, shapes and colours as inline SVG, axes and legends.

Ink is `currentColor`, and colours are CSS variables with the palette of Okabe and Ito (2008) in plots.py. A plot therefore follows its page
from light to dark mode. Coordinates have two decimals, there are no ids, and all text is escaped.
"""

import html
from collections.abc import Sequence
from typing import NamedTuple

from assay.reports.drawings.plots import COLOURS

WIDTH, HEIGHT = 320.0, 150.0  # CSS pixels; legends and long bars add to the height
CHARACTER = 5.9  # width of a character at the font size, CSS pixels
FONT, SMALL_GAP = 11, 4.0
DASHES = ("", "5 2.5", "1.5 2.5")
INK = 4  # index in COLOURS
LONGEST = 20  # maximum characters of a label or name; the full text is in its tooltip
HUGE = 1e100  # larger values are omitted and values below its inverse are 0, because an axis would overflow


class Series(NamedTuple):
    """One line or one set of bars. `colour` and `dash` are indices in COLOURS and DASHES; `marker` is a shape. -1: none."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    dash: int
    marker: int


def legend(y_label: str, key: Sequence[Series], bars: bool = False, right: float = WIDTH) -> tuple[str, float]:
    """Draws the axis title and below it the legend, if any; also returns the top of the plot."""
    parts = [text(0, 11, y_label, "start", soft=True, longest=52)] if y_label else []
    x, y = 0.0, (11.0 if y_label else -6.0) + (17 if key else 0)
    for one in key:
        wide = 13.0 if bars or one.dash < 0 else 23.0
        width = wide + CHARACTER * min(len(one.name), LONGEST) + 13
        if x and x + width > right + 13:
            x, y = 0.0, y + 15
        if bars:
            mark = rectangle(x, y - 8, 8, 8)
        else:
            mark = "" if one.dash < 0 else f'<path d="M{px(x)} {px(y - 4)}h18" stroke="currentColor" stroke-width="1.8"{dashes(one)}/>'
            mark += "" if one.marker < 0 else marker(one.marker, x + (wide - 5) / 2, y - 4)
        parts.append(coloured(one, mark) + text(x + wide, y, one.name, "start", longest=LONGEST))
        x += width
    return "".join(parts), y + (15 if key else 12)


def rules(left: float, top: float, bottom: float, right: float, labels: Sequence[str]) -> str:
    """Draws two thin rules, and the end labels of the vertical axis."""
    rules = f'<path d="M{px(left)} {px(bottom)}H{px(right)}" stroke="currentColor" stroke-opacity=".45"/>'
    grid = "".join(f"M{px(left)} {px(y)}H{px(right)}" for y in (top, (top + bottom) / 2))
    rules += f'<path d="{grid}" stroke="currentColor" stroke-opacity=".12"/>'
    ends = [text(left - 5, y, label, "end") for y, label in zip((bottom + 1, top + 4), labels, strict=True)]
    return rules + "".join(ends)


def below(left: float, height: float, ends: Sequence[str], places: Sequence[float], label: str, right: float = WIDTH) -> str:
    """Draws the end labels of the horizontal axis, and its title between them if it fits, else below."""
    used = sum(map(len, ends)) * CHARACTER
    parts = [text(places[0], height - 18, ends[0], "start" if len(ends) > 1 else "middle")]
    if len(ends) > 1:
        parts.append(text(places[-1], height - 18, ends[-1], "end"))
    fits = len(ends) > 1 and used + CHARACTER * len(label) + 16 <= places[-1] - places[0]
    parts.append(text((left + right) / 2, height - (18 if fits else 4), label, "middle", soft=True, longest=44))
    return "".join(parts)


def dashes(one: Series) -> str:
    dash = DASHES[one.dash % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def marker(shape: int, x: float, y: float, size: float = 2.6) -> str:
    if shape % 4 == 0:
        return f'<circle cx="{px(x)}" cy="{px(y)}" r="{size:g}" fill="currentColor"/>'
    if shape % 4 == 1:
        return rectangle(x - size, y - size, 2 * size, 2 * size)
    ways = ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)) if shape % 4 == 2 else ((0, -1.4), (1.3, 1), (-1.3, 1))
    corners = " ".join(f"{px(x + size * a)},{px(y + size * b)}" for a, b in ways)
    return f'<polygon points="{corners}" fill="currentColor"/>'


def rectangle(x: float, y: float, width: float, height: float, opacity: float = 1.0) -> str:
    faint = "" if opacity == 1 else f' fill-opacity="{opacity:g}"'
    return f'<rect x="{px(x)}" y="{px(y)}" width="{px(width)}" height="{px(height)}" fill="currentColor"{faint}/>'


def coloured(one: Series, drawn: str) -> str:
    index = one.colour % len(COLOURS)
    colour = "currentColor" if index == INK else f"var(--line-{index}, {COLOURS[index]})"
    return f'<g style="color:{colour}">{drawn}</g>'


def text(x: float, y: float, words: str, anchor: str, soft: bool = False, longest: int = 60) -> str:
    """Draws text at a position; truncated text has a tooltip."""
    words = clean(words)
    if not words:
        return ""
    short = shortened(words, longest)
    faint = ' fill-opacity=".72"' if soft else ""
    title = f"<title>{html.escape(words)}</title>" if short != words else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{px(x)}" y="{px(y)}"{where}{faint}>{title}{html.escape(short)}</text>'


def svg(width: float, height: float, title: str, body: str, kind: str = "sketch") -> str:
    head = f'viewBox="0 0 {px(width)} {px(height)}" style="width:{px(width)}px" role="img" aria-label="{html.escape(clean(title))}"'
    return f'<svg class="{kind}" {head} font-size="{FONT}" fill="currentColor">{body}</svg>'


def finite(value: float | None) -> bool:
    return value is not None and abs(value) < HUGE


def room(labels: Sequence[str]) -> float:
    return max(CHARACTER * max(map(len, labels)) + 8, 24.0)


def shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "\u2026"


def clean(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


def px(value: float) -> str:
    """Formats a coordinate with at most two decimals."""
    return f"{round(value, 2) + 0.0:g}" if abs(value) < 1e5 else f"{value:.0f}"
