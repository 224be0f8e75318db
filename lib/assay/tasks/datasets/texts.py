"""Texts and their classes: `stdlib/package` (a passage of Python's standard library -> its package), `csv` files, text data sets of TFDS.

stdlib/package: split by file, so that no file is in two splits; intervals resample files. csv: training rows whose text also occurs in the
test file are excluded, and if a text occurs in several rows, the first row counts; training says how many rows were left out. `valid` is a
tenth of the distinct training texts of each class, chosen by their content.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np

from assay.config.schema import require
from assay.core.errors import UserError
from assay.core.rng import stable_hash
from assay.data import csv, tfds
from assay.data.augment_text import alphabet_of
from assay.data.language import padded
from assay.data.source import Examples, Source, in_memory
from assay.data.tokenizers import Tokenizer, symbols, tokenizer
from assay.tasks.datasets import classify
from assay.tasks.task import Task


@dataclass(frozen=True)
class TextsConfig(classify.LabelsConfig):
    data_dir: str  # TFDS's folder; "": $TFDS_DATA_DIR, else ~/tensorflow_datasets
    tokenizer: str  # bytes, characters, words, wordpiece, bpe
    tokenizer_size: int  # maximum vocabulary size, learned from the training texts
    tokenizer_file: str  # a tokenizer.json to load instead of learning one; "": none
    max_length: int  # maximum number of tokens per text; longer texts are truncated at the end

    def __post_init__(self):
        super().__post_init__()
        require(self.tokenizer_size >= 1, "task.tokenizer_size", self.tokenizer_size, "it must be at least 1")
        require(self.max_length >= 1, "task.max_length", self.max_length, "it must be at least 1")


@dataclass(frozen=True)
class CSVConfig(TextsConfig):
    train: str  # path of the training file
    test: str  # path of the test file; "": none
    text: str  # name of the text column
    label: str  # name of the label column

    def __post_init__(self):
        super().__post_init__()
        if not self.train:
            raise UserError("the task csv needs a training file. Set it with --config.task.train=FILE.csv.")


class Texts(NamedTuple):
    """Texts with their class ids, their resampling groups if any, and a mask of the labelled ones if not all are."""

    texts: Sequence[str]
    labels: np.ndarray
    groups: Sequence[str] | None = None
    known: np.ndarray | None = None

    @property
    def shown(self) -> np.ndarray:
        """The labels that training sees."""
        return self.labels if self.known is None else self.labels[self.known]

    def take(self, rows: np.ndarray, known: np.ndarray | None = None) -> "Texts":
        groups = None if self.groups is None else [self.groups[i] for i in rows]
        return Texts([self.texts[i] for i in rows], self.labels[rows], groups, known)

    def parts(self, rows: Mapping[str, np.ndarray]) -> "dict[str, Texts]":
        """Returns the parts train and valid for the rows of `classify.chosen`."""
        known = np.isin(rows["train"], rows["labelled"])
        return {"train": self.take(rows["train"], None if known.all() else known), "valid": self.take(rows["valid"])}


def build_tfds(config: TextsConfig, seed: int) -> Task:
    """Builds a task from a text data set of TFDS, or from the standard library's passages."""
    del seed
    name = "stdlib_text/package" if config.name == "stdlib/package" else config.name.removeprefix("tfds/")
    also = ("file",) if config.name == "stdlib/package" else ()
    pool, own, test = tfds.split_names(name, config.data_dir)
    classes = tfds.open_split(name, pool, data_dir=config.data_dir).classes

    @cache
    def read(split: str) -> Texts:
        columns = tfds.load_split(name, split, data_dir=config.data_dir, also=also)
        return Texts(columns["text"], columns["label"], columns.get("file"))

    @cache
    def parts() -> dict[str, Texts]:
        every = read(pool)
        if own and not config.folds:
            rows = classify.chosen(config, every.labels, np.zeros(0, np.int64))
            return {**every.parts(rows), "valid": read(own)}
        groups: Sequence[str] | np.ndarray | None = every.groups
        if config.stratify and groups is None:
            groups = classify.hashes(every.texts)
        return every.parts(classify.chosen(config, every.labels, _held(config, every), groups))

    valid = bool(len(parts()["valid"].texts))
    made = _task(config, classes, lambda split: read(test) if split == "test" else parts()[split], bool(test), valid)
    return replace(made, notices=classify.notices(parts()["train"].shown, classes, "text", {"valid": parts()["valid"].labels}))


