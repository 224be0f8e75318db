"""Flax Linen: `module.apply(variables, ...)`. Collections other than "params" are state, carried in training as the module updates it."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree, path_string
from assay.models.brought.call import Layout, Reading, forms
from assay.models.brought.library import Library, Ran
from assay.models.brought.parts import INSIDE, divide
from assay.models.model import STATE

INTERMEDIATES = "intermediates"
PASSING = (INTERMEDIATES, "taps", "losses")  # collections of a single call


def library(module: Any, variables: Any, layout: Layout, reading: Reading) -> Library:
    """Returns a Linen module with its variables, {"params": ..., "batch_stats": ...}, or with its parameters alone."""
    if not isinstance(module, nn.Module):
        raise UserError(f"from_linen takes a Linen module, not {type(module).__name__}. Pass from_linen(module, variables, data).")
    if not isinstance(variables, Mapping):
        raise UserError(f"variables is {type(variables).__name__}: pass what module.init returns, {{'params': ...}}.")
    whole = variables if INSIDE in variables else {INSIDE: variables}
    collections = {name: tree for name, tree in whole.items() if name != INSIDE and name not in PASSING}
    parts = divide(whole[INSIDE], state=collections)
    wanted = None if callable(reading.taps) else reading.taps

    def run(params: PyTree, use: Callable[[Any], Any], key: Any, train: bool) -> Ran:
        tree = parts.tree(params)
        held = tree if collections else {INSIDE: tree}
        mutable = [*(collections if train else ()), *((INTERMEDIATES,) if wanted else ())]
        streams = {} if key is None else {"dropout": rng.stream(key, "dropout"), "params": rng.stream(key, "noise")}
        found: dict[str, Any] = {}

        def call(*arguments: Any, **keywords: Any) -> Any:
            more = {"rngs": streams, "capture_intermediates": bool(wanted), **keywords}
            if not mutable:
                return module.apply(held, *arguments, **{**more, "capture_intermediates": False})
            result, changed = module.apply(held, *arguments, mutable=mutable, **more)
            found.update(changed)
            return result

        result = use(call)
        state = divide({}, state={name: found[name] for name in collections if name in found}).params.get(STATE, {})
        return Ran(result, state, _taps(found.get(INTERMEDIATES, {}), wanted))

    def init(key: Any, use: Callable[[Any, bool], Any]) -> PyTree:
        streams = {name: rng.stream(key, name) for name in ("params", "dropout")}
        found: dict[str, Any] = {}

        def call(*arguments: Any, **keywords: Any) -> Any:
            result, made = module.init_with_output(streams, *arguments, **keywords)
            found.update(made)
            return result

        use(call, False)
        return divide(found[INSIDE], state={name: found[name] for name in collections}).params

    return Library("model", parts.params, run, forms(layout, module.__call__, keys=()), init)


# -- private --------------------------------------------------------------------------------------------------------------


def _taps(intermediates: Mapping[str, Any], wanted: Any) -> dict[str, jax.Array]:
    """Returns the outputs of submodules by path, or those that `wanted` names, {tap: path}. Raises UserError for an unknown path."""
    if not wanted:
        return {}
    every: dict[str, jax.Array] = {}
    for path, value in jax.tree_util.tree_leaves_with_path(intermediates):
        name = path_string(path)
        if "/__call__/" in f"/{name}/" and name != "__call__/0":
            every[name.replace("/__call__/0", "").replace("/__call__/", "@")] = value
    if wanted is True:
        return every
    missing = [path for path in wanted.values() if path not in every]
    if intermediates and missing:
        raise UserError(f"taps names {missing[0]!r}, which is no submodule. Known: {', '.join(every)}.")
    return {name: every[path] for name, path in wanted.items() if path in every}
