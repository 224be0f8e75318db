"""The one tap: an identity at which an activation is read, replaced and differentiated.

    x = tap(self, "hidden", x)              # inside a module

Read: `Model.apply(...).taps["block_0/attention/weights"]`. Replace: `apply(..., edits={path: jax.tree_util.Partial(fn, array)})`.
Inside models there must be no `jax.jit`: it would cache an edit.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping

import flax.linen as nn
import jax

_edits: contextvars.ContextVar[Mapping[str, Callable] | None] = contextvars.ContextVar("edits", default=None)


def tap(module: nn.Module, name: str, value: jax.Array) -> jax.Array:
    """Records `value` under the module's path and returns it, or what an edit makes of it."""
    edit = (_edits.get() or {}).get("/".join((*module.path, name)))
    if edit is not None:
        value = edit(value)
    module.sow("taps", name, value, init_fn=lambda: None, reduce_fn=lambda _, new: new)
    return value


def edited() -> bool:
    """Whether the model that is being traced has an edit."""
    return bool(_edits.get())


@contextlib.contextmanager
def editing(edits: Mapping[str, Callable]) -> Iterator[None]:
    """While a model is traced inside, its taps apply these edits."""
    token = _edits.set(edits)
    try:
        yield
    finally:
        _edits.reset(token)
