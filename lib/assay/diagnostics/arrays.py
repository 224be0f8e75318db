"""Checks of the arrays and of the function that come with an external model; all errors are UserErrors that say what to pass instead.

layout, tables = tables_of({"train": (images, labels), "test": (test_images, test_labels)})
kind = kind_of("", "train", tables["train"].targets, logits, tokens=False)     # "classes"
check_together(tables, layout, tokens=False, kind=kind)
targets = checked("test", tables["test"].targets, 10, kind)                    # int64 [n]
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError, unknown
from assay.models.brought.call import Layout

MOST = 2**31  # token ids are int32
CLASSES, TOKENS, NUMBERS, LABELS = "classes", "tokens", "numbers", "labels"  # one class per example or per token, numbers, several labels
TARGETS = (CLASSES, NUMBERS, LABELS)  # what target= may be
MAIN = ("input_ids", "inputs", "tokens")  # names of the main input of several; otherwise it is the first
PAIR = "pass a pair (inputs, targets)"


class Table(NamedTuple):
    """One split. `inputs` has the array "inputs", and others of the same length as "inputs/NAME"."""

    inputs: Mapping[str, np.ndarray]
    targets: np.ndarray

    @property
    def main(self) -> np.ndarray:
        return self.inputs["inputs"]


Tables = Mapping[str, Table]


def tables_of(data: Any) -> tuple[Layout, Tables]:
    """Returns how the inputs are laid out, and the arrays of each split. Raises UserError for anything else."""
    if not isinstance(data, Mapping) or not data:
        raise UserError(f"data is {kind_name(data)}: pass data={{'test': (inputs, targets)}}, with at least one split.")
    found, layout = {}, None
    for split, given in data.items():
        if not isinstance(split, str) or not split:
            raise UserError(f"data has the split {split!r}: name splits by texts, such as 'test'.")
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            many = f" of {len(given)}" if isinstance(given, (tuple, list)) else ""
            raise UserError(f"data[{split!r}] is {kind_name(given)}{many}: {PAIR}.")
        inputs, targets = given[0], _array(split, "targets", given[1])
        own = _layout(split, inputs, len(targets))
        layout = layout or own
        if own != layout:
            first = next(iter(data))
            raise UserError(f"the inputs of {split!r} are {_shown(own)}, but those of {first!r} {_shown(layout)}: pass one kind.")
        found[split] = Table({own.key(name): _inputs(split, name, one, len(targets)) for name, one in _named(own, inputs)}, targets)
    assert layout is not None
    return layout, found


def are_tokens(inputs: np.ndarray) -> bool:
    """Returns whether inputs are token ids: integers [n, length]."""
    return bool(jnp.issubdtype(inputs.dtype, jnp.integer)) and inputs.ndim == 2


def kind_of(target: str, split: str, targets: np.ndarray, logits: Any, tokens: bool) -> str:
    """Returns what the targets are, by what is said of them, else by their type and the shape of the logits.

    Raises UserError if both readings are possible: whole numbers [n, k] beside logits [n, k] are labels or numbers, and so are floats that
    are all 0 or 1.
    """
    if target and target not in TARGETS:
        raise unknown("target", target, TARGETS, "target=")
    if target:
        return TOKENS if target == CLASSES and targets.ndim == 2 else target
    floats, columns = jnp.issubdtype(targets.dtype, jnp.floating), getattr(logits, "shape", ())[1:]
    if targets.ndim == 1:
        return NUMBERS if floats and columns in ((), (1,)) else CLASSES
    if targets.ndim == 2 and columns == targets.shape[1:]:
        whole = bool(np.isin(targets, (0, 1)).all())
        if floats and not whole:
            return NUMBERS
        if whole and targets.shape[1] > 1 and (np.sum(targets, axis=1) == 1).all():
            raise UserError(
                f"the targets of {split!r} have a single 1 in each row of {targets.shape[1]}: pass targets.argmax(axis=1) if it marks the "
                "class, or target='labels' or target='numbers'."
            )
        raise UserError(
            f"the targets of {split!r} are {targets.dtype} {list(targets.shape)}, and the logits have the same shape: pass target='labels' "
            "if each is 0 or 1, or target='numbers'."
        )
    return TOKENS


def check_together(tables: Tables, tokens: bool, kind: str) -> None:
    """Raises UserError if a split's examples are of another kind than those of the first one.

    Args:
        tokens: whether the inputs of the first split are token ids.
        kind: what its targets are.
    """
    first = next(iter(tables))
    like = tables[first]
    for split, table in tables.items():
        for name, values in table.inputs.items():
            same = like.inputs[name]
            if are_tokens(values) != are_tokens(same) or values.ndim != same.ndim:
                one, other = (f"{array.dtype} {list(array.shape)}" for array in (values, same))
                raise UserError(f"the inputs of {split!r} are {one}, but those of {first!r} {other}: pass one kind in all splits.")
        shape, main = table.targets.shape, table.main
        if kind in (NUMBERS, LABELS):
            if len(shape) not in (1, 2) or shape[1:] != like.targets.shape[1:]:
                wanted = f"[n, {like.targets.shape[1]}]" if like.targets.ndim == 2 else "[n]"
                raise UserError(f"the targets of {split!r} have shape {shape}: pass {kind} {wanted} in all splits.")
        elif len(shape) != 1 if kind == CLASSES else not tokens or shape != main.shape:
            raise UserError(
                f"the targets of {split!r} have shape {shape}: pass classes [n] in all splits, or one per token, here {main.shape}; or "
                "target='labels' or 'numbers' for several values per example."
            )
        if tokens and not 0 <= (odd := int(main.min() if main.min() < 0 else main.max())) < MOST:
            raise UserError(f"the inputs of {split!r} hold {odd}, but integers [n, length] are token ids, from 0: pass numbers as floats.")


def checked(split: str, targets: np.ndarray, outputs: int, kind: str) -> np.ndarray:
    """Returns the targets of one kind: classes as int64, as they are shaped; numbers float64 and labels int8, [n, k]."""
    if kind == NUMBERS:
        _finite(split, targets, "pass a number for each, and leave examples without one out")
        return targets.astype(np.float64).reshape(len(targets), -1)
    if kind == LABELS:
        expected = "pass 1 or 0 for each label"
        _finite(split, targets, expected)
        odd = targets[(targets != 0) & (targets != 1)]
        if odd.size:
            raise UserError(f"the targets of {split!r} hold {odd.ravel()[0]:g}, which is no label: {expected}.")
        return targets.astype(np.int8).reshape(len(targets), -1)
    return _classes(split, targets, outputs, kind == CLASSES)


def outputs_of(split: str, logits: Any, table: Table, kind: str) -> int:
    """Returns the number of outputs: classes, numbers or labels. Raises UserError if the logits do not fit the examples of the split.

    Args:
        logits: shape and type of the logits of two examples.
    """
    if not hasattr(logits, "shape") or not hasattr(logits, "dtype"):
        raise UserError(f"the model returns {kind_name(logits)}: return logits, or (logits, taps by name).")
    if not (jnp.issubdtype(logits.dtype, jnp.floating) or jnp.issubdtype(logits.dtype, jnp.integer)):
        raise UserError(f"the logits are {logits.dtype}: return real numbers, one per class.")
    shape, inputs = list(logits.shape), [2, *table.main.shape[1:]]
    if kind in (NUMBERS, LABELS):
        columns = columns_of(table.targets)
        if shape not in ([2, columns], [2] if columns == 1 else None):
            raise UserError(f"the logits have shape {shape} for inputs of {split!r} {inputs}: return [n, {columns}], like the {kind}.")
        return columns
    wanted = inputs[:1] if kind == CLASSES else inputs[:2]
    if len(shape) != len(wanted) + 1 or shape[:-1] != wanted:
        axes = "[n, classes], for one target per example" if kind == CLASSES else "[n, length, classes], for one target per token"
        more = "; for a regression pass target='numbers'" if len(shape) == 1 else ""
        raise UserError(f"the logits have shape {shape} for inputs of {split!r} {inputs}: return {axes}{more}.")
    if shape[-1] < 2:
        raise UserError(
            f"the logits have {shape[-1]} class: return one logit per class; for a single logit z, return [0, z]; for a regression pass "
            "target='numbers'."
        )
    return shape[-1]


def columns_of(targets: np.ndarray) -> int:
    """Returns the number of values per example."""
    return 1 if targets.ndim == 1 else targets.shape[1]


def kind_name(value: Any) -> str:
    """Returns the name of a value's type, for messages."""
    return "None" if value is None else type(value).__name__


