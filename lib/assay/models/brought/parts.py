"""Divides the parameters of a model made elsewhere into what training changes, what it only keeps, and what is no array at all.

    parts = divide({"w": jnp.ones(3), "steps": jnp.int32(7), "stride": 2})
    parts.params                    # {"w": ..., "state": {"steps": ...}}: nested dicts by path, whatever tree was given
    parts.tree(parts.params)        # the tree as it was given

Floating-point arrays are parameters. Other arrays (counters, quantized weights, indices) have no gradient: they are the model's state,
which training carries unchanged. All other leaves (whole numbers that are shapes, functions, random keys) are no values of a run.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree, path_string
from assay.models.model import STATE

INSIDE = "params"  # the part that holds all parameters where one of them would be called as the state is
Names = tuple[str, ...]


class Parts(NamedTuple):
    """`params`: nested dicts of arrays, with the arrays without gradients under "state". `tree(params)`: the original tree with them."""

    params: dict[str, Any]
    tree: Callable[[Mapping[str, Any]], PyTree]


def divide(tree: PyTree, numbers: bool = True, state: Mapping[str, PyTree] = {}) -> Parts:
    """Divides a tree.

    Args:
        tree: parameters, any tree.
        numbers: whether Python floats are parameters. If not, they remain as they are.
        state: trees by name that have no gradients although they are floating-point numbers, such as batch statistics.

    `Parts.tree` returns the tree, or with `state` a dict of all trees, in which the first is "params". Raises UserError if two leaves have
    one path.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    others, other_structure = jax.tree_util.tree_flatten_with_path(dict(state))
    learned: dict[Names, Any] = {}
    kept: dict[Names, Any] = {}
    for path, leaf in paths:
        if _is_learned(leaf, numbers):
            _add(learned, path, leaf)
        elif is_array(leaf):
            _add(kept, path, leaf)
    own = dict(kept)  # arrays of the first tree
    for path, leaf in others:
        if is_array(leaf):
            _add(kept, path, leaf)
    inside = any(names[0] == STATE for names in learned)
    params = nested(learned)
    params = {INSIDE: params} if inside else params
    places = [_names(path) for path, _ in paths]
    given, more = [leaf for _, leaf in paths], [(_names(path), leaf) for path, leaf in others]

    def back(params: Mapping[str, Any]) -> PyTree:
        held = params.get(STATE, {})
        found = params[INSIDE] if inside else params
        leaves = [
            value_at(found, names) if names in learned else value_at(held, names) if names in own else leaf
            for names, leaf in zip(places, given, strict=True)
        ]
        whole = jax.tree.unflatten(structure, leaves)
        if not state:
            return whole
        rest = [value_at(held, names) if names in kept else leaf for names, leaf in more]
        return {INSIDE: whole, **jax.tree.unflatten(other_structure, rest)}

    return Parts({**params, STATE: nested(kept)} if kept else params, back)


def nested(values: Mapping[Names, Any]) -> dict[str, Any]:
    """Returns nested dicts of values by path."""
    found: dict[str, Any] = {}
    for names, value in values.items():
        node = found
        for name in names[:-1]:
            node = node.setdefault(name, {})
        node[names[-1]] = value
    return found


def value_at(tree: Mapping[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        tree = tree[name]
    return tree


def renewed(state: PyTree) -> PyTree:
    """Returns a copy of the state, which shows the step that it was handed on (train/step.py compares identities)."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state)


def is_array(leaf: Any) -> bool:
    """Returns True for an array of numbers of any width; False for objects and random keys."""
    if not isinstance(leaf, jax.Array | np.ndarray):
        return False
    return bool(leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.number))


# -- private --------------------------------------------------------------------------------------------------------------


def _is_learned(leaf: Any, numbers: bool) -> bool:
    if numbers and isinstance(leaf, float | np.floating):
        return True
    return is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _names(path: tuple) -> Names:
    return tuple(path_string((key,)) for key in path) or ("value",)  # a tree that is a single array


def _add(found: dict[Names, Any], path: tuple, leaf: Any) -> None:
    names = _names(path)
    if names in found:
        raise UserError(f"two parameters have the path {'/'.join(names)!r}: rename one of them.")
    found[names] = leaf if is_array(leaf) else jnp.asarray(leaf)
