"""Data sets of TensorFlow Datasets as tables: `read_tfds("tfds/mnist")`, with the columns `picture` (a PNG) or `text`, and `label`.

Splits, features and folders are those of data/tfds.py.
"""

import os
from pathlib import Path

import numpy as np

from assay.core.errors import UserError
from assay.data import tfds
from assay.data.files.formats.idx import png
from assay.data.files.table import Table, column_of

PREFIX = "tfds/"


def is_tfds(path: str | Path) -> bool:
    """Returns True for a name such as tfds/mnist; a file or folder of that name comes first."""
    return str(path).startswith(PREFIX) and not os.path.exists(path)


def read_tfds(name: str) -> dict[str, Table]:
    """Returns the table of each part. Raises UserError for a data set that is not there, or whose examples have no label."""
    parts = {part: split for part, split in zip(("train", "valid", "test"), tfds.split_names(name), strict=True) if split}
    return {part: _table(name, split) for part, split in parts.items()}


# -- private --------------------------------------------------------------------------------------------------------------


def _table(name: str, split: str) -> Table:
    opened = tfds.open_split(name, split, held=0)
    if not opened.classes:
        raise UserError(f"{name} has no label to predict. Choose another data set.")
    columns = opened.fetch(np.arange(opened.size))
    labels = [opened.classes[label] if label >= 0 else None for label in columns["label"].tolist()]
    inputs = [png(pixels) for pixels in columns["image"]] if opened.kind == "image" else columns["text"]
    key = "picture" if opened.kind == "image" else "text"
    return Table({key: column_of(inputs), "label": column_of(labels)}, np.arange(1, opened.size + 1), name)
