"""Digests of what is given as values: shapes and values of parameters, arrays of examples, and programs. Equal digests mean equal things.

shapes_digest(params)                         "1,234 in 6 arrays, 3f2a9c..."
program_digest(model.apply, params, batch)    "jax 0.10.0, 81bd..."
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from assay.core.tree import PyTree, count, dtype_of, paths

ADDRESS = re.compile(r"0x[0-9a-f]+|\bid=\d+")  # in the text of a program: not the same in another process


def shapes_digest(params: PyTree) -> str:
    """Returns the number of parameters, and a digest of their paths, shapes and types."""
    said = [f"{path} {dtype_of(leaf)} {np.shape(leaf)}" for path, leaf in zip(paths(params), jax.tree.leaves(params), strict=True)]
    return f"{count(params):,} in {len(said)} arrays, {_short('|'.join(said).encode())}"


def values_digest(params: PyTree) -> str:
    """Returns a digest of the values of a tree."""
    return arrays_digest([dict(enumerate(jax.tree.leaves(params)))])


def arrays_digest(parts: Iterable[Mapping[Any, Any]]) -> str:
    """Returns a digest of arrays by name, part after part."""
    found = hashlib.sha256()
    for part in parts:
        for name, value in part.items():
            array = np.ascontiguousarray(value)
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            found.update(array.tobytes())
    return found.hexdigest()[:12]


def program_digest(function: Callable[..., Any], *arguments: Any) -> str:
    """Returns the version of JAX and a digest of a function's program. Values that the function holds as constants are not part of it."""
    text = ADDRESS.sub("", str(jax.make_jaxpr(function)(*arguments)))
    return f"jax {jax.__version__}, {_short(text.encode())}"


def same_program(one: str, other: str) -> bool:
    """Returns False if two programs differ. Another version of JAX writes the same program otherwise, so then it is not known."""
    return one == other or one.partition(",")[0] != other.partition(",")[0]


# -- private --------------------------------------------------------------------------------------------------------------


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
