"""From a path to tables: `read("reviews.csv")`, `read_parts("folder")`. What a file is follows from its first bytes, not from its name.

CSV and its relatives, JSONL and JSON (each also gzipped), Parquet, Arrow, Feather, folders of `datasets.save_to_disk`, folders of pictures
or of idx files, folders with files named train, test and valid, and names of TensorFlow Datasets such as tfds/mnist.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from assay.core.errors import UserError
from assay.data.files.formats.arrow import is_saved, read_arrow, read_saved
from assay.data.files.formats.delimited import read_delimited
from assay.data.files.formats.folder import PARTS, read_pictures
from assay.data.files.formats.idx import is_idx, read_idx
from assay.data.files.formats.records import read_records
from assay.data.files.formats.signatures import is_arrow, other_kind
from assay.data.files.formats.text import head
from assay.data.files.formats.tfds import is_tfds, read_tfds
from assay.data.files.table import Table, join

NAMED = re.compile(rf"({'|'.join(sorted(PARTS, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)
TABLES = (".csv", ".tsv", ".tab", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".pq", ".arrow", ".feather", ".ipc")
RECORDS = (".json", ".jsonl", ".ndjson")
ARRAY = re.compile(r"\s*\[\s*[\[{\]]")
OBJECT = re.compile(r'\s*\{\s*["}]')


def read(path: str | Path, delimiter: str = "", encoding: str = "", has_header: bool | None = None) -> Table:
    """Reads one table. Raises UserError, which names file, line and reason; also for a folder with several parts: see `read_parts`."""
    path = os.path.expanduser(path)
    if not (os.path.isdir(path) or is_tfds(path)):
        return _file(path, delimiter, encoding, has_header)
    parts = read_tfds(str(path)) if is_tfds(path) else _folder(path, delimiter, encoding, has_header)
    if len(parts) > 1:
        raise UserError(f"{path} has the parts {', '.join(parts)}. Give one of them, such as {Path(path) / next(iter(parts))}.")
    return next(iter(parts.values()))


def read_parts(
    paths: str | Path | Sequence[str | Path], delimiter: str = "", encoding: str = "", has_header: bool | None = None
) -> dict[str, Table]:
    """Reads the parts of a data set: "train", and "test" and "valid" where there are any.

    `paths` is a file or folder, or (train, test). Of both, only train may have a "valid" of its own. Raises UserError.
    """
    if isinstance(paths, (str, Path)):
        paths = (paths,)
    if not 1 <= len(paths) <= 2:
        raise UserError(f"{len(paths)} paths were given. Give the data, and at most one more with --test.")
    path = os.path.expanduser(paths[0])
    if is_tfds(path):
        parts = read_tfds(str(path))
    elif os.path.isdir(path):
        parts = _folder(path, delimiter, encoding, has_header)
    else:
        parts = {"train": _file(path, delimiter, encoding, has_header)}
    if "train" not in parts:
        if len(parts) > 1:
            raise UserError(f"{path} has the parts {', '.join(parts)}, and none called train. Give the folder or file to train on.")
        parts = {"train": next(iter(parts.values()))}
    if len(paths) == 2:
        if os.path.realpath(path) == os.path.realpath(os.path.expanduser(paths[1])):
            raise UserError(f"{path} is both the data and --test. Leave out --test, and a part of the data is held out.")
        parts["test"] = read(paths[1], delimiter, encoding, has_header)
    return {name: parts[name] for name in ("train", "valid", "test") if name in parts}


# -- private --------------------------------------------------------------------------------------------------------------


def _file(path: str, delimiter: str, encoding: str, has_header: bool | None) -> Table:
    start = head(path, 4096)
    if is_arrow(start):
        return read_arrow(path)
    other = other_kind(start)
    if other:
        raise UserError(f"{path} is {other}.")
    suffixes = [suffix.lower() for suffix in Path(path).suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix in (".parquet", ".pq", ".feather", ".arrow", ".ipc"):
        raise UserError(f"{path} does not begin as a file of its name does: it is damaged, or something else.")
    text = start.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe").decode("latin-1")
    if not delimiter and (suffix in RECORDS or ARRAY.match(text) or OBJECT.match(text)):
        return read_records(path, encoding)
    return read_delimited(path, delimiter, encoding, has_header)


def _folder(path: str, delimiter: str, encoding: str, has_header: bool | None) -> dict[str, Table]:
    if is_saved(path):
        return _renamed(path, read_saved(path))
    if is_idx(path):
        return _renamed(path, read_idx(path))
    files = sorted(each for each in _visible(path) if each.is_file() and _suffix(each) in TABLES)
    if not files and (Path(path) / "data").is_dir():  # as the Hugging Face Hub lays out Parquet files
        files = sorted(each for each in _visible(Path(path) / "data") if each.is_file() and _suffix(each) in TABLES)
    parts: dict[str, list[Path]] = {}
    for file in files:
        found = NAMED.match(file.name)
        if found:
            parts.setdefault(PARTS[found[1].lower()], []).append(file)
    if not parts and len(files) == 1:
        parts = {"train": files}
    if parts:
        return {name: _joined(path, [_file(str(file), delimiter, encoding, has_header) for file in found]) for name, found in parts.items()}
    return _renamed(path, read_pictures(path))


def _joined(path: str, tables: list[Table]) -> Table:
    return tables[0] if len(tables) == 1 else join(tables, path)


def _visible(folder: str | Path) -> list[Path]:
    return [each for each in Path(folder).iterdir() if not each.name.startswith((".", "_"))]


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _renamed(path: str, splits: dict[str, Table]) -> dict[str, Table]:
    """Returns the parts by the names that they have here. Splits with other names stay out, if train is there."""
    parts = {PARTS[name.lower()]: table for name, table in splits.items() if name.lower() in PARTS}
    return parts or splits
