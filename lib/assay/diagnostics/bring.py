"""Subjects from externally trained models: pass a function `(params, batch) -> logits` and examples.

    subject = bring(apply, params, {"train": (images, labels), "test": (test_images, test_labels)})
    rows = examine(subject)                                  # diagnostics/table.py

Inputs are numbers [n, ...], token ids [n, length] (integers), or several such arrays by name. Targets are classes [n], with logits
[n, classes]; classes per token [n, length], with logits [n, length, classes], and -1 where no answer is expected; numbers or several labels
[n, k], with logits [n, k]. A function that returns (logits, taps) exposes its activations: {"block_0/mlp": [n, ..., units],
"block_0/attention/weights": [n, heads, query, key]}. A model of a library has a door of its own, which needs no function: brought/doors.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.diagnostics.arrays import (
    CLASSES,
    LABELS,
    NUMBERS,
    TARGETS,
    TOKENS,
    Tables,
    are_tokens,
    check_together,
    checked,
    kind_name,
    kind_of,
    outputs_of,
    tables_of,
)
from assay.diagnostics.brought.examples import Loss, task_of, two
from assay.diagnostics.cost.flops import by_kind
from assay.diagnostics.subject import Subject, held_out
from assay.models.brought import function as functions
from assay.models.brought import linen
from assay.models.brought.call import Layout, Reading, said
from assay.models.brought.library import Library, model_of
from assay.models.model import Batch, Model, Output
from assay.tasks.bounds import Bounds

Apply = Callable[[PyTree, Batch], Any]  # -> logits, or (logits, taps)
Make = Callable[[Layout, Batch, str, str], tuple[Model, PyTree]]  # (layout, two examples, where, kind if it is said) -> model and params


def bring(
    apply: Apply,
    params: PyTree,
    data: Mapping[str, tuple[Any, Any]],
    classes: Sequence[Any] = (),
    name: str = "yours",
    examples: int = 512,
    seconds: float = 10.0,
    bounds: tuple[float, float] | None = None,
    target: str = "",
    loss: Loss | None = None,
    call: Callable[[Any, Any, bool], Any] | None = None,
    output: str = "",
    taps: Callable[[Any], Mapping[str, Any]] | None = None,
) -> Subject:
    """Wraps an external model and its data as a Subject.

    Args:
        apply: JAX function (params, batch) -> logits, or (logits, taps by name). It is differentiated and compiled.
        params: parameters, any tree of arrays.
        data: split -> (inputs, targets). The model is measured on `test` (or `valid`) and compared with `train`.
        classes: names of the classes; by default their numbers.
        name: name of the task in rows and pages.
        examples: maximum number of examples per split.
        seconds: time budget of the speed measurements.
        bounds: least and greatest possible input for numeric inputs, such as (0, 1). Measurements that need a range (attacks) do not
            apply without it.
        target, loss, call, output, taps: as for the functions of brought/doors.py.

    Raises UserError if the data do not fit together.
    """
    owner = getattr(apply, "__self__", None)
    if functions.made_by(owner) == "from_linen" and getattr(apply, "__name__", "") == "apply":  # the module updates its own state

        def library(layout: Layout, reading: Reading) -> Library:
            return replace(linen.library(owner, params, layout, reading), what="apply", hint=functions.HINT)

    else:
        _check_function(apply, params)

        def library(layout: Layout, reading: Reading) -> Library:
            return functions.library(apply, params, layout, reading, batches=True)

    reading = Reading(call, output, taps)
    return subject_of(made_from(library, reading), data, classes, name, examples, seconds, bounds, target, loss, "apply")


def made_from(library: Callable[[Layout, Reading], Library], reading: Reading) -> Make:
    """Returns how `subject_of` makes the model of a library."""

    def make(layout: Layout, batch: Batch, where: str, kind: str) -> tuple[Model, PyTree]:
        del kind
        made = library(layout, reading)
        return model_of(made, layout, batch, where, reading), made.params

    return make


def subject_of(
    make: Make,
    data: Mapping[str, tuple[Any, Any]],
    classes: Sequence[Any] = (),
    name: str = "yours",
    examples: int = 512,
    seconds: float = 10.0,
    bounds: tuple[float, float] | None = None,
    target: str = "",
    loss: Loss | None = None,
    what: str = "model",
) -> Subject:
    """Returns the Subject of a model, after checking that model and data fit together. Arguments as for `bring`; `what` names the model in
    messages."""
    layout, tables = tables_of(data)
    if isinstance(examples, bool) or not isinstance(examples, (int, np.integer)) or examples < 1:
        raise UserError(f"examples={examples!r} must be a number of examples, at least 1.")
    first, table = next(iter(tables.items()))
    tokens, supposed = are_tokens(table.main), _supposed(target, first, tables)
    batch = two(table, supposed)
    model, params = make(layout, batch, f"inputs of {first!r}, {layout.described(batch)}", supposed)
    asked: dict[str, Any] = {}  # by shapes: tracing a large model takes seconds

    def logits_of(batch: Batch) -> Any:
        shapes = str({name: (array.shape, array.dtype) for name, array in batch.items()})
        if shapes not in asked:
            asked[shapes] = jax.eval_shape(lambda params, batch: model.apply(params, batch).logits, params, dict(batch))
        return asked[shapes]

    kind = kind_of(target, first, table.targets, logits_of(batch), tokens)
    check_together(tables, tokens, kind)
    counts = {}
    for split, one in tables.items():
        batch = two(one, kind)
        try:
            logits = logits_of(batch)
        except UserError:
            raise
        except Exception as error:
            shapes = layout.described(batch)
            same = "Pass inputs of one shape in all splits."
            raise UserError(f"{what} fails on inputs of {split!r}, {shapes}: {said(error)}. {same}") from error
        counts[split] = outputs_of(split, logits, one, kind)
    outputs = next(iter(counts.values()))
    if len(set(counts.values())) > 1:
        raise UserError(f"the logits have {' or '.join(map(str, counts.values()))} classes, by the split: pass one model for all splits.")
    names = list(classes) or list(range(outputs))
    if len(names) != outputs:
        raise UserError(f"classes has {len(names)} names, but the logits have {outputs} classes.")
    tables = {split: one._replace(targets=checked(split, one.targets, outputs, kind)) for split, one in tables.items()}
    task = task_of(tables, layout, kind, outputs, names, name, loss)
    if bounds is not None:
        task = replace(task, bounds=_bounds(bounds, tables, tokens))
    if kind in (NUMBERS, LABELS):
        model = replace(model, apply=_in_columns(model, outputs))
    if not model.opaque:
        model = replace(model, convolves=_convolves(model, params, two(tables[first], kind)))
    return Subject(model, params, task, held_out(task), examples, seconds=seconds)


# -- private --------------------------------------------------------------------------------------------------------------


def _check_function(apply: Any, params: PyTree) -> None:
    """Raises UserError for a model of a library where a function of parameters is expected."""
    door = functions.made_by(apply)
    if door and (params is None or door != "from_equinox"):  # a function that Equinox has wrapped is a function
        more = {"from_linen": "model, variables, data", "from_haiku": "transformed, params, data"}.get(door, "model, data")
        raise UserError(f"apply is a model, {type(apply).__name__}, not a function (params, batch) -> logits: call assay.{door}({more}).")
    if not callable(apply):
        raise UserError(f"apply is {kind_name(apply)}: pass a function (params, batch) -> logits.")


def _supposed(target: str, split: str, tables: Tables) -> str:
    """Returns what the targets of the first split seem to be before the model has answered."""
    table = tables[split]
    if target in (NUMBERS, LABELS) or target not in ("", *TARGETS):
        return kind_of(target, split, table.targets, None, False)
    if table.targets.ndim == 1:
        return CLASSES
    return TOKENS if table.targets.shape == table.main.shape else NUMBERS


def _in_columns(model: Model, outputs: int) -> Callable[..., Output]:
    """Returns the answers as [n, outputs], also of a model that answers with a single number [n]."""

    def apply(params: PyTree, batch: Batch, **keywords: Any) -> Output:
        found = model.apply(params, batch, **keywords)
        return found._replace(logits=found.logits.reshape(-1, outputs))

    return apply


def _convolves(model: Model, params: PyTree, batch: Batch) -> bool:
    try:
        return "convolutions" in by_kind(lambda params, batch: model.apply(params, batch).logits, params, dict(batch))
    except ValueError:  # operations that cannot be counted
        return False


def _bounds(bounds: tuple[float, float], tables: Tables, tokens: bool) -> Bounds:
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError):
        raise UserError(f"bounds={bounds!r} must be two numbers, such as (0, 1).") from None
    if tokens or not low < high or not np.isfinite([low, high]).all():
        raise UserError(f"bounds={bounds} must be the least and greatest of numeric inputs{', but the inputs are tokens' * tokens}.")
    least, most = min(table.main.min() for table in tables.values()), max(table.main.max() for table in tables.values())
    if least < low or most > high:
        raise UserError(f"bounds={bounds}, but inputs lie in [{least:.6g}, {most:.6g}]: pass bounds that contain all inputs.")
    return Bounds(low, high, f"the range from {low:g} to {high:g}")
