"""Readers of other runs: functions that the loader passes to treatment factories as one value.

A teacher, a run to continue from, or the origin of a lottery ticket is another work directory. Reading one requires the table of
treatments, because that run has its own treatments. Factories therefore take a parameter `runs: Runs` instead of importing a loader.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from assay.core.tree import PyTree
from assay.models.model import Model
from assay.tasks.task import Task
from assay.train.experiment import Experiment


class Runs(NamedTuple):
    """Readers of work directories. Each raises UserError if the folder does not contain the requested run or checkpoint."""

    load: Callable[[str | Path], tuple[Model, PyTree, Task]]  # the treated model, its most recent parameters and its task
    rebuild: Callable[[str | Path], Experiment]  # the run's experiment, rebuilt from its config.json
    early: Callable[[str | Path, int], PyTree]  # the model's parameters after the given number of steps
    check_early: Callable[[str | Path, int], None]  # raises UserError if `early` would
