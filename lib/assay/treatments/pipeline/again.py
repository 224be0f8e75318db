"""Training a finished run again: the same config with another seed, on a part of its training examples.

    params = again("runs/A")(seed, members)        members: bool [size of `train`]

Membership tests, audits and unlearning compare a model with such retrained ones. The retrained run is written to a temporary folder and
deleted.
"""

import tempfile
from collections.abc import Callable, Sequence
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
from assay.treatments.pipeline.load import check_composition, load, treatments


def again(workdir: str | Path, treated: Sequence[Treatment] | None = None) -> Callable[[int, np.ndarray], PyTree]:
    """Returns a function of a seed and of `members`, bool [size of `train`], that trains and returns the model's parameters.

    Args:
      workdir: work directory of the run.
      treated: the run's treatments, if some were passed from a notebook and are not listed in its config.

    Raises UserError if the folder holds no run. The function raises UserError if `members` does not fit the training split, if the
    treatments are not those of the run, or if one of them reads another run, which was trained on all examples.
    """
    written = WorkDir(workdir).read_config()
    config = {key: value for key, value in written.items() if key not in EXTRA}

    def train(seed: int, members: np.ndarray) -> PyTree:
        if reading := [spec for spec in config["treatments"] if any(option.startswith("from=") for option in _options(spec))]:
            raise UserError(
                f"{workdir} cannot be retrained on a part of its examples: {reading[0]} reads a run that was trained on all of them. "
                "Choose a --workdir whose treatments read no other run."
            )
        own = treatments(config["treatments"]) if treated is None else list(treated)
        check_composition(workdir, own, written)
        own = [*own, only(members)]
        changed = {**config, "seed": seed, "evaluate": {**config["evaluate"], "splits": []}}
        with tempfile.TemporaryDirectory() as folder:
            loop.run(changed, folder, own, quiet=True)
            return load(folder, own)[1]

    return train


def only(members: np.ndarray) -> Treatment:
    """Builds a treatment whose task has the training examples where `members`, bool [size of `train`], is true, and no others."""
    return Treatment(task=partial(_with, members=np.asarray(members, bool)), name="members")


# -- private --------------------------------------------------------------------------------------------------------------


def _options(spec: str) -> list[str]:
    return spec.partition(":")[2].split(",")


def _with(task: Task, members: np.ndarray) -> Task:
    plain = task.source
    size = plain("train").size
    if size is None:
        raise UserError(f"the training examples of {task.name} are unlimited, so no part of them can be chosen.")
    if members.shape != (size,) or not members.any():
        raise UserError(f"members has shape {members.shape} with {members.sum()} true; {task.name} needs ({size},) with at least one.")
    return replace(task, source=lambda split: subset(plain(split), members) if split == "train" else plain(split))
