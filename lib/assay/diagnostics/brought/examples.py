"""The task of an external model: its examples as splits, their encoding, and the score that suits their targets.

classes [n]            cross-entropy, accuracy               numbers [n, k]   squared error: mse, mae, r2
classes [n, length]    cross-entropy of each token, -1: none  labels [n, k]    binary cross-entropy: exact_match, label_accuracy, f1_labels
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import numpy as np

from assay.core.errors import UserError
from assay.data.source import Examples, Source, in_memory, row_of
from assay.diagnostics.arrays import CLASSES, NUMBERS, TOKENS, Table, are_tokens, tables_of
from assay.models.brought.call import Layout
from assay.models.model import Batch, Output, Vocabulary
from assay.tasks.datasets import classify, labels, regression
from assay.tasks.evidence import of_numbers
from assay.tasks.sequence import score_tokens
from assay.tasks.task import Score, Task, counted, find_split

Loss = Callable[[Any, Batch], jax.Array]  # (logits, batch) -> loss of each example, [n]
MASK = "inputs/attention_mask"  # which tokens are no padding: 1 or 0, [n, length]


def task_of(
    tables: Mapping[str, Table], layout: Layout, kind: str, outputs: int, classes: Sequence[Any], name: str, loss: Loss | None
) -> Task:
    """Returns the task. `tables` have checked targets; `outputs` is the number of classes, numbers or labels.

    `loss` replaces what is minimized in training; the scores remain.
    """
    sources = {split: cache(partial(_source, split, table, kind, tuple(classes))) for split, table in tables.items()}
    tokens = are_tokens(next(iter(tables.values())).main)
    known = int(max(table.main.max() for table in tables.values())) + 1 if tokens else 0
    encode = partial(encoded, kind=kind)
    if kind == CLASSES:
        found = classify.task(name, sources, classes, encode, known)
    else:
        found = Task(
            name=name,
            vocabulary=Vocabulary(known, outputs, pooled=kind != TOKENS),
            splits=tuple(sources),
            source=lambda split: find_split(sources, split)(),
            encode=encode,
            width=lambda length: length,
            shown=tuple(sources)[-1],
            recalls=kind == TOKENS and all(_continues(table) for table in tables.values()),
            **_scoring(kind, outputs),
        )
    found = replace(found, asked=partial(_asked, next(iter(tables.values())), layout, kind))
    return found if loss is None else replace(found, score=_minimizing(found.score, loss))


def encoded(examples: Examples, width: int, kind: str) -> dict[str, Any]:
    """Returns a batch: inputs, targets as their kind needs them, weight; length of token ids; mask of targets per token."""
    del width
    n, inputs = len(examples.id), examples.input
    tokens = are_tokens(inputs)
    batch: dict[str, Any] = {"inputs": inputs.astype(np.int32) if tokens else inputs, "weight": np.ones(n, np.float32)}
    if tokens:
        batch["length"] = examples.input_length.astype(np.int32)
    if kind == CLASSES:
        return batch | {"targets": examples.target[:, 0].astype(np.int32)}
    if kind == TOKENS:
        return batch | {"targets": np.maximum(examples.target, 0).astype(np.int32), "mask": (examples.target >= 0).astype(np.float32)}
    return batch | {"targets": examples.target.astype(np.float32)}


def two(table: Table, kind: str) -> dict[str, Any]:
    """Returns a batch of two examples with empty targets, on which a model is tried: a mean over examples would be seen."""
    blank = table._replace(targets=np.zeros(table.targets.shape, np.int64))
    rows = np.zeros(2, int)
    return {**encoded(_examples(blank, rows, rows), 0, kind), **_columns(table, rows)}


# -- private --------------------------------------------------------------------------------------------------------------


def _scoring(kind: str, outputs: int) -> dict[str, Any]:
    """Returns the fields of a task that its targets decide."""
    if kind == TOKENS:
        score = partial(score_tokens, metrics=("token_accuracy",))
        return {"score": score, "metrics": ("token_accuracy",), "chance": 1.0 / outputs, "read": _read_tokens}
    if kind == NUMBERS:
        return {
            "score": regression.score_numbers,
            "metrics": regression.METRICS,
            "chance": 0.0,
            "units": {"mse": "", "mae": ""},
            "answer": lambda logits: logits,
            "read": lambda answer, batch: _plain(answer),
            "evidence": of_numbers,
        }
    return {
        "score": labels.score_labels,
        "metrics": labels.METRICS,
        "chance": 0.5,
        "answer": lambda logits: (logits > 0).astype(np.int32),
        "read": lambda answer, batch: np.asarray(answer).tolist(),
        "evidence": of_numbers,
    }


def _read_tokens(answer: np.ndarray, batch: Mapping[str, np.ndarray]) -> list[int]:
    """Returns the answers that are asked for; to new inputs, one for each token."""
    return counted(answer, batch) if batch.get("mask") is not None else answer.tolist()


def _continues(table: Table) -> bool:
    """Returns whether the target of each token is the next one, as in a language model; targets below 0 are not asked for."""
    if table.targets.shape != table.main.shape or not are_tokens(table.main):
        return False
    now, after = table.targets[:, :-1], table.main[:, 1:]
    return bool((now >= 0).any() and (now == after)[now >= 0].all())


def _minimizing(score: Score, loss: Loss) -> Score:
    """Returns a score whose loss is the caller's. A cross-entropy remains as the metric `nll`."""

    def own(output: Output, batch: Batch) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
        before, weights, metrics = score(output, batch)
        kept = {} if "mse" in metrics or "label_accuracy" in metrics else {"nll": before}
        return loss(output.logits, batch), weights, {**kept, **metrics}

    return own


