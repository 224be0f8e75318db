"""Folders of pictures: one folder for each class, below `train`, `valid` and `test` if the data set has parts.

`read_pictures("flowers")` returns tables with the columns `picture`, a path relative to the folder that was given, and `label`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from assay.core.errors import UserError
from assay.data.files.formats.signatures import is_picture_name
from assay.data.files.table import Dropped, Table, column_of, dropped, note

PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("valid", "validation", "val", "dev"), "valid"
)
SYSTEM = ("thumbs.db", "desktop.ini", "__macosx")  # what systems leave in folders, in lower case


def read_pictures(path: str) -> dict[str, Table]:
    """Returns the table of each part; "train" where there are no parts. Raises UserError for a folder without pictures in folders."""
    root = Path(path)
    try:
        folders = sorted(each for each in _visible(root) if each.is_dir())
        parts = {PARTS[each.name.lower()]: each for each in folders if each.name.lower() in PARTS}
        if "train" not in parts or any(each.name.lower() not in PARTS for each in folders):
            parts = {"train": root}  # a class may be called "test"
        tables = {"train": _part(root, parts.pop("train"))}
        for name, folder in parts.items():
            if any(each.is_dir() for each in _visible(folder)):
                tables[name] = _part(root, folder)
            else:
                tables["train"] = note(tables["train"], f"{folder} is not used, because its pictures are in no folder of a class")
        return tables
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}.") from None


# -- private --------------------------------------------------------------------------------------------------------------


def _part(root: Path, folder: Path) -> Table:
    pictures, labels, odd, loose = list[str](), list[str](), list[str](), list[str]()
    for each in sorted(_visible(folder)):
        if each.is_dir():
            for file in _files(each):
                if is_picture_name(file.name):
                    pictures.append(str(file.relative_to(root)))
                    labels.append(each.name)
                else:
                    odd.append(str(file.relative_to(root)))
        else:
            (loose if is_picture_name(each.name) else odd).append(str(each.relative_to(root)))
    if not pictures:
        found = f"has {len(loose):,} pictures that are in no folder of a class" if loose else "has no pictures and no table"
        raise UserError(
            f"{folder} {found}. Give a folder with one folder of pictures for each class, or a file such as train.csv. "
            "Pictures are PNG, JPEG, BMP, GIF, WebP and TIFF files."
        )
    left: list[Dropped] = [
        *([dropped("files that are no pictures", odd)] if odd else []),
        *([dropped("pictures in no folder of a class", loose)] if loose else []),
    ]
    columns = {"picture": column_of(pictures, len(pictures)), "label": column_of(labels, len(labels))}
    return Table(columns, np.arange(1, len(pictures) + 1), str(root), tuple(left))


def _visible(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if not each.name.startswith(".") and each.name.lower() not in SYSTEM]


def _files(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder in a fixed order. Links to folders are not followed, since they may lead back."""
    for here, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name.lower() not in SYSTEM)
        yield from (Path(here) / name for name in sorted(names) if not name.startswith(".") and name.lower() not in SYSTEM)
