"""The files of a user as the parts of a task: read, cleaned and divided once, by the keys of `config.task`.

Everything follows from the files and these keys, so a run that is loaded or resumed has the same examples. `opened(config)` is cached until
a file changes: the splits of a task share it.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from assay.config.schema import require
from assay.core.errors import UserError, unknown
from assay.data.files.clean import Cleaned, clean
from assay.data.files.content import keys_of
from assay.data.files.found import Found, found
from assay.data.files.parts import Divided, divide
from assay.data.files.reader import read_parts
from assay.data.files.roles import Roles, roles
from assay.data.files.table import Table, drop, size, sources_of, take
from assay.tasks.datasets import classify

KINDS = ("classes", "labels", "number")
HEADERS = {"": None, "yes": True, "no": False}


@dataclass(frozen=True)
class FilesConfig(classify.LabelsConfig):
    train: str  # file or folder with the examples
    test: str  # file or folder to test on; "": a part of `train` is held out
    target: str  # column to predict; "": found by its name
    kind: str  # what is predicted: classes, labels (any number of them) or number
    text: tuple[str, ...]  # columns that are read as text, whatever they look like
    ignore: tuple[str, ...]  # columns that are not read
    delimiter: str  # between the fields of a line; "": found
    encoding: str  # of text files; "": found
    header: str  # whether the first line names the columns: yes, no, or "": found

    def __post_init__(self):
        super().__post_init__()
        if not self.train:
            raise UserError(f"the task {self.name} needs data. Set --config.task.train=FILE, or begin with assay fit FILE.")
        if self.kind not in KINDS:
            raise unknown("kind of target", self.kind, KINDS, "--config.task.kind")
        if self.header not in HEADERS:
            raise unknown("header", self.header, HEADERS, "--config.task.header")
        limited = self.kind == "classes"
        require(limited or not (self.labels or self.folds), "task.labels", self.labels, "labels and folds need classes: set both to 0")


class Opened(NamedTuple):
    """A data set: what its columns are, the rows of each part, and what is said about it."""

    roles: Roles
    parts: Mapping[str, Table]  # "train", "valid", "test" -> rows; parts without rows are left out
    known: np.ndarray | None  # bool [rows of train]: which have a label, if not all
    classes: tuple[str, ...]  # names of the classes or labels, in the order of their ids
    found: Found
    left: tuple[Table, ...] = ()  # rows left out since their inputs stand in an earlier row with another target, or in another part


def opened(config: FilesConfig) -> Opened:
    """Reads, cleans and divides the files of a config, once for as long as they stay as they are.

    Raises UserError, which names file, line and flag.
    """
    return _opened(config, stamp(config))


def stamp(config: FilesConfig) -> tuple[tuple[int, int, int], ...]:
    """Returns the number, the sizes and the latest change of the files of a config: equal as long as nothing is written to them."""
    found = []
    for path in (config.train, config.test):
        files = [path] if os.path.isfile(path) else [os.path.join(here, name) for here, _, names in os.walk(path) for name in names]
        states = [os.stat(file) for file in files]
        found.append((len(states), sum(one.st_size for one in states), max((one.st_mtime_ns for one in states), default=0)))
    return tuple(found)


@lru_cache(maxsize=2)
def _opened(config: FilesConfig, stamp: tuple[tuple[int, int, int], ...]) -> Opened:
    del stamp
    tables = read_parts(
        (config.train, config.test) if config.test else config.train, config.delimiter, config.encoding, HEADERS[config.header]
    )
    played = roles(tables["train"], config.target, config.text, config.ignore, config.kind == "number")
    if played.kind != config.kind:
        raise UserError(
            f"the target {played.target!r} of {config.train} holds {played.kind}, not {config.kind}. Set --config.task.kind={played.kind}."
        )
    cleaned, divided, others = prepared(tables, played)
    parts = {name: take(others.get(name, cleaned).table, rows) for name, rows in divided.rows.items()}
    known = None
    if config.kind == "classes":
        _check_classes(parts, played)
    if config.kind == "classes" and (config.labels or config.folds):
        parts, known = _chosen(config, parts, played)
    classes = tuple(cleaned.classes)
    return Opened(
        played,
        {name: part for name, part in parts.items() if len(part.lines)},
        known,
        classes,
        found(tables["train"], played, cleaned, divided),
        _left(cleaned, divided, others),
    )


def prepared(tables: Mapping[str, Table], played: Roles) -> tuple[Cleaned, Divided, dict[str, Cleaned]]:
    """Returns the cleaned training table, the rows of each part, and the cleaned tables of the parts that have files of their own."""
    cleaned = clean(tables["train"], played)
    others, given = dict[str, Cleaned](), dict[str, Table | None]()
    for name, table in tables.items():
        if name != "train":
            _check_columns(table, tables["train"], played)
            other = clean(table, played, training=False)
            others[name] = other._replace(table=_known(other.table, cleaned, played))
            given[name] = others[name].table
    return cleaned, divide(cleaned.table, played, given.get("test"), given.get("valid")), others


# -- private --------------------------------------------------------------------------------------------------------------


def _left(cleaned: Cleaned, divided: Divided, others: Mapping[str, Cleaned]) -> tuple[Table, ...]:
    """Returns the rows of each table that repeat the inputs of an earlier row with another target, or of another table."""
    used = {name: rows for name, rows in divided.rows.items() if name in others}
    used["train"] = np.concatenate([rows for name, rows in divided.rows.items() if name not in others])
    left = list[Table]()
    for name, one in {"train": cleaned, **others}.items():
        unused = np.ones(size(one.table), bool)
        unused[used[name]] = False
        left += [one.contradicting, take(one.table, unused)]
    return tuple(table for table in left if size(table))


def _check_classes(parts: Mapping[str, Table], played: Roles) -> None:
    """Raises UserError if rows of one class only are left to train on."""
    train = parts["train"]
    names = Counter(train.columns[played.target].tolist())
    if len(names) < 2:
        left = f"only rows of the class {next(iter(names))!r} are" if names else "no row is"
        raise UserError(
            f"{left} left to train on in {train.source}, since rows that also stand in test are left out of it. Remove them from the test "
            "data, or give more training data."
        )


def _check_columns(table: Table, train: Table, played: Roles) -> None:
    absent = [name for name in (played.target, *played.inputs) if name not in table.columns]
    if absent:
        raise UserError(
            f"{table.source} lacks the column {', '.join(absent)} of {train.source}; it has {', '.join(table.columns)}. "
            "Rename it, or leave it out with --ignore."
        )


def _known(table: Table, cleaned: Cleaned, played: Roles) -> Table:
    """Returns the rows whose classes occur in training; a model cannot answer others. They are counted. Raises UserError if none does."""
    if played.kind == "number":
        return table
    cells = table.columns[played.target].tolist()
    odd = np.array([any(name not in cleaned.classes for name in (cell if isinstance(cell, list) else [cell])) for cell in cells], bool)
    if odd.all():
        raise UserError(
            f"no row of {table.source} has a class of the training data ({', '.join(list(cleaned.classes)[:8])}); "
            f"it has {', '.join(sorted(map(str, cells))[:8])}. Give other data to test on."
        )
    return drop(table, odd, f"classes that do not occur in training ({played.target})")


def _chosen(config: FilesConfig, parts: Mapping[str, Table], played: Roles) -> tuple[dict[str, Table], np.ndarray | None]:
    """Returns the parts with the folds, or the fewer labels, of the config."""
    train, valid = parts["train"], parts["valid"]
    both = replace(
        train,
        columns={name: np.concatenate([train.columns[name], valid.columns[name]]) for name in train.columns},
        lines=np.concatenate([train.lines, valid.lines]),
        files=None if train.files is None else np.concatenate([train.files, sources_of(valid)]),
    )
    number = np.unique(both.columns[played.target].astype(str), return_inverse=True)[1]
    rows = classify.chosen(config, number, np.arange(len(train.lines), len(both.lines)), keys_of(both, played))
    known = np.isin(rows["train"], rows["labelled"])
    return {**parts, "train": take(both, rows["train"]), "valid": take(both, rows["valid"])}, None if known.all() else known
