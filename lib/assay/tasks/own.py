"""Examples given as arrays, under a name in the table of tasks, so that a config names them: `config.task.name = "mine/digits"`.

    config.task = register("mine/digits", with_valid(task), digest(task), score)
    missing(config["task"])                          # why the examples of a run are not known in this process, or ""

config.json has a digest of the examples and of the loss, so a run is never read with others. The table lasts as long as the process.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from assay.config.modules import OWN
from assay.core.digest import arrays_digest, same_program
from assay.core.errors import UserError
from assay.core.rng import bytes_hash
from assay.data.source import Source, subset
from assay.tasks.datasets.classify import held_out
from assay.tasks.table import TASKS, Entry
from assay.tasks.task import Task

TRAIN, VALID = "train", "valid"
MOST = 16  # tasks of one name that a process keeps, the newest
CHUNK = 4096  # examples that are read at a time


@dataclass(frozen=True)
class OwnConfig:
    """Keys of config.task of examples given as arrays."""

    name: str  # begins with "mine/"
    examples: str  # number of training examples, and a digest of all splits
    score: str  # version of JAX, and a digest of the loss and the scores


class Own(NamedTuple):
    task: Task
    examples: str
    score: str


_known: dict[str, list[Own]] = {}  # by name, the newest last


def register(name: str, task: Task, examples: str, score: str) -> dict[str, str]:
    """Registers a task and returns its config.task. `examples` and `score` are its digests; a task with both the same is replaced."""
    others = [one for one in _known.get(name, []) if (one.examples, one.score) != (examples, score)]
    _known[name] = [*others, Own(task, examples, score)][-MOST:]

    def build(config: OwnConfig, seed: int) -> Task:
        del seed
        fits = [one for one in _known[name] if _fits(one, vars(config))]
        if not fits:
            raise UserError(f"{missing(vars(config))}. Give the data of the run.")
        return ([one for one in fits if one.score == config.score] or fits)[-1].task

    TASKS[name] = Entry(OwnConfig, build, {"examples": examples, "score": score}, task.splits, "examples given as arrays")
    return {"name": name, "examples": examples, "score": score}


def missing(config: Mapping[str, Any]) -> str:
    """Returns why the task of a run's config.task is not known in this process; "" if it is, or if it is one of the package."""
    name = str(config.get("name"))
    known = _known.get(name, [])
    if not name.startswith(OWN) or any(_fits(one, config) for one in known):
        return ""
    if not known:
        return f"its data {name!r} are arrays, which a run does not hold"
    data = [one.examples for one in known]
    if config["examples"] not in data:
        return f"its data {name!r} ({config['examples']}) are not those given here ({data[-1]})"
    return f"its loss or its scores are not those of the data {name!r} given here"


def digest(task: Task) -> str:
    """Returns the number of training examples, and a digest of the examples of all splits."""
    size = task.source(TRAIN).size if TRAIN in task.splits else 0
    return f"{size:,} to train, {arrays_digest(part for split in task.splits for part in _parts(task, split))}"


def with_valid(task: Task) -> Task:
    """Returns the task with a split `valid`: its own, or about a tenth of `train`, of each class if there are classes.

    Equal inputs are never divided, and the choice depends on the examples alone. Raises UserError without a split `train`, or if it is
    too small.
    """
    if TRAIN not in task.splits:
        raise UserError(f"data has no 'train' to train on, only {', '.join(task.splits)}: pass data={{'train': (inputs, targets), ...}}.")
    if VALID in task.splits:
        return task
    source = task.source(TRAIN)
    assert source.size is not None
    contents = np.array([bytes_hash(row) for row in _rows(task, source)], np.uint64)
    same = np.zeros(source.size, np.int64)
    held = held_out(contents, same if source.labels is None else source.labels())
    held = held if len(held) else held_out(contents, same)  # a single example of each class
    if not len(held):
        raise UserError(f"'train' has {source.size} examples, too few to hold some out for choices: pass data={{'valid': ..., ...}}.")
    chosen = np.zeros(source.size, bool)
    chosen[held] = True

    @cache
    def part(split: str) -> Source:
        if split == VALID:
            return replace(subset(source, chosen), name=VALID)
        return subset(source, ~chosen) if split == TRAIN else task.source(split)

    others = [split for split in task.splits if split != TRAIN]
    return replace(task, splits=(TRAIN, VALID, *others), source=part, shown=task.shown if others else VALID)


# -- private --------------------------------------------------------------------------------------------------------------


def _fits(own: Own, config: Mapping[str, Any]) -> bool:
    return own.examples == config["examples"] and same_program(own.score, config["score"])


def _parts(task: Task, split: str) -> Iterator[Mapping[str, Any]]:
    """Yields the arrays of a split, some examples at a time."""
    source = task.source(split)
    assert source.size is not None
    for start in range(0, source.size, CHUNK):
        rows = np.arange(start, min(start + CHUNK, source.size))
        examples = source.fetch(rows)
        yield {"input": examples.input, "length": examples.input_length, "target": examples.target, **source.columns(rows)}


def _rows(task: Task, source: Source) -> Iterator[bytes]:
    """Yields the input of each example as bytes."""
    for part in _parts(task, source.name):
        arrays = [np.ascontiguousarray(array) for name, array in part.items() if name not in ("length", "target")]
        for row in zip(*arrays, strict=True):
            yield b"|".join(array.tobytes() for array in row)
