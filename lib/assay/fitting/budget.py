"""How many steps of a model fit into a time: `affordable(4000, step_seconds(config, treatments), 120.0)`, measured on a few of them.

The steps are then fixed in the config, so that training does not depend on the clock and runs again to the same bits.
"""

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from assay.core.errors import UserError
from assay.train import loop
from assay.train.treatment import Treatment
from assay.train.workdir import WorkDir

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
CALLS = 12  # compiled calls that are timed
KEPT = 0.8  # share of the time for steps; the rest is for compilation, validation and checkpoints
FEWEST = 20  # steps, however little time there is


def seconds_of(text: str) -> float:
    """Returns the seconds of a text such as "90s", "5m" or "1h"; a number alone is in seconds. Raises UserError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if not found or float(found[1]) <= 0:
        raise UserError(f"{text!r} is not a time. Set --budget to a number of seconds, or to one such as 90s, 5m or 1h.")
    return float(found[1]) * UNITS[found[2]]


def step_seconds(config: ConfigDict, treatments: Callable[[Sequence[str]], list[Treatment]]) -> float:
    """Trains a few steps of a config in a temporary folder, and returns the time of one, in seconds, without compilation.

    `treatments` makes treatments from the specs of the config.
    """
    pilot, block = ConfigDict(config.to_dict()), int(config.train.steps_per_call)
    pilot.train.update({"steps": CALLS * block, "log_every": block, "validate_every": 0, "patience": 0})
    pilot.evaluate.splits = ()
    pilot.treatments = tuple(spec for spec in config.treatments if not spec.startswith(("early_stopping", "calibrate", "threshold")))
    with tempfile.TemporaryDirectory() as folder:
        loop.run(pilot, folder, treatments(pilot.treatments), quiet=True)
        lines = [json.loads(line) for line in WorkDir(Path(folder)).metrics.read_text(encoding="utf-8").splitlines()]
    apart = np.diff([[line["step"], line["elapsed_seconds"]] for line in lines if "elapsed_seconds" in line], axis=0)
    return float(np.median(apart[:, 1] / apart[:, 0]))


def affordable(steps: int, each: float, seconds: float) -> int:
    """Returns how many of `steps`, of `each` seconds, fit into a time, with what they need besides."""
    return int(np.clip(KEPT * seconds / each, min(FEWEST, steps), steps))
