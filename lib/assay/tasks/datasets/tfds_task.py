"""Any data set of TensorFlow Datasets with random access by name: `tfds/mnist`, `tfds/cifar10`, `tfds/imdb_reviews`, `tfds/glue/sst2`.

The data set's features determine the task: images and their classes (images.py), or texts and their classes (texts.py).
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
    colour: float = field(default=0.0, kw_only=True)  # grey images only: how often their colour reveals the class
    # Texts only:
    tokenizer: str = ""  # bytes, characters, words, wordpiece, bpe
    tokenizer_size: int = 0  # maximum vocabulary size, learned from the training texts
    tokenizer_file: str = ""  # a tokenizer.json to load instead of learning one; "": none
    max_length: int = 0  # maximum number of tokens per text; longer texts are truncated at the end


def build(config: TFDSConfig, seed: int) -> Task:
    """Builds the task. Raises UserError, naming the searched folder, if the data set is not available."""
    name = config.name.removeprefix("tfds/")
    pool, _, _ = tfds.split_names(name, config.data_dir)
    given: dict[str, Any] = {field.name: getattr(config, field.name) for field in fields(images.ImagesConfig)}
    if tfds.open_split(name, pool, data_dir=config.data_dir).kind == "image":
        return images.build(images.ImagesConfig(**given), seed)
    require(not config.colour, "task.colour", config.colour, f"0, since {config.name} contains texts")
    if not config.tokenizer:
        raise UserError(
            f"{config.name} contains texts, so config.task needs the keys tokenizer, tokenizer_size, tokenizer_file and max_length. "
            "Start from a config for texts, such as experiments/text/bilstm_classifier.py."
        )
    given = {field.name: getattr(config, field.name) for field in fields(texts.TextsConfig)}
    return texts.build_tfds(texts.TextsConfig(**given), seed)
