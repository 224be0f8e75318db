"""The plots of a report: accuracy against length, scores with intervals, loss against step, attention weights.

All are pure functions from arrays to inline SVG. Ink is `currentColor`, so a plot follows the page from light to dark mode. Lines have the
colours of Okabe and Ito (2008), which are distinguishable with any colour vision. Equal input gives equal bytes, and ids are unique on a
page. Matplotlib is imported on first use: it is slow to import, and most users of this package draw nothing.
"""

import hashlib
import html
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"  # placeholder for currentColor until the SVG is written
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", INK, "#E69F00", "#56B4E9")  # without yellow, which is invisible on a light page
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1)))
PAGE, PHONE = 1016, 350  # width of a plot, CSS pixels
POINTS_UP_TO = 6  # maximum number of lines with single points; with more, points are noise
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "assay",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    **{key: INK for key in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")},
}


class Curve(NamedTuple):
    """One line. Curves with the same label are seeds of one run. Averages stop at breaks, the x values where a part starts."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    breaks: Sequence[float] = ()


class Point(NamedTuple):
    """A score (fraction) with its interval, if any. `strong` marks a mean over seeds, or the only seed."""

    label: str
    value: float
    interval: tuple[float, float] | None
    strong: bool


def moving_average(values: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
    """Returns the centred mean over `window` (odd) neighbours, [points] -> [points]; at the ends, over existing neighbours."""
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window is {window}; it must be odd and at least 1")
    array = np.asarray(values, float)
    return np.array([array[max(middle - window // 2, 0) : middle + window // 2 + 1].mean() for middle in range(len(array))])


def smooth(curve: Curve, window: int, geometric: bool = False) -> np.ndarray:
    """Returns the moving average [points] of each part of a curve, of logarithms if `geometric`.

    A short part has a shorter window, one third of its length.
    """
    values = np.asarray(curve.y, float)
    parts = np.split(np.log(values) if geometric else values, np.searchsorted(curve.x, sorted(curve.breaks)))
    smooth = np.concatenate([moving_average(part, min(window, max(len(part) // 3, 1) - 1 | 1)) for part in parts])
    return np.exp(smooth) if geometric else smooth


def accuracy_by_length(
    curves: Sequence[Curve],
    metric: str = "answer_accuracy",
    chance: float | None = None,
    trained: tuple[int, int] | None = None,
    window: int = 21,
    wide: bool = True,
) -> str:
    """Returns SVG of accuracy (fractions, in per cent) against input length (tokens); `trained` is shaded, ends included."""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        if trained is not None:
            axes.axvspan(trained[0] - 0.5, trained[1] + 0.5, facecolor=INK, alpha=0.07, linewidth=0)
            note = "trained" if wide else ""
            axes.annotate(note, (trained[0], 0), (4, 5), textcoords="offset points", fontsize="small", alpha=0.75)
        if chance is not None:
            axes.axhline(100 * chance, color=INK, linewidth=0.9, linestyle=(0, (1, 2)), alpha=0.8)
            place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
            axes.annotate(f"chance\n{100 * chance:.3g} %", (1, 100 * chance), (4, 0), fontsize="small", alpha=0.75, **place)
        percent = [curve._replace(y=(100 * np.asarray(curve.y, float)).tolist()) for curve in curves]
        _draw_curves(figure, axes, percent, window, wide, faint={"linestyle": "none", "marker": "o", "markersize": 3, "markeredgewidth": 0})
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="input length (tokens)", ylabel=f"{metric.replace('_', ' ')} (%)", ylim=(0, 102.5))
        axes.set_yticks(range(0, 101, 25 if wide else 50))

    description = f"{metric.replace('_', ' ')} in per cent against input length in tokens: {', '.join(_group(curves))}"
    return svg(draw, PAGE if wide else PHONE, _height(curves, wide, 380 if wide else 280), description)


def scores(points: Sequence[Point], metric: str, chance: float | None = None, wide: bool = True) -> str:
    """Returns SVG with one line per label, a point per score (fractions, in per cent) and a bar for its 95 % interval."""
    labels = list(dict.fromkeys(point.label for point in points))

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for point in points:
            y = labels.index(point.label)
            colour = COLOURS[0] if point.strong else INK
            if point.strong and point.interval is not None:
                axes.plot([100 * end for end in point.interval], [y, y], color=colour, linewidth=2.2, alpha=0.55, solid_capstyle="butt")
            size, alpha, below = (6, 1.0, 0.0) if point.strong else (4, 0.45, 0.2)  # a seed on the bar would be hidden
            axes.plot([100 * point.value], [y + below], "o", color=colour, markersize=size, alpha=alpha, markeredgewidth=0)
            if point.strong:
                axes.annotate(
                    f"{100 * point.value:.2f} %", (100 * point.value, y), (0, 6), textcoords="offset points", ha="center", fontsize="small"
                )
        values = [end for point in points for end in (point.value, *(point.interval or ()))]
        low, high = min(values), max(values)
        if chance is not None and chance >= low - (high - low):  # a distant chance level would compress the scores
            axes.axvline(100 * chance, color=INK, linewidth=0.9, linestyle=(0, (1, 2)), alpha=0.8)
            place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center", "va": "bottom"}
            axes.annotate("chance", (100 * chance, 1), (0, 2), fontsize="small", alpha=0.75, **place)
            low, high = min(low, chance), max(high, chance)
        room = 0.08 * max(high - low, 0.02)
        axes.set_xlim(max(0.0, 100 * (low - room)), min(100.5, 100 * (high + room)))
        axes.set_ylim(len(labels) - 0.5, -0.7)
        axes.set_yticks(range(len(labels)), [label if len(label) <= 40 else label[:39] + "\u2026" for label in labels])
        axes.set_xlabel(f"{metric.replace('_', ' ')} (%)")
        axes.grid(axis="x", color=INK, alpha=0.14, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(length=3)
        axes.spines[["left", "bottom"]].set_alpha(0.5)

    description = f"{metric.replace('_', ' ')} in per cent: " + ", ".join(
        f"{point.label} {100 * point.value:.2f}" for point in points if point.strong
    )
    return svg(draw, PAGE if wide else PHONE, 84 + 34 * len(labels), description)


def loss_by_step(curves: Sequence[Curve], unit: str = "nats", window: int = 9, wide: bool = True) -> str:
    """Returns SVG of training loss (in `unit`, if any; log scale) against step. Averages are geometric; nonpositive values are omitted."""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.set_yscale("log")
        shown = [_positive(curve) for curve in curves]
        _draw_curves(figure, axes, shown, window, wide, faint={"linewidth": 0.8}, geometric=True)
        axes.set(xlabel="training step", ylabel=f"training loss ({unit}, log scale)" if unit else "training loss (log scale)")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.minorticks_off()
        values = [y for curve in shown for y in curve.y]
        if values and max(values) < 100 * min(values):
            ticks = _round_values(min(values), max(values))
            axes.set_yticks(ticks)
            axes.set_ylim(ticks[0], ticks[-1])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")

    description = f"training loss against step: {', '.join(_group(curves))}"
    return svg(draw, PAGE if wide else PHONE, _height(curves, wide, 320 if wide else 260), description)


def score_by_step(curves: Sequence[Curve], metric: str, wide: bool = True) -> str:
    """Returns SVG of a metric (fractions, in per cent) against step, on a log scale, so that late learning is recognizable."""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        percent = [curve._replace(y=(100 * np.asarray(curve.y, float)).tolist()) for curve in curves]
        _draw_curves(figure, axes, percent, 1, wide, faint={"linewidth": 0.8})
        axes.set(xlabel="training step (log scale)", ylabel=f"{metric.replace('_', ' ')} (%)", ylim=(0, 102.5))
        axes.minorticks_off()
        steps = [x for curve in curves for x in curve.x]
        axes.set_xticks(_round_values(min(steps), max(steps))[:: 1 if wide else 2])
        axes.set_xlim(0.95 * min(steps), 1.05 * max(steps))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_yticks(range(0, 101, 25 if wide else 50))

    description = f"{metric.replace('_', ' ')} in per cent against training step: {', '.join(_group(curves))}"
    return svg(draw, PAGE if wide else PHONE, _height(curves, wide, 300 if wide else 240), description)


def gradient_by_block(curves: Sequence[Curve], wide: bool = True) -> str:
    """Returns SVG of the gradient norm of each block (log scale) against block number, first block on the left."""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.set_yscale("log")
        _draw_curves(figure, axes, [_positive(curve) for curve in curves], 1, wide, faint={"linewidth": 0.0}, geometric=True)
        axes.set(xlabel="block", ylabel="norm of the gradient (log scale)")
        axes.minorticks_off()

    description = f"norm of the gradient against the block: {', '.join(_group(curves))}"
    return svg(draw, PAGE if wide else PHONE, _height(curves, wide, 320 if wide else 260), description)


def attention_picture(weights: np.ndarray, tokens: Sequence[str]) -> str:
    """Returns SVG of weights [layers, heads, query, key] in [0, 1], one row of panels per layer.

    If no query attends to a later key, those cells remain blank.
    """
    weights = np.asarray(weights, float)
    if weights.ndim != 4 or weights.shape[2:] != (len(tokens), len(tokens)):
        raise ValueError(f"weights are {weights.shape}; {len(tokens)} tokens need [layers, heads, {len(tokens)}, {len(tokens)}]")
    layers, heads, length, _ = weights.shape
    gap, widest = 16.0, 6.5 * max(len(token) for token in tokens)
    left, bottom = 40 + widest, 48 + max(widest, 10)
    side = float(np.clip(min(13 * length, (PAGE - left) / heads - gap), 100, 320))
    size = float(np.clip(0.78 * side / length, 7.5, 10.5))
    every = int(np.ceil((size + 1) * length / side))
    width, height = max(480.0, left + heads * (side + gap)), bottom + layers * (side + gap + 12) + 34
    seen = np.tril(np.ones((length, length), bool)) if not np.triu(weights, 1).any() else np.ones((length, length), bool)

    def draw(figure: "Figure") -> None:
        for layer in range(layers):
            for head in range(heads):
                x, y = left + head * (side + gap), bottom + (layers - 1 - layer) * (side + gap + 12)
                axes = figure.add_axes((x / width, y / height, side / width, side / height))
                axes.imshow(_tint(weights[layer, head], seen), interpolation="none", extent=(0, length, length, 0), aspect="auto")
                axes.set_title(f"layer {layer}, head {head}", fontsize=10.5, loc="left", pad=4)
                shown = np.arange(0, length, every)
                labels = [tokens[index] for index in shown.tolist()]
                axes.set_xticks(shown + 0.5, labels if layer == layers - 1 else [], fontsize=size, rotation=90 if widest > 10 else 0)
                axes.set_yticks(shown + 0.5, labels if head == 0 else [], fontsize=size)
                axes.tick_params(length=0, pad=2)
                axes.spines[["left", "bottom"]].set_alpha(0.35)
        figure.text((left / 2 - widest / 2) / width, 0.5, "query token (attends)", rotation=90, ha="center", va="center")
        figure.text(left / width, 10 / height, "key token (attended to)", ha="left", va="bottom")
        _draw_key(figure, left, width, height)

    return svg(draw, width, height, f"attention weights of {layers} layers with {heads} heads over {length} tokens", layout=None)


def _draw_curves(
    figure: "Figure", axes: "Axes", curves: Sequence[Curve], window: int, wide: bool, faint: Mapping, geometric: bool = False
) -> None:
    """Draws one line per label: the moving average, over faint single values (one seed) or faint averages of seeds (several)."""
    groups = _group(curves)
    handles = []
    for index, seeds in enumerate(groups.values()):
        style = {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS) % len(DASHES)]}
        weight = max(1.3, 2.9 - 0.6 * index)  # thinner lines on top, so that coinciding lines both remain visible
        for seed in seeds if len(seeds) > 1 else []:
            axes.plot(seed.x, smooth(seed, window, geometric), **{**style, "linewidth": 0.8, "alpha": 0.4})
        mean = _mean(seeds)
        if len(seeds) == 1 and len(groups) <= POINTS_UP_TO:
            axes.plot(mean.x, mean.y, **{**style, "alpha": 0.32, "zorder": 1.5, **faint})
        handles += axes.plot(mean.x, smooth(mean, window, geometric), **style, linewidth=weight, solid_capstyle="round")
    axes.grid(axis="y", color=INK, alpha=0.14, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.tick_params(length=3)
    axes.spines[["left", "bottom"]].set_alpha(0.5)
    names = _names(curves)
    columns = _legend_columns(names, wide)
    placeholders = [str(index) for index in range(len(names))]  # Matplotlib drops labels that start with "_"
    figure.get_layout_engine().set(h_pad=6 / 72)
    spacing = {"handlelength": 1.8, "columnspacing": 1.8, "borderpad": 0.2}
    legend = figure.legend(handles, placeholders, loc="outside upper left", ncols=columns, **spacing)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


def _draw_key(figure: "Figure", left: float, width: float, height: float) -> None:
    """Draws the colour scale in the upper left: 0 to 1 from left to right."""
    axes = figure.add_axes((left / width, 1 - 20 / height, 110 / width, 9 / height))
    axes.imshow(_tint(np.linspace(0, 1, 64)[None], np.ones((1, 64), bool)), interpolation="none", aspect="auto")
    axes.set_axis_off()
    figure.text((left - 5) / width, 1 - 16 / height, "0", ha="right", va="center", fontsize=10.5)
    note = "1   attention weight (share of a query's attention)"
    figure.text((left + 115) / width, 1 - 16 / height, note, ha="left", va="center", fontsize=10.5)


def _tint(weights: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Returns RGBA [query, key, 4]: one blue with the weight as opacity; a minimum opacity shows which cells are not masked."""
    picture = np.empty((*weights.shape, 4))
    picture[..., :3] = np.array([0x00, 0x72, 0xB2]) / 255
    picture[..., 3] = np.where(seen, 0.05 + 0.95 * np.clip(np.nan_to_num(weights), 0, 1), 0)
    return picture


