"""Several tasks trained together: one trunk with one head per task, in one batch whose rows belong to different tasks.

    loss = sum_i w(i) loss_i / sum_i w(i)          i: examples, w(i): the weight of the task that example i belongs to

Each example uses its own task's loss. Each task has its own input ids and its own part of the logits (`Vocabulary.heads`). Unbounded splits
alternate, so a batch has equally many examples of each task; bounded splits are represented by their sizes. An example's id is
`number of the example * members + number of the member`. Evaluation reports rows per task, by its name. Caruana 1997, "Multitask learning".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from assay.config.schema import require
from assay.core.errors import UserError
from assay.data.source import Examples, Source
from assay.models.model import Batch, Output, Vocabulary
from assay.tasks.evidence import of_members
from assay.tasks.task import Score, Task, likeliest


@dataclass(frozen=True)
class MultiConfig:
    name: str  # multi
    members: tuple[str, ...]  # names of the tasks
    weights: tuple[float, ...]  # weight of an example of each task
    shared: Mapping[str, Any]  # the remaining keys of config.task, the same for all members

    def __post_init__(self):
        require(len(set(self.members)) == len(self.members) >= 1, "task.members", self.members, "at least one task, each once")
        require("multi" not in self.members, "task.members", self.members, "tasks other than multi")
        fits = len(self.weights) == len(self.members) and min(self.weights) >= 0 and max(self.weights) > 0
        require(fits, "task.weights", self.weights, "one for each member, at least 0 and not all 0")


def together(members: Sequence[Task], weights: Sequence[float], name: str = "multi") -> Task:
    """Builds the task of all members. Raises UserError if their batches or scores are incompatible."""
    first, names = members[0], tuple(task.name for task in members)
    for task in members:
        alike = (bool(task.vocabulary.inputs), task.vocabulary.pooled, task.metrics, task.answer)
        if alike != (bool(first.vocabulary.inputs), first.vocabulary.pooled, first.metrics, likeliest) or task.free_running:
            raise UserError(
                f"{task.name} and {first.name} cannot be trained together: their inputs or answers differ in kind, or they are "
                f"scored by different metrics ({', '.join(task.metrics)}; {', '.join(first.metrics)}). Change --config.task.members."
            )
    starts = np.cumsum([0, *(task.vocabulary.inputs for task in members)])
    heads = tuple((task.name, task.vocabulary.outputs) for task in members)
    note = f"one trunk, trained on {', '.join(names)}"
    alone = {task.name: replace(task, note="; ".join(filter(None, (task.note, note)))) for task in members}

    def source(split: str) -> Source:
        return joined([task.source(split) for task in members], names)

    def read(answers: np.ndarray, batch: Mapping[str, np.ndarray]) -> Any:
        number = int(batch["member"])
        return members[number].read(answers[..., number], batch)

    return Task(
        name=name,
        vocabulary=Vocabulary(int(starts[-1]), sum(outputs for _, outputs in heads), first.vocabulary.pooled, heads),
        splits=tuple(split for split in first.splits if all(split in task.splits for task in members)),
        source=source,
        encode=partial(encode, members=members, starts=starts),
        width=lambda length: max(task.width(length) for task in members),
        score=partial(score_members, scores={task.name: task.score for task in members}, weights=tuple(weights)),
        metrics=first.metrics,
        chance=first.chance,
        units=first.units,
        answer=lambda logits: jnp.stack([likeliest(logits[task]) for task in names], axis=-1),
        read=read,
        shown=first.shown,
        members=alone,
        bounds=first.bounds if len({task.bounds for task in members}) == 1 else None,
        evidence=of_members({task.name: task.evidence for task in members}),
    )


def joined(sources: Sequence[Source], names: Sequence[str]) -> Source:
    """Joins a split of all members. Raises UserError if their lengths differ, or if only some of them are bounded."""
    members, first = len(sources), sources[0]
    if any((source.lengths, source.size is None) != (first.lengths, first.size is None) for source in sources):
        raise UserError(
            f"the split {first.name!r} has lengths {' and '.join(str(source.lengths) for source in sources)} in {', '.join(names)}. "
            "Tasks that are trained together must have the same lengths. Change --config.task.members."
        )
    sizes = np.array([source.size or 0 for source in sources])
    ends, total = np.cumsum(sizes), int(sizes.sum())

    def ids(indices: np.ndarray) -> np.ndarray:
        indices = np.asarray(indices, np.int64)
        if first.size is None:
            return indices
        epoch, place = np.divmod(indices, total)
        member = np.searchsorted(ends, place, side="right")
        return (place - (ends - sizes)[member] + epoch * sizes[member]) * members + member

    def of_each(ids: np.ndarray, fn: Callable[[int, np.ndarray], Any]) -> list[tuple[np.ndarray, Any]]:
        """Returns (rows, fn(member, its own indices)) for each member among these ids."""
        rows = [np.flatnonzero(ids % members == member) for member in range(members)]
        return [(row, fn(member, ids[row] // members)) for member, row in enumerate(rows) if len(row)]

    def fetch(indices: np.ndarray) -> Examples:
        found = ids(indices)
        parts = of_each(found, lambda member, own: sources[member].fetch(own))
        columns = [_merged([(rows, part[i]) for rows, part in parts], len(found)) for i in range(1, len(Examples._fields))]
        return Examples(found, *columns)

    def length_of(indices: np.ndarray) -> np.ndarray:
        found = ids(indices)
        return _merged(of_each(found, lambda member, own: sources[member].length_of(own)), len(found))

    def index_of(ordinals: np.ndarray, length: int) -> np.ndarray:
        ordinals = np.asarray(ordinals, np.int64)
        if first.size is not None:
            return np.flatnonzero(length_of(np.arange(total)) == length)[ordinals]
        own = of_each(ordinals, lambda member, own: sources[member].index_of(own, length) * members + member)
        return _merged(own, len(ordinals))

    def describe(examples: Examples, i: int) -> dict[str, Any]:
        own, member = divmod(int(examples.id[i]), members)
        one = Examples(np.array([own]), *(part[i : i + 1] for part in examples[1:]))
        return {"task": names[member], **sources[member].describe(one, 0)}

    size = None if first.size is None else total
    return Source(first.name, first.lengths, size, fetch, length_of, index_of, describe, _groups(sources))


def encode(examples: Examples, width: int, members: Sequence[Task], starts: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the arrays of the members' batches, row by row, and `member` int32 [n]. `starts` is the offset of each member's token ids."""
    found: dict[str, np.ndarray] = {"member": (examples.id % len(members)).astype(np.int32)}
    for number, task in enumerate(members):
        rows = np.flatnonzero(found["member"] == number)
        if not len(rows):
            continue
        own = Examples(examples.id[rows] // len(members), *(part[rows] for part in examples[1:]))
        for name, array in task.encode(own, width).items():
            moved = array + np.int32(starts[number]) if name == "inputs" and task.vocabulary.inputs else array
            found.setdefault(name, np.zeros((len(examples.id), *array.shape[1:]), array.dtype))[rows] = moved
    return found


def score_members(
    output: Output, batch: Batch, scores: Mapping[str, Score], weights: Sequence[float]
) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
    """Scores each row with its own task's score, on its own head. `weights` gives the weight of a counted example of each task."""
    values = weight = jnp.zeros_like(batch["weight"])
    metrics: dict[str, jax.Array] = {}
    for number, (name, score) in enumerate(scores.items()):
        mine = batch["member"] == number
        aside = mine.reshape(-1, *(1,) * (batch["targets"].ndim - 1))
        own = {**batch, "targets": jnp.where(aside, batch["targets"], 0)}  # other tasks' targets may not be among this head's classes
        value, counts, found = score(output._replace(logits=output.logits[name]), own)
        values = jnp.where(mine, value, values)
        weight = jnp.where(mine & (counts > 0), weights[number] * batch["weight"], weight)
        metrics |= {metric: jnp.where(mine, one, metrics.get(metric, jnp.zeros_like(one))) for metric, one in found.items()}
    return values, weight, metrics


# -- private --------------------------------------------------------------------------------------------------------------


def _merged(parts: Sequence[tuple[np.ndarray, np.ndarray]], n: int) -> np.ndarray:
    """Returns [n, ...]: the rows of each part at their positions; token arrays are padded with zeros to the longest."""
    arrays = [array for _, array in parts]
    shape = tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))
    whole = np.zeros((n, *shape), arrays[0].dtype)
    for rows, array in parts:
        whole[rows] = np.pad(array, [(0, 0), *((0, size - own) for size, own in zip(shape, array.shape[1:], strict=True))])
    return whole


def _groups(sources: Sequence[Source]) -> Sequence[str] | None:
    """Returns the resampling group of each id."""
    if any(source.groups is None for source in sources):
        return None
    longest = max(source.size or 0 for source in sources)
    padded = [[*(source.groups or ()), *[""] * longest][:longest] for source in sources]
    return [group for row in zip(*padded, strict=True) for group in row]
