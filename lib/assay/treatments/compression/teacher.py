"""Teachers: finished runs whose outputs a student learns from.

A teacher's run is opened on first use, so evaluating a student does not require its teacher. A teacher must solve the student's task: it
must have the same inputs or token ids, and the same classes in the same order.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax

from assay.core.divergence import mean_log_ratio
from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.models.model import Model
from assay.tasks.task import Task
from assay.train.checkpoint import fingerprint
from assay.train.experiment import Experiment
from assay.train.workdir import WorkDir
from assay.treatments.folder import folders
from assay.treatments.runs import Runs


class Teacher(NamedTuple):
    """Finished run that is opened on first use."""

    workdir: str
    runs: Runs

    @property
    def experiment(self) -> Experiment:
        """Returns the experiment of the run. Raises UserError if there is no run."""
        config = WorkDir(self.workdir).config
        return _opened(self.workdir, self.runs, config.stat().st_mtime_ns if config.exists() else 0)

    @property
    def model(self) -> Model:
        """Returns the treated model of the run."""
        return self.experiment.model

    def params(self) -> PyTree:
        """Returns the parameters used for inference. Raises UserError if there is no checkpoint."""
        return self.runs.load(self.workdir)[1]

    def shapes(self) -> PyTree:
        """Returns the shapes of the parameters, from the config alone."""
        state = self.experiment.abstract()
        return {**state.params.get("model", {}), **state.frozen.get("model", {})}

    def checkpoint(self) -> str:
        """Returns a fingerprint of the most recent checkpoint, from its integrity hashes; "" if there is none."""
        return fingerprint(self.workdir)


def teachers(text: str, runs: Runs) -> tuple[Teacher, ...]:
    """Returns the teachers named by work directories joined by `+`: `runs/a+runs/b` names two."""
    return tuple(Teacher(path, runs) for path in folders(text))


def check_same(teacher: Teacher, task: Task) -> None:
    """Raises UserError if the teacher was trained on an incompatible task or has no checkpoint."""
    other = teacher.experiment.task
    for what, ours, theirs in (
        ("labels", [str(name) for name in task.classes], [str(name) for name in other.classes]),
        ("inputs", task.vocabulary.inputs, other.vocabulary.inputs),
        ("outputs", task.vocabulary, other.vocabulary),
        ("vocabulary", list(task.symbols), list(other.symbols)),
        ("layout", (task.free_running, task.answer_to_input, task.places), (other.free_running, other.answer_to_input, other.places)),
    ):
        if ours != theirs:
            raise UserError(
                f"the teacher {teacher.workdir} was trained on {other.name} and has other {what} than the student's task, {task.name}: "
                f"{_brief(theirs)} instead of {_brief(ours)}. Set --config.task to the teacher's, or name another teacher."
            )
    if not teacher.checkpoint():
        raise UserError(f"the teacher {teacher.workdir} has no checkpoint. Train it first, or name another with distill:from=WORKDIR.")


def mean_logits(logits: Sequence[jax.Array], temperature: float) -> jax.Array:
    """Returns logits whose softmax at the temperature is the mean over teachers of softmax(logits / temperature), 0 for a class that has
    its share of a uniform distribution.
    """
    return temperature * mean_log_ratio([widened(one) / temperature for one in logits])


# -- private --------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _opened(workdir: str, runs: Runs, written: int) -> Experiment:
    del written  # another run may have taken the place of the one that was read
    return runs.rebuild(workdir)


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 160 else f"{text[:150]} ..."
