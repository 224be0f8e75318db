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
from assay.diagnostics.arrays import check_together, kind, outputs_of, pair
from assay.diagnostics.arrays import classes as classes_of
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
    if not isinstance(data, Mapping) or not data:
        raise UserError(f"data is {kind(data)}: pass data={{'test': (inputs, targets)}}, with at least one split.")
    if isinstance(examples, bool) or not isinstance(examples, (int, np.integer)) or examples < 1:
        raise UserError(f"examples={examples!r} must be a number of examples, at least 1.")
    arrays = {split: pair(split, given) for split, given in data.items()}
    inputs, targets = next(iter(arrays.values()))
    tokens, pooled = jnp.issubdtype(inputs.dtype, jnp.integer) and inputs.ndim == 2, targets.ndim == 1
    check_together(arrays, tokens, pooled)
    encode = partial(_encode, tokens=tokens, pooled=pooled)
    counts = {}
    for split, (inputs, targets) in arrays.items():  # on two examples, so that a mean over them would be seen
        two = _examples(inputs, np.zeros(targets.shape, np.int64), tokens, pooled, np.zeros(2, int))
        counts[split] = outputs_of(split, apply, params, encode(two, 0), pooled)
    outputs = next(iter(counts.values()))
    if len(set(counts.values())) > 1:
        raise UserError(f"the logits have {' or '.join(map(str, counts.values()))} classes, by the split: pass one model for all splits.")
    names = list(classes) or list(range(outputs))
    if len(names) != outputs:
        raise UserError(f"classes has {len(names)} names, but the logits have {outputs} classes.")
    arrays = {split: (inputs, classes_of(split, targets, outputs, pooled)) for split, (inputs, targets) in arrays.items()}
    sources = {split: partial(_source, split, *both, tokens, pooled) for split, both in arrays.items()}
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
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError):
        raise UserError(f"bounds={bounds!r} must be two numbers, such as (0, 1).") from None
    if tokens or not low < high or not np.isfinite([low, high]).all():
        raise UserError(f"bounds={bounds} must be the least and greatest of numeric inputs{', but the inputs are tokens' * tokens}.")
    least, most = min(inputs.min() for inputs, _ in arrays.values()), max(inputs.max() for inputs, _ in arrays.values())
    if least < low or most > high:
        raise UserError(f"bounds={bounds}, but inputs lie in [{least:.6g}, {most:.6g}]: pass bounds that contain all inputs.")
    return Bounds(low, high, f"the range from {low:g} to {high:g}")


def _logits(found: Any) -> jax.Array:
    logits = jnp.asarray(found[0] if isinstance(found, tuple) else found)
    return logits.astype(jnp.float32) if jnp.issubdtype(logits.dtype, jnp.integer) else logits


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
