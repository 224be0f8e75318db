"""The plot of a comparison: the difference of each variant from the baseline, on the same examples."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay.evals.rows import LOWER_IS_BETTER
from assay.reports.drawings.plots import COLOURS, INK, PAGE, svg
from assay.reports.table import signed
from assay.verdicts.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERDICTS = {"better": COLOURS[2], "worse": COLOURS[1], "inconclusive": INK}


def differences(comparisons: Sequence[Comparison]) -> str:
    """Returns SVG with one line per variant, largest difference first.

    Bars are intervals, small dots the differences of single seeds. Fractions are drawn in percentage points, other metrics in their own
    unit. Colours are verdicts, which the labels also state.
    """
    first = comparisons[0]
    lower = first.metric in LOWER_IS_BETTER
    factor = 1.0 if lower else 100.0
    ordered = sorted(comparisons, key=lambda one: one.difference.value, reverse=not lower)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (1, 2)), alpha=0.8)
        for y, one in enumerate(ordered):
            colour, found = VERDICTS[one.verdict], one.difference
            ends = [factor * end for end in (found.low, found.high)]
            if all(map(math.isfinite, ends)):
                axes.plot(ends, [y, y], color=colour, linewidth=6, alpha=0.35, solid_capstyle="butt")
            if len(one.each) > 1:
                axes.plot([factor * each for each in one.each], [y] * len(one.each), ".", color=INK, markersize=4, markeredgewidth=0)
            axes.plot([factor * found.value], [y], "o", color=colour, markersize=6, markeredgewidth=0)
            note = f"{signed(factor * found.value, '.3g')}, {one.verdict}"
            axes.annotate(note, (factor * found.value, y), (0, 8), textcoords="offset points", ha="center", fontsize="small")
        axes.margins(x=0.12)
        axes.set_ylim(len(ordered) - 0.5, -0.75)
        axes.set_yticks(range(len(ordered)), [one.name for one in ordered])
        unit = "" if lower else " (percentage points)"
        axes.set_xlabel(f"{first.metric.replace('_', ' ')} on {first.split}, minus {first.baseline}{unit}")
        axes.grid(axis="x", color=INK, alpha=0.14, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["left", "bottom"]].set_alpha(0.5)

    description = f"{first.metric} minus {first.baseline}: " + ", ".join(
        f"{one.name} {signed(one.difference.value, '.4f')}" for one in ordered
    )
    return svg(draw, PAGE, 84 + 40 * len(ordered), description)