# -- private --------------------------------------------------------------------------------------------------------------


def _layout(split: str, inputs: Any, rows: int) -> Layout:
    if isinstance(inputs, Mapping):
        names = tuple(inputs)
        if not names or not all(isinstance(name, str) and name and "/" not in name for name in names):
            raise UserError(f"the inputs of {split!r} are a dict of {', '.join(map(repr, names)) or 'nothing'}: name arrays by words.")
        return Layout("dict", names, next((name for name in MAIN if name in names), names[0]))
    if isinstance(inputs, tuple) and inputs and all(hasattr(one, "shape") and len(one.shape) > 0 and len(one) == rows for one in inputs):
        return Layout("tuple", tuple(map(str, range(len(inputs)))), "0")
    return Layout("array")


def _named(layout: Layout, inputs: Any) -> list[tuple[str, Any]]:
    if layout.kind == "array":
        return [("inputs", inputs)]
    return list(inputs.items()) if layout.kind == "dict" else [(str(i), one) for i, one in enumerate(inputs)]


def _shown(layout: Layout) -> str:
    return "one array" if layout.kind == "array" else f"a {layout.kind} of {', '.join(layout.names)}"


def _inputs(split: str, name: str, given: Any, rows: int) -> np.ndarray:
    what = "inputs" if name == "inputs" else f"inputs {name!r}"
    found = _array(split, what, given)
    if len(found) != rows or rows == 0:
        raise UserError(f"data[{split!r}] has {len(found)} {what} and {rows} targets; pass equally many, at least one.")
    if not _real(found):
        raise UserError(f"the {what} of {split!r} are {found.dtype}: pass numbers, or the ids of tokens.")
    if found.size == 0:
        raise UserError(f"the {what} of {split!r} have shape {found.shape}, so they are empty: pass at least one value per example.")
    return found


