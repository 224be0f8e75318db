"""Images and their classes: `digits` (scikit-learn's 1,797 handwritten digits, 8 x 8), and any image data set of TFDS by name.

digits: the documented split, the first 898 for training and the last 899 for `test`; `valid` is the last 180 of the 898. A TFDS data set
keeps its splits; where it has no validation split, the last tenth of its training examples is `valid`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from assay.data import tfds
from assay.data.source import Examples, Source, in_memory
from assay.tasks import classify
from assay.tasks.task import Task

DIGITS_VALID = 180  # of the 898
VALID_SHARE = 0.1  # of the training examples, where a data set comes without a validation split
HIGHEST = {"digits": 16.0}  # grey levels; 255 elsewhere


@dataclass(frozen=True)
class ImagesConfig(classify.LabelsConfig):
    data_dir: str  # TFDS's folder; "": $TFDS_DATA_DIR, else ~/tensorflow_datasets


def build(config: ImagesConfig, seed: int) -> Task:
    """The task. Its splits do not depend on the run's seed. Raises UserError where the data cannot be had."""
    del seed
    name = config.name.removeprefix("tfds/")
    pool, own, test = tfds.split_names(name, config.data_dir)
    opened = tfds.open_split(name, pool, data_dir=config.data_dir)
    classes: list[Any] = list(range(len(opened.classes)))

    @cache
    def columns(split: str) -> Mapping[str, Any]:
        return tfds.load_split(name, split, data_dir=config.data_dir)

    @cache
    def parts() -> dict[str, np.ndarray]:
        size = opened.size
        held = np.arange(size - (DIGITS_VALID if name == "digits" else round(VALID_SHARE * size)), size)
        return classify.chosen(config, columns(pool)["label"], np.zeros(0, np.int64) if own and not config.folds else held)

    @cache
    def source(split: str) -> Source:
        if split == "test" or (split == "valid" and own and not config.folds):
            data = columns(test if split == "test" else own)
            return _source(split, data["image"], data["label"])
        rows = parts()[split]
        known = np.isin(rows, parts()["labelled"]) if split == "train" and config.unlabelled else None
        return _source(split, columns(pool)["image"][rows], columns(pool)["label"][rows], known)

    splits = [split for split in ("train", "valid", "test") if split != "test" or test]
    sources: Mapping[str, Callable[[], Source]] = {split: partial(source, split) for split in splits}
    highest = HIGHEST.get(name, 255.0)
    encoding = partial(encode, highest=highest)
    return classify.task(config.name, sources, classes, classify.knowing(encoding) if config.unlabelled else encoding)


def encode(examples: Examples, width: int, highest: float) -> dict[str, np.ndarray]:
    """inputs float32 [n, height, width, channels], from -1 (black) to 1; targets int32 [n]; weight."""
    del width
    return {
        "inputs": examples.input.astype(np.float32) * np.float32(2 / highest) - np.float32(1),
        "targets": examples.target[:, 0],
        "weight": np.ones(len(examples.id), np.float32),
    }


def _source(split: str, images: np.ndarray, labels: np.ndarray, known: np.ndarray | None = None) -> Source:
    def describe(examples: Examples, i: int) -> dict[str, Any]:
        image = examples.input[i]
        return {"input": (image[..., 0] if image.shape[-1] == 1 else image).tolist(), "target": int(examples.target[i, 0])}

    return in_memory(split, classify.labelled(labels, images, known=known), describe)
