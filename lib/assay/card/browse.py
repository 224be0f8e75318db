"""Looking at the data: tasks and their examples, printed for people or as JSON lines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from assay.core.config import typed
from assay.core.errors import UserError
from assay.tasks.table import TASKS, find
from assay.tasks.task import Task, text
from assay.train.treatment import compose
from assay.treat.table import treatments

CHUNK = 256  # examples made at a time


def print_tasks() -> None:
    """Every task with its splits, vocabulary and metrics."""
    table = Table(box=None, pad_edge=False)
    for column in ("task", "splits", "input ids", "outputs", "metrics"):
        table.add_column(column, no_wrap=True)
    for name in TASKS:
        task = make(name, 0, (), {})
        outputs = task.vocabulary.outputs
        table.add_row(name, " ".join(task.splits), str(task.vocabulary.inputs - outputs - 1), str(outputs), " ".join(task.metrics))
    console = Console()
    console.width = max(console.width, 140)  # a pipe has no width to keep to
    console.print(table)
    print("Splits named by lengths can be any range, such as 41-100. Look: python -m experiments.show --task=NAME --split=SPLIT --n=5")


def print_examples(name: str, split: str, n: int, seed: int, form: str, treated: Sequence[str], changes: Mapping[str, str]) -> None:
    """The first `n` examples of a split. Raises UserError for what does not exist, and for all of an endless split."""
    task = make(name, seed, treated, changes)
    symbols = task.symbols
    if form == "text":
        print(f"{task.name}, split {split}: {', '.join(task.metrics)}")
    for example in examples(task, split, n):
        if form == "jsonl":
            print(json.dumps(example))
        else:
            print(f"{example['id']:>6}  length {example['length']:<4} {text(example['input'], symbols)}  ->  {text(example['target'])}")


def examples(task: Task, split: str, n: int) -> Iterator[dict[str, Any]]:
    """The first `n` examples of a split, -1 for all: id, length, input and target as lists of token ids."""
    source = task.source(split)
    if n < -1:
        raise UserError(f"--n={n} is not a number of examples. Give 0 or more, or -1 for all of a finite split.")
    if n == -1 and source.size is None:
        raise UserError(f"{task.name} split {split!r} does not end, so --n=-1 cannot print all of it. Give a number, such as --n=100.")
    total = source.size if n == -1 or (source.size is not None and n > source.size) else n
    assert total is not None
    for start in range(0, total, CHUNK):
        found = source.fetch(np.arange(start, min(start + CHUNK, total)))
        for i in range(len(found.id)):
            yield {
                "id": int(found.id[i]),
                "length": int(found.length[i]),
                "input": found.input[i, : found.input_length[i]].tolist(),
                "target": found.target[i, : found.target_length[i]].tolist(),
            }


def make(name: str, seed: int, treated: Sequence[str], changes: Mapping[str, str]) -> Task:
    """A task from its name and the defaults of its keys; `changes` are `task.KEY` overrides."""
    entry = find(name, "--task")
    values = {"name": name, **entry.defaults}
    for key, value in changes.items():
        short = key.removeprefix("task.")
        if short not in values or short == "name":
            known = ", ".join(f"task.{other}" for other in entry.defaults)
            raise UserError(f"unknown config key {key!r} for --task={name}. Known: {known}.")
        values[short] = int(value) if isinstance(values[short], int) and value.isdigit() else value
    return compose(treatments(treated)).task(entry.build(typed(entry.config, values, "task"), seed))
