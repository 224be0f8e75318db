"""Every key of the tasks that come from data, with its unit or effect. `texts("csv", train="train.csv")` changes some."""

from typing import Any

from ml_collections import ConfigDict

from assay.config.groups import changed


def digits(**changes: Any) -> ConfigDict:
    """The task `digits`: 8 x 8 handwritten digits."""
    return changed(
        {
            "name": "digits",
            "labels": 0,  # training examples that have a label; 0: all
            "unlabelled": False,  # whether the others are there too, without one, for a teacher
            "folds": 0,  # k-fold cross-validation: valid is one of so many folds; 0: the last 180 of the 898
            "fold": 0,  # which of them
            "data_dir": "",  # "": the cache
            "colour": 0.0,  # grey images are painted, in train and valid so often in their class's hue, in test in any; 0: they stay grey
        },
        changes,
    )


def images(name: str, **changes: Any) -> ConfigDict:
    """An image data set of TFDS, `tfds/NAME`."""
    return digits(**{"name": name, **changes})


def diabetes() -> ConfigDict:
    """The task `diabetes`: ten measurements of a patient, and how far the disease has come a year later."""
    return ConfigDict({"name": "diabetes"})


def texts(name: str, **changes: Any) -> ConfigDict:
    """`stdlib/package`, a text data set of TFDS (`tfds/NAME`), or `csv`."""
    values = {
        "name": name,
        "labels": 0,  # training examples that have a label; 0: all
        "unlabelled": False,  # whether the others are there too, without one, for a teacher
        "folds": 0,  # k-fold cross-validation: valid is one of so many folds; 0: the data's own, or a tenth
        "fold": 0,  # which of them
        "data_dir": "",  # TFDS's folder; "": its own
        "tokenizer": "words",  # bytes, characters, words, wordpiece, bpe
        "tokenizer_size": 10_000,  # how many ids it learns at most, from the training texts
        "tokenizer_file": "",  # a tokenizer.json to read in place of learning; "": none
        "max_length": 128,  # tokens of a text that are read; what is longer loses its end
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
    """`stdlib/lm`, or `stdlib/mlm` with its share of hidden tokens."""
    values = {
        "name": name,
        "tokenizer": "bytes",  # bytes, characters, words, wordpiece, bpe
        "tokenizer_size": 8192,  # how many ids it learns at most, from the training texts
        "window": 256,  # tokens of a window
        "context": 0,  # tokens at the start of a window of valid or test that the window before it has scored
        "bytes": 0,  # of the training text that is read, from its start; 0: all
    }
    return changed(values | ({"share": 0.15} if name == "stdlib/mlm" else {}), changes)  # share: of the tokens that are asked for


def multi(members: tuple[str, ...], weights: tuple[float, ...] = (), **shared: Any) -> ConfigDict:
    """Several tasks at once, by one trunk."""
    return ConfigDict(
        {
            "name": "multi",
            "members": members,  # names of tasks
            "weights": weights or (1.0,) * len(members),  # of an example of each
            "shared": shared,  # the other keys of their tasks
        }
    )