def build_csv(config: CSVConfig, seed: int) -> Task:
    """Builds a task from two CSV files. Raises UserError with file, line and reason for invalid data."""
    del seed
    rows = csv.read_csv(config.train, config.text, config.label)
    classes = csv.classes_of(rows)
    if len(classes) < 2:
        raise UserError(f"{config.train} has only one label, {classes[0]!r}; a classifier needs at least two. Change --config.task.train.")
    tested = csv.read_csv(config.test, config.text, config.label) if config.test else []
    test = Texts([row.text for row in tested], csv.class_ids(config.test, tested, classes) if tested else np.zeros(0, np.int64))
    labels = csv.class_ids(config.train, rows, classes)
    contents = [normalize("NFC", row.text) if config.stratify else row.text for row in rows]
    tested_texts = {normalize("NFC", text) if config.stratify else text for text in test.texts}
    left = [i for i, content in enumerate(contents) if content not in tested_texts]
    first = sorted({contents[i]: i for i in reversed(left)}.values())
    if not first:
        raise UserError(f"every text of {config.train} also occurs in {config.test}, so nothing is left to train on.")
    every = Texts([rows[i].text for i in first], labels[first])
    dropped = _dropped(config, len(rows), len(left), len(first))
    if len(np.unique(every.labels)) < 2:
        raise UserError(
            f"only the label {classes[int(every.labels[0])]!r} is left of {config.train}; a classifier needs at least two. {dropped}. "
            "Change --config.task.train or --config.task.test."
        )
    parts = every.parts(classify.chosen(config, every.labels, _held(config, every)))
    held = {"valid": parts["valid"].labels, "test": test.labels}
    said = (*filter(None, [dropped]), *classify.notices(parts["train"].shown, classes, "text", held))
    made = _task(config, classes, lambda split: test if split == "test" else parts[split], bool(tested), bool(len(parts["valid"].texts)))
    return replace(made, notices=said)


def encode(examples: Examples, width: int) -> dict[str, np.ndarray]:
    """Returns inputs int32 [n, width], length, targets int32 [n], weight."""
    inputs = np.zeros((len(examples.id), width), np.int32)
    shown = min(width, examples.input.shape[1])
    inputs[:, :shown] = examples.input[:, :shown]
    length = np.minimum(examples.input_length, width).astype(np.int32)
    return {"inputs": inputs, "length": length, "targets": examples.target[:, 0], "weight": np.ones(len(length), np.float32)}


# -- private --------------------------------------------------------------------------------------------------------------


def _held(config: TextsConfig, every: Texts) -> np.ndarray:
    if config.stratify:
        return classify.held_out(classify.hashes(every.texts), every.labels)
    return np.array([i for i, text in enumerate(every.texts) if stable_hash(text) % classify.VALID_ONE_IN == 0], np.int64)


def _dropped(config: CSVConfig, rows: int, left: int, distinct: int) -> str:
    """Returns how many training rows were left out and why, or ""."""
    reasons = [f"{rows - left:,} whose text is also in {config.test}"] if left < rows else []
    reasons += [f"{left - distinct:,} that repeat a text"] if distinct < left else []
    return f"{rows - distinct:,} of {rows:,} rows of {config.train} are left out: {', '.join(reasons)}" if reasons else ""


def _task(config: TextsConfig, classes: Sequence[str], read: Callable[[str], Texts], test: bool, valid: bool = True) -> Task:
    tokens = tokenizer(config.tokenizer, read("train").texts, config.tokenizer_size, config.tokenizer_file)

    @cache
    def source(split: str) -> Source:
        data = read(split)

        def describe(examples: Examples, i: int) -> dict[str, Any]:
            at = int(examples.id[i]) % len(data.texts)
            return {"input": data.texts[at], "target": classes[int(data.labels[at])]}

        return in_memory(split, _examples(data.texts, data.labels, tokens, config.max_length, data.known), describe, data.groups)

    splits = ["train", *(["valid"] if valid else []), *(["test"] if test else [])]
    sources: Mapping[str, Callable[[], Source]] = {split: partial(source, split) for split in splits}

    def unlabelled(texts: Sequence[str]) -> Examples:
        return _examples(texts, np.zeros(len(texts), np.int64), tokens, config.max_length)

    encoding = classify.knowing(encode) if config.unlabelled else encode
    made = classify.task(config.name, sources, classes, encoding, tokens.size, unlabelled)
    return replace(made, symbols=symbols(tokens), alphabet=alphabet_of(tokens), data=_hash(read("train"), classes))


def _hash(training: Texts, classes: Sequence[str]) -> str:
    whole = hashlib.blake2b(repr(tuple(classes)).encode("utf-8", "surrogatepass"), digest_size=8)
    for text, label in zip(training.texts, training.labels.tolist(), strict=True):
        whole.update(f"{label} {len(text)} {text}".encode("utf-8", "surrogatepass"))
    return whole.hexdigest()


def _examples(texts: Sequence[str], labels: np.ndarray, tokens: Tokenizer, max_length: int, known: np.ndarray | None = None) -> Examples:
    ids = [tokens.encode(text)[:max_length] or [tokens.unknown] for text in texts]  # an empty text becomes one token, which can be read
    inputs, lengths = padded(ids, max(map(len, ids)), tokens.pad)
    return classify.labelled(labels, inputs, lengths, known)
