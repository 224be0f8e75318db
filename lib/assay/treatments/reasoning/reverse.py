"""Reversed answers: the model writes the last token of an answer first.

For addition, the carry is then known when it is needed (Lee et al. 2023, arXiv 2307.03381). For path finding, paths run from the goal to
the start (Bachmann and Nagarajan 2024, arXiv 2403.06963).

    --config.treatments=reverse

All answer tokens are reversed except END, which stays last; a task has an END if one of its classes has that name. Exact match remains
comparable, since a reversed answer is correct exactly if the original is. Answers are shown and predicted in written order. Verifiers and
tasks that spell out their answers (SCAN) use the original order. The treatment applies to answers of several tokens that follow the
input, before or after `couple`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from assay.core.errors import Inapplicable, UserError
from assay.data.source import Examples, Source
from assay.tasks.task import Task, counted
from assay.train.treatment import Treatment
from assay.treatments.option import KEY

END = "END"  # class name of the token that ends an answer
NOTE = "answers are written from their last token to their first"

Places = Callable[[Examples, int], np.ndarray]


def reverse() -> Treatment:
    """Returns the answer-reversal treatment. It has no options."""
    return Treatment(task=backwards, name="reverse")


def backwards(task: Task) -> Task:
    """Returns the task with reversed answers. Raises UserError unless its answers have several tokens and follow the input."""
    check_answers(task)
    end = task.classes.index(END) if END in task.classes else None
    turn, plain, encode, couples, asked = partial(turned, end=end), task.source, task.encode, task.couples, task.asked
    places = None if couples is None else partial(turned_places, couples=couples, end=end)

    def reversed_of(found: Source) -> Source:
        return replace(found, fetch=lambda indices: turn(found.fetch(indices)))

    def encode_turned(examples: Examples, width: int) -> Mapping[str, np.ndarray]:
        batch = encode(examples, width)
        return {**batch, "places": places(examples, width)} if places is not None and "places" in batch else batch

    def read_spelled(answers: np.ndarray, batch: Mapping[str, np.ndarray]) -> Any:
        return task.read(spelled(answers, batch, end), batch)

    def verify(record: Mapping[str, Any]) -> bool:
        assert task.verify is not None
        return task.verify({**record, "prediction": plain_order(record["prediction"], end)} if as_written else record)

    as_written = task.read is counted
    return replace(
        task,
        source=lambda split: reversed_of(plain(split)),
        asked=asked and (lambda inputs: reversed_of(asked(inputs))),
        encode=encode_turned,
        read=counted if as_written else read_spelled,
        published=(),
        note="; ".join(filter(None, (task.note, NOTE))),
        verify=verify if task.verify else None,
        couples=places,
    )


def turned(examples: Examples, end: int | None) -> Examples:
    """Returns the examples with each target reversed; a final END stays in place. Applying it twice restores the input."""
    return examples._replace(target=_turned(examples.target, np.zeros_like(examples.length), _tokens(examples, end)))


def turned_places(examples: Examples, width: int, couples: Places, end: int | None) -> np.ndarray:
    """Returns the coupled position ids [n, width] of reversed answers.

    An answer token is read one position after the position that predicts it. The last token's id therefore lies beyond the batch, and
    after reversal it belongs to the first token.
    """
    found = couples(turned(examples, end), width + 1)
    return _turned(found, examples.input_length + 1, _tokens(examples, end))[:, :width]


def plain_order(written: list[Any], end: int | None) -> list[Any]:
    """Returns a written answer in its original order: reverses the tokens before the first END, or all tokens if there is none."""
    stop = written.index(end) if end in written else len(written)
    return [*written[:stop][::-1], *written[stop:]]


def spelled(answers: np.ndarray, batch: Mapping[str, np.ndarray], end: int | None) -> np.ndarray:
    """Returns one example's predictions at each position, with the answer in its original order; an END terminates the answer."""
    first = int(batch["mask"].argmax())
    last = len(answers) if end is not None else first + int((batch["mask"] > 0).sum())
    return np.concatenate([answers[:first], np.array(plain_order(answers[first:last].tolist(), end), answers.dtype), answers[last:]])


def check_answers(task: Task) -> None:
    """Raises UserError with the reason if a task's answers cannot be reversed."""
    why = _obstacle(task)
    if why:
        raise Inapplicable(
            f"the treatment 'reverse' does not apply to {task.name}: {why}. It applies to tasks with answers of several tokens after the "
            f"input, such as addition, path_star or scan/length. {KEY} Or choose another --config.task.name."
        )


# -- private --------------------------------------------------------------------------------------------------------------


def _obstacle(task: Task) -> str:
    """Returns why answers cannot be reversed, or "" if they can; reads the first example of the longest training length."""
    if task.members:
        return "it combines several tasks"
    if task.vocabulary.pooled or not task.vocabulary.inputs:
        return "it asks for one answer for the whole input"
    source = task.source(task.splits[0])
    last = source.lengths[1]
    examples = source.fetch(source.index_of(np.zeros(1, np.int64), last))
    if examples.slots[0] <= 1:
        return "its answers are single tokens"
    batch = task.encode(examples, task.width(last))
    if "decoder_inputs" not in batch and int(batch["mask"][0].argmax()) < examples.input_length[0]:
        return "its answers lie within the input"
    return ""


def _tokens(examples: Examples, end: int | None) -> np.ndarray:
    """Returns the number of tokens to reverse in each target [n]."""
    count = examples.target_length
    if end is None:
        if (count != examples.slots).any():
            raise UserError(
                f"the treatment 'reverse' cannot tell where an answer ends: some slots are unused, and no class is named {END}. {KEY}"
            )
        return count
    last = np.take_along_axis(examples.target, np.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
    return count - ((last == end) & (count > 0))


def _turned(rows: np.ndarray, first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns each row [n, width] with `count` entries reversed, starting at `first`."""
    at, first, count = np.arange(rows.shape[1])[None, :], first[:, None], count[:, None]
    inside = (at >= first) & (at < first + count)
    return np.take_along_axis(rows, np.where(inside, 2 * first + count - 1 - at, at), axis=1)
