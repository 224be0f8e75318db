"""`files/table`: rows of numbers, categories and dates -> a class, labels or a number. Models read numbers [features]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from assay.data.source import Examples, Source, in_memory
from assay.models.model import Vocabulary
from assay.tasks.datasets.regression import BOUNDS
from assay.tasks.files.answers import answers_of, task_of
from assay.tasks.files.features import features, matrix
from assay.tasks.files.opened import FilesConfig, opened
from assay.tasks.files.rows import asked, digest, encoder, examples_of, listed, said
from assay.tasks.task import Task, find_split

ABOUT = "a row of a table -> the column of your choice"


@dataclass(frozen=True)
class TableConfig(FilesConfig):
    pass


def build(config: TableConfig, seed: int) -> Task:
    """Builds the task. Raises UserError for files that do not fit, and for a table with texts or pictures only."""
    del seed
    found = opened(config)
    listed(found.roles, config.name)
    made, answers = features(found.parts["train"], found.roles), answers_of(found)

    @cache
    def source(split: str) -> Source:
        table = find_split(found.parts, split)
        targets = answers.targets(table)
        examples = examples_of(matrix(table, made), targets, None, found.known if split == "train" else None)
        return in_memory(split, examples, said(table, found.roles, answers, targets))

    def unlabelled(rows: Sequence[Any]) -> Examples:
        table = asked(rows, found.roles)
        return examples_of(matrix(table, made), np.zeros((len(rows), answers.outputs if found.roles.kind == "labels" else 1), np.int32))

    def inputs(examples: Examples, width: int) -> Mapping[str, np.ndarray]:
        del width
        return {"inputs": examples.input.astype(np.float32)}

    return task_of(
        found,
        answers,
        source,
        vocabulary=Vocabulary(0, answers.outputs, pooled=True),
        encode=encoder(inputs, answers, config.unlabelled),
        symbols=[name for one in made for name in one.names],
        examples=unlabelled,
        bounds=BOUNDS,
        data=digest(found),
        notices=found.found.notes,
    )
