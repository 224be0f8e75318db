"""Classification: one class per input. Shared by images and texts: the config keys, the splits and the score.

Validation examples are held out before labels are removed (`labels`), so that runs with few and with many labels use the same validation
examples. The subset of 50 is contained in that of 100.

Where a data set brings no validation split, `valid` is a tenth of each class's distinct contents, chosen by their hash: equal contents are
never divided, and almost all of what is held out stays so when examples are added. Configs of older versions, which lack `stratify`, keep
the split that they had.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unicodedata import normalize

import jax
import jax.numpy as jnp
import numpy as np

from assay.config.schema import require
from assay.core.errors import UserError
from assay.core.rng import bytes_hash, stable_hash
from assay.core.tree import widened
from assay.data.source import Examples, Source
from assay.data.split import k_fold, n_labels
from assay.models.model import Batch, Output, Vocabulary
from assay.tasks.task import Task, find_split, is_likeliest

METRICS = ("accuracy", "f1_macro", "nll", "ece")
SPLIT_SEED = 0  # folds and subsets are the same for all runs being compared
VALID_ONE_IN = 10  # of the distinct contents of a class
NEAR = 0.5  # of a class's tenth: how far its number may be from it before contents are moved, so that more rows change little
IMBALANCE = 5  # times as many examples of the commonest class as of the rarest, from which a notice says so
NAMED = 5  # classes that a notice names


@dataclass(frozen=True)
class LabelsConfig:
    name: str  # name in the table of tasks
    labels: int  # number of labelled training examples, stratified; 0: all
    folds: int  # folds of the training split for k-fold cross-validation, one of which is `valid`; 0: the data set's own, or a fixed share
    fold: int  # index of the fold used as valid, from 0
    unlabelled: bool = field(default=False, kw_only=True)  # whether training includes the other examples without labels, for a teacher
    stratify: bool = field(default=False, kw_only=True)  # whether valid has its share of each class; False: as in older versions

    def __post_init__(self):
        require(self.labels >= 0, "task.labels", self.labels, "a number of examples, or 0 for all")
        require(self.folds == 0 or self.folds >= 2, "task.folds", self.folds, "at least 2, or 0 for none")
        require(not self.unlabelled or self.labels > 0, "task.unlabelled", self.unlabelled, "requires some labels: set task.labels above 0")
        require(0 <= self.fold < max(self.folds, 1), "task.fold", self.fold, f"from 0 to {max(self.folds, 1) - 1}")


def hashes(contents: Iterable[str | bytes]) -> np.ndarray:
    """Returns a 64-bit hash of each content, uint64 [n]. Texts that Unicode considers equal have one hash."""
    return np.array([bytes_hash(one) if isinstance(one, bytes) else stable_hash(normalize("NFC", one)) for one in contents], np.uint64)


def held_out(contents: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the validation examples: indices among `labels` [n], stratified, by the hashes of their contents, uint64 [n].

    Contents whose hash is a multiple of VALID_ONE_IN are held out. A class that is then further than NEAR from its share gives up those
    with the largest hashes, or those with the next smallest follow. A class with a single content keeps it for training. A content with
    several labels counts as its first.
    """
    _, first, unit = np.unique(contents, return_index=True, return_inverse=True)
    held = np.zeros(len(first), bool)
    for label in np.unique(labels[first]):
        units = np.flatnonzero(labels[first] == label)
        values = contents[first[units]]
        inside = values % np.uint64(VALID_ONE_IN) == 0
        share = len(units) / VALID_ONE_IN
        fewest = min(max(1, math.floor((1 - NEAR) * share)), len(units) - 1)
        most = min(max(1, math.ceil((1 + NEAR) * share)), len(units) - 1)
        count = min(max(int(inside.sum()), fewest), most)
        held[units[np.lexsort((values, ~inside))[:count]]] = True
    return np.flatnonzero(held[unit])


