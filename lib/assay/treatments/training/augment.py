"""Data augmentation: training changes images or texts at random at every step; evaluation sees the originals.

    --config.treatments=augment:images=crop:2+rotate:10+cutout:2
    --config.treatments=augment:text=dropout:0.1+noise:0.05

`images` and `text` list entries of IMAGE and TEXT (assay.data.augment_image, augment_text) with their strengths. Entries are joined by `+`
and applied in that order. The task defines which token ids are text, and its link adds them to each batch. List `augment` after the
treatments that should see the changed inputs: a teacher or a penalty listed before it does. Listed before `ensemble`, each member sees
its own changes.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.data.augment import parse
from assay.data.augment_image import make_augment as make_image_augment
from assay.data.augment_text import PLACED, TEXT, Alphabet
from assay.data.augment_text import make_augment as make_text_augment
from assay.data.source import Examples
from assay.models.model import Batch, Model
from assay.tasks.task import Task
from assay.train.objective import Aux, Objective
from assay.train.treatment import Treatment
from assay.treatments.option import KEY, check

Change = Callable[[jax.Array, Batch], Mapping[str, jax.Array]]  # (key, batch) -> the changed arrays of the batch
ALPHABET = "alphabet"  # batch key: int32 [batch, 4]: mask id, first id, number of ids, padding id of its texts


def augment(images: str = "", text: str = "") -> Treatment:
    """Returns the augmentation treatment.

    Args:
        images: image augmentations joined by `+`; "crop" if both arguments are empty.
        text: text augmentations joined by `+`. Give `images` or `text`, not both.
    """
    check(not (images and text), "augment", "text", text, "a task has images or texts, not both: omit one of them")
    if text:
        spec, key = text.replace("+", ","), "augment:text in --config.treatments"
        parse(spec, TEXT, key)
        change = partial(changed_text, spec=spec, key_name=key)
        return Treatment(task=partial(with_alphabet, text=text), objective=partial(augmented, change=change), name="augment")
    spec = (images or "crop").replace("+", ",")
    mixed = any(part.partition(":")[0].strip() == "mixup" for part in spec.split(","))
    check(not mixed, "augment", "images", images, "mixup needs soft targets, which task scores do not support")
    change = partial(changed_images, augment=make_image_augment(spec, "augment:images in --config.treatments"))
    return Treatment(objective=partial(augmented, change=change), name="augment")


def augmented(objective: Objective, change: Change) -> Objective:
    """Returns the objective on augmented inputs."""

    def loss(model: Model, params: PyTree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
        return objective.loss(model, params, {**batch, **change(rng.stream(key, "augment"), batch)}, key, step)

    return replace(objective, loss=loss)


def changed_images(key: jax.Array, batch: Batch, augment: Callable[..., tuple[jax.Array, jax.Array]]) -> Mapping[str, jax.Array]:
    """Returns augmented `inputs` [batch, height, width, channels]. Raises UserError if the inputs are not images."""
    if batch["inputs"].ndim != 4:
        shape = list(batch["inputs"].shape)
        raise UserError(
            f"the treatment 'augment' changes images [batch, height, width, channels], but the inputs have shape {shape}. "
            f"For texts, write augment:text=dropout:0.1. {KEY}"
        )
    images, _ = augment(key, batch["inputs"], batch["targets"])
    return {"inputs": images}


def changed_text(key: jax.Array, batch: Batch, spec: str, key_name: str) -> Mapping[str, jax.Array]:
    """Returns augmented `inputs` and `length`."""
    alphabet = Alphabet(*batch[ALPHABET][0])  # all rows are equal
    tokens, length = make_text_augment(spec, alphabet, key_name)(key, batch["inputs"], batch["length"])
    return {"inputs": tokens, "length": length}


def with_alphabet(task: Task, text: str) -> Task:
    """Returns the task whose batches contain the text alphabet.

    Raises UserError if the task has no texts, or if it predicts at each token and the augmentation would move tokens.
    """
    alphabet = task.alphabet
    if alphabet is None:
        raise UserError(f"the treatment 'augment' has text={text}, but {task.name} has no texts. {KEY}")
    moving = [part for part in text.split("+") if part.partition(":")[0].strip() not in PLACED]
    if moving and not task.vocabulary.pooled:
        raise UserError(
            f"the treatment 'augment' has text={text}, but {task.name} predicts at each token, and {', '.join(moving)} would "
            f"move tokens. It allows: {', '.join(PLACED)}. {KEY}"
        )

    def encode(examples: Examples, width: int) -> Mapping[str, np.ndarray]:
        batch = task.encode(examples, width)
        return {**batch, ALPHABET: np.tile(np.array(alphabet, np.int32), (len(batch["weight"]), 1))}

    return replace(task, encode=encode)
