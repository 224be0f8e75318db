"""Parquet, Arrow IPC (files and streams), Feather, and folders of Hugging Face `datasets.save_to_disk`, by pyarrow.

Cells are Python's own: dictionary-encoded columns and `ClassLabel` features become their names (-1, which means no label, is missing),
structs become columns `outer.inner`, and pictures the bytes or the path that they hold.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

from assay.core.errors import UserError
from assay.core.file import read_json
from assay.data.files.formats.records import cell_of
from assay.data.files.formats.signatures import is_picture
from assay.data.files.formats.text import regular
from assay.data.files.table import Table, column_of

SHARED = 4  # a column with at most one distinct string in this many keeps one copy of each
SPLITS = "dataset_dict.json"
STATE = "state.json"
INFO = "dataset_info.json"


def read_arrow(path: str) -> Table:
    """Reads a Parquet, Arrow or Feather file. Raises UserError for a damaged one."""
    regular(path)
    return _table(path, _loaded(path), {})


def read_saved(path: str) -> dict[str, Table]:
    """Reads a folder of `save_to_disk` of a Dataset or a DatasetDict: the table of each split, by the name of the split.

    A Dataset's only split has the name that its state records, or "train".
    """
    folder = Path(path)
    if (folder / SPLITS).is_file():
        names = _object(folder / SPLITS).get("splits", [])
        if not isinstance(names, list) or not names:
            raise UserError(f"{folder / SPLITS} names no splits. Save the data set again with save_to_disk.")
        return {str(name): _one(folder / str(name)) for name in names}
    return {str(_object(folder / STATE).get("_split") or "train"): _one(folder)}


def is_saved(path: str) -> bool:
    """Says whether a folder comes from `save_to_disk`."""
    return (Path(path) / SPLITS).is_file() or (Path(path) / STATE).is_file()


# -- private --------------------------------------------------------------------------------------------------------------


def _one(folder: Path) -> Table:
    state = _object(folder / STATE)
    try:
        names = [str(each["filename"]) for each in state["_data_files"]]
    except (KeyError, TypeError):
        raise UserError(f"{folder / STATE} lists no data files. Save the data set again with save_to_disk.") from None
    for name in names:
        if Path(name).name != name:
            raise UserError(f"{folder / STATE} names the data file {name!r}, which is not in its folder.")
    if not names:
        raise UserError(f"{folder} has no data files, so the data set is empty.")
    parts = [_loaded(str(folder / name)) for name in names]
    try:
        whole = pyarrow.concat_tables(parts, promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise UserError(f"the data files of {folder} do not fit together: {_first_line(error)}.") from None
    features = _object(folder / INFO).get("features") if (folder / INFO).is_file() else None
    return _table(str(folder), whole, features if isinstance(features, dict) else {})


def _object(path: Path) -> dict[str, Any]:
    try:
        data = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}). Save the data set again with save_to_disk.") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no JSON object. Save the data set again with save_to_disk.")
    return data


def _loaded(path: str) -> pyarrow.Table:
    try:
        with open(path, "rb") as file:
            start = file.read(6)
        if start[:4] == b"PAR1":
            return pyarrow.parquet.ParquetFile(path).read()
        if start == b"ARROW1" or start[:4] == b"FEA1":
            return pyarrow.feather.read_table(path)
        with pyarrow.OSFile(path) as file:
            return pyarrow.ipc.open_stream(file).read_all()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is damaged, or no Parquet or Arrow file: {_first_line(error)}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or _first_line(error)}.") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def _table(path: str, data: pyarrow.Table, features: Mapping[str, Any]) -> Table:
    if not data.num_rows:
        raise UserError(f"{path} has no rows.")
    features = {**_stored_features(data.schema), **features}
    base = Path(path).absolute() if Path(path).is_dir() else Path(path).absolute().parent
    columns = dict[str, np.ndarray]()
    for name, column in zip(data.column_names, data.columns, strict=True):
        for inner, cells in _columns(str(name), column, features.get(name), base):
            columns.setdefault(inner, cells)
    return Table(columns, np.arange(1, data.num_rows + 1), path)


def _stored_features(schema: pyarrow.Schema) -> dict[str, Any]:
    """Returns the features that `datasets` writes into a file's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _columns(name: str, column: pyarrow.ChunkedArray, feature: Any, base: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields one column, or one for each field of a struct."""
    kind = column.type
    if isinstance(kind, pyarrow.BaseExtensionType):
        column = pyarrow.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        kind = column.type
    if pyarrow.types.is_struct(kind):
        fields = {field.name for field in kind}
        if fields == {"bytes", "path"}:
            yield name, column_of((_picture(each, base) for each in column.to_pylist()), len(column))
            return
        for i, field in enumerate(kind):
            parts = [pyarrow.compute.struct_field(chunk, [i]) for chunk in column.chunks]
            inner = feature.get(field.name) if isinstance(feature, dict) else None
            yield from _columns(f"{name}.{field.name}", pyarrow.chunked_array(parts, field.type), inner, base)
        return
    names = _names(feature)
    cells = _cells(column)
    if names:
        cells = column_of((_named(cell, names) for cell in cells), len(cells))
    yield name, cells


