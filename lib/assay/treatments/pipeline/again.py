"""Training a finished run again: the same config with another seed, on a part of its training examples.

    params = again("runs/A")(seed, members)        members: bool [size of `train`]

Membership tests, audits and unlearning compare a model with such retrained ones. Nothing is kept: the run lies in a temporary folder.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.data.source import subset
from assay.tasks.task import Task
from assay.train import loop
from assay.train.treatment import Treatment
from assay.train.workdir import EXTRA, WorkDir
from assay.treatments.pipeline.load import load, treatments


def again(workdir: str | Path) -> Callable[[int, np.ndarray], PyTree]:
    """Returns a function of a seed and of `members`, bool [size of `train`], that trains and returns the model's parameters.

    Raises UserError where the folder holds no run; the function does so where `members` does not fit the training split.
    """
    config = {key: value for key, value in WorkDir(workdir).read_config().items() if key not in EXTRA}

    def train(seed: int, members: np.ndarray) -> PyTree:
        treated = [*treatments(config["treatments"]), only(members)]
        changed = {**config, "seed": seed, "evaluate": {**config["evaluate"], "splits": []}}
        with tempfile.TemporaryDirectory() as folder:
            loop.run(changed, folder, treated, quiet=True)
            return load(folder, treated)[1]

    return train


def only(members: np.ndarray) -> Treatment:
    """Builds a treatment whose task has the training examples where `members`, bool [size of `train`], is true, and no others."""
    return Treatment(task=partial(_with, members=np.asarray(members, bool)), name="members")


# -- private --------------------------------------------------------------------------------------------------------------


def _with(task: Task, members: np.ndarray) -> Task:
    plain = task.source
    size = plain("train").size
    if size is None:
        raise UserError(f"the training examples of {task.name} are unlimited, so no part of them can be chosen.")
    if members.shape != (size,) or not members.any():
        raise UserError(f"members has shape {members.shape} with {members.sum()} true; {task.name} needs ({size},) with at least one.")
    return replace(task, source=lambda split: subset(plain(split), members) if split == "train" else plain(split))
