"""Configs of tasks from data sets: every key, with its unit or effect. Keyword arguments change keys: `texts("csv", train="train.csv")`."""

from typing import Any

from ml_collections import ConfigDict

from assay.config.groups import changed


def digits(**changes: Any) -> ConfigDict:
    """Returns the config of the task `digits`: 8 x 8 handwritten digits."""
    return changed(
        {
            "name": "digits",
            "labels": 0,  # number of labelled training examples; 0: all
            "unlabelled": False,  # whether to include the remaining examples without labels, for a teacher
            "folds": 0,  # number of cross-validation folds; `valid` is one of them; 0: the last 180 of the 898
            "fold": 0,  # index of the validation fold
            "data_dir": "",  # data folder; "": the cache
            "colour": 0.0,  # probability that a train or valid image has its class's hue; test hues are random; 0: grey images
        },
        changes,
    )


def images(name: str, **changes: Any) -> ConfigDict:
    """Returns the config of an image data set from TFDS, `tfds/NAME`."""
    return digits(**{"name": name, **changes})


def diabetes() -> ConfigDict:
    """Returns the config of the task `diabetes`: predicts disease progression after one year from ten measurements of a patient."""
    return ConfigDict({"name": "diabetes"})


def texts(name: str, **changes: Any) -> ConfigDict:
    """Returns the config of a text task: `stdlib/package`, a text data set from TFDS (`tfds/NAME`), or `csv`."""
    values = {
        "name": name,
        "labels": 0,  # number of labelled training examples; 0: all
        "unlabelled": False,  # whether to include the remaining examples without labels, for a teacher
        "folds": 0,  # number of cross-validation folds; `valid` is one of them; 0: the validation split of the data, or a tenth
        "fold": 0,  # index of the validation fold
        "data_dir": "",  # folder of TFDS data; "": the TFDS default
        "tokenizer": "words",  # bytes, characters, words, wordpiece, bpe
        "tokenizer_size": 10_000,  # maximum vocabulary size, learned from the training texts
        "tokenizer_file": "",  # path of a tokenizer.json to load instead of learning one; "": none
        "max_length": 128,  # tokens per text; longer texts are truncated at the end
    }
    if name == "csv":
        values |= {
            "train": "",  # path of the training file
            "test": "",  # path of the test file; "": none
            "text": "text",  # name of the column of texts
            "label": "label",  # name of the column of labels
        }
    return changed(values, changes)


def language(name: str, **changes: Any) -> ConfigDict:
    """Returns the config of language modelling, `stdlib/lm`, or of masked language modelling, `stdlib/mlm`, with its masking rate."""
    values = {
        "name": name,
        "tokenizer": "bytes",  # bytes, characters, words, wordpiece, bpe
        "tokenizer_size": 8192,  # maximum vocabulary size, learned from the training texts
        "window": 256,  # tokens per window
        "context": 0,  # leading tokens of a valid or test window that are already scored in the previous window
        "bytes": 0,  # number of bytes of the training text to read, from its start; 0: all
    }
    return changed(values | ({"share": 0.15} if name == "stdlib/mlm" else {}), changes)  # share: fraction of tokens to predict


def multi(members: tuple[str, ...], weights: tuple[float, ...] = (), **shared: Any) -> ConfigDict:
    """Returns the config of multi-task training with a shared trunk."""
    return ConfigDict(
        {
            "name": "multi",
            "members": members,  # names of tasks
            "weights": weights or (1.0,) * len(members),  # weight of an example of each task
            "shared": shared,  # other config keys of the member tasks
        }
    )
