"""An image next to a pale copy with a map over it, such as an attribution map. Blue is evidence for the answer, orange against it.

    picture(plot)       one `Plot` of kind "picture"

The image is a PNG inside the SVG, so its size depends on its pixels only; the map is drawn over it at any resolution.
"""

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from assay.diagnostics.measurement import Plot
from assay.reports.drawings.heat import STRONG, cells, colour_key, diverges, reduced, strongest
from assay.reports.drawings.ink import WIDTH, finite, px, svg, text

SIDE, GAP = 154.0, 12.0  # of a panel, CSS pixels
PALE = 0.35  # opacity of the image under the map


def picture(plot: Plot, span: float | None = None, caption: str = "") -> str:
    """Returns SVG of an image and its map. `span`: the value of the strongest colour; `caption` is drawn above."""
    title = f"{caption or plot.y_label or 'a map'} over an image"
    rows = len(plot.image)
    columns = len(plot.image[0]) if rows else 0
    if not rows or not columns:
        return svg(WIDTH, 60, f"{title}: nothing to draw", text(WIDTH / 2, 36, "nothing to draw", "middle", soft=True))
    values, _, _ = reduced(plot.values)
    span = span or strongest(values) or 1.0
    head, top = colour_key(span, diverges(plot), caption or plot.y_label)
    scale = SIDE / max(rows, columns)
    wide, high = columns * scale, rows * scale
    source = base64.b64encode(png(plot.image)).decode()
    parts = [head, _image(source, 0, top, wide, high, 1.0), _image(source, SIDE + GAP, top, wide, high, PALE)]
    if values and max(map(len, values)):
        parts.append(cells(values, SIDE + GAP, top, wide / max(map(len, values)), high / len(values), span, STRONG * 0.85))
    for left in (0.0, SIDE + GAP):
        edge = f"M{px(left)} {px(top)}h{px(wide)}v{px(high)}h{px(-wide)}z"
        parts.append(f'<path d="{edge}" fill="none" stroke="currentColor" stroke-opacity=".3"/>')
    if plot.x_label:
        parts.append(text(0, top + high + 14, plot.x_label, "start", soft=True, longest=52))
    return svg(WIDTH, top + high + (20 if plot.x_label else 4), title, "".join(parts))


def png(image: Sequence[Sequence[Any]]) -> bytes:
    """Encodes rows of pixels as PNG. A pixel is one number from 0 to 1, or three; missing values are grey, others are clipped."""
    colours = any(isinstance(pixel, Sequence) for row in image for pixel in row)
    lines = []
    for row in image:
        pixels = [tuple(pixel) if isinstance(pixel, Sequence) else (pixel,) for pixel in row]
        lines.append(b"\0" + bytes(_byte(value) for pixel in pixels for value in (_three(pixel) if colours else pixel[:1])))
    head = struct.pack(">IIBBBBB", len(image[0]), len(image), 8, 2 if colours else 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(lines), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _three(pixel: tuple[Any, ...]) -> tuple[Any, ...]:
    return pixel[:3] if len(pixel) >= 3 else (pixel[0],) * 3


def _byte(value: float | None) -> int:
    return 128 if value is None or not finite(value) else round(255 * min(max(float(value), 0.0), 1.0))


def _image(source: str, x: float, y: float, wide: float, high: float, opacity: float) -> str:
    place = f'x="{px(x)}" y="{px(y)}" width="{px(wide)}" height="{px(high)}" opacity="{opacity:g}"'
    return f'<image {place} preserveAspectRatio="none" style="image-rendering:pixelated" href="data:image/png;base64,{source}"/>'
