"""Trees by path: the one way in which Assay names a parameter is its path string, such as `model/block_0/attention/query/kernel`."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


def path_string(path: tuple) -> str:
    """The path of a leaf as `a/b/0/c`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def map_with_path(fn: Callable[[str, Any], Any], tree: PyTree) -> PyTree:
    """`tree` with each leaf replaced by `fn(path, leaf)`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: fn(path_string(path), leaf), tree)


def paths(tree: PyTree) -> list[str]:
    """Every leaf's path, in the order of `jax.tree.leaves`."""
    return [path_string(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def select(tree: PyTree, regex: str) -> PyTree:
    """A tree of booleans: where the regex is found in the leaf's path. The empty regex selects nothing."""
    pattern = re.compile(regex) if regex else None
    return map_with_path(lambda path, _: bool(pattern and pattern.search(path)), tree)


def partition(tree: dict, regex: str) -> tuple[dict, dict]:
    """Splits nested dicts into (rest, selected) by path; `merge` puts them together again."""
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
    """Nested dicts laid over each other; a leaf of `second` wins."""
    merged = dict(first)
    for name, child in second.items():
        both = isinstance(child, dict) and isinstance(merged.get(name), dict)
        merged[name] = merge(merged[name], child) if both else child
    return merged


def floats_as(dtype: Any, tree: PyTree) -> PyTree:
    """The tree with its floating-point leaves in `dtype`; whole numbers and keys stay."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)


def widened(tree: PyTree) -> PyTree:
    """The tree with floating-point leaves narrower than float32 in float32: for sums, logarithms and an optimiser's steps."""
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )


def differing(first: PyTree, second: PyTree) -> str:
    """The first path at which two trees differ in shape or type, in words; "" where they do not. Values are not looked at."""
    found = [
        {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in zip(paths(tree), jax.tree.leaves(tree), strict=True)}
        for tree in (first, second)
    ]
    for path in dict.fromkeys([*found[0], *found[1]]):
        one, other = (kinds.get(path, "nothing") for kinds in found)
        if one != other:
            return f"{path} is {one} here and {other} there"
    return ""


def count(tree: PyTree) -> int:
    """How many numbers the tree holds."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def size_in_bytes(tree: PyTree) -> int:
    """Bytes of all leaves as NumPy would store them."""
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))
