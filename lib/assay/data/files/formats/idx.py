"""Folders of idx files, as MNIST and its relatives come: `train-images-idx3-ubyte.gz` beside `train-labels-idx1-ubyte.gz`.

`read_idx("fashion-mnist")` returns tables with the columns `picture`, the bytes of a PNG, and `label`, its number as text.
"""

import gzip
import io
import re
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from assay.core.errors import UserError
from assay.data.files.table import Table, column_of

NAME = re.compile(r"(train|t10k|test)-(images|labels)[.-]idx\d-ubyte(\.gz)?")
PARTS = {"train": "train", "t10k": "test", "test": "test"}
UBYTE = 8  # code of unsigned bytes


def is_idx(path: str) -> bool:
    """Returns True for a folder that holds such files."""
    return any(NAME.fullmatch(each.name) for each in Path(path).iterdir())


def read_idx(path: str) -> dict[str, Table]:
    """Returns the table of each part. Raises UserError for a file that is missing or damaged."""
    files = {(found[1], found[2]): each for each in sorted(Path(path).iterdir()) if (found := NAME.fullmatch(each.name))}
    tables = {}
    for part in dict.fromkeys(part for part, _ in files):
        for what in ("images", "labels"):
            if (part, what) not in files:
                raise UserError(f"{path} has {part}-{'labels' if what == 'images' else 'images'} but no {part}-{what} in idx format.")
        pictures, labels = _array(files[part, "images"]), _array(files[part, "labels"])
        if pictures.ndim not in (3, 4) or (pictures.ndim == 4 and pictures.shape[-1] not in (1, 3)) or labels.shape != pictures.shape[:1]:
            raise UserError(
                f"{files[part, 'images']} has the shape {pictures.shape} and {files[part, 'labels'].name} {labels.shape}: they are not "
                "pictures with a label each."
            )
        columns = {"picture": column_of(map(png, pictures), len(pictures)), "label": column_of(map(str, labels.tolist()), len(labels))}
        tables[PARTS[part]] = Table(columns, np.arange(1, len(labels) + 1), path)
    return tables


def png(pixels: np.ndarray) -> bytes:
    """Returns a picture, uint8 [height, width] or [height, width, 1 or 3], as the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


# -- private --------------------------------------------------------------------------------------------------------------


def _array(file: Path) -> np.ndarray:
    """Returns the array of a file, uint8. Raises UserError."""
    try:
        held = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} cannot be read: {error}.") from None
    if len(held) < 4 or held[:2] != b"\0\0" or held[2] != UBYTE or not held[3]:
        raise UserError(f"{file} is no idx file of unsigned bytes.")
    shape = np.frombuffer(held, ">u4", min(held[3], (len(held) - 4) // 4), 4).astype(np.int64)
    begin = 4 + 4 * held[3]
    if len(held) - begin != np.prod(shape) or len(shape) != held[3]:
        raise UserError(
            f"{file} holds {max(0, len(held) - begin):,} values, not those of its shape {tuple(shape.tolist())}: it is damaged."
        )
    return np.frombuffer(held, np.uint8, offset=begin).reshape(shape)
