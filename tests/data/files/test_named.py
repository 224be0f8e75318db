"""Data sets that are no tables of their own: idx files, and names of TensorFlow Datasets."""

import gzip
import io
import struct

import numpy as np
import pytest
from PIL import Image

from assay.core.errors import UserError
from assay.data.files.formats.tfds import is_tfds, read_tfds
from assay.data.files.reader import read_parts
from assay.data.tfds import load_split


def write(path, array: np.ndarray, packed: bool = True) -> None:
    held = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(held) if packed else held)


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for part, rows in (("train", 12), ("t10k", 5)):
        write(tmp_path / f"{part}-images-idx3-ubyte.gz", random.integers(0, 256, (rows, 6, 4)))
        write(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(rows) % 3, packed=False)
    return tmp_path


def test_idx_files_are_pictures_and_labels(folder):
    parts = read_parts(str(folder))
    assert {name: len(table.lines) for name, table in parts.items()} == {"train": 12, "test": 5}
    assert parts["train"].columns["label"].tolist()[:4] == ["0", "1", "2", "0"]
    pixels = np.random.default_rng(0).integers(0, 256, (12, 6, 4))
    for i in (0, 11):
        seen = np.asarray(Image.open(io.BytesIO(parts["train"].columns["picture"][i])))
        np.testing.assert_array_equal(seen, pixels[i])


def test_damaged_idx_files_are_named(folder):
    whole = (folder / "t10k-labels-idx1-ubyte").read_bytes()
    for held, word in ((whole[:-2], "it is damaged"), (b"\0\0\x0d\x01" + whole[4:], "no idx file of unsigned bytes"), (b"", "no idx file")):
        (folder / "t10k-labels-idx1-ubyte").write_bytes(held)
        with pytest.raises(UserError, match=word):
            read_parts(str(folder))
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="t10k-images but no t10k-labels"):
        read_parts(str(folder))
    write(folder / "t10k-labels-idx1-ubyte", np.arange(4), packed=False)
    with pytest.raises(UserError, match="not pictures with a label each"):
        read_parts(str(folder))
    write(folder / "t10k-labels-idx1-ubyte", np.arange(5), packed=False)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        read_parts(str(folder))


def test_a_name_of_tfds_is_a_table(tmp_path, monkeypatch):
    parts = read_parts("tfds/digits")
    assert set(parts) == {"train", "test"}
    columns = load_split("tfds/digits", "test")
    seen = np.asarray(Image.open(io.BytesIO(parts["test"].columns["picture"][7])))
    np.testing.assert_array_equal(seen, columns["image"][7, ..., 0])
    assert parts["test"].columns["label"][7] == str(columns["label"][7]) and len(parts["test"].lines) == len(columns["label"])
    with pytest.raises(UserError, match="nothing"):
        read_tfds("tfds/nothing")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tfds" / "digits").mkdir(parents=True)
    assert not is_tfds("tfds/digits"), "a folder of that name comes first"
