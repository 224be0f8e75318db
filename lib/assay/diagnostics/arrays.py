"""Checks of the arrays and of the function that come with an external model; all errors are UserErrors that say what to pass instead.

inputs, targets = pair("test", (images, labels))
check_together({"train": (...), "test": (inputs, targets)}, tokens=False, pooled=True)
classes("test", targets, 10, pooled=True)                # int64 [n]
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.models.model import Batch, Output

Arrays = Mapping[str, tuple[np.ndarray, np.ndarray]]  # split -> (inputs, targets)
MOST = 2**31  # token ids are int32


def pair(split: str, given: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the inputs and targets of a split as arrays, equally many. Raises UserError for anything else."""
    if not isinstance(split, str) or not split:
        raise UserError(f"data has the split {split!r}: name splits by texts, such as 'test'.")
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        many = f" of {len(given)}" if isinstance(given, (tuple, list)) else ""
        raise UserError(f"data[{split!r}] is {kind(given)}{many}: pass a pair (inputs, targets).")
    inputs, targets = (_array(split, what, one) for what, one in zip(("inputs", "targets"), given, strict=True))
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise UserError(f"data[{split!r}] has {len(inputs)} inputs and {len(targets)} targets; pass equally many, at least one.")
    if not _real(inputs):
        raise UserError(f"the inputs of {split!r} are {inputs.dtype}: pass numbers, or the ids of tokens.")
    if inputs.size == 0:
        raise UserError(f"the inputs of {split!r} have shape {inputs.shape}, so they are empty: pass at least one value per example.")
    return inputs, targets


def check_together(arrays: Arrays, tokens: bool, pooled: bool) -> None:
    """Raises UserError if a split's examples are of another kind than those of the first one.

    Args:
        tokens: whether the inputs of the first split are token ids, integers [n, length].
        pooled: whether its targets are classes [n].
    """
    first = next(iter(arrays))
    for split, (inputs, targets) in arrays.items():
        if (jnp.issubdtype(inputs.dtype, jnp.integer) and inputs.ndim == 2) != tokens or inputs.ndim != arrays[first][0].ndim:
            one, other = (f"{values.dtype} {list(values.shape)}" for values in (inputs, arrays[first][0]))
            raise UserError(f"the inputs of {split!r} are {one}, but those of {first!r} {other}: pass one kind in all splits.")
        if targets.ndim != 1 if pooled else not tokens or targets.shape != inputs.shape:
            shape, like = targets.shape, inputs.shape
            raise UserError(f"the targets of {split!r} have shape {shape}: pass classes [n] in all splits, or one per token, here {like}.")
        if tokens and not 0 <= (odd := int(inputs.min() if inputs.min() < 0 else inputs.max())) < MOST:
            raise UserError(f"the inputs of {split!r} hold {odd}, but integers [n, length] are token ids, from 0: pass numbers as floats.")


def classes(split: str, targets: np.ndarray, outputs: int, pooled: bool) -> np.ndarray:
    """Returns the targets as class numbers. Raises UserError for anything else."""
    expected = f"pass the number of each class, from 0 to {outputs - 1}" + ("" if pooled else ", and -1 where no answer is expected")
    if not _real(targets):
        raise UserError(f"the targets of {split!r} are {targets.dtype}, such as {str(targets.ravel()[0])[:40]!r}: {expected}.")
    if not np.isfinite(targets).all():
        raise UserError(f"the targets of {split!r} hold {int((~np.isfinite(targets)).sum())} values that are not finite: {expected}.")
    odd = targets[targets != np.round(targets)]
    if odd.size:
        raise UserError(f"the targets of {split!r} hold {odd.ravel()[0]:g}, which is no class: {expected}.")
    low, high = int(targets.min()), int(targets.max())
    if low < (0 if pooled else -1) or high >= outputs:
        which = f"{low}" if low < (0 if pooled else -1) else f"{high}"
        raise UserError(f"the targets of {split!r} contain class {which}, but the logits have {outputs} classes: {expected}.")
    if not pooled and high < 0:
        raise UserError(f"the targets of {split!r} are all -1, so nothing is asked: {expected}.")
    return targets.astype(np.int64)


def outputs_of(split: str, apply: Callable[[PyTree, Batch], Any], params: PyTree, batch: Batch, pooled: bool) -> int:
    """Returns the number of classes in the logits of a batch. Raises UserError if there are no logits for each of its examples (tokens)."""
    inputs = batch["inputs"]
    call = "apply(params, batch) must be a JAX function of batch['inputs'] that returns logits, or (logits, taps by name)"
    try:
        found = jax.eval_shape(apply, params, batch)
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300].rstrip('.')}"
        raise UserError(f"apply fails on inputs of {split!r}, {inputs.dtype} {list(inputs.shape)}: {said}. {call}.") from error
    logits = found
    if isinstance(found, tuple):
        if not isinstance(found, Output) and (len(found) != 2 or not isinstance(found[1], Mapping)):
            raise UserError(f"apply returns a tuple ({', '.join(map(kind, found))}): {call}.")
        logits = found[0]
    if not hasattr(logits, "shape") or not hasattr(logits, "dtype"):
        raise UserError(f"apply returns {kind(logits)}: {call}.")
    if not (jnp.issubdtype(logits.dtype, jnp.floating) or jnp.issubdtype(logits.dtype, jnp.integer)):
        raise UserError(f"the logits are {logits.dtype}: return real numbers, one per class.")
    wanted = inputs.shape[:1] if pooled else inputs.shape[:2]
    if logits.ndim != len(wanted) + 1 or logits.shape[:-1] != wanted:
        axes = "[n, classes], for one target per example" if pooled else "[n, length, classes], for one target per token"
        raise UserError(f"the logits have shape {list(logits.shape)} for inputs of {split!r} {list(inputs.shape)}: return {axes}.")
    if logits.shape[-1] < 2:
        raise UserError(f"the logits have {logits.shape[-1]} class: return one logit per class; for a single logit z, return [0, z].")
    return int(logits.shape[-1])


def kind(value: Any) -> str:
    """Returns the name of a value's type, for messages."""
    return "None" if value is None else type(value).__name__


# -- private --------------------------------------------------------------------------------------------------------------


def _array(split: str, what: str, given: Any) -> np.ndarray:
    if np.ma.is_masked(given):
        raise UserError(f"the {what} of {split!r} hold masked values: leave those examples out.")
    try:
        found = np.asarray(given)
    except Exception as error:  # rows of different lengths, or an object of another library
        raise UserError(f"the {what} of {split!r} are no array ({' '.join(str(error).split())[:200]}): pass rows of one shape.") from None
    if found.ndim == 0:
        raise UserError(f"the {what} of {split!r} are {kind(given)} {str(given)[:40]!r}: pass an array with one entry per example.")
    return found


def _real(values: np.ndarray) -> bool:
    """Returns True for booleans and real numbers, also the narrow ones of JAX."""
    if values.dtype.kind in "mM":  # NumPy counts times as integers
        return False
    return values.dtype == bool or jnp.issubdtype(values.dtype, jnp.integer) or jnp.issubdtype(values.dtype, jnp.floating)
