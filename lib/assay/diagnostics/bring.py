"""Subjects from externally trained models: pass a function `(params, batch) -> logits` and examples.

    subject = bring(apply, params, {"train": (images, labels), "test": (test_images, test_labels)})
    rows = examine(subject)                                  # diagnostics/table.py

Inputs are numbers [n, ...] or token ids [n, length] (integers). Targets are classes [n], with logits [n, classes]. Or they are
classes per token [n, length], with logits [n, length, classes], and -1 where no answer is expected. A function that returns (logits, taps)
exposes its activations: {"block_0/mlp": [n, ..., units], "block_0/attention/weights": [n, heads, query, key]}.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.data.source import Examples, Source, in_memory
from assay.diagnostics.subject import Subject, held_out
from assay.models.model import Batch, Model, Output, Vocabulary
from assay.tasks.bounds import Bounds
from assay.tasks.datasets import classify
from assay.tasks.sequence import score_tokens
from assay.tasks.task import Task, find_split

Apply = Callable[[PyTree, Batch], Any]  # -> logits, or (logits, taps)


def bring(
    apply: Apply,
    params: PyTree,
    data: Mapping[str, tuple[np.ndarray, np.ndarray]],
    classes: Sequence[Any] = (),
    name: str = "yours",
    examples: int = 512,
    seconds: float = 10.0,
    bounds: tuple[float, float] | None = None,
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

    Raises UserError if the data do not fit together.
    """
    if not data:
        raise UserError("there are no examples: pass data={'test': (inputs, targets)}.")
    arrays = {split: (np.asarray(inputs), np.asarray(targets)) for split, (inputs, targets) in data.items()}
    for split, (inputs, targets) in arrays.items():
        if len(inputs) != len(targets) or len(inputs) == 0:
            raise UserError(f"data[{split!r}] has {len(inputs)} inputs and {len(targets)} targets; pass equally many, at least one.")
        if not (np.issubdtype(inputs.dtype, np.number) or inputs.dtype == bool):
            raise UserError(f"the inputs of {split!r} are {inputs.dtype}: pass numbers, or the ids of tokens.")
    inputs, targets = next(iter(arrays.values()))
    tokens, pooled = np.issubdtype(inputs.dtype, np.integer) and inputs.ndim == 2, targets.ndim == 1
    if not pooled and (not tokens or targets.shape[1:] != inputs.shape[1:]):
        raise UserError(f"targets have shape {targets.shape}: pass classes [n], or one per token, here {inputs.shape}.")
    encode = partial(_encode, tokens=tokens, pooled=pooled)
    first = encode(_examples(inputs, np.zeros(targets.shape, np.int64), tokens, pooled, np.arange(1)), 0)
    outputs = jax.eval_shape(lambda: _logits(apply(params, first))).shape[-1]
    names = list(classes) or list(range(outputs))
    if len(names) != outputs:
        raise UserError(f"classes has {len(names)} names, but the logits have {outputs} classes.")
    arrays = {split: (inputs, _classes(split, targets, outputs, pooled)) for split, (inputs, targets) in arrays.items()}
    sources = {split: partial(_source, split, *pair, tokens, pooled) for split, pair in arrays.items()}
    if pooled:
        known = int(max(inputs.max() for inputs, _ in arrays.values())) + 1 if tokens else 0
        task = classify.task(name, sources, names, encode, known)
    else:
        task = _token_task(name, sources, encode, int(max(inputs.max() for inputs, _ in arrays.values())) + 1, outputs)
    if bounds is not None:
        task = replace(task, bounds=_bounds(bounds, arrays, tokens))
    return Subject(_model(apply), params, task, held_out(task), examples, seconds=seconds)


# -- private --------------------------------------------------------------------------------------------------------------


def _model(apply: Apply) -> Model:
    def init(key: jax.Array, batch: Batch) -> PyTree:
        raise NotImplementedError("this is an external model: it cannot be initialized")

    def called(params: PyTree, batch: Batch, *, key: Any = None, train: bool = False, edits: Any = None) -> Output:
        del key, train, edits
        found = apply(params, batch)
        return Output(_logits(found), dict(found[1]) if isinstance(found, tuple) else {})

    return Model(init, called)


def _bounds(bounds: tuple[float, float], arrays: Mapping[str, tuple[np.ndarray, np.ndarray]], tokens: bool) -> Bounds:
    low, high = map(float, bounds)
    if tokens or not low < high:
        raise UserError(f"bounds={bounds} must be the least and greatest of numeric inputs{', but the inputs are tokens' * tokens}.")
    least, most = min(inputs.min() for inputs, _ in arrays.values()), max(inputs.max() for inputs, _ in arrays.values())
    if least < low or most > high:
        raise UserError(f"bounds={bounds}, but inputs lie in [{least:.6g}, {most:.6g}]: pass bounds that contain all inputs.")
    return Bounds(low, high, f"the range from {low:g} to {high:g}")


def _classes(split: str, targets: np.ndarray, outputs: int, pooled: bool) -> np.ndarray:
    """Returns the targets as class numbers. Raises UserError for anything else."""
    expected = f"pass the number of each class, from 0 to {outputs - 1}" + ("" if pooled else ", and -1 where no answer is expected")
    if not (np.issubdtype(targets.dtype, np.number) or targets.dtype == bool) or np.issubdtype(targets.dtype, np.complexfloating):
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


def _logits(found: Any) -> jax.Array:
    return jnp.asarray(found[0] if isinstance(found, tuple) else found)


def _token_task(name: str, sources: Mapping[str, Callable[[], Source]], encode: Callable, inputs: int, outputs: int) -> Task:
    return Task(
        name=name,
        vocabulary=Vocabulary(inputs, outputs),
        splits=tuple(sources),
        source=lambda split: find_split(sources, split)(),
        encode=encode,
        width=lambda length: length,
        score=partial(score_tokens, metrics=("token_accuracy",)),
        metrics=("token_accuracy",),
        chance=1.0 / outputs,
        shown=tuple(sources)[-1],
    )


def _source(split: str, inputs: np.ndarray, targets: np.ndarray, tokens: bool, pooled: bool) -> Source:
    return in_memory(split, _examples(inputs, targets, tokens, pooled, np.arange(len(inputs))), _describe)


def _examples(inputs: np.ndarray, targets: np.ndarray, tokens: bool, pooled: bool, ids: np.ndarray) -> Examples:
    n = len(ids)
    width = np.full(n, inputs.shape[1] if tokens else 1, np.int64)
    target = targets[ids].reshape(n, -1).astype(np.int64)
    return Examples(ids, width, inputs[ids], width, target, np.full(n, target.shape[1], np.int64), np.full(n, target.shape[1], np.int64))


def _describe(examples: Examples, i: int) -> dict[str, Any]:
    target = examples.target[i].tolist()
    return {"input": examples.input[i].tolist(), "target": target[0] if len(target) == 1 else [one for one in target if one >= 0]}


def _encode(examples: Examples, width: int, tokens: bool, pooled: bool) -> dict[str, Any]:
    del width
    n = len(examples.id)
    batch: dict[str, Any] = {"inputs": examples.input if not tokens else examples.input.astype(np.int32), "weight": np.ones(n, np.float32)}
    if tokens:
        batch["length"] = examples.input_length.astype(np.int32)
    if pooled:
        return batch | {"targets": examples.target[:, 0].astype(np.int32)}
    return batch | {"targets": np.maximum(examples.target, 0).astype(np.int32), "mask": (examples.target >= 0).astype(np.float32)}
