"""Files of a work directory appear whole or not at all."""

import os
from pathlib import Path

import pytest

from assay.core.errors import UserError
from assay.train import workdir
from assay.train.workdir import write_text


def test_a_folder_below_home_is_not_one_named_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert workdir.WorkDir("~/runs/a").path == tmp_path / "runs" / "a" == workdir.WorkDir(Path("~/runs/a")).path


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
