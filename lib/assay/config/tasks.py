"""Every key of the tasks on existing data, with its unit or effect. Example: `texts("csv", train="train.csv")`."""

from typing import Any

from ml_collections import ConfigDict

from assay.config.groups import changed


def digits(**changes: Any) -> ConfigDict:
    """Returns the config of the task `digits`: 8 x 8 handwritten digits."""
    return changed(
        {
            "name": "digits",
            "labels": 0,  # number of labelled training examples; 0: all
            "unlabelled": False,  # whether the remaining examples are included without labels, for a teacher
            "folds": 0,  # number of folds for k-fold cross-validation, one of which is valid; 0: valid is the last 180 of the 898
            "fold": 0,  # index of the fold used as valid
            "data_dir": "",  # data folder; "": the cache
            "colour": 0.0,  # probability that grey images take their class's hue in train and valid (any hue in test); 0: they stay grey
        },
        changes,
    )


def images(name: str, **changes: Any) -> ConfigDict:
    """Returns the config of `tfds/NAME`, an image data set of TFDS."""
    split = {"stratify": True}  # whether valid, if the data set has none, has a tenth of each class; False: the last tenth
    return changed({**digits(), **split, "name": name}, changes)


def diabetes() -> ConfigDict:
    """Returns the config of the task `diabetes`: ten measurements of a patient and the disease's progression a year later."""
    return ConfigDict({"name": "diabetes"})


def texts(name: str, **changes: Any) -> ConfigDict:
    """Returns the config of `stdlib/package`, of a TFDS text data set (`tfds/NAME`), or of `csv`."""
    values = {
        "name": name,
        "labels": 0,  # number of labelled training examples; 0: all
        "unlabelled": False,  # whether the remaining examples are included without labels, for a teacher
        "folds": 0,  # number of folds for k-fold cross-validation, one of which is valid; 0: the data set's own valid split, or a tenth
        "fold": 0,  # index of the fold used as valid
        "data_dir": "",  # TFDS's folder; "": its default
        "tokenizer": "words",  # bytes, characters, words, wordpiece, bpe
        "tokenizer_size": 10_000,  # maximum vocabulary size, learned from the training texts
        "tokenizer_file": "",  # a tokenizer.json to load instead of learning one; "": none
        "max_length": 128,  # maximum number of tokens per text; longer texts are truncated at the end
    }
    if name == "csv":
        values |= {
            "train": "",  # path of the training file
            "test": "",  # path of the test file; "": none
            "text": "text",  # name of the text column
            "label": "label",  # name of the label column
        }
    if name == "csv" or name.startswith("tfds/"):
        values |= {"stratify": True}  # whether valid has a tenth of each class's texts; False: a tenth of all texts
    return changed(values, changes)


def files(name: str, train: str, **changes: Any) -> ConfigDict:
    """Returns the config of `files/texts`, `files/table` or `files/pictures`: a task on files of one's own."""
    values: dict[str, Any] = {
        "name": name,
        "train": train,  # file or folder with the examples
        "test": "",  # file or folder to test on; "": a part of `train` is held out
        "target": "",  # column to predict; "": found by its name
        "kind": "classes",  # what is predicted: classes, labels (any number of them) or number
        "text": (),  # columns that are read as text, whatever they look like
        "ignore": (),  # columns that are not read
        "delimiter": "",  # between the fields of a line; "": found
        "encoding": "",  # of text files; "": found
        "header": "",  # whether the first line names the columns: yes, no, or "": found
        "labels": 0,  # number of labelled training examples; 0: all
        "unlabelled": False,  # whether the remaining examples are included without labels, for a teacher
        "folds": 0,  # number of folds for k-fold cross-validation, one of which is valid; 0: a fixed share
        "fold": 0,  # index of the fold used as valid
    }
    if name == "files/texts":
        values |= {
            "tokenizer": "words",  # bytes, characters, words, wordpiece, bpe
            "tokenizer_size": 20_000,  # maximum vocabulary size, learned from the training texts
            "tokenizer_file": "",  # a tokenizer.json to load instead of learning one; "": none
            "max_length": 256,  # maximum number of tokens per row; longer ones are truncated at the end
        }
    if name == "files/pictures":
        values |= {
            "height": 32,  # pixels
            "width": 32,  # pixels
            "channels": 3,  # 1: grey, 3: colours
        }
    return changed(values, changes)


def language(name: str, **changes: Any) -> ConfigDict:
    """Returns the config of `stdlib/lm`, or of `stdlib/mlm` with its share of masked tokens."""
    values = {
        "name": name,
        "tokenizer": "bytes",  # bytes, characters, words, wordpiece, bpe
        "tokenizer_size": 8192,  # maximum vocabulary size, learned from the training texts
        "window": 256,  # tokens per window
        "context": 0,  # tokens at the start of each valid or test window that the previous window has already scored
        "bytes": 0,  # bytes of the training text to read, from its start; 0: all
    }
    return changed(values | ({"share": 0.15} if name == "stdlib/mlm" else {}), changes)  # share: fraction of tokens to predict


def multi(members: tuple[str, ...], weights: tuple[float, ...] = (), **shared: Any) -> ConfigDict:
    """Returns the config of several tasks trained together on one trunk."""
    return ConfigDict(
        {
            "name": "multi",
            "members": members,  # names of the tasks
            "weights": weights or (1.0,) * len(members),  # weight of an example of each task
            "shared": shared,  # the remaining keys of the member tasks
        }
    )
