"""Teachers: finished runs whose answers a student learns from. A run is opened when it is first needed: to go on evaluating a student
nobody needs its teacher.

A teacher must answer the student's task: the same inputs or token ids, the same classes in the same order.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.models.model import Model
from assay.tasks.task import Task
from assay.train.checkpoint import fingerprint
from assay.train.experiment import Experiment
from assay.treatments.runs import Runs


class Teacher(NamedTuple):
    workdir: str
    runs: Runs

    @property
    def experiment(self) -> Experiment:
        return _opened(self.workdir, self.runs)

    @property
    def model(self) -> Model:
        return self.experiment.model

    def params(self) -> PyTree:
        """Those that it answers with. Raises UserError where there is no checkpoint."""
        return self.runs.load(self.workdir)[1]

    def shapes(self) -> PyTree:
        """Of its parameters, from its config alone."""
        state = self.experiment.abstract()
        return {**state.params.get("model", {}), **state.frozen.get("model", {})}

    def checkpoint(self) -> str:
        """What its newest checkpoint holds, by the hashes that seal it; "" where there is none."""
        return fingerprint(self.workdir)


def teachers(text: str, runs: Runs) -> tuple[Teacher, ...]:
    """`runs/a+runs/b` -> two teachers."""
    return tuple(Teacher(part, runs) for part in text.split("+") if part)


def check_same(teacher: Teacher, task: Task) -> None:
    """Raises UserError where the teacher answers another question, or has no checkpoint to answer with."""
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
                f"{_brief(theirs)} there, {_brief(ours)} here. Set --config.task to the teacher's, or name another teacher."
            )
    if not teacher.checkpoint():
        raise UserError(f"the teacher {teacher.workdir} has no checkpoint. Train it first, or name another with distill:from=WORKDIR.")


def mean_log_probability(logits: Sequence[jax.Array], temperature: float) -> jax.Array:
    """The logarithm of the mean of softmax(logits / temperature) over teachers."""
    each = jnp.stack([jax.nn.log_softmax(widened(one) / temperature, axis=-1) for one in logits])
    return jax.nn.logsumexp(each, axis=0) - jnp.log(len(logits))


# -- private --------------------------------------------------------------------------------------------------------------


@cache
def _opened(workdir: str, runs: Runs) -> Experiment:
    return runs.rebuild(workdir)


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 160 else f"{text[:150]} ..."
