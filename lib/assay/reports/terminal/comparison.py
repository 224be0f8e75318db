"""The comparison of variants in the terminal."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from assay.evals.rows import LOWER_IS_BETTER
from assay.reports.table import DASH, format_seed, signed
from assay.verdicts.comparison import LEVEL, Comparison


def print_comparison(comparisons: Sequence[Comparison], console: Console | None = None) -> None:
    """Prints one line for each variant, and one for the baseline."""
    first = comparisons[0]
    table = Table(box=None, pad_edge=False)
    for column in (
        "variant",
        "seeds",
        "n",
        first.metric,
        "gap",
        f"minus {first.baseline}",
        "95 %",
        "seeds better",
        "p",
        "Holm",
    ):
        table.add_column(column, justify="left" if column == "variant" else "right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_row(first.baseline, _seeds(first), str(first.n), _number(first.baseline_value, sign=False), _number(first.baseline_gap))
    for one in comparisons:
        cells = [one.name, _seeds(one), str(one.n), _number(one.value, sign=False), _number(one.gap), _number(one.difference.value)]
        better = sum((each > 0) != (one.metric in LOWER_IS_BETTER) and each != 0 for each in one.each)
        cells += [_span(one.difference.low, one.difference.high), f"{better} of {len(one.each)}"]
        table.add_row(*cells, f"{one.difference.p_value:.4f}", f"{one.adjusted:.4f}", one.verdict)
    if console is None:
        console = Console()
        console.width = max(console.width, 140)  # a pipe has no fixed width
    console.print(table)
    single = any(one.of == "weights" for one in comparisons)
    over = "examples; a verdict on one seed is one on its weights, not on the recipe" if single else "seeds and examples"
    console.print(
        f"Split {first.split}, paired by example and seed; gap: train minus {first.split}. Intervals and p are over {over}. "
        f"Verdicts: p below {LEVEL} after Holm's correction."
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _seeds(one: Comparison) -> str:
    return str(one.seeds[0]) if len(one.seeds) == 1 else format_seed(one.seeds).removeprefix("mean ")


def _number(value: float | None, sign: bool = True) -> str:
    return DASH if value is None else signed(value, ".4f") if sign else f"{value:.4f}"


def _span(low: float, high: float) -> str:
    return f"{_number(low)} to {_number(high)}" if math.isfinite(low) and math.isfinite(high) else "too few"
