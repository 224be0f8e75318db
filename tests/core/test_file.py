"""Reading never waits for a pipe, and says what a path is instead of a file."""

import os

import pytest

from assay.core.file import parse_json, read_bytes, read_json, read_text


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b'{"a": [1]}\xff')
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    assert read_bytes(tmp_path / "file") == b'{"a": [1]}\xff'
    assert read_text(tmp_path / "file", "replace") == '{"a": [1]}\ufffd'
    for name, told in (("pipe", "not a regular file"), ("null", "not a regular file"), (".", "is a folder")):
        with pytest.raises(OSError, match=told):
            read_json(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing")
    with pytest.raises(ValueError, match="utf-8"):
        read_json(tmp_path / "file")


def test_json_of_any_depth_is_data_or_an_error(tmp_path):
    assert parse_json("[[1]]") == [[1]]
    (tmp_path / "deep").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "deep")
