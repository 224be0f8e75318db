"""Scratchpad of the running state: the model writes the state of the computation after every input token, and reads it back.

The input tokens are interleaved with state tokens. Training sees the true states (teacher forcing); evaluation gives the input tokens only,
and every state is the model's own, decoded step by step. The idea is that of Nye et al. 2021 (arXiv 2112.00114): a fixed-depth network
cannot track a state over any length, but it can do one step of it a token.

    --config.treatments=scratchpad
"""

from dataclasses import replace
from functools import partial

import numpy as np

from assay.core.errors import Inapplicable
from assay.data.source import Examples, Source
from assay.tasks.sequence import running_state, score_tokens
from assay.tasks.task import Task
from assay.train.treatment import Treatment

METRICS = ("answer_accuracy", "token_accuracy", "exact_match")


def scratchpad() -> Treatment:
    """`answer_accuracy`: the last state, comparable with the untreated task; `token_accuracy`: all states; `exact_match`: all right."""
    return Treatment(task=with_states, name="scratchpad")


def with_states(task: Task) -> Task:
    """The task whose targets are the running states. Raises UserError where a task has none."""
    states = task.states
    if states is None:
        raise Inapplicable(
            f"the treatment scratchpad does not apply to {task.name}: its answer is not a state that one input token at a time updates, "
            "or another treatment has changed what it asks. "
            "It applies to chomsky/parity_check, chomsky/cycle_navigation, ctl/forward. Change --config.task.name or --config.treatments."
        )

    def source(split: str) -> Source:
        plain = task.source(split)

        def fetch(indices: np.ndarray) -> Examples:
            examples = plain.fetch(indices)
            inside = np.arange(examples.input.shape[1])[None, :] < examples.input_length[:, None]
            target = np.where(inside, states(examples.input), 0).astype(np.int32)
            return examples._replace(target=target, target_length=examples.input_length, slots=examples.input_length)

        return replace(plain, fetch=fetch)

    return replace(
        task,
        source=source,
        encode=partial(running_state, empty=task.vocabulary.inputs - task.vocabulary.outputs - 1),
        width=lambda length: 2 * (task.width(length) - 1),  # without the slot of the answer
        score=partial(score_tokens, metrics=METRICS),
        metrics=METRICS,
        free_running=2,  # the state before and the input token
        published=(),
        note="our own number: no published cell has this input",
        states=None,
    )
