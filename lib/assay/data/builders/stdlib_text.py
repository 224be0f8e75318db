"""The text of the running Python's own standard library, as a TFDS data set that needs no network.

`package-LENGTH`: passages of about LENGTH characters, cut at line ends, with the package that they come from as the label; each split has
equally many of every class. `lm`: whole files, for language modelling. Folders of tests are left out, and a file belongs to one split
(the same in both). A passage names its file in `file` and never in `text`, so that intervals can draw files again; what stands in several
files is kept in one. The config's name holds Python's version and a hash of the files' names and sizes, so copies of two Pythons never mix.
"""

import hashlib
import os
import platform
import sysconfig
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from assay.core.errors import UserError
from assay.core.rng import example_keys, integers, stable_hash

PACKAGES = ("asyncio", "email", "encodings", "importlib", "multiprocessing", "unittest", "xml")
CLASSES = tuple(sorted((*PACKAGES, "module")))  # `module`: a file of the top folder
LEFT_OUT = ("test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__")
SPLITS = ("train", "valid", "test")
TEST_FILES = 4  # of each class, at least


class Passage(NamedTuple):
    text: str
    label: str
    file: str


def source_files(root: str) -> list[str]:
    """The paths of the Python files below `root`, relative, sorted, without tests and what the build of this Python wrote."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith("config-")]
        kept = [name for name in names if name.endswith(".py") and not name.startswith("_sysconfigdata")]
        found += [Path(folder, name).relative_to(root).as_posix() for name in kept]
    return sorted(found)


def label_of(file: str) -> str:
    """The class of a file; "other" where it has none."""
    top, inside, _ = file.partition("/")
    return "module" if not inside else top if top in PACKAGES else "other"


def split_of(sizes: Mapping[str, int]) -> dict[str, str]:
    """file -> split, by class: about 5/8 train, 1/8 valid, 1/4 test, drawn among files of like size, so that each has large and small.

    The largest file of a class trains: it may be half of the class.
    """
    chosen = {}
    for label in (*CLASSES, "other"):
        files = sorted((file for file in sizes if label_of(file) == label), key=lambda file: (-sizes[file], file))
        chosen.update(dict.fromkeys(files, "train"))
        groups = np.array_split(np.arange(len(files)), min(max(TEST_FILES, len(files) // 4), max(1, len(files) // 3)))
        draws = integers(example_keys(f"stdlib_text/{label}", 0, np.arange(len(groups))), "place", 1, 1 << 30)[:, 0]
        for i, (group, draw) in enumerate(zip(groups, draws, strict=True)):
            places = [place for place in group.tolist() if place > 0]
            if places:
                chosen[files[places.pop(int(draw) % len(places))]] = "test"
            if places and i % 2 == 0:
                chosen[files[places.pop(int(draw) % len(places))]] = "valid"
    return chosen


def cut(text: str, length: int) -> list[str]:
    """Passages of at most `length` characters that end at line ends (a longer line is cut itself); a rest below a quarter is dropped."""
    pieces = [line[start : start + length] for line in text.splitlines(keepends=True) for start in range(0, len(line), length)]
    passages = [""]
    for piece in pieces:
        if len(passages[-1]) + len(piece) > length:
            passages.append("")
        passages[-1] += piece
    return [passage for passage in passages if len(passage.strip()) >= length // 4]


def package_passages(texts: Mapping[str, str], length: int) -> dict[str, list[Passage]]:
    """split -> passages, equally many of each class; a class gives them evenly over its files, drawn by a hash of (file, place)."""
    splits = split_of({file: len(text) for file, text in texts.items()})
    pool: dict[tuple[str, str], dict[str, list[str]]] = {(split, label): {} for split in SPLITS for label in CLASSES}
    seen: set[str] = set()
    for file in sorted(splits, key=lambda file: (SPLITS[::-1].index(splits[file]), file)):  # what two splits share stays in the smaller
        if label_of(file) != "other":
            pool[splits[file], label_of(file)][file] = [passage for passage in cut(texts[file], length) if _first(passage, seen)]
    result = {}
    for split in SPLITS:
        room = min(sum(map(len, pool[split, label].values())) for label in CLASSES)
        chosen = [(label, file, place) for label in CLASSES for file, place in _evenly(pool[split, label], room)]
        result[split] = [Passage(pool[split, label][file][place], label, file) for label, file, place in chosen]
    return result


def documents(texts: Mapping[str, str]) -> dict[str, list[Passage]]:
    """split -> whole files; of files with one text the first is kept."""
    splits, seen = split_of({file: len(text) for file, text in texts.items()}), set[str]()
    kept = [file for file in sorted(splits) if texts[file].strip() and _first(texts[file], seen)]
    return {split: [Passage(texts[file], label_of(file), file) for file in kept if splits[file] == split] for split in SPLITS}


class StdlibConfig(tfds.core.BuilderConfig):
    """`length` 0: whole files."""

    def __init__(self, length: int = 0, root: str = "") -> None:
        self.root, self.length = root or sysconfig.get_paths()["stdlib"], length
        sizes = [f"{file}:{os.path.getsize(Path(self.root, file))}" for file in source_files(self.root)]
        if len(sizes) < 100:
            raise UserError(f"this Python has no source files of its standard library in {self.root}; stdlib_text is made of them.")
        digest = hashlib.blake2b("\n".join(sizes).encode(), digest_size=4).hexdigest()
        kind = f"package-{length}" if length else "lm"
        super().__init__(name=f"{kind}-python{platform.python_version()}-{digest}", description=__doc__)


class StdlibText(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """`text`, `file` and, for passages, `label`; splits `train`, `valid` and `test`."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # there are no checksums beside this file

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {"text": tfds.features.Text(), "file": tfds.features.Text()}
        if self.builder_config.length:
            features["label"] = tfds.features.ClassLabel(names=list(CLASSES))
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("text", "label" if self.builder_config.length else "text"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        texts = read(self.builder_config.root)
        passages = package_passages(texts, self.builder_config.length) if self.builder_config.length else documents(texts)
        return {split: self._generate_examples(passages[split]) for split in SPLITS}

    def _generate_examples(self, passages: Sequence[Passage]) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, passage in enumerate(passages):
            fields = passage._asdict()
            yield i, {name: fields[name] for name in self.info.features}


def read(root: str) -> dict[str, str]:
    """relative path -> text of every source file, decoded as Python would; what it could not read is left out."""
    texts = {}
    for file in source_files(root):
        try:
            with tokenize.open(Path(root, file)) as stream:
                texts[file] = stream.read()
        except (SyntaxError, UnicodeDecodeError):
            continue
    return texts


# -- private --------------------------------------------------------------------------------------------------------------


def _first(text: str, seen: set[str]) -> bool:
    """Whether no text before had these words. Remembers it."""
    words = " ".join(text.split())
    if words in seen:
        return False
    seen.add(words)
    return True


def _evenly(files: Mapping[str, Sequence[str]], room: int) -> list[tuple[str, int]]:
    """(file, place) of `room` passages, one of each file in turn, in the order of the files."""
    order = {file: sorted(range(len(passages)), key=lambda place: stable_hash(f"{file}/{place}")) for file, passages in files.items()}
    turns = [(turn, file, place) for file, places in order.items() for turn, place in enumerate(places)]
    return sorted((file, place) for _, file, place in sorted(turns)[:room])
