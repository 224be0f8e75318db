"""Haiku: `hk.transform` and `hk.transform_with_state`, with the parameters and the state that their `init` returned."""

import inspect
from collections.abc import Callable
from typing import Any

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.models.brought.call import Layout, Reading, forms
from assay.models.brought.library import Library, Ran
from assay.models.brought.parts import INSIDE, divide
from assay.models.model import STATE

HELD = "haiku"  # name of Haiku's state within params["state"]


def library(transformed: Any, params: Any, state: Any, layout: Layout, reading: Reading) -> Library:
    """Returns a transformed function with its parameters and its state, which is None without one."""
    del reading
    if not hasattr(transformed, "init") or not hasattr(transformed, "apply"):
        raise UserError(f"from_haiku takes what hk.transform returns, not {type(transformed).__name__}.")
    stateful = "state" in inspect.signature(transformed.apply).parameters
    if stateful != (state is not None):
        lacks = "has a state: pass from_haiku(transformed, params, data, state=state)" if stateful else "has no state: leave state= out"
        raise UserError(f"the transformed function {lacks}.")
    random = "rng" in inspect.signature(transformed.apply).parameters  # hk.without_apply_rng takes none
    parts = divide(params, state={HELD: state} if stateful else {})

    def run(params: PyTree, use: Callable[[Any], Any], key: Any, train: bool) -> Ran:
        del train
        tree, found = parts.tree(params), {}

        def call(*arguments: Any, **keywords: Any) -> Any:
            drawn = (key,) if random else ()
            if not stateful:
                return transformed.apply(tree, *drawn, *arguments, **keywords)
            result, found[HELD] = transformed.apply(tree[INSIDE], tree[HELD], *drawn, *arguments, **keywords)
            return result

        result = use(call)
        return Ran(result, divide({}, state=found).params.get(STATE, {}))

    def init(key: Any, use: Callable[[Any, bool], Any]) -> PyTree:
        found: dict[str, Any] = {}

        def call(*arguments: Any, **keywords: Any) -> Any:
            made = transformed.init(key, *arguments, **keywords)
            tree, held = made if stateful else (made, None)
            found["params"] = divide(tree, state={HELD: held} if stateful else {}).params
            if not stateful:
                return transformed.apply(tree, *((key,) if random else ()), *arguments, **keywords)
            return transformed.apply(tree, held, *((key,) if random else ()), *arguments, **keywords)[0]

        use(call, True)  # statistics of a batch exist once it has been seen in training
        return found["params"]

    return Library("model", parts.params, run, forms(layout, lambda *arguments, **keywords: None), init)
