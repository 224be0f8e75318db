"""Scratchpad of running states: the model writes the state of the computation after every input token and reads it back.

Input tokens are interleaved with state tokens. Training uses the true states (teacher forcing). Evaluation provides the input tokens only,
and the model decodes every state itself, step by step. The idea is from Nye et al. 2021 (arXiv 2112.00114): a fixed-depth network cannot
track a state over arbitrary lengths, but it can compute one update per token.

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
    """Returns the scratchpad treatment. It has no options.

    The treated task reports `answer_accuracy` (the last state; comparable with the untreated task), `token_accuracy` (all states) and
    `exact_match` (every state correct).
    """
    return Treatment(task=with_states, name="scratchpad")


def with_states(task: Task) -> Task:
    """Returns the task with the running states as targets. Raises UserError if the task has no running state."""
    states, asked = task.states, task.asked
    if states is None:
        raise Inapplicable(
            f"the treatment 'scratchpad' does not apply to {task.name}: its answer is not a state that each input token updates, "
            "or another treatment has changed its targets. "
            "It applies to chomsky/parity_check, chomsky/cycle_navigation, ctl/forward. Change --config.task.name or --config.treatments."
        )

    def with_targets(plain: Source) -> Source:
        def fetch(indices: np.ndarray) -> Examples:
            examples = plain.fetch(indices)
            inside = np.arange(examples.input.shape[1])[None, :] < examples.input_length[:, None]
            target = np.where(inside, states(examples.input), 0).astype(np.int32)
            return examples._replace(target=target, target_length=examples.input_length, slots=examples.input_length)

        return replace(plain, fetch=fetch)

    return replace(
        task,
        source=lambda split: with_targets(task.source(split)),
        asked=asked and (lambda inputs: with_targets(asked(inputs))),
        encode=partial(running_state, empty=task.vocabulary.inputs - task.vocabulary.outputs - 1),
        width=lambda length: 2 * (task.width(length) - 1),  # excludes the answer slot
        score=partial(score_tokens, metrics=METRICS),
        metrics=METRICS,
        free_running=2,  # the previous state and the input token
        published=(),
        note="no published result uses this input format",
        states=None,
    )
