"""How treatments read other runs: functions that the loader hands to the factories as one value.

A teacher, a run to resume from, or the start of a lottery ticket is another work directory. Reading one needs the table of
treatments, since the other run has treatments of its own. Factories therefore take a parameter `runs: Runs` and import no loader.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from assay.core.tree import PyTree
from assay.models.model import Model
from assay.tasks.task import Task
from assay.train.experiment import Experiment


class Runs(NamedTuple):
    """Readers of work directories. Each raises UserError where the folder holds no such run."""

    load: Callable[[str | Path], tuple[Model, PyTree, Task]]  # the treated model, its newest parameters and its task
    rebuild: Callable[[str | Path], Experiment]  # the run's experiment, from its config.json
    early: Callable[[str | Path, int], PyTree]  # the model's parameters after a number of steps
    check_early: Callable[[str | Path, int], None]  # raises UserError where `early` would
