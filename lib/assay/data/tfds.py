"""Data sets of TensorFlow Datasets by name, with random access and without TensorFlow.

`open_split("mnist", "train").fetch(np.arange(64))` returns columns. So does every prepared data set in a format with random access
(array_record), and the embedded ones (`digits`, `stdlib_text/package-512`, `stdlib_text/lm`), which are built on first use. The features
for image, text and label are taken from the data set's own description; options name them where it is ambiguous. TFDS itself is imported on
first use: the import takes a second that other runs should not pay.
"""

import functools
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import UserError, unknown
from assay.data import tfds_prepare

HELD = 256 << 20  # bytes; smaller splits are decoded once and kept in memory as long as they are open
REMEMBERED = 8 << 20  # bytes; smaller splits are kept for whoever opens them next: a diagnosis opens its run's three times
EMBEDDED = ("digits", "stdlib_text/package-LENGTH", "stdlib_text/lm")
NO_LABEL = "none"
Columns = dict[str, Any]  # "image": an array, "text": a list of str, "label": int64; others by name


@dataclass(frozen=True)
class Split:
    """One split of a data set. `fetch(indices)` returns its columns: `image` [n, height, width, channels] or `text` (n strings), and
    `label`.
    """

    name: str  # with config and version: mnist/3.0.1
    split: str
    size: int
    kind: str  # "image" | "text"
    shape: tuple[int, ...]  # shape of an image; () for text
    classes: tuple[str, ...]  # names by class id; () if no label is read
    bytes: int  # approximate size of the split in memory
    fetch: Callable[[np.ndarray], Columns]


def open_split(
    name: str,
    split: str,
    *,
    data_dir: str = "",
    image: str = "",
    text: str = "",
    label: str = "",
    also: Sequence[str] = (),
    held: int = HELD,
) -> Split:
    """Opens a split by the names of data set and split (`train`, `test[:20%]`), and prepares the data set first if necessary.

    `data_dir` is TFDS's folder; it defaults to $TFDS_DATA_DIR, then ~/tensorflow_datasets (for embedded data, $ASSAY_DATA, then
    ~/.cache/assay/tfds). `image`, `text` and `label` select features if the data set has several; `label="none"` reads none. `also` selects
    further features. Splits up to `held` bytes are kept in memory. Raises UserError.
    """
    name = name.removeprefix("tfds/")
    builder = tfds_prepare.prepared(_builder(name, data_dir), name)
    kind, source_key, label_key = features_of(name, builder.info, image, text, label)
    known = list(builder.info.splits)
    if any(part.partition("[")[0].strip() not in known for part in split.split("+")):
        raise unknown(f"split of {name}", split, known, "config.task.train, valid or test")
    for key in also:
        if key not in builder.info.features:
            raise unknown(f"feature of {name}", key, builder.info.features, "config.task.also")
    try:
        source, part = builder.as_data_source(split=split), builder.info.splits[split]
        size, files = len(source), [instruction.filename for instruction in part.file_instructions]
    except NotImplementedError:
        raise _no_random_access(name, builder) from None
    except Exception as error:  # TFDS has no exception type for a bad slice
        reason = tfds_prepare.in_one_line(error)
        raise UserError(f"split {split!r} of {name} cannot be opened: {reason}. Write a slice as train[:80%] or train[100:200].") from None
    missing = [file for file in files if not os.path.exists(file)]
    if missing:
        raise _damaged(name, builder, f"it lacks {os.path.basename(missing[0])}")
    shape = tuple(builder.info.features[source_key].shape) if kind == "image" else ()
    if None in shape:
        raise UserError(
            f"the images of {name} differ in size ({shape}), but a batch needs one size. Choose another data set with config.task.name."
        )
    pixel = np.dtype(builder.info.features[source_key].np_dtype if kind == "image" else np.uint8)
    if pixel != np.uint8:
        raise UserError(
            f"the images of {name} have pixels of type {pixel}, but only 8-bit pixels (uint8) can be read. Choose another data set with "
            "config.task.name."
        )
    nbytes = size * int(np.prod(shape)) if kind == "image" else int(part.num_bytes)
    classes = tuple(builder.info.features[label_key].names) if label_key else ()

    def read(indices: np.ndarray) -> Columns:
        try:
            examples = source.__getitems__(np.asarray(indices).tolist())
        except (RuntimeError, OSError, ValueError) as error:  # raised by array_record and the decoders for corrupt bytes
            raise _damaged(name, builder, tfds_prepare.in_one_line(error)) from error
        return _columns(name, split, examples, kind, source_key, label_key, also)

    kept = (split, source_key, label_key, *also, *((file, os.stat(file).st_mtime_ns) for file in files))
    fetch = _held(_Reading(kept, read, size), nbytes <= REMEMBERED) if nbytes <= held else read
    return Split(builder.info.full_name, split, size, kind, shape, classes, nbytes, fetch)


