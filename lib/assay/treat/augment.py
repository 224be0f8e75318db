"""Image augmentation in training: every step sees its images changed at random, evaluation sees them as they are.

    --config.treatments=augment:images=crop:2+rotate:10+cutout:2

`images` lists entries of assay.data.augment_image.IMAGE with their strengths, joined by `+` and applied in that order. List it after the
treatments that are to see the changed images: a teacher or a penalty listed before it does; listed before `ensemble`, members see others.
"""

from dataclasses import replace
from functools import partial

import jax

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.data.augment_image import Augment, make_augment
from assay.models.model import Batch, Model
from assay.train.objective import Aux, Objective
from assay.train.treatment import Treatment
from assay.treat.option import KEY, check


def augment(images: str = "crop") -> Treatment:
    change = make_augment(images.replace("+", ","), "augment:images in --config.treatments")
    mixed = any(part.partition(":")[0].strip() == "mixup" for part in images.split("+"))
    check(not mixed, "augment", "images", images, "mixup needs soft targets, which the scores of tasks do not read")
    return Treatment(objective=partial(augmented, change=change), name="augment")


def augmented(objective: Objective, change: Augment) -> Objective:
    """The objective on changed images."""

    def loss(model: Model, params: PyTree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
        if batch["inputs"].ndim != 4:
            shape = list(batch["inputs"].shape)
            raise UserError(f"the treatment 'augment' changes images [batch, height, width, channels], but inputs are {shape}. {KEY}")
        images, _ = change(rng.stream(key, "augment"), batch["inputs"], batch["targets"])
        return objective.loss(model, params, {**batch, "inputs": images}, key, step)

    return replace(objective, loss=loss)
