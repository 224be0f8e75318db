"""Records in place of parameters: a matrix that is stored as something smaller, or with something beside it, is a small dict of arrays at
the matrix's own path, and a model is made to read it.

    {"qvalue": int8, "qscale": float32}             quantised          (rounding.py)
    {"factor_a": [n, r], "factor_b": [r, m]}        of low rank        (lowrank.py)
    {"base": ..., "lora_a": [n, r], "lora_b": [r, m]}   adapted        (lora.py)

Trees stay nested dicts, so that paths, regexes, shardings and checkpoints need to know nothing of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from assay.core.errors import Inapplicable, UserError
from assay.core.tree import PyTree
from assay.models.model import Batch, Decode, Model, Output
from assay.treatments.option import KEY, pattern

QVALUE, BASE, FACTOR = "qvalue", "base", "factor_a"  # a dict with one of these names is a record; only factors are parameters themselves
ROOT = "model"  # what paths begin with, as they do in a run's state


@dataclass(frozen=True)
class Reading:
    """`apply` of a model that reads records. A later treatment finds the model below it here."""

    model: Model
    read: Callable[[PyTree], PyTree]  # stored parameters -> those that `model` takes
    of: str  # the treatment

    def __call__(self, params: PyTree, batch: Batch, **keywords: Any) -> Output:
        return self.model.apply(self.read(params), batch, **keywords)

    def open(self, params: PyTree) -> tuple[Model, PyTree]:
        """The model below with its own parameters, for a loop that would read them again at each step (infer/decode.py)."""
        return self.model, self.read(params)


def reading(model: Model, read: Callable[[PyTree], PyTree], of: str) -> Model:
    """The model whose stored parameters `read` turns into its own, in `apply` and in decoding. It can not be made with other settings."""
    decode = model.decode
    cached = decode and Decode(
        lambda params, batch, max_length: decode.init_cache(read(params), batch, max_length),
        lambda params, cache, tokens: decode.extend(read(params), cache, tokens),
    )
    return replace(model, apply=Reading(model, read, of), decode=cached, settings=None, remake=None)


def parameters(tree: PyTree, path: str = ROOT) -> Iterator[tuple[str, Any]]:
    """Each parameter with its path, by name; a record of one matrix is one parameter."""
    if not isinstance(tree, Mapping) or record(tree):
        yield path, tree
        return
    for name in sorted(tree):
        yield from parameters(tree[name], f"{path}/{name}")


def record(node: Any, names: Sequence[str] = (QVALUE, BASE)) -> bool:
    """Whether something of one of these names stands there in place of a matrix."""
    return isinstance(node, Mapping) and any(name in node for name in names)


def rewritten(tree: PyTree, change: Callable[[str, Any], Any], names: Sequence[str] = (QVALUE, BASE), path: str = ROOT) -> PyTree:
    """The tree with each parameter, or record of one of these names, replaced by `change(path, node)`."""
    if not isinstance(tree, Mapping) or record(tree, names):
        return change(path, tree)
    return {name: rewritten(child, change, names, f"{path}/{name}") for name, child in tree.items()}


def shape_of(node: Any) -> tuple[int, ...]:
    """The shape of the matrix that a parameter is or stands for."""
    if not isinstance(node, Mapping):
        return tuple(jnp.shape(node))
    if FACTOR in node:
        return (*jnp.shape(node[FACTOR])[:-1], jnp.shape(node["factor_b"])[-1])
    return shape_of(node[QVALUE] if QVALUE in node else node[BASE])


def chosen(name: str, params: PyTree, paths: str) -> list[str]:
    """The paths of the matrices (of two or more axes, of real numbers) in which the regex is found. Only shapes and types are looked at.

    Raises UserError where there are none, and where they are those of an ensemble.
    """
    if stacked(params):
        reason = f"the treatment {name!r} would mix the members of an ensemble"
        raise Inapplicable(f"does not apply: {reason}. Distil them into one model first, with distill. {KEY}")
    found = pattern(name, "paths", paths)
    matrices = [path for path, node in parameters(params) if len(shape_of(node)) >= 2 and _real(node)]
    selected = [path for path in matrices if paths and found.search(path)]
    if not selected:
        some = f"Some that it could hold: {', '.join(matrices[:5])}." if matrices else "This model has no matrices of real numbers."
        raise UserError(f"the treatment {name!r} has paths={paths}, which no matrix's path holds. {some} {KEY}")
    return selected


def stacked(params: PyTree) -> bool:
    """Whether parameters have an axis more than a layer's: those of an ensemble's members."""
    return any(path.endswith(("/bias", "/scale")) and len(shape_of(node)) > 1 for path, node in parameters(params))


def multiplies(model: Model, path: str, node: Any) -> bool:
    """Whether a matrix is the kernel of one of our dense layers, which can multiply by what lies in its place."""
    return type(model.module).__module__.startswith("assay.") and path.endswith("/kernel") and len(shape_of(node)) == 2


def inapplicable(name: str, model: Model, reason: str) -> Inapplicable:
    """The error for a model that a treatment does not fit."""
    of = "" if model.module is None else f" to {type(model.module).__name__}"
    return Inapplicable(f"does not apply{of}: the treatment {name!r} {reason}. {KEY}")


# -- private --------------------------------------------------------------------------------------------------------------


def _real(node: Any) -> bool:
    return isinstance(node, Mapping) or jnp.issubdtype(node.dtype, jnp.floating)
