"""Classification: one class for the whole input, read once. What images and texts share: the keys, the splits and the score.

Training examples are split from those held out for choices (`valid`) before some of their labels are taken away (`labels`), so that runs
with few and with many labels choose by the same examples. The subset of 50 lies in that of 100.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from assay.config.schema import require
from assay.core.errors import UserError
from assay.core.tree import widened
from assay.data.source import Examples, Source
from assay.data.split import k_fold, n_labels
from assay.models.model import Batch, Output, Vocabulary
from assay.tasks.task import Task, find_split, is_likeliest

METRICS = ("accuracy", "f1_macro", "nll", "ece")
SPLIT_SEED = 0  # folds and subsets are the same for all runs that are compared


@dataclass(frozen=True)
class LabelsConfig:
    name: str  # as the table of tasks has it
    labels: int  # training examples that have a label, stratified; 0: all
    folds: int  # k-fold cross-validation: `valid` is one of so many folds of the data's training split; 0: the data's own, or a fixed share
    fold: int  # which of them, from 0
    unlabelled: bool = field(default=False, kw_only=True)  # whether training has the other examples too, without a label, for a teacher

    def __post_init__(self):
        require(self.labels >= 0, "task.labels", self.labels, "a number of examples, or 0 for all")
        require(self.folds == 0 or self.folds >= 2, "task.folds", self.folds, "at least 2, or 0 for none")
        require(not self.unlabelled or self.labels > 0, "task.unlabelled", self.unlabelled, "some have labels: set task.labels above 0")
        require(0 <= self.fold < max(self.folds, 1), "task.fold", self.fold, f"from 0 to {max(self.folds, 1) - 1}")


def chosen(config: LabelsConfig, labels: np.ndarray, valid: np.ndarray, groups: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Places of the training and validation examples among `labels` [n], and of the training examples that are `labelled`, which are all
    of them unless `config.unlabelled`. `valid`: those held out where there are no folds.

    `groups`: what lies in one fold whole, such as a file.
    """
    every = np.arange(len(labels))
    try:
        if config.folds:
            _, first, group = np.unique(every if groups is None else np.array(groups), return_index=True, return_inverse=True)
            held = k_fold(np.arange(len(first)), config.folds, SPLIT_SEED, labels[first])[config.fold].held_out
            valid = np.flatnonzero(np.isin(group, held))
        train = np.setdiff1d(every, valid)
        known = n_labels(train, labels[train], config.labels, SPLIT_SEED) if config.labels else train
    except UserError as error:
        raise UserError(f"{error} Change config.task.labels or config.task.folds.") from None
    return {"train": train if config.unlabelled else known, "valid": valid, "labelled": known}


def score_classes(output: Output, batch: Batch) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
    """Cross-entropy of each example in nats. `batch["targets"]`: int32 [batch]; where `batch["labelled"]` is 0 there is none to learn from.

    `accuracy`: whether the likeliest class is right; `nll`: the cross-entropy; `confidence`: the likeliest class's probability.
    """
    log_probability = jax.nn.log_softmax(widened(output.logits), axis=-1)
    nll = -jnp.take_along_axis(log_probability, batch["targets"][:, None], axis=-1)[:, 0]
    right = is_likeliest(output.logits, batch["targets"])
    confidence = jnp.exp(log_probability.max(axis=-1))
    return nll, batch["weight"] * batch.get("labelled", 1.0), {"accuracy": right.astype(jnp.float32), "nll": nll, "confidence": confidence}


def task(
    name: str,
    sources: Mapping[str, Callable[[], Source]],
    classes: Sequence[Any],
    encode: Callable[[Examples, int], Mapping[str, np.ndarray]],
    inputs: int = 0,
    examples: Callable[[Sequence[Any]], Examples] | None = None,
) -> Task:
    """A task of these splits. `classes`: what a class is called in records; `inputs`: token ids that are read, 0 for images."""
    return Task(
        name=name,
        vocabulary=Vocabulary(inputs, len(classes), pooled=True),
        splits=tuple(sources),
        source=lambda split: find_split(sources, split)(),
        encode=encode,
        width=lambda length: length,
        score=score_classes,
        metrics=METRICS,
        chance=1.0 / len(classes),
        units={"nll": "nats"},
        read=lambda answer, batch: classes[int(answer)],
        shown=tuple(sources)[-1],
        classes=tuple(classes),
        examples=examples,
    )


def labelled(labels: np.ndarray, inputs: np.ndarray, lengths: np.ndarray | None = None, known: np.ndarray | None = None) -> Examples:
    """Examples of one class each. `lengths`: tokens of each input; None where all have one shape. `known`: bool, which have a label; the
    class of the others is 0, and no token of it counts."""
    ones = np.ones(len(labels), np.int64)
    length = ones if lengths is None else lengths.astype(np.int64)
    counted = ones if known is None else known.astype(np.int64)
    return Examples(np.arange(len(labels)), length, inputs, length, (labels * counted).astype(np.int32)[:, None], counted, ones)


def knowing(encode: Callable[[Examples, int], Mapping[str, np.ndarray]]) -> Callable[[Examples, int], Mapping[str, np.ndarray]]:
    """The encoding of a task where some training examples have no label: batches say which have one, as `labelled`, 1 or 0."""
    return lambda examples, width: {**encode(examples, width), "labelled": (examples.target_length > 0).astype(np.float32)}
