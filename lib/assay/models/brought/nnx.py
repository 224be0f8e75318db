"""Flax NNX: `model(inputs)`. Variables other than nnx.Param are state; random streams are drawn from the key of the step.

The caller's object is read only: answers come from a copy in eval mode, training runs in a copy in train mode.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree, path_string
from assay.models.brought.call import Layout, Reading, forms
from assay.models.brought.library import Library, Ran
from assay.models.brought.parts import INSIDE, Names, is_array, nested, value_at
from assay.models.model import STATE


def library(model: Any, layout: Layout, reading: Reading) -> Library:
    """Returns an NNX model with the parameters that it holds. Training starts from them, as NNX makes others by its constructor only."""
    del reading
    if not isinstance(model, nnx.Module):
        raise UserError(f"from_nnx takes an NNX model, not {type(model).__name__}. Pass from_nnx(model, data).")
    graphs = {}
    for train in (False, True):
        copy = nnx.clone(model)
        copy.train() if train else copy.eval()
        graphs[train], state = nnx.split(copy)
    given, structure = _leaves(state), jax.tree.structure(state)
    learned = {names: leaf for names, (leaf, what) in given.items() if issubclass(what, nnx.Param) and _is_float(leaf)}
    random = {names: leaf for names, (leaf, what) in given.items() if issubclass(what, nnx.RngState)}
    kept = {names: leaf for names, (leaf, _) in given.items() if is_array(leaf) and names not in learned and names not in random}
    inside = any(names[0] == STATE for names in learned)
    params = {INSIDE: nested(learned)} if inside else nested(learned)

    def run(params: PyTree, use: Callable[[Any], Any], key: Any, train: bool) -> Ran:
        found, held = params[INSIDE] if inside else params, params.get(STATE, {})

        def value(names: Names) -> Any:
            if names in learned:
                return value_at(found, names)
            if names in kept:
                return value_at(held, names)
            return _drawn(names, random[names], key) if names in random else given[names][0]

        merged = nnx.merge(graphs[train], jax.tree.unflatten(structure, [value(names) for names in given]))
        result = use(merged)
        if not train or not kept:
            return Ran(result, {})
        after = _leaves(nnx.state(merged))
        return Ran(result, nested({names: after[names][0] for names in kept}))

    known = forms(layout, model.__call__, rngs=lambda key: nnx.Rngs(key))
    return Library("model", {**params, STATE: nested(kept)} if kept else params, run, known)


# -- private --------------------------------------------------------------------------------------------------------------


def _leaves(state: Any) -> dict[Names, tuple[Any, type]]:
    """Returns the leaves of a state with the type of their variable, by path, in the order of the tree."""
    types = {tuple(map(str, path)): type(variable) for path, variable in nnx.to_flat_state(state)}
    found: dict[Names, tuple[Any, type]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        names = tuple(path_string((key,)) for key in path)
        whole = next((names[:n] for n in range(len(names), 0, -1) if names[:n] in types), names)
        rest = names[len(whole) :]
        found[(*whole, *(rest[1:] if rest[:1] == ("value",) else rest))] = (leaf, types.get(whole, object))
    return found


def _is_float(leaf: Any) -> bool:
    return is_array(leaf) and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def _drawn(names: Names, leaf: Any, key: Any) -> Any:
    """Returns the state of a random stream: as it was given, or drawn from the key of the step, so that each step has its own."""
    if key is None:
        return leaf
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.zeros_like(leaf)  # the number of draws so far
    return jnp.broadcast_to(rng.stream(key, "/".join(names)), leaf.shape)
