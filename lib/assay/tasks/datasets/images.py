"""Images and their classes: `digits` (scikit-learn's 1,797 handwritten digits, 8 x 8), and any image data set of TFDS by name.

digits: the documented split, the first 898 for training and the last 899 for `test`; `valid` is the last 180 of the 898. A TFDS data set
keeps its splits; without a validation split, a tenth of the training examples of each class is `valid`, chosen by their pixels.

`colour`: a spurious colour, after Coloured MNIST (Arjovsky et al. 2019, arXiv 1907.02893). Grey images are coloured in one of as many hues
as there are classes. On `train` and `valid` it is the class's hue with that probability; otherwise, and always on `test`, any hue.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from assay.config.schema import require
from assay.core.errors import UserError
from assay.core.rng import example_keys, integers
from assay.data import tfds
from assay.data.files.pictures import load
from assay.data.source import Examples, Source, in_memory
from assay.tasks.bounds import Bounds
from assay.tasks.datasets import classify
from assay.tasks.task import Task

DIGITS_VALID = 180  # of the 898
VALID_SHARE = 0.1  # share of the training examples, from their end, in configs of older versions
PALEST = 0.2  # smallest factor on a hue's channel
BOUNDS = Bounds(-1.0, 1.0, "black to white")  # of a pixel as a model reads it
HIGHEST = {"digits": 16.0}  # highest grey level; 255 elsewhere


@dataclass(frozen=True)
class ImagesConfig(classify.LabelsConfig):
    data_dir: str  # TFDS's folder; "": $TFDS_DATA_DIR, else ~/tensorflow_datasets
    colour: float = field(default=0.0, kw_only=True)  # probability that train and valid images take their class's hue; 0: images stay grey

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.colour <= 1, "task.colour", self.colour, "a probability, or 0 for unchanged images")


def build(config: ImagesConfig, seed: int) -> Task:
    """Builds the task. Its splits do not depend on the run's seed. Raises UserError if the data is not available."""
    del seed
    name = config.name.removeprefix("tfds/")
    pool, own, test = tfds.split_names(name, config.data_dir)
    opened = tfds.open_split(name, pool, data_dir=config.data_dir)
    classes: list[Any] = list(range(len(opened.classes)))

    @cache
    def columns(split: str) -> Mapping[str, Any]:
        found = tfds.load_split(name, split, data_dir=config.data_dir)
        if not config.colour:
            return found
        images, labels = found["image"], found["label"]
        if images.shape[-1] != 1:
            raise UserError(
                f"config.task.colour={config.colour} colours grey images, but those of {config.name} are already coloured. Set it to 0."
            )
        own = 0.0 if split == test else config.colour
        return {**found, "image": painted(images, hues(labels, len(classes), own, split) / len(classes))}

    @cache
    def parts() -> dict[str, np.ndarray]:
        size, labels = opened.size, columns(pool)["label"]
        if own and not config.folds:
            return classify.chosen(config, labels, np.zeros(0, np.int64))
        if not config.stratify:
            return classify.chosen(
                config, labels, np.arange(size - (DIGITS_VALID if name == "digits" else round(VALID_SHARE * size)), size)
            )
        contents = classify.hashes(image.tobytes() for image in tfds.load_split(name, pool, data_dir=config.data_dir)["image"])
        return classify.chosen(config, labels, classify.held_out(contents, labels), contents)

    @cache
    def source(split: str) -> Source:
        if split == "test" or (split == "valid" and own and not config.folds):
            data = columns(test if split == "test" else own)
            return _source(split, data["image"], data["label"])
        rows = parts()[split]
        known = np.isin(rows, parts()["labelled"]) if split == "train" and config.unlabelled else None
        return _source(split, columns(pool)["image"][rows], columns(pool)["label"][rows], known)

    there = {"train": True, "valid": bool(own and not config.folds) or len(parts()["valid"]) > 0, "test": bool(test)}
    splits = [split for split, known in there.items() if known]
    sources: Mapping[str, Callable[[], Source]] = {split: partial(source, split) for split in splits}
    highest = HIGHEST.get(name, 255.0)
    encoding = partial(encode, highest=highest)
    made = classify.task(config.name, sources, classes, classify.knowing(encoding) if config.unlabelled else encoding)
    shown, held = (columns(pool)["label"][parts()[part]] for part in ("labelled", "valid"))
    seen = classify.notices(shown, classes, "image", {"valid": held})
    made = replace(made, bounds=BOUNDS, notices=seen, examples=partial(new, like=columns(pool)["image"], highest=highest))
    return replace(made, shifted="colours independent of the class") if config.colour else made


def encode(examples: Examples, width: int, highest: float) -> dict[str, np.ndarray]:
    """Returns inputs float32 [n, height, width, channels], from -1 (black) to 1; targets int32 [n]; weight."""
    del width
    return {
        "inputs": examples.input.astype(np.float32) * np.float32(BOUNDS.scale / highest) + np.float32(BOUNDS.low),
        "targets": examples.target[:, 0],
        "weight": np.ones(len(examples.id), np.float32),
    }


def new(pictures: Sequence[Any], like: np.ndarray, highest: float) -> Examples:
    """Returns pictures without a class: paths or bytes of picture files, or arrays of grey levels as in the data.

    Args:
      pictures: at least one; a file is scaled to the size of the data.
      like: images of the data, [n, height, width, channels].
      highest: the highest grey level of the data.

    Raises UserError for a picture that cannot be read, and for an array of another shape.
    """
    shape, found = like.shape[1:], []
    for number, picture in enumerate(pictures, 1):
        if isinstance(picture, (str, bytes, Path)):
            read = load([picture], shape[:2], 3 if shape[2] == 3 else 1, np.float32).pixels[0]
            found.append(read * highest)
            continue
        array = np.asarray(picture, np.float32)
        array = array[..., None] if array.shape == shape[:2] and shape[2] == 1 else array
        if array.shape != shape:
            raise UserError(f"picture {number} has the shape {list(array.shape)}, and those of the data {list(shape)}.")
        found.append(array)
    return classify.labelled(np.zeros(len(found), np.int64), np.stack(found))


def hues(labels: np.ndarray, classes: int, probability: float, split: str) -> np.ndarray:
    """Returns the hue of each example, an integer below `classes`: its label with the given probability, otherwise any. It is the same in
    every run.
    """
    keys = example_keys(f"images/colour/{split}", 0, np.arange(len(labels)))
    own = integers(keys, "own", 1, 2**32)[:, 0] < probability * 2**32
    return np.where(own, labels, integers(keys, "hue", 1, classes)[:, 0])


def painted(images: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Colours grey images [n, height, width, 1] as [n, height, width, 3]; black stays black. `turns` has each image's hue, a fraction of
    the circle.
    """
    ramps = np.stack([(place + 6 * turns) % 6 for place in (5, 3, 1)], axis=-1)
    light = 1 - (1 - PALEST) * np.clip(np.minimum(ramps, 4 - ramps), 0, 1)
    return np.round(images * light[:, None, None, :]).astype(images.dtype)


def _source(split: str, images: np.ndarray, labels: np.ndarray, known: np.ndarray | None = None) -> Source:
    def describe(examples: Examples, i: int) -> dict[str, Any]:
        image = examples.input[i]
        return {"input": (image[..., 0] if image.shape[-1] == 1 else image).tolist(), "target": int(examples.target[i, 0])}

    return in_memory(split, classify.labelled(labels, images, known=known), describe)
