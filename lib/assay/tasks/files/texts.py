"""`files/texts`: one text or several, with the other columns of the row -> a class, labels or a number.

A row becomes one sequence of tokens: a token for each number, date and category (its range or its value), then the texts, with a separator
between two. So every model that reads texts reads the whole row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import numpy as np

from assay.config.schema import require
from assay.core.errors import UserError
from assay.data.augment_text import alphabet_of
from assay.data.files.kinds import is_blank
from assay.data.files.table import Table
from assay.data.language import padded
from assay.data.source import Examples, Source, in_memory
from assay.data.tokenizers import symbols, tokenizer
from assay.models.model import Vocabulary
from assay.tasks.files.answers import answers_of, task_of
from assay.tasks.files.features import tokens as tokens_of
from assay.tasks.files.opened import FilesConfig, opened
from assay.tasks.files.rows import asked, digest, encoder, examples_of, said
from assay.tasks.task import Task, find_split

ABOUT = "a row with a text -> the column of your choice"


@dataclass(frozen=True)
class TextsConfig(FilesConfig):
    tokenizer: str  # bytes, characters, words, wordpiece, bpe
    tokenizer_size: int  # maximum vocabulary size, learned from the training texts
    tokenizer_file: str  # a tokenizer.json to load instead of learning one; "": none
    max_length: int  # maximum number of tokens per row; longer ones are truncated at the end

    def __post_init__(self):
        super().__post_init__()
        require(self.tokenizer_size >= 1, "task.tokenizer_size", self.tokenizer_size, "it must be at least 1")
        require(self.max_length >= 1, "task.max_length", self.max_length, "it must be at least 1")


def build(config: TextsConfig, seed: int) -> Task:
    """Builds the task. Raises UserError for files that do not fit, and for a table without texts."""
    del seed
    found = opened(config)
    roles, train = found.roles, found.parts["train"]
    if not roles.texts or roles.pictures:
        raise UserError(
            f"{config.train} has {'pictures' if roles.pictures else 'no column of texts'}, and {config.name} reads texts. "
            f"Set --config.task.name=files/{'pictures' if roles.pictures else 'table'}, or name a column of texts with --config.task.text."
        )
    answers = answers_of(found)
    words = tokenizer(config.tokenizer, chain(*_texts(train, roles.texts)), config.tokenizer_size, config.tokenizer_file)
    beside = tokens_of(train, roles)
    starts = words.size + np.cumsum([0, *(len(one.names) for one in beside)])
    if len(beside) >= config.max_length:
        raise UserError(
            f"config.task.max_length={config.max_length} leaves no room for text beside {len(beside)} other columns. Raise it, or leave "
            "columns out with --config.task.ignore."
        )

    def read(table: Table, targets: np.ndarray, known: np.ndarray | None = None) -> Examples:
        first = np.stack([start + one.number(table) for start, one in zip(starts, beside, strict=False)], axis=1) if beside else None
        rows = []
        for i, texts in enumerate(zip(*_texts(table, roles.texts), strict=True)):
            ids = [] if first is None else first[i].tolist()
            for place, text in enumerate(texts):
                ids += [words.separator] if place else []
                ids += words.encode(text)
            rows.append(ids[: config.max_length] or [words.unknown])
        inputs, lengths = padded(rows, max(map(len, rows)), words.pad)
        return examples_of(inputs, targets, lengths, known)

    @cache
    def source(split: str) -> Source:
        table = find_split(found.parts, split)
        targets = answers.targets(table)
        examples = read(table, targets, found.known if split == "train" else None)
        return in_memory(split, examples, said(table, roles, answers, targets))

    def unlabelled(rows: Sequence[Any]) -> Examples:
        return read(asked(rows, roles), np.zeros((len(rows), answers.outputs if roles.kind == "labels" else 1), np.int32))

    return task_of(
        found,
        answers,
        source,
        vocabulary=Vocabulary(int(starts[-1]), answers.outputs, pooled=True),
        encode=encoder(inputs, answers, config.unlabelled),
        symbols=(*symbols(words), *(name for one in beside for name in one.names)),
        alphabet=alphabet_of(words),
        examples=unlabelled,
        data=digest(found),
        notices=found.found.notes,
    )


def inputs(examples: Examples, width: int) -> Mapping[str, np.ndarray]:
    """Returns inputs int32 [n, width] and their length, int32 [n]."""
    tokens = np.zeros((len(examples.id), width), np.int32)
    shown = min(width, examples.input.shape[1])
    tokens[:, :shown] = examples.input[:, :shown]
    return {"inputs": tokens, "length": np.minimum(examples.input_length, width).astype(np.int32)}


# -- private --------------------------------------------------------------------------------------------------------------


def _texts(table: Table, names: Sequence[str]) -> list[list[str]]:
    """Returns the texts of each column; a missing one is empty."""
    return [["" if is_blank(cell) else str(cell) for cell in table.columns[name].tolist()] for name in names]