def _cells(column: pyarrow.ChunkedArray) -> np.ndarray:
    kind = column.type
    if pyarrow.types.is_timestamp(kind) and kind.unit == "ns":  # Python's times end at microseconds
        column = column.cast(pyarrow.timestamp("us", kind.tz), safe=False)
    if pyarrow.types.is_duration(kind) or pyarrow.types.is_time(kind):
        column = column.cast(pyarrow.string()) if pyarrow.types.is_time(kind) else column.cast(pyarrow.int64())
    texts = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
    if texts and pyarrow.compute.count_distinct(column).as_py() * SHARED <= len(column):
        column = column.dictionary_encode()
    if pyarrow.types.is_dictionary(column.type):
        return np.concatenate([column_of([]), *map(_decoded, column.chunks)])
    values: Iterable[Any] = chain.from_iterable(chunk.to_pylist() for chunk in column.chunks)
    if pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind) or pyarrow.types.is_fixed_size_binary(kind):
        values = (_text_or_picture(value) for value in values)
    elif pyarrow.types.is_decimal(kind):
        values = (float(value) if isinstance(value, Decimal) else value for value in values)
    elif not texts:
        values = (cell_of(value) for value in values)
    return column_of(values, len(column))


def _decoded(chunk: pyarrow.DictionaryArray) -> np.ndarray:
    known = column_of([*map(cell_of, chunk.dictionary.to_pylist()), None])
    codes = chunk.indices.fill_null(len(known) - 1) if chunk.indices.null_count else chunk.indices
    return known[codes.to_numpy(zero_copy_only=False).astype(np.int64)]


def _picture(value: Mapping[str, Any] | None, base: Path) -> bytes | str | None:
    """Returns the bytes of a picture, or its path; one that is not absolute begins at the folder of the file."""
    if value is None:
        return None
    if value["bytes"] is not None:
        return value["bytes"]
    return None if value["path"] is None else str(base / str(value["path"]))


def _text_or_picture(value: bytes | None) -> bytes | str | None:
    """Returns text that was stored without its type as text; a picture stays bytes."""
    if value is None or is_picture(value):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _names(feature: Any) -> list[str]:
    """Returns the names of a ClassLabel, or of a list of them."""
    if isinstance(feature, list) and len(feature) == 1:
        return _names(feature[0])
    if not isinstance(feature, dict):
        return []
    if feature.get("_type") in ("Sequence", "LargeList", "List"):
        return _names(feature.get("feature"))
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _named(cell: Any, names: list[str]) -> Any:
    if isinstance(cell, list):
        return [_named(each, names) for each in cell]
    if isinstance(cell, int) and not isinstance(cell, bool):
        return names[cell] if 0 <= cell < len(names) else None if cell == -1 else cell
    return cell