def load_split(name: str, split: str, **options: Any) -> Columns:
    """Loads all columns of a split into memory; the options are those of `open_split`."""
    opened = open_split(name, split, **options)
    return opened.fetch(np.arange(opened.size))


def split_sizes(name: str, data_dir: str = "") -> dict[str, int]:
    """Returns the number of examples of each split, and prepares the data set first if necessary."""
    name = name.removeprefix("tfds/")
    builder = tfds_prepare.prepared(_builder(name, data_dir), name)
    return {split: info.num_examples for split, info in builder.info.splits.items()}


def split_names(name: str, data_dir: str = "") -> tuple[str, str, str]:
    """Returns the names of the training, validation and test splits; "" where a data set has none.

    GLUE's test splits have no labels, so its validation splits serve as test splits, as is common practice.
    """
    known = list(split_sizes(name, data_dir))
    valid = next((split for split in ("valid", "validation") if split in known), "")
    if name.partition("/")[0] == "glue":
        return "train", "", next((split for split in known if split.startswith("validation")), "")
    return ("train" if "train" in known else known[0]), valid, ("test" if "test" in known else "")


def features_of(name: str, info: Any, image: str = "", text: str = "", label: str = "") -> tuple[str, str, str]:
    """Returns ("image" | "text", its feature, the label's feature or "").

    It uses the names given, then the supervised keys, then the only candidate. Raises UserError if the choice is unknown or ambiguous.
    """
    features = library().features
    described = dict(info.features.items())
    kinds = {"image": (features.Image, image), "text": (features.Text, text)}
    supervised = [key for key in (info.supervised_keys or ()) if isinstance(key, str)]
    for kind, (_, given) in kinds.items():
        if given and given not in described:
            raise unknown(f"feature of {name}", given, described, f"config.task.{kind}")
    wanted = {kind: cls for kind, (cls, given) in kinds.items() if given or not (image or text)}
    found = [(kind, key) for kind, cls in wanted.items() for key, feature in described.items() if isinstance(feature, cls)]
    found = [pair for pair in found if pair[1] in (image, text)] or [pair for pair in found if pair[1] in supervised[:1]] or found
    if len(found) != 1:
        what = f"several: {', '.join(key for _, key in found)}" if found else "none"
        raise UserError(
            f"{name} has no unique image or text feature to read ({what}). Features: {', '.join(described)}. "
            "Name one with config.task.image or config.task.text."
        )
    (kind, source_key) = found[0]
    if label == NO_LABEL:
        return kind, source_key, ""
    if label and label not in described:
        raise unknown(f"feature of {name}", label, [*described, NO_LABEL], "config.task.label")
    labels = [key for key, feature in described.items() if isinstance(feature, features.ClassLabel)]
    labels = [key for key in labels if key == label] if label else [key for key in labels if key in supervised[1:]] or labels
    if len(labels) > 1 or (label and not labels):
        raise UserError(f"{name} has no unique class label to read. Name one of {', '.join(described)} with config.task.label, or none.")
    return kind, source_key, labels[0] if labels else ""


