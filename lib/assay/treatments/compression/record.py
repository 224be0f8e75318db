"""Records: dicts of arrays that replace a matrix at its path, because it is compressed or adapted, and models that read them.

    {"qvalue": int8, "qscale": float32}             quantized          (rounding.py)
    {"factor_a": [n, r], "factor_b": [r, m]}        low-rank           (lowrank.py)
    {"base": ..., "lora_a": [n, r], "lora_b": [r, m]}   adapted        (lora.py)

Parameter trees remain nested dicts, so paths, regexes, shardings and checkpoints need no special cases.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from assay.core.errors import Inapplicable, UserError
from assay.core.tree import PyTree
from assay.models.model import Batch, Decode, Model, Output
from assay.treatments.option import KEY, pattern

QVALUE, BASE, FACTOR = "qvalue", "base", "factor_a"  # keys that mark a record; low-rank factors also count as separate parameters
ROOT = "model"  # path prefix, as in a run's state


@dataclass(frozen=True)
class Reading:
    """The `apply` of a model that reads records. Later treatments access the wrapped model through it."""

    model: Model
    read: Callable[[PyTree], PyTree]  # stored parameters -> parameters of `model`
    of: str  # name of the treatment

    def __call__(self, params: PyTree, batch: Batch, **keywords: Any) -> Output:
        return self.model.apply(self.read(params), batch, **keywords)

    def open(self, params: PyTree) -> tuple[Model, PyTree]:
        """Returns the wrapped model and its own parameters, for loops that would read them at each step (infer/decode.py)."""
        return self.model, self.read(params)


def reading(model: Model, read: Callable[[PyTree], PyTree], of: str) -> Model:
    """Wraps a model so that `apply` and decoding convert stored parameters with `read`.

    The result cannot be rebuilt with other settings.
    """
    decode = model.decode
    cached = decode and Decode(
        lambda params, batch, max_length: decode.init_cache(read(params), batch, max_length),
        lambda params, cache, tokens: decode.extend(read(params), cache, tokens),
    )
    return replace(model, apply=Reading(model, read, of), decode=cached, settings=None, remake=None)


def parameters(tree: PyTree, path: str = ROOT) -> Iterator[tuple[str, Any]]:
    """Yields (path, parameter) sorted by name; a record counts as one parameter."""
    if not isinstance(tree, Mapping) or record(tree):
        yield path, tree
        return
    for name in sorted(tree):
        yield from parameters(tree[name], f"{path}/{name}")


def record(node: Any, names: Sequence[str] = (QVALUE, BASE)) -> bool:
    """Returns True if the node is a record with one of these keys."""
    return isinstance(node, Mapping) and any(name in node for name in names)


def rewritten(tree: PyTree, change: Callable[[str, Any], Any], names: Sequence[str] = (QVALUE, BASE), path: str = ROOT) -> PyTree:
    """Returns the tree with each parameter, or record with one of these keys, replaced by `change(path, node)`."""
    if not isinstance(tree, Mapping) or record(tree, names):
        return change(path, tree)
    return {name: rewritten(child, change, names, f"{path}/{name}") for name, child in tree.items()}


def shape_of(node: Any) -> tuple[int, ...]:
    """Returns the shape of a parameter, or of the matrix that a record represents."""
    if not isinstance(node, Mapping):
        return tuple(jnp.shape(node))
    if FACTOR in node:
        return (*jnp.shape(node[FACTOR])[:-1], jnp.shape(node["factor_b"])[-1])
    return shape_of(node[QVALUE] if QVALUE in node else node[BASE])


def chosen(name: str, params: PyTree, paths: str) -> list[str]:
    """Returns the paths of the floating-point matrices (two or more axes) that match the regex. Reads shapes and dtypes only.

    Raises UserError if none matches, or if the parameters belong to an ensemble.
    """
    if stacked(params):
        reason = f"the treatment {name!r} would mix the members of an ensemble"
        raise Inapplicable(f"does not apply: {reason}. Distil them into one model first, with distill. {KEY}")
    found = pattern(name, "paths", paths)
    matrices = [path for path, node in parameters(params) if len(shape_of(node)) >= 2 and _real(node)]
    selected = [path for path in matrices if paths and found.search(path)]
    if not selected:
        some = f"Some paths: {', '.join(matrices[:5])}." if matrices else "This model has no floating-point matrices."
        raise UserError(f"the treatment {name!r} has paths={paths}, which matches no matrix. {some} {KEY}")
    return selected


def stacked(params: PyTree) -> bool:
    """Returns True if the parameters have a member axis, as those of an ensemble do."""
    return any(path.endswith(("/bias", "/scale")) and len(shape_of(node)) > 1 for path, node in parameters(params))


def multiplies(model: Model, path: str, node: Any) -> bool:
    """Returns True if the matrix is the kernel of one of the library's dense layers, which can multiply by a record."""
    return type(model.module).__module__.startswith("assay.") and path.endswith("/kernel") and len(shape_of(node)) == 2


def inapplicable(name: str, model: Model, reason: str) -> Inapplicable:
    """Returns the error for a model to which a treatment does not apply."""
    of = "" if model.module is None else f" to {type(model.module).__name__}"
    return Inapplicable(f"does not apply{of}: the treatment {name!r} {reason}. {KEY}")


# -- private --------------------------------------------------------------------------------------------------------------


def _real(node: Any) -> bool:
    return isinstance(node, Mapping) or jnp.issubdtype(node.dtype, jnp.floating)
