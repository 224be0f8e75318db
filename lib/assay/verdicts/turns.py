"""Interleaved timing of several runs in one process, so that slow phases of the machine affect all runs equally.

    retime("runs/digits", {"small": "runs/small"}, seconds=20)["small"].changes["latency_p50"]

A change is the median over turns of (after - before) / before, with the interval of a median and a sign test over the turns. Each model
runs on the longest examples of its own task. Runs without a checkpoint cannot be timed, and identical runs need not be timed. A timing
that other work disturbed has no changes (diagnostics/cost/disturbance.py).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from assay.core.paired import sign_test
from assay.diagnostics.cost.disturbance import Timing
from assay.diagnostics.cost.speed import median_interval
from assay.diagnostics.cost.speeds import Timed
from assay.diagnostics.measurement import Measurement
from assay.verdicts.verdict import ONCE, Change

CRASHED = "crashed:"


class Times(NamedTuple):
    """Times of a run relative to the run before. Empty if the runs were not timed in turns."""

    before: Mapping[str, Measurement]  # measured in turns with `after`
    after: Mapping[str, Measurement]
    changes: Mapping[str, Change]
    one_program: bool = False  # True if both have the same model and the same parameters
    untimed: str = ONCE  # why the remaining times are not compared
    timing: Timing | None = None  # how the timing went; None if there was none


def times(before: Timed, after: Timed) -> Times:
    """Returns the times of two models and their changes, by row.

    Rows that only one model has are omitted from the changes. A disturbed timing has none, and says why.
    """
    if after.timing.disturbed:
        return Times(before.rows, after.rows, {}, untimed=after.timing.disturbed, timing=after.timing)
    changes = {row: _change(after.turns[row] / values) for row, values in before.turns.items() if row in after.turns}
    return Times(before.rows, after.rows, changes, timing=after.timing)


# -- private --------------------------------------------------------------------------------------------------------------


def _change(ratios: np.ndarray) -> Change:
    """Returns the change of a time from the ratios after / before, one per turn."""
    interval = median_interval(ratios)
    ends = None if interval is None else (interval[0] - 1, interval[1] - 1)
    return Change(float(np.median(ratios)) - 1, ends, sign_test(ratios), len(ratios))
