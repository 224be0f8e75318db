"""`files/pictures`: a picture -> a class, labels or a number. From a folder with a folder for each class, or a table with paths or bytes.

All pictures are brought to one size: scaled until they fit, and centred. Broken ones are left out and counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from assay.config.schema import require
from assay.core.errors import UserError
from assay.data.files.content import located
from assay.data.files.found import Found
from assay.data.files.pictures import load
from assay.data.files.table import Dropped, Table, size, take
from assay.data.source import Examples, Source, in_memory
from assay.models.model import Vocabulary
from assay.tasks.datasets.images import BOUNDS
from assay.tasks.files.answers import answers_of, task_of
from assay.tasks.files.opened import FilesConfig, Opened, opened, stamp
from assay.tasks.files.rows import asked, digest, encoder, examples_of
from assay.tasks.task import Task, find_split

ABOUT = "a picture -> the folder that it is in"
HIGHEST = 255.0


@dataclass(frozen=True)
class PicturesConfig(FilesConfig):
    height: int  # pixels
    width: int  # pixels
    channels: int  # 1: grey, 3: colours

    def __post_init__(self):
        super().__post_init__()
        for name in ("height", "width"):
            require(1 <= getattr(self, name) <= 4096, f"task.{name}", getattr(self, name), "a number of pixels from 1 to 4096")
        require(self.channels in (1, 3), "task.channels", self.channels, "1 (grey) or 3 (colours)")


def build(config: PicturesConfig, seed: int) -> Task:
    """Builds the task. Raises UserError for files that do not fit, and for a table without pictures."""
    del seed
    found, pixels = loaded(config)
    answers = answers_of(found)

    @cache
    def source(split: str) -> Source:
        table = find_split(found.parts, split)
        targets = answers.targets(table)

        def describe(examples: Examples, i: int) -> dict[str, Any]:
            image = examples.input[i]
            row = int(examples.id[i]) % size(table)
            return {"input": (image[..., 0] if image.shape[-1] == 1 else image).tolist(), "target": answers.shown(targets[row])}

        return in_memory(split, examples_of(pixels[split], targets, None, found.known if split == "train" else None), describe)

    def unlabelled(rows: Sequence[Any]) -> Examples:
        table = asked([{found.roles.pictures[0]: row} if not isinstance(row, Mapping) else row for row in rows], found.roles)
        read = load(located(table, found.roles.pictures[0]), (config.height, config.width), config.channels)
        if not read.kept.all():
            first = int(np.flatnonzero(~read.kept)[0])
            raise UserError(f"picture {first + 1} ({str(rows[first])[:80]}) cannot be read: {read.dropped[0].reason}.")
        return examples_of(read.pixels, np.zeros((len(rows), answers.outputs if found.roles.kind == "labels" else 1), np.int32))

    return task_of(
        found,
        answers,
        source,
        vocabulary=Vocabulary(0, answers.outputs, pooled=True),
        encode=encoder(inputs, answers, config.unlabelled),
        examples=unlabelled,
        bounds=BOUNDS,
        data=digest(found),
        notices=found.found.notes,
    )


def loaded(config: PicturesConfig) -> tuple[Opened, Mapping[str, np.ndarray]]:
    """Returns the data set without its broken pictures, and the pixels of each part, uint8. Raises UserError if a part has none left."""
    return _loaded(config, stamp(config))


@lru_cache(maxsize=2)
def _loaded(config: PicturesConfig, stamp: Any) -> tuple[Opened, Mapping[str, np.ndarray]]:
    del stamp
    found = opened(config)
    if len(found.roles.pictures) != 1:
        raise UserError(
            f"{config.train} has {len(found.roles.pictures) or 'no'} columns of pictures, and {config.name} reads one. Leave others out "
            "with --config.task.ignore, or set --config.task.name=files/texts or files/table."
        )
    (name,) = found.roles.pictures
    parts, pixels, left, known = dict[str, Table](), dict[str, np.ndarray](), list[Dropped](), found.known
    for split, table in found.parts.items():
        read = load(located(table, name), (config.height, config.width), config.channels)
        parts[split], pixels[split] = take(table, read.kept), read.pixels
        left += read.dropped
        known = known[read.kept] if split == "train" and known is not None else known
    said = _without(found, left)._replace(parts=parts, known=known)
    return said._replace(found=_counted(said)) if left else said, pixels


def inputs(examples: Examples, width: int) -> Mapping[str, np.ndarray]:
    """Returns inputs float32 [n, height, width, channels], from -1 (black) to 1."""
    del width
    return {"inputs": examples.input.astype(np.float32) * np.float32(BOUNDS.scale / HIGHEST) + np.float32(BOUNDS.low)}


# -- private --------------------------------------------------------------------------------------------------------------


def _counted(found: Opened) -> Found:
    """Returns what is said about a data set, with the counts of the pictures that are left."""
    told, target = found.found, found.roles.target
    cells = [cell for name, table in found.parts.items() if name in told.splits for cell in table.columns[target].tolist()]
    if told.kind == "number":
        return told._replace(rows=len(cells), splits={name: size(table) for name, table in found.parts.items() if name in told.splits})
    named = Counter(name for cell in cells for name in (cell if isinstance(cell, list) else [cell]))
    classes = {name: named[name] for name in told.classes}
    splits = {name: size(found.parts[name]) if name in found.parts else 0 for name in told.splits}
    return told._replace(rows=len(cells), classes=classes, balance=min(classes.values()) / max(len(cells), 1), splits=splits)


def _without(found: Opened, left: Sequence[Dropped]) -> Opened:
    """Returns the data set with further rows left out, in what is said about it."""
    notes = tuple(f"{each.count:,} {'picture is' if each.count == 1 else 'pictures are'} left out: {each.reason}" for each in left)
    return found._replace(found=found.found._replace(dropped=(*found.found.dropped, *left), notes=(*found.found.notes, *notes)))
