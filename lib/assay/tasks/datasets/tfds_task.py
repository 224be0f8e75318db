"""Any data set of TensorFlow Datasets with random access by name: `tfds/mnist`, `tfds/cifar10`, `tfds/imdb_reviews`, `tfds/glue/sst2`.

What it holds decides what the task is: images and their classes (images.py), or texts and their classes (texts.py).
"""

from dataclasses import dataclass, field, fields
from typing import Any

from assay.config.schema import require
from assay.core.errors import UserError
from assay.data import tfds
from assay.tasks.datasets import images, texts
from assay.tasks.datasets.classify import LabelsConfig
from assay.tasks.task import Task


@dataclass(frozen=True)
class TFDSConfig(LabelsConfig):
    data_dir: str  # TFDS's folder; "": $TFDS_DATA_DIR, else ~/tensorflow_datasets
    colour: float = field(default=0.0, kw_only=True)  # of grey images only: how often their colour gives the class away
    # Of texts only:
    tokenizer: str = ""  # bytes, characters, words, wordpiece, bpe
    tokenizer_size: int = 0  # how many ids it learns at most, from the training texts
    tokenizer_file: str = ""  # a tokenizer.json to read in place of learning; "": none
    max_length: int = 0  # tokens of a text that are read; what is longer loses its end


def build(config: TFDSConfig, seed: int) -> Task:
    """The task. Raises UserError where the data set cannot be had, and says where it is looked for."""
    name = config.name.removeprefix("tfds/")
    pool, _, _ = tfds.split_names(name, config.data_dir)
    given: dict[str, Any] = {field.name: getattr(config, field.name) for field in fields(images.ImagesConfig)}
    if tfds.open_split(name, pool, data_dir=config.data_dir).kind == "image":
        return images.build(images.ImagesConfig(**given), seed)
    require(not config.colour, "task.colour", config.colour, f"0, as {config.name} holds texts")
    if not config.tokenizer:
        raise UserError(
            f"{config.name} holds texts, so config.task needs the keys tokenizer, tokenizer_size, tokenizer_file and max_length. "
            "Start from a config for texts, such as experiments/text/bilstm_classifier.py."
        )
    given = {field.name: getattr(config, field.name) for field in fields(texts.TextsConfig)}
    return texts.build_tfds(texts.TextsConfig(**given), seed)