def library() -> Any:
    """Returns the module tensorflow_datasets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_datasets
    logging.getLogger("absl").addFilter(_worth_saying)  # adding the same filter again has no effect
    return tensorflow_datasets


# -- private --------------------------------------------------------------------------------------------------------------


def _worth_saying(record: logging.LogRecord) -> bool:
    """Returns False for messages that users cannot act on: PIL instead of OpenCV; a data set not prepared yet; a config unknown to the
    builder.
    """
    return not record.getMessage().startswith(("OpenCV is not installed", "Variant folder", "Using custom data configuration"))


def _builder(name: str, data_dir: str) -> Any:
    embedded = _embedded(name, data_dir)
    if embedded:
        return embedded
    tfds = library()
    root = str(Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser())
    try:
        return _registered(tfds, name, root)
    except tfds.core.registered.DatasetNotFoundError:
        names = [*tfds.list_builders(with_community_datasets=False), *EMBEDDED]
        raise tfds_prepare.unknown_name(name, names, root) from None
    except Exception as error:  # a bad config, version or name: TFDS raises many types
        dataset, _, config = name.partition("/")
        configs = _configs(tfds, dataset)
        if config and configs and config.partition("/")[0] not in configs:
            raise unknown(f"config of {dataset}", config, configs, f"config.task.name=tfds/{dataset}/CONFIG") from None
        reason = tfds_prepare.in_one_line(error).rpartition('}": ')[2]  # the reason follows the arguments that TFDS repeats
        raise UserError(f"TFDS cannot open {name!r}: {reason}. Set it with config.task.name=tfds/NAME/CONFIG.") from None


def _configs(tfds: Any, dataset: str) -> list[str]:
    try:
        return list(tfds.builder_cls(dataset).builder_configs)
    except Exception:  # the name itself may be wrong
        return []


def _registered(tfds: Any, name: str, root: str) -> Any:
    try:
        return tfds.builder(name, data_dir=root)
    except tfds.core.registered.DatasetNotFoundError:
        tfds_prepare.import_builders(tfds)
        return tfds.builder(name, data_dir=root)


def _embedded(name: str, data_dir: str) -> Any:
    """Returns the builder of embedded data, or None."""
    dataset, _, config = name.partition("/")
    root = Path(data_dir or os.environ.get("ASSAY_DATA") or "~/.cache/assay/tfds").expanduser()
    if dataset == "digits" and not config:
        library()
        from assay.data.builders.digits import Digits

        return Digits(data_dir=root, file_format="array_record")
    if dataset == "stdlib_text":
        kind, _, length = (config or "package-512").partition("-")
        length = length or "512"
        if kind not in ("package", "lm") or not length.isdecimal() or not 64 <= int(length) <= 65536:
            raise UserError(f"unknown data set {name!r}. Known: stdlib_text/lm, stdlib_text/package-LENGTH (64 to 65536 characters).")
        library()
        from assay.data.builders.stdlib_text import StdlibConfig, StdlibText

        return StdlibText(config=StdlibConfig(int(length) if kind == "package" else 0), data_dir=root, file_format="array_record")
    return None


def _columns(
    name: str, split: str, examples: Sequence[Mapping[str, Any]], kind: str, source: str, label: str, also: Sequence[str]
) -> Columns:
    values = [example[source] for example in examples]
    columns: Columns = {kind: np.stack(values) if kind == "image" and values else [_text(value) for value in values]}
    if label:
        columns["label"] = np.array([example[label] for example in examples], np.int64)
        if (columns["label"] < 0).any():  # TFDS's convention for a withheld answer
            raise UserError(f"split {split!r} of {name} has no labels (they are withheld). Use another split, or config.task.label=none.")
    return columns | {key: [_text(example[key]) for example in examples] for key in also}


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


@dataclass(frozen=True)
class _Reading:
    """A split that is about to be decoded; equal to another one of the same files and features."""

    kept: tuple[Any, ...]
    read: Callable[[np.ndarray], Columns] = field(compare=False)
    size: int


def _decoded(reading: _Reading) -> Columns:
    return reading.read(np.arange(reading.size))


_remembered = functools.lru_cache(maxsize=8)(_decoded)


def _held(reading: _Reading, remember: bool) -> Callable[[np.ndarray], Columns]:
    """Returns a function that decodes everything at its first call and reads from memory at later ones; with `remember`, as do all later
    readings of the same split."""
    everything = functools.cache(lambda: (_remembered if remember else _decoded)(reading))

    def fetch(indices: np.ndarray) -> Columns:
        columns, places = everything(), np.asarray(indices)
        return {key: value[places] if isinstance(value, np.ndarray) else [value[i] for i in places] for key, value in columns.items()}

    return fetch


def _no_random_access(name: str, builder: Any) -> UserError:
    return UserError(
        f"{name} is in {builder.data_dir} in the format {builder.info.file_format.value}, which has no random access. Convert it with "
        f"`tfds convert_format --dataset_dir={builder.data_dir} --out_file_format=array_record --out_dir=FOLDER`, or remove it to have "
        "it prepared again, as array_record."
    )


def _damaged(name: str, builder: Any, reason: str) -> UserError:
    return UserError(f"the copy of {name} in {builder.data_dir} is damaged: {reason}. Remove the folder to have it prepared again.")
