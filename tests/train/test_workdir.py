"""Files of a work directory appear whole or not at all."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from assay.cli import evaluate, study, suite
from assay.core.errors import UserError
from assay.core.lock import locked
from assay.train import workdir
from assay.train.workdir import UNCOMMITTED, commit_of, cores, held, write_text


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


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_commit_says_whether_the_source_has_changed_since(tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True, capture_output=True)

    assert commit_of(tmp_path) is None, "no checkout"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.py").write_text("a = 1")
    (tmp_path / "notes.md").write_text("a")
    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "first")
    commit = commit_of(tmp_path / "lib")
    assert commit is not None and len(commit) == 40 and not commit.endswith(UNCOMMITTED)
    (tmp_path / "notes.md").write_text("b")
    (tmp_path / "experiments" / "results").mkdir(parents=True)
    (tmp_path / "experiments" / "results" / "new.json").write_text("{}")
    assert commit_of(tmp_path / "lib") == commit, "neither notes nor results change a run"
    (tmp_path / "experiments" / "new.py").write_text("b = 1")
    assert commit_of(tmp_path) == f"{commit} + uncommitted changes"
    (tmp_path / "experiments" / "new.py").unlink()
    (tmp_path / "lib" / "a.py").write_text("a = 2")
    assert commit_of(tmp_path) == commit + UNCOMMITTED


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_cores_are_those_that_the_process_may_use():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert cores() == len(allowed)


@pytest.mark.parametrize(("name", "told"), [("pipe", "not a regular file"), ("null", "not a regular file"), ("folder", "a folder")])
def test_what_is_no_file_is_not_replaced(tmp_path, name, told):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    (tmp_path / "folder").mkdir()
    before = (tmp_path / name).stat().st_ino
    with pytest.raises(UserError, match=f"cannot write .*{name}: it is {told}"):
        write_text(tmp_path / name, "text")
    assert (tmp_path / name).stat().st_ino == before and sorted(os.listdir(tmp_path)) == ["folder", "null", "pipe"]


@pytest.mark.parametrize(
    "verb",
    [
        lambda folder: evaluate.evaluate(folder, ["iid"], [], {}, {}),
        lambda folder: study.study(["parity:tiny"], [0], {}, folder),
        lambda folder: suite.run("mine", "", [], [0], {}, "", str(folder)),
    ],
)
def test_a_folder_is_written_by_one_process_at_a_time(verb, tmp_path, monkeypatch):
    """Each verb that joins files of a folder is told of another one there, before it reads them."""
    monkeypatch.setattr(evaluate, "rebuild", lambda *given: None)
    with locked(tmp_path), pytest.raises(UserError, match=r"another process .* is writing to .*Wait until it has ended"):
        verb(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_a_failure_leaves_empty_is_removed(tmp_path):
    (tmp_path / "before").mkdir()
    for folder in (tmp_path / "a" / "b", tmp_path / "before" / "c"):
        with pytest.raises(KeyError), held(folder):
            raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["before"] and not list((tmp_path / "before").iterdir())
    with pytest.raises(KeyError), held(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").write_text("kept")
        raise KeyError
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    with held(tmp_path / "done"):
        pass
    assert (tmp_path / "done").is_dir()


def test_a_folder_is_held_once_it_is_there(tmp_path):
    with held(tmp_path / "new" / "folder"), pytest.raises(UserError, match="another process"), held(tmp_path / "new" / "folder"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"), held(tmp_path / "file" / "below"):
        pass
