"""What a row says, as a number: equal for rows with equal inputs, whatever their order, file or spelling.

A spelling is NFC, case and white space; marks that have no width, such as those of writing direction, are no part of it. Pictures are equal
if their files are.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from assay.core.file import read_bytes
from assay.core.rng import bytes_hash
from assay.data.files.kinds import is_blank
from assay.data.files.roles import Roles
from assay.data.files.table import Table, size

INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
BETWEEN = "\x1f"  # columns: the separator of units in ASCII, which texts do not contain


def keys_of(table: Table, roles: Roles, spelling: bool = False) -> np.ndarray:
    """Returns uint64 [n], a hash of the inputs of each row. With `spelling`, texts that differ in spelling only are different."""
    written = exact if spelling else spelled
    columns = [
        [_cell(value, written) for value in (located(table, name) if name in roles.pictures else table.columns[name].tolist())]
        for name in sorted(roles.inputs)
    ]
    rows = map(BETWEEN.join, zip(*columns, strict=True))
    return np.fromiter((bytes_hash(row.encode("utf-8", "surrogatepass")) for row in rows), np.uint64, size(table))


def located(table: Table, name: str) -> list[bytes | Path | None]:
    """Returns the pictures of a column: bytes, or paths, which are relative to the folder that the table's file is in."""
    source = Path(table.source).absolute()
    folder = source if source.is_dir() else source.parent
    cells = table.columns[name].tolist()
    return [None if is_blank(cell) else cell if isinstance(cell, bytes) else folder / str(cell) for cell in cells]


def exact(text: str) -> str:
    """Returns a text in NFC without white space around it."""
    return text.strip() if text.isascii() else normalize("NFC", text.strip())


def spelled(text: str) -> str:
    """Returns what texts that differ in NFC, case, white space and invisible marks have in common."""
    if text.isascii():
        return " ".join(text.casefold().split())
    return " ".join(normalize("NFC", normalize("NFC", INVISIBLE.sub("", text)).casefold()).split())


# -- private --------------------------------------------------------------------------------------------------------------


def _cell(value: Any, written: Callable[[str], str]) -> str:
    if isinstance(value, str):
        return written(value)
    if is_blank(value):
        return ""
    if isinstance(value, Path):
        try:
            value = read_bytes(value)
        except (OSError, ValueError):  # whoever loads pictures counts it
            return str(value)
    return f"{bytes_hash(value):x}" if isinstance(value, bytes) else str(value)
