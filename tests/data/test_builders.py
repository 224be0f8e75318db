"""Embedded data: whole after a kill and with two processes at once, and no file of the standard library in two splits."""

import collections
import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from assay.core.errors import UserError
from assay.data.builders import stdlib_text
from assay.data.builders.stdlib_text import CLASSES, SPLITS, cut, documents, label_of, package_passages, source_files, split_of
from assay.data.tfds import load_split, open_split


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    before, path = os.environ.get("ASSAY_DATA"), tmp_path_factory.mktemp("data")
    os.environ["ASSAY_DATA"] = str(path)
    yield path
    del os.environ["ASSAY_DATA"]
    if before is not None:
        os.environ["ASSAY_DATA"] = before


def test_digits_are_those_of_scikit_learn_in_its_order(folder, capfd):
    columns = [load_split("tfds/digits", split) for split in ("train", "test")]
    assert [len(part["label"]) for part in columns] == [898, 899]
    digits = load_digits()
    assert np.array_equal(np.concatenate([part["image"] for part in columns])[..., 0], digits.images)
    assert np.array_equal(np.concatenate([part["label"] for part in columns]), digits.target)
    assert columns[0]["image"].dtype == np.uint8 and columns[0]["image"].max() == 16
    assert (folder / "digits" / "1.0.0" / "dataset_info.json").exists()
    said = capfd.readouterr().err.splitlines()
    assert [line.split()[0] for line in said] == ["preparing", "prepared"], "once, and only for the first of the two"
    assert np.array_equal(load_split("digits", "train[718:]")["label"], digits.target[718:898])


@pytest.fixture(scope="module")
def passages(folder):
    return {split: load_split("stdlib_text/package-512", split, also=("file",)) for split in SPLITS}


@pytest.fixture(scope="module")
def files(folder):
    return {split: load_split("stdlib_text/lm", split, also=("file",)) for split in SPLITS}


def test_no_file_is_in_two_splits_whichever_the_config(passages, files):
    owner = {}
    for split in SPLITS:
        for file in [*passages[split]["file"], *files[split]["file"]]:
            assert owner.setdefault(file, split) == split
    assert not [file for file in owner if {"test", "tests"} & set(file.split("/"))]


def test_classes_are_balanced_and_have_at_least_four_test_files(passages):
    assert open_split("stdlib_text", "test").classes == CLASSES == tuple(sorted(CLASSES))
    for split, columns in passages.items():
        counts = np.bincount(columns["label"], minlength=len(CLASSES))
        assert counts.min() == counts.max() > 10, split
        assert [CLASSES[label] for label in columns["label"]] == [label_of(file) for file in columns["file"]]
    of_class = collections.defaultdict(set)
    for label, file in zip(passages["test"]["label"], passages["test"]["file"], strict=True):
        of_class[label].add(file)
    assert min(map(len, of_class.values())) >= 4 and len(of_class) == 8


def test_no_passage_stands_in_two_places(passages, files):
    texts = [" ".join(text.split()) for columns in passages.values() for text in columns["text"]]
    assert len(set(texts)) == len(texts) and max(map(len, texts)) <= 512
    whole = [text for columns in files.values() for text in columns["text"]]
    assert len(set(whole)) == len(whole)


def test_texts_are_the_files_of_this_python(files, folder):
    root = Path(sysconfig.get_paths()["stdlib"])
    columns = files["test"]
    assert len(columns["file"]) > 50 and set(columns) == {"text", "file"}
    for file, text in list(zip(columns["file"], columns["text"], strict=True))[::20]:
        assert text.encode() == (root / file).read_bytes().replace(b"\r\n", b"\n")
    names = [path.name for path in (folder / "stdlib_text").iterdir() if path.is_dir()]
    assert len(names) == 2 and all(f"python{platform.python_version()}-" in name for name in names)


def test_two_pythons_never_mix(tmp_path):
    for name in range(120):
        (tmp_path / f"m{name:03}.py").write_text("x = 1\n")
    config = stdlib_text.StdlibConfig(512, str(tmp_path))
    assert config.name == stdlib_text.StdlibConfig(512, str(tmp_path)).name != stdlib_text.StdlibConfig(256, str(tmp_path)).name
    (tmp_path / "m000.py").write_text("x = 10\n")
    assert stdlib_text.StdlibConfig(512, str(tmp_path)).name != config.name
    with pytest.raises(UserError, match="no source files"):
        stdlib_text.StdlibConfig(512, str(tmp_path / "absent"))