def _array(split: str, what: str, given: Any) -> np.ndarray:
    if np.ma.is_masked(given):
        raise UserError(f"the {what} of {split!r} hold masked values: leave those examples out.")
    try:
        found = np.asarray(given)
    except Exception as error:  # rows of different lengths, or an object of another library
        raise UserError(f"the {what} of {split!r} are no array ({' '.join(str(error).split())[:200]}): pass rows of one shape.") from None
    if found.ndim == 0:
        raise UserError(f"the {what} of {split!r} are {kind_name(given)} {str(given)[:40]!r}: pass an array with one entry per example.")
    return found


def _finite(split: str, targets: np.ndarray, expected: str) -> None:
    if not _real(targets):
        raise UserError(f"the targets of {split!r} are {targets.dtype}, such as {str(targets.ravel()[0])[:40]!r}: {expected}.")
    if not np.isfinite(targets).all():
        raise UserError(f"the targets of {split!r} hold {int((~np.isfinite(targets)).sum())} values that are not finite: {expected}.")


def _classes(split: str, targets: np.ndarray, outputs: int, pooled: bool) -> np.ndarray:
    expected = f"pass the number of each class, from 0 to {outputs - 1}" + ("" if pooled else ", and -1 where no answer is expected")
    _finite(split, targets, expected)
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


def _real(values: np.ndarray) -> bool:
    """Returns True for booleans and real numbers, also the narrow ones of JAX."""
    if values.dtype.kind in "mM":  # NumPy counts times as integers
        return False
    return values.dtype == bool or jnp.issubdtype(values.dtype, jnp.integer) or jnp.issubdtype(values.dtype, jnp.floating)
