"""Times of several runs, measured again in turns in one process, so that a slow minute of the machine hits all alike.

    retime("runs/digits", {"small": "runs/small"}, seconds=20)["small"].changes["latency_p50"]

A change is a share of the time before, the median over turns, with the interval of a median and a sign test over the turns. Each model
answers the longest examples of its own task. A run without a checkpoint cannot be timed, and the same run twice need not be.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from assay.card.verdict import ONCE, Change
from assay.core.config import differences
from assay.core.paired import sign_test
from assay.diagnose.cost import example_batch
from assay.diagnose.speed import MANY, ONE, Speed, median_interval, speed
from assay.train.checkpoint import fingerprint
from assay.train.progress import bar
from assay.train.workdir import WorkDir
from assay.treat.load import load

FIELDS = {  # rows of the group speed that are compared by turns -> the figure of Speed
    "latency_p50": "latency_p50_seconds",
    "examples_per_second": "examples_per_second",
    "batched_examples_per_second": "batched_examples_per_second",
}
BEFORE = ""  # no name of a run


class Times(NamedTuple):
    """Of one run against the run before. Where no turns were taken, `values` are empty."""

    before: Mapping[str, float]  # row -> its value, in turns with the other
    after: Mapping[str, float]
    changes: Mapping[str, Change]
    one_program: bool = False  # the same model with the same parameters
    untimed: str = ONCE  # why other times are not compared


def retime(before: str, afters: Mapping[str, str], seconds: float) -> dict[str, Times]:
    """Of each run after, by name, in about `seconds` in all. Raises UserError for a checkpoint that cannot be read."""
    untimed = {name: _untimed(before, path) for name, path in afters.items()}
    same = {name for name, path in afters.items() if one_program(before, path)}
    timed = {name: path for name, path in afters.items() if not untimed[name] and name not in same}
    speeds = _speeds({BEFORE: before, **timed}, seconds) if timed else {}
    return {
        name: times(speeds[BEFORE], speeds[name]) if name in timed else Times({}, {}, {}, name in same, untimed[name] or ONCE)
        for name in afters
    }


def times(before: Speed, after: Speed) -> Times:
    """What two models' turns say, those of `before` first."""
    latency, throughput = np.array(after.turn_latency), np.array(after.turn_throughput)
    changes = {
        "latency_p50": _change(1 / latency),
        "examples_per_second": _change(latency),
        "batched_examples_per_second": _change(throughput),
    }
    values = [{row: float(getattr(one, field)) for row, field in FIELDS.items()} for one in (before, after)]
    return Times(values[0], values[1], changes)


def one_program(before: str | Path, after: str | Path) -> bool:
    """Whether two folders hold the same checkpoint of the same configuration: one run, or its copy."""
    kept = fingerprint(before)
    if not kept or kept != fingerprint(after):
        return False
    return not {*differences(WorkDir(before).read_config(), WorkDir(after).read_config())} - {"experiment"}


# -- private --------------------------------------------------------------------------------------------------------------


def _speeds(runs: Mapping[str, str], seconds: float) -> dict[str, Speed]:
    candidates = {}
    for name, path in runs.items():
        model, params, task = load(path)
        batches: Any = {rows: example_batch(task, "", rows) for rows in (ONE, MANY)}
        candidates[name] = (model, params, batches)
    with bar("speed", 100, "%") as update:
        return speed(candidates, seconds, lambda done, turns: update(round(100 * done / turns), {}))


def _change(ratios: np.ndarray) -> Change:
    """Of what is `ratios` times as large after, turn by turn."""
    interval = median_interval(ratios)
    ends = None if interval is None else (interval[0] - 1, interval[1] - 1)
    return Change(float(np.median(ratios)) - 1, ends, sign_test(ratios), len(ratios))


def _untimed(before: str, after: str) -> str:
    """Why two runs cannot be timed, or ""."""
    missing = [str(path) for path in (before, after) if not fingerprint(path)]
    return f"not measured in turns: no checkpoint in {' and '.join(missing)}" if missing else ""