def test_what_is_left_out(tmp_path):
    kept = ["a.py", "email/b.py", "http/deep/c.py"]
    left = [
        "test/t.py",
        "email/test/t.py",
        "site-packages/p.py",
        "lib/tests/t.py",
        "_sysconfigdata_x.py",
        "n.txt",
        "config-3.11-x/python.py",
    ]
    for name in kept + left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("pass\n")
    assert source_files(str(tmp_path)) == kept
    assert [label_of(file) for file in kept] == ["module", "email", "other"]
    (tmp_path / "a.py").write_bytes(b"\xff no encoding")
    assert list(stdlib_text.read(str(tmp_path))) == kept[1:]


def test_the_split_of_a_file_follows_names_and_sizes_alone():
    sizes = {f"{label}/f{i}.py": 1000 + 100 * i for label in (*stdlib_text.PACKAGES, "http") for i in range(20)}
    sizes |= {f"f{i}.py": 500 + i for i in range(13)}
    split = split_of(sizes)
    assert split == split_of(dict(reversed(sizes.items()))) and set(split) == set(sizes)
    for label in (*CLASSES, "other"):
        own = [file for file in sizes if label_of(file) == label]
        counts = collections.Counter(split[file] for file in own)
        assert counts["test"] >= 4 and counts["valid"] >= 2 and counts["train"] > counts["test"]
    assert split["email/f19.py"] == split["f12.py"] == "train", "the largest of a class"


def test_what_two_files_share_is_kept_in_one():
    texts = {f"{label}/f{i}.py": f"{label} {i}\n" * 60 for label in stdlib_text.PACKAGES for i in range(16)}
    texts |= {f"f{i}.py": f"module {i}\n" * 60 for i in range(16)}
    shared = "the same words in every file...\n" * 8  # one passage
    texts = {file: shared + text for file, text in texts.items()}
    made = package_passages(texts, 256)
    assert sum("same words" in passage.text for part in made.values() for passage in part) <= 1
    assert all(file.text == texts[file.file] for part in documents(texts).values() for file in part)


@settings(deadline=None)
@given(st.lists(st.text("ab \u4e2d", max_size=40), max_size=20), st.integers(4, 60))
def test_passages_end_at_line_ends(lines, length):
    text = "\n".join(lines)
    for passage in cut(text, length):
        assert len(passage) <= length and passage in text
        assert passage.endswith("\n") or text.endswith(passage) or len(passage) == length  # the last: cut from a longer line


@pytest.mark.parametrize("name", ["stdlib_text/whole", "stdlib_text/package-9", "stdlib_text/package-x", "digits/8x8"])
def test_names_that_are_wrong(name, folder):
    with pytest.raises(UserError, match=r"stdlib_text/package-LENGTH"):
        open_split(name, "train")


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"digits could not be prepared.*config\.task\.data_dir or \$ASSAY_DATA") as error:
        open_split("digits", "train", data_dir=str(tmp_path / "file"))
    assert "tfds build" not in str(error.value)


KILLED = """
import os, signal
from assay.data.tfds import library, load_split
library()
from assay.data.builders.digits import Digits
generate = Digits._generate_examples
def killed(self, images, labels):
    for i, example in generate(self, images, labels):
        if i == 500:
            os.kill(os.getpid(), signal.SIGKILL)
        yield i, example
Digits._generate_examples = killed
load_split("digits", "train")
"""
LOADED = "from assay.data.tfds import load_split; print(len(load_split('digits', 'test')['label']))"


def test_a_kill_leaves_nothing_that_looks_whole_and_two_processes_prepare_at_once(tmp_path):
    environment = {**os.environ, "ASSAY_DATA": str(tmp_path)}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert [path.name.split(".")[0] for path in (tmp_path / "digits").iterdir()] == ["incomplete"]
    both = [
        subprocess.Popen([sys.executable, "-c", LOADED], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [run.communicate() for run in both]
    assert [run.returncode for run in both] == [0, 0], ended
    assert [out for out, _ in ended] == ["899\n", "899\n"]