def _group(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.label, []).append(curve)
    return groups


def _names(curves: Sequence[Curve]) -> list[str]:
    return [name if len(name) <= 40 else name[:39] + "…" for name in _group(curves)]


def _legend_columns(names: Sequence[str], wide: bool) -> int:
    return max(1, min(len(names), (130 if wide else 46) // (max(map(len, names), default=1) + 8)))


def _height(curves: Sequence[Curve], wide: bool, least: int) -> int:
    """Returns CSS pixels: the height of the axes plus the rows of the legend."""
    names = _names(curves)
    return least + 19 * -(-len(names) // _legend_columns(names, wide))


def _mean(seeds: Sequence[Curve]) -> Curve:
    """Returns the mean over the seeds that have a value at x."""
    values: dict[float, list[float]] = {}
    for seed in seeds:
        for x, y in zip(seed.x, seed.y, strict=True):
            values.setdefault(x, []).append(y)
    known = sorted(values)
    return Curve(seeds[0].label, known, [sum(values[x]) / len(values[x]) for x in known], seeds[0].breaks)


def _positive(curve: Curve) -> Curve:
    kept = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if y is not None and np.isfinite(y) and y > 0]
    return curve._replace(x=[x for x, _ in kept], y=[y for _, y in kept])


def _round_values(low: float, high: float) -> list[float]:
    """Returns 1, 2, 5 times powers of ten, from the last at or below `low` to the first above `high`."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 2)
    values = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    below, above = max(value for value in values if value <= low), min(value for value in values if value > high)
    return [value for value in values if below <= value <= above]


def svg(draw: Callable[["Figure"], None], width: float, height: float, description: str, layout: str | None = "constrained") -> str:
    """Runs `draw` on a figure of width x height CSS pixels and returns SVG for embedding in an HTML page."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's browser has its own fonts
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS | {"font.size": 12 if width > 400 else 11})
        figure = Figure(figsize=(width / 72, height / 72), layout=layout)
        figure.patch.set_visible(False)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(buffer.getvalue(), width, height, description)


def standalone(drawn: str) -> str:
    """Returns the plot as a standalone file, in a grey that is readable on light and dark backgrounds."""
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" color="#6e7781" font-family="sans-serif" ', 1) + "\n"


def _inline(text: str, width: float, height: float, description: str) -> str:
    """Removes what an HTML page does not need (prologue, namespaces, unused ids), inherits ink and font, and makes ids unique."""
    body = text[text.index("<svg") :].partition(">")[2]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|^ +", "", body, flags=re.DOTALL | re.MULTILINE)
    prefix = f"p{hashlib.sha256(text.encode()).hexdigest()[:8]}-"
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', body))
    body = re.sub(r' id="([\w.-]+)"', lambda found: f' id="{prefix}{found[1]}"' if found[1] in used else "", body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{prefix}", body).replace("xlink:href", "href")
    body = re.sub(r'(?<= )(?:d|x|y|transform)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), body)
    body = body.replace(INK, "currentColor")
    body = re.sub(r"font-family: [^;\"]*", "font-family: inherit", body)
    style = f"width: {width:g}px; stroke-linejoin: round"
    return f'<svg class="plot" viewBox="0 0 {width:g} {height:g}" style="{style}" role="img" aria-label="{html.escape(description)}">{body}'
