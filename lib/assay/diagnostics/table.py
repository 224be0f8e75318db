"""Table of diagnostics. Each is a pure function from a subject to rows; a new one adds a line here."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.diagnostics import calibration, generalisation, health, long_range, reasoning
from assay.diagnostics.cost import costs, speeds
from assay.diagnostics.measurement import Measurement, ordered
from assay.diagnostics.subject import Subject


class Diagnostic(NamedTuple):
    """Entry of the table of diagnostics."""

    group: str
    names: Sequence[str]  # names of its rows, used if it fails before it returns them
    measure: Callable[[Subject], list[Measurement]]  # returns rows of `group`
    choosing: bool = False  # True if it is used to choose a remedy, and is therefore also measured on the split for choices
    timing: bool = False  # True if its rows vary between diagnoses


DIAGNOSTICS: dict[str, Diagnostic] = {
    "reasoning": Diagnostic("reasoning", reasoning.NAMES, reasoning.reasoning, choosing=True),
    "far_tokens": Diagnostic("long range", long_range.FAR, long_range.far_tokens),
    "attention_distance": Diagnostic("long range", ("attention_distance",), long_range.attention_distance),
    "effective_context": Diagnostic("long range", ("effective_context",), long_range.effective_context),
    "held_out": Diagnostic("generalisation", ("score", "above_baseline", "train_test_gap"), generalisation.held_out, choosing=True),
    "learning_curve": Diagnostic("generalisation", ("learning_curve_slope",), generalisation.learning_curve),
    "corruptions": Diagnostic(
        "generalisation",
        tuple(f"corruption: {name}" for name in (*generalisation.IMAGES, *generalisation.TEXTS)),
        generalisation.corruptions,
        choosing=True,
    ),
    "domain_shift": Diagnostic("generalisation", ("domain_shift",), generalisation.domain_shift),
    "calibration": Diagnostic("calibration", calibration.NAMES, calibration.calibration, choosing=True),
    "costs": Diagnostic("cost", tuple(name for name, *_ in costs.COSTS.values()), costs.costs),
    "energy": Diagnostic("cost", ("energy",), speeds.energy, timing=True),
    "speeds": Diagnostic("speed", tuple(speeds.ROWS), speeds.speeds, timing=True),
    "decoding": Diagnostic("speed", ("tokens_per_second",), speeds.decoding, timing=True),
    "roofline": Diagnostic("speed", ("roofline",), speeds.roofline, timing=True),
    "gradients": Diagnostic("optimisation health", ("gradient_norm", "gradient_balance"), health.gradients),
    "largest_gradient": Diagnostic("optimisation health", ("largest_gradient",), health.largest_gradient),
    "update_norm": Diagnostic("optimisation health", ("update_norm",), health.update_norm),
    "dead_units": Diagnostic("optimisation health", ("dead_units",), health.dead_units),
    "attention_entropy": Diagnostic("optimisation health", ("attention_entropy",), health.attention_entropy),
    "effective_rank": Diagnostic("optimisation health", ("effective_rank",), health.effective_rank),
}


def examine(
    subject: Subject, names: Sequence[str] | None = None, on_done: Callable[[int, str], None] = lambda done, name: None
) -> list[Measurement]:
    """Returns the rows of the diagnostics `names`, by group; None: of all in the table, also of those registered since.

    A diagnostic that fails yields rows with its error; others still run.
    """
    rows = []
    for done, name in enumerate(DIAGNOSTICS if names is None else names):
        one = DIAGNOSTICS[name]
        on_done(done, name)
        try:
            with np.errstate(invalid="ignore"):  # rows say what is not finite
                rows += [_finite(row) for row in one.measure(subject)]
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            reason = f"crashed: {type(error).__name__}: {said}" if said else f"crashed: {type(error).__name__}"
            rows += [Measurement(one.group, row, None, applies=False, reason=reason, timing=one.timing, crashed=True) for row in one.names]
    order = ordered(row.group for row in rows)
    return sorted(rows, key=lambda row: order.index(row.group))


# -- private --------------------------------------------------------------------------------------------------------------


def _finite(row: Measurement) -> Measurement:
    """Marks a row whose value is not finite as inapplicable, and drops non-finite points of its plot."""
    if row.plot is not None:
        lines: dict[str, Any] = {
            name: [value if value is not None and math.isfinite(value) else None for value in values]
            for name, values in row.plot.lines.items()
        }
        cells = [[None if value is None or not math.isfinite(value) else value for value in values] for values in row.plot.values]
        row = row._replace(plot=row.plot._replace(lines=lines, values=cells))
    if row.value is None or math.isfinite(row.value):
        return row
    share = f": {row.caution}." if "not finite" in row.caution else "."
    return Measurement(row.group, row.name, None, how=row.how, applies=False, reason=f"the value is not finite{share}", timing=row.timing)
