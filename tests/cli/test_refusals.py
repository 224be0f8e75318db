"""Every verb ends with one message for what Python and the system refuse: memory, paths, files of flags."""

import errno
import os
import sys

import pytest
from absl import flags

import assay
from assay.cli.command import launch
from assay.cli.compare import short_names
from assay.cli.python.api import treat
from assay.config.files import load
from assay.config.overrides import override
from assay.core.errors import UserError
from assay.reports.view import read_run
from assay.treatments.option import pattern
from assay.verdicts.control import control_of


@pytest.fixture
def ended(monkeypatch, capsys):
    """`ended(main, *words) -> (exit code, standard error)`."""

    def run(main, *words):
        monkeypatch.setattr(sys, "argv", ["verb", *words])
        with pytest.raises(SystemExit) as stop:
            launch(lambda overrides: main(), "A verb.", given=flags.FlagValues())
        return stop.value.code, capsys.readouterr().err

    return run


def test_a_link_to_itself_is_a_folder_that_is_not_there(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for call in (lambda: read_run(loop), lambda: treat(loop, "average", tmp_path / "out"), lambda: treat(tmp_path, "average", loop)):
        with pytest.raises(UserError):
            call()
    assert short_names([str(loop), str(tmp_path)]) == ["loop", tmp_path.name]
    assert control_of(tmp_path, loop) is None


def test_a_run_that_cannot_start_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        assay.run("parity:lstm,tiny", tmp_path / "new" / "run", {"treatments": f"inherit:from={tmp_path / 'none'}"}, quiet=True)
    assert not list(tmp_path.iterdir())


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError("Unable to allocate 29.8 GiB"), "error: not enough memory (Unable to allocate 29.8 GiB)."),
        (MemoryError(), "error: not enough memory (the system gives no more)."),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), f"error: {'a' * 300!r} cannot be used: File name too long."),
        (PermissionError(errno.EACCES, "Permission denied", "there/x"), "error: 'there/x' cannot be used: Permission denied."),
    ],
)
def test_what_the_system_refuses_is_one_message(ended, error, told):
    code, said = ended(raising(error))
    assert code == 2 and said.startswith(told) and said.count("error: ") == 1 and "Traceback" not in said


@pytest.mark.parametrize("error", [KeyError("x"), OSError("no file is named")])
def test_an_error_of_the_program_stays_a_traceback(monkeypatch, error):
    monkeypatch.setattr(sys, "argv", ["verb"])
    with pytest.raises(type(error)):
        launch(lambda overrides: raising(error)(), "A verb.", given=flags.FlagValues())


def test_files_of_flags_that_cannot_be_read(ended, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    for name, told in (("pipe", "is not a regular file"), ("binary", "--flagfile is not text"), ("missing", "missing")):
        code, said = ended(lambda: None, f"--flagfile={tmp_path / name}")
        assert code == 2 and told in said and said.count("error: ") == 1


def test_expressions_that_python_cannot_nest():
    with pytest.raises(UserError, match=r"--config\.evaluate\.splits=.* expected comma-separated list"):
        override(load("parity:tiny"), {"evaluate.splits": "(" * 500})
    with pytest.raises(UserError, match="not a regular expression"):
        pattern("l1", "paths", "(" * 5000)
