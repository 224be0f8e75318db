"""Prints examples of a task.

    assay show --task=list                                                   (lists all tasks with their splits)
    assay show --task=chomsky/parity_check --split=41-500 --n=5 --format=jsonl
    assay show --task=chomsky/parity_check --treatment=scratchpad --lengths=8:8

--format=jsonl prints one JSON object per line with id, length, input and target. --n=-1 prints all examples of a finite
split. --config.task.KEY=VALUE overrides a key of the task. Writes no files.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from assay.cli.command import launch
from assay.config.overrides import override
from assay.config.schema import span, typed
from assay.core.errors import UserError
from assay.core.plain import json_text
from assay.data.source import Source
from assay.tasks.table import TASKS, find
from assay.tasks.task import Task, text
from assay.train.treatment import compose
from assay.treatments.pipeline.load import treatments

CHUNK = 256  # examples made at a time

FLAGS = flags.FlagValues()
TASK = flags.DEFINE_string("task", "", "Name of a task, or list for all tasks.", flag_values=FLAGS)
SPLIT = flags.DEFINE_string(
    "split", "", "Name of a split: train (the default), valid, iid, or a range of lengths such as 41-500.", flag_values=FLAGS
)
LENGTHS = flags.DEFINE_string(
    "lengths", "", "Range of lengths FIRST:LAST, both inclusive; the same as --split=FIRST-LAST.", flag_values=FLAGS
)
N = flags.DEFINE_integer("n", 5, "Number of examples; -1 prints all of a finite split.", flag_values=FLAGS)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the training examples.", lower_bound=0, flag_values=FLAGS)
FORMAT = flags.DEFINE_enum(
    "format", "text", ["text", "jsonl"], "Format of the output: readable text, or one JSON object per line.", flag_values=FLAGS
)
TREATMENT = flags.DEFINE_multi_string("treatment", [], "Treatment that changes the task, such as scratchpad", flag_values=FLAGS)


def print_tasks() -> None:
    """Prints every task with its splits."""
    table = Table(box=None, pad_edge=False)
    table.add_column("task", no_wrap=True, min_width=max(map(len, TASKS)))
    table.add_column("splits", no_wrap=True, min_width=max(len(" ".join(entry.splits)) for entry in TASKS.values()))
    table.add_column("description", no_wrap=True)
    for name, entry in TASKS.items():
        table.add_row(f"{name}NAME" if name.endswith("/") else name, " ".join(entry.splits), entry.about)
    console = Console()
    console.width = max(console.width, 140)  # a pipe has no width limit
    console.print(table)
    print("If a task names its splits by length, any range of lengths is a split, such as 41-100.")
    print("To print examples: assay show --task=NAME --split=SPLIT --n=5")


def print_examples(name: str, split: str, n: int, seed: int, form: str, treated: Sequence[str], changes: Mapping[str, str]) -> None:
    """Prints the first `n` examples of a split. Raises UserError for unknown names, and for all of an infinite split."""
    task = make(name, seed, treated, changes)
    symbols, shown = task.symbols, examples(task, split, n)
    if form == "text":
        print(f"{task.name}, split {split}: {', '.join(task.metrics)}")
    for example in shown:
        if form == "jsonl":
            print(json_text(example))
        else:
            answer = text(example["target"], [str(name) for name in task.classes])
            line = f"{example['id']:>6}  length {example['length']:<4} {text(example['input'], symbols)}  ->  {answer}"
            print(line.encode("utf-8", "backslashreplace").decode())  # a window of bytes may start or end within a character


def examples(task: Task, split: str, n: int) -> Iterator[dict[str, Any]]:
    """Returns the first `n` examples of a split, all for -1: id, length, input and target."""
    source = task.source(split)
    if n < -1:
        raise UserError(f"--n={n} is not a number of examples. Give 0 or more, or -1 for all of a finite split.")
    if n == -1 and source.size is None:
        raise UserError(f"{task.name} split {split!r} is infinite, so --n=-1 cannot print all of it. Give a number, such as --n=100.")
    total = n if source.size is None else min(n, source.size) if n >= 0 else source.size
    return _made(source, total)


def make(name: str, seed: int, treated: Sequence[str], changes: Mapping[str, str]) -> Task:
    """Builds a task from its name and the defaults of its keys; `changes` are `task.KEY` overrides."""
    entry = find(name, "--task")
    if "task.name" in changes:
        raise UserError("--task=NAME names the task, not --config.task.name.")
    config = override(ConfigDict({"task": {"name": name, **entry.defaults}}), changes)
    try:
        return compose(treatments(treated)).task(entry.build(typed(entry.config, config.task.to_dict(), "task"), seed))
    except UserError as error:
        raise UserError(str(error).replace("--config.treatments", "--treatment")) from None


def _made(source: Source, total: int) -> Iterator[dict[str, Any]]:
    for start in range(0, total, CHUNK):
        found = source.fetch(np.arange(start, min(start + CHUNK, total)))
        for i in range(len(found.id)):
            yield {"id": int(found.id[i]), "length": int(found.length[i]), **source.describe(found, i)}


def main(overrides: dict[str, str]) -> None:
    if TASK.value == "list":
        print_tasks()
    else:
        if LENGTHS.value and SPLIT.value:
            raise UserError("--split and --lengths both name a split. Give one of them.")
        split = "{}-{}".format(*span(LENGTHS.value, "--lengths")) if LENGTHS.value else SPLIT.value or "train"
        print_examples(TASK.value, split, N.value, SEED.value, FORMAT.value, TREATMENT.value, overrides)


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS, required=("task",))
