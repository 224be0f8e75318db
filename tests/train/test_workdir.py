"""Files of a work directory appear whole or not at all."""

import os
from pathlib import Path

import pytest

from assay.core.errors import UserError
from assay.train import workdir
from assay.train.workdir import write_text


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "report.html"
    write_text(path, "old \u2013 page")
    assert path.read_text(encoding="utf-8") == "old \u2013 page"
    seen = []

    def fail(source, target):
        seen.append((Path(source).parent, Path(source).read_text(encoding="utf-8"), Path(target)))
        raise OSError(28, "no space")

    monkeypatch.setattr(workdir.os, "replace", fail)
    with pytest.raises(UserError, match=r"report\.html: no space"):
        write_text(path, "new page")
    assert seen == [(path.parent, "new page", path)]
    assert path.read_text(encoding="utf-8") == "old \u2013 page"
    assert os.listdir(path.parent) == ["report.html"]


def test_text_that_utf8_cannot_hold_does_not_lose_the_file(tmp_path):
    write_text(tmp_path / "page", "a\ud800b")
    assert (tmp_path / "page").read_text(encoding="utf-8") == "a?b"


@pytest.mark.parametrize(("name", "told"), [("pipe", "not a regular file"), ("null", "not a regular file"), ("folder", "a folder")])
def test_what_is_no_file_is_not_replaced(tmp_path, name, told):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    (tmp_path / "folder").mkdir()
    before = (tmp_path / name).stat().st_ino
    with pytest.raises(UserError, match=f"cannot write .*{name}: it is {told}"):
        write_text(tmp_path / name, "text")
    assert (tmp_path / name).stat().st_ino == before and sorted(os.listdir(tmp_path)) == ["folder", "null", "pipe"]
