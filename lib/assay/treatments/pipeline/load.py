"""Loads a finished or interrupted run, for notebooks and for commands that do not train.

model, params, task = assay.load("runs/demo/lstm/seed_0")
assay.load("runs/package").predict(["import asyncio"])        # [{"id": 0, "text": ..., "label": ..., "probabilities": {...}}]
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from assay.config.modules import explaining
from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.data.files.formats.tfds import is_tfds
from assay.dist.mesh import MeshConfig, make_mesh
from assay.dist.shard import place
from assay.evals.answers import answers
from assay.models.brought import own as own_models
from assay.models.model import Model
from assay.tasks import own as own_tasks
from assay.tasks.task import Task
from assay.train.checkpoint import Checkpointer
from assay.train.experiment import Experiment, assemble
from assay.train.measure import settled
from assay.train.state import TrainState, all_params
from assay.train.treatment import Treatment, links
from assay.train.workdir import EXTRA, WorkDir
from assay.treatments.runs import Runs
from assay.treatments.table import build

FILES = dict.fromkeys(
    ("csv", "files/texts", "files/table", "files/pictures"), ("train", "test")
)  # task -> keys that name files of the user, besides the tokenizer's


class Loaded(NamedTuple):
    """A run as values: `model, params, task = loaded`."""

    model: Model  # treated
    params: PyTree
    task: Task

    def predict(self, inputs: str | Sequence[Any] | np.ndarray | Mapping[str, Any], batch_size: int = 256) -> list[dict[str, Any]]:
        """Returns what `assay predict` prints: {id, text, label, probabilities}, or {id, text, prediction}, for each input.

        Args:
          inputs: texts, or a single one, which may be tokens such as "0110"; arrays for a task that makes examples of them, laid out
            as those of the data.
          batch_size: inputs per compiled call.

        Raises UserError for a task that cannot make examples of new inputs.
        """
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size} is not possible: give a number of at least 1.")
        return list(answers(*self, [inputs] if isinstance(inputs, str) else inputs, batch_size))


def treatments(specs: Sequence[str]) -> list[Treatment]:
    """Builds the treatments listed in a config; other runs are read with the functions of this file. Raises UserError for a bad spec."""
    return build(specs, RUNS)


def load(workdir: str | Path, treated: Sequence[Treatment] | None = None, step: int | None = None) -> Loaded:
    """Returns the treated model, its parameters and the task of a run: three values, with `predict` for new inputs.

    The parameters are those of the most recent checkpoint, or of the best checkpoint if the run used early stopping, or of `step`.

    Args:
      workdir: work directory of the run.
      treated: the run's treatments, if some were passed from a notebook and are not listed in its config.
      step: the checkpoint to load, such as one that `checkpoint.keep_every` kept; 0: the parameters before the first step.

    Raises UserError if there is no such checkpoint.
    """
    made = rebuild(workdir, treated=treated)
    state = restore(made, workdir, step)
    return Loaded(made.model, settled(made, WorkDir(workdir), state), made.task)


def rebuild(
    workdir: str | Path, changes: Mapping[str, Mapping[str, Any]] | None = None, treated: Sequence[Treatment] | None = None
) -> Experiment:
    """Rebuilds the run's experiment from its config.json, with `changes` applied to groups of the config.

    Raises UserError if the folder is not a run, if its treatments differ from `treated`, or if its data changed.
    """
    folder = WorkDir(workdir)
    for kind, below in (("study", "*/seed_*"), ("suite", "*/*/seed_*")):
        if not folder.config.exists() and any(folder.path.glob(below)):
            runs = ", ".join(str(path.relative_to(folder.path)) for path in sorted(folder.path.glob(below))[:5])
            raise UserError(f"{workdir} holds a {kind}, not a run. Set --workdir to one of its runs: {runs}.")
    written = folder.read_config()
    config = {key: value for key, value in written.items() if key not in EXTRA}
    _check_files(workdir, config["task"])
    _check_own(workdir, config)
    with explaining(workdir):
        treated = treatments(config["treatments"]) if treated is None else treated
        check_composition(workdir, treated, written)
        for group, values in (changes or {}).items():
            config[group] = {**config[group], **values}
        made = assemble(config, treated)
    if made.task.data != written.get("data", ""):
        raise folder.other_data()
    return made


def check_composition(workdir: str | Path, treated: Sequence[Treatment], written: Mapping[str, Any]) -> None:
    """Raises UserError if treatments are not those of a run, whose config.json is `written`."""
    if links(treated) != written["composition"]:
        raise UserError(
            f"{workdir} was trained with treatments {written['composition']}, not {links(treated)}. Pass them to load(workdir, [...])."
        )


def check_early(workdir: str | Path, step: int) -> None:
    """Raises UserError if a run has no checkpoint of a step. Step 0, the initial parameters, needs none."""
    kept = sorted(int(path.name) for path in WorkDir(workdir).checkpoints.glob("*") if path.name.isdecimal())
    WorkDir(workdir).read_config()
    if step and step not in kept:
        raise UserError(
            f"{workdir} has no checkpoint of step {step}, the step of prune:rewind; it has {', '.join(map(str, kept))}, and 0 for the "
            "initial parameters. Train with a larger --config.checkpoint.keep."
        )


def early(workdir: str | Path, step: int) -> PyTree:
    """Returns the model's parameters after `step` steps of a run; 0: the initial ones. Raises UserError if there is no such checkpoint."""
    check_early(workdir, step)
    return all_params(restore(rebuild(workdir), workdir, step))["model"]


