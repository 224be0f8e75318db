"""Trees addressed by path. A parameter is always named by its path string, such as `model/block_0/attention/query/kernel`."""

import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError

PyTree = Any


def path_string(path: tuple) -> str:
    """Returns the path of a leaf as `a/b/0/c`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def map_with_path(fn: Callable[[str, Any], Any], tree: PyTree) -> PyTree:
    """Returns `tree` with each leaf replaced by `fn(path, leaf)`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: fn(path_string(path), leaf), tree)


def paths(tree: PyTree) -> list[str]:
    """Returns every leaf's path, in the order of `jax.tree.leaves`."""
    return [path_string(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def by_path(tree: PyTree) -> dict[str, Any]:
    """Returns every leaf by its path. Raises UserError if two leaves have the same path, such as those of {"a": {"b": 1}, "a/b": 2}."""
    names = paths(tree)
    if twice := next((path for path, times in Counter(names).items() if times > 1), None):
        raise UserError(f"two parameters have the path {twice!r}: rename one of them.")
    return dict(zip(names, jax.tree.leaves(tree), strict=True))


def select(tree: PyTree, regex: str) -> PyTree:
    """Returns a tree of booleans: True where the regex matches anywhere in the leaf's path. The empty regex selects nothing."""
    pattern = re.compile(regex) if regex else None
    return map_with_path(lambda path, _: bool(pattern and pattern.search(path)), tree)


def partition(tree: dict, regex: str) -> tuple[dict, dict]:
    """Splits nested dicts into (rest, selected) by path; `merge` joins them again."""
    rest: dict = {}
    selected: dict = {}
    pattern = re.compile(regex) if regex else None

    def walk(node, path: tuple[str, ...]):
        for name, child in node.items():
            if isinstance(child, dict):
                walk(child, (*path, name))
                continue
            chosen = bool(pattern and pattern.search("/".join((*path, name))))
            target = selected if chosen else rest
            for part in path:
                target = target.setdefault(part, {})
            target[name] = child

    walk(tree, ())
    return rest, selected


def merge(first: dict, second: dict) -> dict:
    """Merges nested dicts; a leaf of `second` takes precedence."""
    merged = dict(first)
    for name, child in second.items():
        both = isinstance(child, dict) and isinstance(merged.get(name), dict)
        merged[name] = merge(merged[name], child) if both else child
    return merged


def floats_as(dtype: Any, tree: PyTree) -> PyTree:
    """Casts the floating-point leaves of the tree to `dtype`; integers and keys are unchanged."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(dtype) if jnp.issubdtype(dtype_of(leaf), jnp.floating) else leaf, tree)


def dtype_of(leaf: Any) -> Any:
    """Returns the type of an array, or that of the array that a Python number becomes."""
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def widened(tree: PyTree) -> PyTree:
    """Casts floating-point leaves narrower than float32 to float32: for sums, logarithms and optimizer steps."""

    def wide(leaf: Any) -> Any:
        if not jnp.issubdtype(dtype_of(leaf), jnp.floating):
            return leaf
        leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
        return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))

    return jax.tree.map(wide, tree)


def all_finite(tree: PyTree) -> jax.Array:
    """Returns a boolean scalar: whether every value of the tree's floating-point leaves is finite."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(dtype_of(leaf), jnp.floating)]
    return jnp.array([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def differing(first: PyTree, second: PyTree) -> str:
    """Describes the first path at which two trees differ in shape or type; returns "" if they do not. Values are not compared."""
    found: list[dict[str, list[str]]] = [{}, {}]  # two leaves of one tree may have the same path, one after the other
    for kinds, tree in zip(found, (first, second), strict=True):
        for path, leaf in zip(paths(tree), jax.tree.leaves(tree), strict=True):
            kinds.setdefault(path, []).append(f"{dtype_of(leaf)}{list(np.shape(leaf))}")
    for path in dict.fromkeys([*found[0], *found[1]]):
        one, other = (" and ".join(kinds.get(path, ["nothing"])) for kinds in found)
        if one != other:
            return f"{path} is {one} here and {other} there"
    return ""


def count(tree: PyTree) -> int:
    """Returns the number of elements in the tree."""
    return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(tree))


def size_in_bytes(tree: PyTree) -> int:
    """Returns the size of all leaves in bytes, as NumPy would store them."""
    return sum(math.prod(np.shape(leaf)) * np.dtype(dtype_of(leaf)).itemsize for leaf in jax.tree.leaves(tree))
