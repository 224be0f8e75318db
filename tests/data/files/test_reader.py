"""From paths to parts: what is in a folder, what goes together, and what a file is that is no table."""

import gzip
import os

import pytest

from assay.core.errors import UserError
from assay.data.files.reader import read, read_parts


def write(folder, *names, content="text,label\nhello,a\n"):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return folder


def sizes(parts):
    return {name: len(table.lines) for name, table in parts.items()}


def test_a_file_or_two(tmp_path):
    write(tmp_path, "a.csv", "b.csv")
    assert sizes(read_parts(tmp_path / "a.csv")) == {"train": 1}
    assert sizes(read_parts((str(tmp_path / "a.csv"), tmp_path / "b.csv"))) == {"train": 1, "test": 1}
    with pytest.raises(UserError, match="both the data and --test"):
        read_parts((tmp_path / "a.csv", tmp_path / "a.csv"))
    with pytest.raises(UserError, match="3 paths"):
        read_parts((tmp_path / "a.csv",) * 3)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train.csv", "test.csv.gz", "dev.tsv", "README.md", "sample_submission.csv"), {"train": 1, "valid": 1, "test": 1}),
        (("train-00000-of-00002.csv", "train-00001-of-00002.csv", "validation.csv"), {"train": 2, "valid": 1}),
        (("Reviews.csv",), {"train": 1}),
        (("Testament.csv",), {"train": 1}),
    ],
)
def test_folders_of_tables(tmp_path, names, expected):
    assert sizes(read_parts(write(tmp_path / "set", *names))) == expected
    assert sizes(read_parts(write(tmp_path / "hub" / "data", *names).parent)) == expected


def test_parts_without_train_and_columns_that_differ(tmp_path):
    write(tmp_path / "set", "test.csv", "valid.csv")
    with pytest.raises(UserError, match="none called train"):
        read_parts(tmp_path / "set")
    folder = write(tmp_path / "other", "train-0.csv")
    write(folder, "train-1.csv", content="text,class\nhello,a\n")
    with pytest.raises(UserError, match="different columns"):
        read_parts(folder)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (b"PK\x03\x04", "Excel"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (b"%PDF-1.4", "a PDF"),
        (b"SQLite format 3\0", "SQLite"),
        (b"\x80\x04\x95", "a Python pickle"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, start, told):
    path = tmp_path / "data.csv"
    path.write_bytes(start + b"\0\1\2")
    with pytest.raises(UserError, match=told):
        read(path)


def test_paths_that_lead_nowhere(tmp_path):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent.csv", tmp_path / "empty", tmp_path / "pipe", "", "a\0b", "x" * 5000):
        with pytest.raises(UserError):
            read(path)
