"""A model's parameters on disk, and nothing else: one file of values, and one JSON file with the place of each array. No pickle is used.

    export(params, "runs/small/exported")                     # values.bin, index.json
    params = as_tree(load_exported("runs/small/exported"), jax.eval_shape(model.init, key, batch))

`values.bin` concatenates the arrays unchanged, in little-endian order. Types narrower than a byte (int4) share bytes, with the first number
in the lowest bits; each array starts at a new byte. The file's size is therefore what the parameters cost to store and to send;
`exported_bytes` returns it without writing. Zeros are stored like other numbers.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree, by_path, differing, dtype_of, paths

SCHEMA = 1
VALUES, INDEX = "values.bin", "index.json"


def export(params: PyTree, folder: str | Path) -> None:
    """Writes the parameters into a folder, which is created if missing; an existing export is replaced. Raises UserError
    if writing fails.
    """
    place, index, offset = Path(folder), [], 0
    named = _named(params)
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / INDEX).unlink(missing_ok=True)  # the index is written last, so that an incomplete export is not readable
        handle, temporary = tempfile.mkstemp(dir=place, prefix=f".{VALUES}.")
        try:
            with os.fdopen(handle, "wb") as file:
                for path, leaf in named.items():
                    data = _packed(np.asarray(leaf))
                    file.write(data)
                    index.append({"path": path, "dtype": leaf.dtype.name, "shape": list(leaf.shape), "offset": offset, "bytes": len(data)})
                    offset += len(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, place / VALUES)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        written = json.dumps({"schema": SCHEMA, "bytes": offset, "arrays": index}, indent=1) + "\n"
        (place / f".{INDEX}").write_text(written, encoding="utf-8")
        os.replace(place / f".{INDEX}", place / INDEX)
    except OSError as error:
        raise UserError(f"cannot write the parameters to {place}: {error.strerror or error}. Choose another folder.") from None


def load_exported(folder: str | Path) -> dict[str, Any]:
    """Loads the exported arrays as nested dicts by path, on the host, bit for bit. Raises UserError if the folder has no
    complete export.
    """
    place = Path(folder)
    try:
        index, values = json.loads((place / INDEX).read_text(encoding="utf-8")), (place / VALUES).read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{place} holds no exported parameters: {Path(error.filename).name} is missing. Choose another folder.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"the exported parameters in {place} cannot be read: {error}. Export them again.") from None
    if not isinstance(index, dict) or index.get("schema") != SCHEMA:
        raise UserError(f"{place / INDEX} has an unknown schema; the supported one is {SCHEMA}. Export the parameters again.")
    try:
        if index["bytes"] != len(values):
            raise ValueError(f"{VALUES} has {len(values)} bytes where the index says {index['bytes']}")
        tree: dict[str, Any] = {}
        for one in index["arrays"]:
            *parents, name = one["path"].split("/")
            node = tree
            for part in parents:
                node = node.setdefault(part, {})
            data = values[one["offset"] : one["offset"] + one["bytes"]]
            node[name] = _unpacked(data, _known(one["dtype"]), tuple(one["shape"]))
        return tree
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the exported parameters in {place} are damaged ({error}). Export them again.") from None


def as_tree(exported: Mapping[str, Any], like: PyTree) -> PyTree:
    """Arranges exported arrays in the structure of `like` (arrays or shapes).

    Leaves of `like` may lie in nodes other than dicts, such as those of quantized parameters. Raises UserError if a path, a shape or a type
    differs.
    """
    unlike = differing(like, exported)
    if unlike:
        raise UserError(
            f"the exported parameters do not fit the model: {unlike}. Set --config.model to the model of the run that exported them."
        )
    found = by_path(exported)
    return jax.tree.unflatten(jax.tree.structure(like), [found[path] for path in paths(like)])


def exported_bytes(params: PyTree) -> int:
    """Returns the bytes of all values (weights, scales, biases) as `export` writes them, without the index. Accepts arrays or shapes."""
    return sum(packed_bytes(leaf) for leaf in jax.tree.leaves(params))


def packed_bytes(leaf: Any) -> int:
    """Returns the bytes of one array, rounded up; numbers narrower than a byte share bytes."""
    return -(-prod(np.shape(leaf)) * _bits(dtype_of(leaf)) // 8)


# -- private --------------------------------------------------------------------------------------------------------------


def _bits(dtype: Any) -> int:
    """Returns the bits of one number on disk; a boolean has a byte."""
    return 8 if dtype == np.bool_ else jax.dtypes.itemsize_bits(dtype)


def _named(params: PyTree) -> dict[str, Any]:
    """Returns leaves by path. Raises ValueError for values that a file of numbers cannot hold."""
    found: dict[str, Any] = {}
    for path, leaf in zip(paths(params), jax.tree.leaves(params), strict=True):
        if path in found:
            raise ValueError(f"two parameters have the path {path!r}")
        if jnp.issubdtype(dtype_of(leaf), jax.dtypes.extended):
            raise ValueError(f"{path} is a {leaf.dtype}, which is not an array of numbers")
        found[path] = leaf if hasattr(leaf, "dtype") else np.asarray(leaf, dtype_of(leaf))  # a Python number, as JAX would store it
    for path in found:
        parts = path.split("/")
        inside = next((whole for n in range(1, len(parts)) if (whole := "/".join(parts[:n])) in found), None)
        if inside is not None:
            raise ValueError(f"{path!r} would lie inside {inside!r}, which is a parameter itself: rename one of them")
    return found


def _packed(array: np.ndarray) -> bytes:
    bits = _bits(array.dtype)
    if bits >= 8:
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    each = 8 // bits  # numbers per byte; NumPy stores one per byte
    numbers = np.frombuffer(array.tobytes(), np.uint8) & (2**bits - 1)
    columns = np.pad(numbers, (0, -len(numbers) % each)).reshape(-1, each)
    return np.bitwise_or.reduce(columns << (bits * np.arange(each, dtype=np.uint8))[None, :], axis=1).astype(np.uint8).tobytes()


def _unpacked(data: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if len(data) != packed_bytes(jax.ShapeDtypeStruct(shape, dtype)):
        raise ValueError(f"{len(data)} bytes are not a {dtype}{list(shape)}")
    bits = _bits(dtype)
    if bits >= 8:
        return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    each = 8 // bits
    columns = np.frombuffer(data, np.uint8)[:, None] >> (bits * np.arange(each, dtype=np.uint8))[None, :]
    numbers = (columns & (2**bits - 1)).reshape(-1)[: prod(shape)].astype(np.uint8)
    if jnp.issubdtype(dtype, jnp.signedinteger):
        sign = 1 << (bits - 1)
        return ((numbers ^ sign).astype(np.int8) - sign).astype(dtype).reshape(shape)  # NumPy does not define the upper bits of its byte
    return numbers.view(dtype).reshape(shape)


def _known(name: str) -> np.dtype:
    dtype = np.dtype(jnp.dtype(name))
    if dtype.hasobject or dtype.names:
        raise ValueError(f"{name} is not a numeric type")
    return dtype
