"""Auxiliary supervision of intermediate results: training also asks for the running state at every input token.

No prediction is fed back, and evaluation scores the answer alone, as in the untreated task. A scratchpad provides the states as text; this
treatment provides them as targets. A recurrent model thus receives a gradient at every step instead of only at the last.

    --config.treatments=supervise:weight=0.5
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from assay.core.errors import Inapplicable
from assay.data.source import Examples
from assay.tasks.sequence import score_tokens
from assay.tasks.task import Task
from assay.train.treatment import Treatment
from assay.treatments.option import check


def supervise(weight: float = 1.0) -> Treatment:
    """Returns the auxiliary-supervision treatment.

    Args:
        weight: loss weight of each state, in (0, 1]; the answer has weight 1.
    """
    check(0 < weight <= 1, "supervise", "weight", weight, "it must lie in (0, 1]")
    return Treatment(task=lambda task: with_targets(task, weight), name="supervise")


def with_targets(task: Task, weight: float) -> Task:
    """Returns the task with the states as additional targets.

    Raises UserError if the task has no running state or feeds predictions back.
    """
    states, encode = task.states, task.encode
    if states is None or task.free_running:
        raise Inapplicable(
            f"the treatment 'supervise' does not apply to {task.name}: its answer is not a state that each input token updates, "
            "or another treatment has changed its targets. "
            "It applies to chomsky/parity_check, chomsky/cycle_navigation, ctl/forward. Change --config.task.name or --config.treatments."
        )

    def asked(examples: Examples, width: int) -> Mapping[str, np.ndarray]:
        batch = dict(encode(examples, width))
        inside = np.arange(width)[None, :] < examples.input_length[:, None]
        running = np.zeros_like(batch["targets"])
        shown = min(width, examples.input.shape[1])
        running[:, :shown] = states(examples.input)[:, :shown]
        return batch | {
            "targets": np.where(inside, running, batch["targets"]).astype(np.int32),
            "mask": np.where(inside, np.float32(weight), batch["mask"]).astype(np.float32),
        }

    def answered(answers: np.ndarray, batch: Mapping[str, np.ndarray]) -> list[int]:
        return [int(answers[np.flatnonzero(batch["mask"] > 0)[-1]])]

    score = partial(score_tokens, metrics=("answer_accuracy",))
    return replace(task, encode=asked, score=score, read=answered, states=None, published=())
