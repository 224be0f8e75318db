"""Times of several runs, measured again in turns in one process, so that a slow minute of the machine hits all alike.

    retime("runs/digits", {"small": "runs/small"}, seconds=20)["small"].changes["latency_p50"]

A change is a share of the time before, the median over turns, with the interval of a median and a sign test over the turns. Each model
answers the longest examples of its own task. A run without a checkpoint cannot be timed, and the same run twice need not be.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from assay.config.schema import differences
from assay.core.errors import UserError
from assay.core.paired import sign_test
from assay.diagnostics.cost.speed import median_interval
from assay.diagnostics.cost.speeds import Timed, timed
from assay.diagnostics.measurement import Measurement
from assay.diagnostics.subject import Subject, held_out
from assay.train.checkpoint import fingerprint
from assay.train.progress import bar
from assay.train.workdir import WorkDir
from assay.treatments.pipeline.load import load
from assay.verdicts.verdict import ONCE, Change

BEFORE = ""  # no name of a run
CRASHED = "crashed:"


class Times(NamedTuple):
    """Of one run against the run before. Where no turns were taken, there are no values."""

    before: Mapping[str, Measurement]  # as measured in turns with the other
    after: Mapping[str, Measurement]
    changes: Mapping[str, Change]
    one_program: bool = False  # the same model with the same parameters
    untimed: str = ONCE  # why other times are not compared


def retime(before: str, afters: Mapping[str, str], seconds: float) -> dict[str, Times]:
    """Of each run after, by name, in about `seconds` in all. Where one of several fails, each takes turns with the run before alone. Raises
    UserError for a checkpoint that cannot be read."""
    untimed = {name: _untimed(before, path) for name, path in afters.items()}
    same = {name for name, path in afters.items() if one_program(before, path)}
    wanted = {name: path for name, path in afters.items() if not untimed[name] and name not in same}
    try:
        found = _in_turns({BEFORE: before, **wanted}, seconds) if wanted else {}
    except UserError:
        raise
    except Exception as error:  # it takes neither the other rows with it nor the other runs
        if len(wanted) > 1:
            return {name: retime(before, {name: path}, seconds / len(afters))[name] for name, path in afters.items()}
        untimed |= dict.fromkeys(wanted, f"{CRASHED} {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        found, wanted = {}, {}
    return {
        name: times(found[BEFORE], found[name]) if name in wanted else Times({}, {}, {}, name in same, untimed[name] or ONCE)
        for name in afters
    }


def times(before: Timed, after: Timed) -> Times:
    """What two models' turns say, by the names of rows; of those that only one has there is no change."""
    changes = {row: _change(after.turns[row] / values) for row, values in before.turns.items() if row in after.turns}
    return Times(before.rows, after.rows, changes)


def one_program(before: str | Path, after: str | Path) -> bool:
    """Whether two folders hold the same checkpoint of the same configuration: one run, or its copy."""
    kept = fingerprint(before)
    if not kept or kept != fingerprint(after):
        return False
    return not {*differences(WorkDir(before).read_config(), WorkDir(after).read_config())} - {"experiment"}


# -- private --------------------------------------------------------------------------------------------------------------


def _in_turns(runs: Mapping[str, str], seconds: float) -> dict[str, Timed]:
    subjects = {}
    for name, path in runs.items():
        model, params, task = load(path)
        subjects[name] = Subject(model, params, task, held_out(task))
    with bar("speed", 100, "%") as update:
        return timed(subjects, seconds, lambda done, turns: update(round(100 * done / turns), {}))


def _change(ratios: np.ndarray) -> Change:
    """Of what is `ratios` times as large after, turn by turn."""
    interval = median_interval(ratios)
    ends = None if interval is None else (interval[0] - 1, interval[1] - 1)
    return Change(float(np.median(ratios)) - 1, ends, sign_test(ratios), len(ratios))


def _untimed(before: str, after: str) -> str:
    """Why two runs cannot be timed, or ""."""
    missing = [str(path) for path in (before, after) if not fingerprint(path)]
    return f"not measured in turns: no checkpoint in {' and '.join(missing)}" if missing else ""
