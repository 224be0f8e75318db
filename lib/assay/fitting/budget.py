"""How many steps of a model fit into a time: `affordable(config, treatments, 120.0)`, measured on a few of them.

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


def affordable(config: ConfigDict, treatments: Callable[[Sequence[str]], list[Treatment]], seconds: float) -> int:
    """Returns the steps, at most those of the config, that training takes about `seconds` for; compilation is left out.

    `treatments` makes treatments from the specs of the config.
    """
    pilot, block = ConfigDict(config.to_dict()), int(config.train.steps_per_call)
    steps = min(CALLS * block, int(config.train.steps))
    pilot.train.update({"steps": steps, "log_every": block, "validate_every": 0, "patience": 0})
    pilot.evaluate.splits = ()
    pilot.treatments = tuple(spec for spec in config.treatments if not spec.startswith(("early_stopping", "calibrate", "threshold")))
    with tempfile.TemporaryDirectory() as folder:
        loop.run(pilot, folder, treatments(pilot.treatments), quiet=True)
        lines = [json.loads(line) for line in WorkDir(Path(folder)).metrics.read_text(encoding="utf-8").splitlines()]
    marks = np.array([[line["step"], line["elapsed_seconds"]] for line in lines if "elapsed_seconds" in line])
    if len(marks) < 2:
        return int(config.train.steps)
    apart = np.diff(marks, axis=0)
    return int(np.clip(KEPT * seconds / np.median(apart[:, 1] / apart[:, 0]), min(FEWEST, config.train.steps), config.train.steps))
