"""Handwritten digits as a TFDS data set without network access: the 1797 images of 8x8 pixels that come with scikit-learn.

They are the test set of UCI's Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998). The split follows scikit-learn's own
example: the first 898 train, the last 899 test, in file order. Pixels are integers from 0 to 16.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

TRAIN = 898  # of 1797
LEVELS = 16  # the value of a full pixel


class Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """`image` uint8 [8, 8, 1] in 0..16, `label` 0..9; splits `train` and `test`."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # there are no checksums beside this file

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1)),
            "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="The 1797 handwritten digits that come with scikit-learn: the first 898 train, the last 899 test.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # example i is image i of the file
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images, labels = digits.images.astype(np.uint8), digits.target
        return {
            "train": self._generate_examples(images[:TRAIN], labels[:TRAIN]),
            "test": self._generate_examples(images[TRAIN:], labels[TRAIN:]),
        }

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        from PIL import Image

        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {"image": Image.fromarray(image), "label": int(label)}  # TFDS would encode an array with TensorFlow