def notices(labels: np.ndarray, classes: Sequence[Any], what: str, held: Mapping[str, np.ndarray] = {}) -> tuple[str, ...]:
    """Returns what is unusual about the classes of the training examples that have a label, labels [n]; `what` names an example (text,
    image). `held` has the labels of further splits, which may lack a class.
    """
    sizes = np.bincount(labels, minlength=len(classes))
    missing = _absent(labels, classes)
    said = [f"no training {what} of class {missing}: it cannot be learned"] if missing else []
    for split, others in held.items():
        if len(others) and (missing := _absent(others, classes)):
            said.append(f"no {what} of class {missing} in {split}: its scores say nothing about it")
    most, least = int(sizes.argmax()), int(np.where(sizes > 0, sizes, sizes.max() + 1).argmin())
    if sizes[most] >= IMBALANCE * sizes[least]:
        said.append(
            f"imbalanced classes: {sizes[most]:,} training {what}s of {str(classes[most])!r} and {sizes[least]:,} of "
            f"{str(classes[least])!r}; accuracy says little about rare classes, f1_macro weighs all alike"
        )
    return tuple(said)


def _absent(labels: np.ndarray, classes: Sequence[Any]) -> str:
    """Returns the names of the classes without an example."""
    names = [repr(str(classes[i])) for i in np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0).tolist()]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def chosen(
    config: LabelsConfig, labels: np.ndarray, valid: np.ndarray, groups: Sequence[str] | np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Returns the indices of the training, validation and labelled training examples among `labels` [n].

    All training examples are `labelled` unless `config.unlabelled`. `valid` is the validation set without folds. `groups` name units that
    stay in one fold, such as files. Raises UserError for impossible labels or folds, and if the labels of fewer than two classes are left.
    """
    every = np.arange(len(labels))
    try:
        if config.folds:
            _, first, group = np.unique(every if groups is None else np.asarray(groups), return_index=True, return_inverse=True)
            held = k_fold(np.arange(len(first)), config.folds, SPLIT_SEED, labels[first])[config.fold].held_out
            valid = np.flatnonzero(np.isin(group, held))
        train = np.setdiff1d(every, valid)
        known = n_labels(train, labels[train], config.labels, SPLIT_SEED) if config.labels else train
    except UserError as error:
        raise UserError(f"{error} Change config.task.labels or config.task.folds.") from None
    if len(np.unique(labels[known])) < 2:
        raise UserError(
            f"the {len(known):,} labelled training examples of {config.name} are of fewer than two classes, so there is nothing to tell "
            "apart. Give it more data, or change config.task.labels or config.task.folds."
        )
    return {"train": train if config.unlabelled else known, "valid": valid, "labelled": known}


def score_classes(output: Output, batch: Batch) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
    """Computes the cross-entropy of each example in nats. `batch["targets"]` is int32 [batch]; examples with `batch["labelled"]` 0 have
    weight 0.

    `accuracy`: whether the most likely class is correct; `nll`: the cross-entropy; `confidence`: the probability of the most likely class.
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
    """Builds a task from its splits. `classes` are the class names in records; `inputs` is the number of input token ids, 0 for images."""
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
    """Returns examples with one class each.

    `lengths` are the tokens of each input; None if all have one shape. `known` (bool) says which have a label; the others have class 0,
    with no counted token.
    """
    ones = np.ones(len(labels), np.int64)
    length = ones if lengths is None else lengths.astype(np.int64)
    counted = ones if known is None else known.astype(np.int64)
    return Examples(np.arange(len(labels)), length, inputs, length, (labels * counted).astype(np.int32)[:, None], counted, ones)


def knowing(encode: Callable[[Examples, int], Mapping[str, np.ndarray]]) -> Callable[[Examples, int], Mapping[str, np.ndarray]]:
    """Wraps the encoding of a partly labelled task: batches get `labelled`, 1 or 0 per example."""
    return lambda examples, width: {**encode(examples, width), "labelled": (examples.target_length > 0).astype(np.float32)}