def restore(made: Experiment, workdir: str | Path, step: int | None = None) -> TrainState:
    """Restores a state, sharded over the devices: the most recent one, the best with early stopping, or that of `step`.

    Step 0 is the state before training and needs no checkpoint. Raises UserError if there is no such checkpoint.
    """
    folder = WorkDir(workdir)
    if step == 0:
        return jax.jit(made.init_state)(made.key, made.given(loaded=False), made.first_batch(), made.started())
    nothing = UserError(f"no checkpoint in {folder.path}. Train it first: assay train --config=... --workdir={workdir}")
    if not folder.checkpoints.is_dir():
        raise nothing
    looked = made.settings.train.patience and folder.best.is_dir() and any(path.name.isdecimal() for path in folder.best.iterdir())
    answering = folder.best if looked and step is None else folder.checkpoints
    if step is not None and not (answering / str(step)).is_dir():
        kept = ", ".join(map(str, sorted(int(path.name) for path in answering.iterdir() if path.name.isdecimal())))
        raise UserError(
            f"{workdir} has no checkpoint of step {step}; it has {kept or 'none'}, and 0 for the initial parameters. "
            "Train with a larger --config.checkpoint.keep, or with --config.checkpoint.keep_every."
        )
    with Checkpointer(answering, made.settings.checkpoint) as checkpointer:
        step = checkpointer.latest() if step is None else step
        if step is None:
            raise nothing
        return checkpointer.restore(step, place(made.abstract(), make_mesh(MeshConfig(-1, 1, 1))))[0]


def _check_files(workdir: str | Path, task: Mapping[str, Any]) -> None:
    """Raises UserError if a file that the run was trained on is gone. Its labels and its tokenizer are read from it again."""
    for key in (*FILES.get(str(task.get("name")), ()), "tokenizer_file"):
        named = task.get(key)
        if isinstance(named, str) and named and not is_tfds(named) and not Path(named).expanduser().exists():
            raise UserError(
                f"{workdir} was trained on {named} (config.task.{key}), which does not exist (seen from {Path.cwd()}). Put it back, "
                "or start from the folder in which the run was trained: a run reads its labels and tokens from its files."
            )


def _check_own(workdir: str | Path, config: Mapping[str, Any]) -> None:
    """Raises UserError if a run's model or data were given as values, and this process does not know them."""
    told = own_models.missing(config["model"]) or own_tasks.missing(config["task"])
    if told:
        raise UserError(
            f"{workdir} cannot be read: {told}. Give it in Python: assay.load({str(workdir)!r}, subject=subject), where subject is that of "
            "the run, such as assay.from_linen(module, variables, data). All functions of the process then know it."
        )


RUNS = Runs(load, rebuild, early, check_early)
