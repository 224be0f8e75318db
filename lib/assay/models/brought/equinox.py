"""Equinox: a module is a tree, called on one example. Its arrays are parameters; `jax.vmap` makes a batch of it.

A module with a state (`eqx.nn.make_with_state`) is called as `model(x, state)` and its batch has the axis name "batch", as
`eqx.nn.BatchNorm("batch")` expects.
"""

from collections.abc import Callable
from typing import Any

import jax

from assay.core.tree import PyTree
from assay.models.brought.call import Layout, Reading, forms
from assay.models.brought.library import Library, Ran
from assay.models.brought.parts import INSIDE, divide
from assay.models.model import STATE

HELD = "equinox"  # name of the module's state within params["state"]
AXIS = "batch"  # name of the axis of examples
HINT = "Pass call=lambda model, inputs, train: jax.vmap(model)(inputs), with the arguments that yours takes."


def library(model: Any, state: Any, layout: Layout, reading: Reading) -> Library:
    """Returns an Equinox module with the parameters that it holds, and its state, which is None without one."""
    import equinox

    given = {} if state is None else {HELD: state}
    by_mode = {train: divide(equinox.nn.inference_mode(model, not train), numbers=False, state=given) for train in (False, True)}
    module_call = model.__call__
    plain = reading.call is not None  # a caller vectorizes the module as it likes

    def run(params: PyTree, use: Callable[[Any], Any], key: Any, train: bool) -> Ran:
        tree, found = by_mode[train].tree(params), {}
        module = tree if state is None else tree[INSIDE]

        def call(*arguments: Any, **keywords: Any) -> Any:
            drawn = keywords.pop("key", None)
            fixed = {name: value for name, value in keywords.items() if isinstance(value, bool)}  # the mode
            spread = {name: value for name, value in keywords.items() if name not in fixed}
            keys = None if drawn is None else jax.random.split(drawn, len(jax.tree.leaves((arguments, spread))[0]))

            def one(arguments: tuple, spread: dict, key: Any) -> Any:
                more = {} if key is None else {"key": key}
                return module(*arguments, *(() if state is None else (tree[HELD],)), **spread, **fixed, **more)

            ends: Any = 0 if state is None else (0, None)
            result = jax.vmap(one, in_axes=(0, 0, None if keys is None else 0), out_axes=ends, axis_name=AXIS)(arguments, spread, keys)
            if state is None:
                return result
            result, found[HELD] = result
            return result

        result = use(module if plain and state is None else call)
        return Ran(result, divide({}, state=found).params.get(STATE, {}))

    known = [form for form in forms(layout, module_call, keys=("key",)) if not form.shown.startswith("(batch")]
    known = [form._replace(shown=f"{form.shown} of each example") for form in known]
    return Library("model", by_mode[False].params, run, known, hint=HINT)
