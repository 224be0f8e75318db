"""A text with one signed number per token, such as attributions.

    tokens(plot)        one `Plot` of kind "tokens"

Evidence for an answer is blue with a line above the token; evidence against it is orange with a line below, so that signs do not depend on
colour. Strength is the fraction of the largest number.
"""

import unicodedata

from assay.diagnostics.measurement import Plot
from assay.reports.drawings.axis import tick
from assay.reports.drawings.heat import NEGATIVE, POSITIVE, READABLE, colour_key, diverges, strongest
from assay.reports.drawings.ink import WIDTH, clean, coloured, finite, rectangle, svg, text

MONOSPACE = 6.7  # width of a character, CSS pixels
LINE, BOX = 25.0, 17.0  # height of a line and of a token
GAP = 3.0
MOST = 400  # maximum number of tokens; the rest is counted
LONGEST = 28  # maximum characters of a token


def tokens(plot: Plot, span: float | None = None, caption: str = "") -> str:
    """Returns SVG of a text. `span`: the value of the strongest colour; `caption` is drawn above."""
    names = [_shown(str(name)) for name in plot.labels]
    numbers = [*(plot.values[0] if plot.values else ()), *[None] * len(names)][: len(names)]
    title = f"{caption or plot.y_label or 'numbers'} of {len(names)} tokens"
    span = span or strongest([numbers]) or 1.0
    head, top = colour_key(span, diverges(plot), caption or plot.y_label)
    parts, x, y = [head], 0.0, top + 4
    for name, number, whole in zip(names[:MOST], numbers, plot.labels, strict=False):
        wide = MONOSPACE * sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in name) + 6
        if x and x + wide > WIDTH:
            x, y = 0.0, y + LINE
        parts.append(_token(name, number, x, y, wide, span))
        x += wide + GAP
        if str(whole).endswith("\n"):
            x, y = 0.0, y + LINE
    height = y + LINE
    if len(names) > MOST:
        parts.append(text(0, height + 8, f"and {len(names) - MOST} more tokens", "start", soft=True))
        height += 14
    if not names:
        parts.append(text(WIDTH / 2, height, "nothing to draw", "middle", soft=True))
    return svg(WIDTH, height + 4, title, "".join(parts))


# -- private --------------------------------------------------------------------------------------------------------------


def _token(name: str, number: float | None, x: float, y: float, wide: float, span: float) -> str:
    known = number is not None and finite(number)
    share = min(1.0, abs(number) / span) if known and number is not None else 0.0
    drawn = ""
    if share:
        rule = rectangle(x, y - 3 if number > 0 else y + BOX + 1, wide, 2)  # type: ignore[operator]
        box = rectangle(x, y, wide, BOX, round(READABLE * share, 3))
        drawn = coloured(POSITIVE if number > 0 else NEGATIVE, box + (rule if share >= 0.1 else ""))  # type: ignore[operator]
    word = text(x + 3, y + 13, name, "start", longest=LONGEST + 1).replace("<text ", '<text font-family="monospace" ', 1)
    said = text(0, 0, f"{name}: {tick(number)}" if known and number is not None else name, "start", longest=10**6)
    return f"<g><title>{said.partition('>')[2].removesuffix('</text>')}</title>{drawn}{word}</g>"


def _shown(name: str) -> str:
    """Formats a token: the blank before a word becomes the gap, and a token of blanks only becomes a sign."""
    words = clean(name).strip()
    short = words if len(words) <= LONGEST else words[: LONGEST - 1] + "\u2026"
    return short or ("\u21b5" if "\n" in name else "\u2423")
