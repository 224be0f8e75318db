"""Times of several runs, measured again in turns in one process, so that a slow minute of the machine hits all alike.

    retime("runs/digits", {"small": "runs/small"}, seconds=20)["small"].changes["latency_p50"]

A change is a share of the time before, the median over turns, with the interval of a median and a sign test over the turns. Each model
answers the longest examples of its own task. A run without a checkpoint cannot be timed, and the same run twice need not be.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from assay.core.paired import sign_test
from assay.diagnostics.cost.speed import median_interval
from assay.diagnostics.cost.speeds import Timed
from assay.diagnostics.measurement import Measurement
from assay.verdicts.verdict import ONCE, Change

CRASHED = "crashed:"


class Times(NamedTuple):
    """Of one run against the run before. Where no turns were taken, there are no values."""

    before: Mapping[str, Measurement]  # as measured in turns with the other
    after: Mapping[str, Measurement]
    changes: Mapping[str, Change]
    one_program: bool = False  # the same model with the same parameters
    untimed: str = ONCE  # why other times are not compared


def times(before: Timed, after: Timed) -> Times:
    """What two models' turns say, by the names of rows; of those that only one has there is no change."""
    changes = {row: _change(after.turns[row] / values) for row, values in before.turns.items() if row in after.turns}
    return Times(before.rows, after.rows, changes)


# -- private --------------------------------------------------------------------------------------------------------------


def _change(ratios: np.ndarray) -> Change:
    """Of what is `ratios` times as large after, turn by turn."""
    interval = median_interval(ratios)
    ends = None if interval is None else (interval[0] - 1, interval[1] - 1)
    return Change(float(np.median(ratios)) - 1, ends, sign_test(ratios), len(ratios))
