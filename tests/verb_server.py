"""What tests of the verbs share: a process that runs them in turn, and a finished run to spoil."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
CONFIG = "experiments/reason/parity.py"
TINY, TRANSFORMER, SCRATCHPAD = (f"--config={CONFIG}:{variant}" for variant in ("tiny", "transformer,tiny", "scratchpad,tiny"))
SHORT = ("--config.evaluate.splits=iid", "--config.evaluate.per_length=1")

LIBRARIES = ("array_record", "grain", "orbax", "tensorflow_datasets")  # they define flags of their own, once a process


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def serve() -> None:
    """Reads a verb and its arguments a line, runs `python -m experiments.VERB` in this process, answers with its exit code and output."""
    from absl import app, flags

    app.define_help_flags()
    known, scratch, replies = set(flags.FLAGS), Path(sys.argv[1]), os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        for number, stream in ((1, "out"), (2, "err")):
            with open(scratch / stream, "wb") as file:
                os.dup2(file.fileno(), number)
        sys.argv = [f"experiments/{verb}.py", *arguments]
        try:
            runpy.run_module(f"experiments.{verb}", run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        for name in set(flags.FLAGS) - known:
            if not flags.FLAGS.find_module_defining_flag(name).startswith(LIBRARIES):
                delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
        print(json.dumps([code, *((scratch / name).read_text(errors="replace") for name in ("out", "err"))]), file=replies, flush=True)


@pytest.fixture(scope="module")
def verb(tmp_path_factory):
    """`verb("main", "--config=...", ...) -> Outcome`."""
    scratch = tmp_path_factory.mktemp("server")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "lib")])}
    command = [sys.executable, __file__, str(scratch)]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin and server.stdout

    def call(*words: object) -> Outcome:
        server.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        server.stdin.flush()
        return Outcome(*json.loads(server.stdout.readline()))

    yield call
    server.stdin.close()
    server.stdout.close()
    server.wait(timeout=60)


def refused(outcome: Outcome, *words: str) -> str:
    """Asserts exit code 2, one message, no traceback, and that the message holds each of `words`."""
    assert outcome.code == 2, outcome
    assert len(re.findall(r"^error: ", outcome.err, re.MULTILINE)) == 1, outcome.err
    assert "Traceback" not in outcome.err, outcome.err
    for word in words:
        assert word in outcome.err, f"{word!r} is not in: {outcome.err}"
    return outcome.err


def contents(folder: Path) -> dict[str, bytes | None]:
    """What a folder holds, byte by byte; None for folders."""
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def run_of_16(verb, tmp_path_factory):
    """A finished run of 16 steps with one checkpoint. Tests copy it."""
    folder = tmp_path_factory.mktemp("sixteen") / "run"
    arguments = ["--config.train.steps=16", "--config.checkpoint.keep=1", *SHORT]
    assert verb("main", TINY, *arguments, f"--workdir={folder}").code == 0
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["16"]
    return folder


@pytest.fixture
def run(run_of_16, tmp_path):
    return Path(shutil.copytree(run_of_16, tmp_path / "run"))


def go_on(verb, folder: Path, *arguments: str, steps: int = 20) -> Outcome:
    return verb("main", TINY, f"--config.train.steps={steps}", "--config.checkpoint.keep=1", *SHORT, *arguments, f"--workdir={folder}")


def in_a_process(*words: str, **environment: str) -> Outcome:
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=120)
    return Outcome(done.returncode, done.stdout, done.stderr)


if __name__ == "__main__":
    serve()