def _asked(like: Table, layout: Layout, kind: str, inputs: Any) -> Source:
    """Returns new inputs as a split with empty targets. Raises UserError if they are not as those of `like`."""
    first = next(iter(inputs.values())) if isinstance(inputs, Mapping) and inputs else inputs[0] if isinstance(inputs, tuple) else inputs
    given, tables = tables_of({"new": (inputs, np.zeros(np.shape(first)[:1], np.int64))})
    table, known = tables["new"], Table({name: array[:1] for name, array in like.inputs.items()}, like.targets[:1])
    if given != layout or any(_kind_of(array) != _kind_of(known.inputs[name]) for name, array in table.inputs.items()):
        one, other = given.described(table.inputs), layout.described(known.inputs)
        raise UserError(f"the new inputs are {one}, but the model takes {other}: pass inputs as those of the data, a row for each example.")
    blank = np.zeros((len(table.targets), *like.targets.shape[1:]) if kind != TOKENS else table.main.shape, like.targets.dtype)
    return _source("new", table._replace(targets=blank), kind, ())


def _kind_of(array: np.ndarray) -> tuple:
    """Returns what must agree between the inputs of a model: the shape of a row, unless it is of token ids, and whether it is."""
    return (are_tokens(array), array.ndim, () if are_tokens(array) else array.shape[1:])


def _source(split: str, table: Table, kind: str, classes: Sequence[Any]) -> Source:
    n = len(table.targets)
    source = in_memory(split, _examples(table, np.arange(n), slice(None)), partial(_describe, kind=kind, classes=classes))
    labels = source.labels if kind == CLASSES else None
    return replace(source, labels=labels, columns=lambda indices: _columns(table, row_of(indices, n)))


def _examples(table: Table, ids: np.ndarray, rows: np.ndarray | slice) -> Examples:
    """Returns the examples of some rows; a slice copies nothing."""
    n, inputs = len(ids), table.main
    width = np.full(n, inputs.shape[1] if are_tokens(inputs) else 1, np.int64)
    mask = table.inputs.get(MASK)
    if are_tokens(inputs) and mask is not None and mask.shape == inputs.shape and (np.diff(mask.astype(np.int8), axis=1) <= 0).all():
        width = mask[rows].astype(bool).sum(axis=1).astype(np.int64)  # padding on the right is no token
    target = table.targets[rows].reshape(n, -1)
    counted = np.full(n, target.shape[1], np.int64)
    length = np.full(n, inputs.shape[1] if are_tokens(inputs) else 1, np.int64)
    return Examples(ids, length, inputs[rows], width, target, counted, counted)


def _columns(table: Table, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the inputs besides the main one."""
    found = {name: array[rows] for name, array in table.inputs.items() if name != "inputs"}
    return {name: array.astype(np.int32) if array.dtype.kind in "iu" else array for name, array in found.items()}


def _describe(examples: Examples, i: int, kind: str, classes: Sequence[Any]) -> dict[str, Any]:
    inputs, target = examples.input[i], examples.target[i]
    read = inputs[: examples.input_length[i]] if are_tokens(examples.input) else inputs
    if kind == NUMBERS:
        answer = _plain(target)
    else:
        answer = classes[int(target[0])] if kind == CLASSES else [one for one in target.tolist() if one >= 0]
    return {"input": read.tolist(), "target": answer}


def _plain(values: Any) -> Any:
    """Returns a number, or a list of several."""
    found = np.asarray(values, np.float64).tolist()
    return found[0] if len(found) == 1 else found
