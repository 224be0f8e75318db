"""Several processes that compute one run: equal to one process, on the same devices; and what happens when one of them dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from runs import arrays, equal, losses, train

SPEC = "experiments/reason/parity.py:scratchpad,tiny"  # which decodes with a cache
CHANGES = {"train.steps": "40", "train.steps_per_call": "2", "train.log_every": "1", "model.width": "32", "checkpoint.every": "10"}
MESH = {"mesh": "data:2,tensor:2"}


def command(folder: Path, name: str, processes: int, devices: int, changes: dict) -> list[str]:
    path = folder / f"{name}.json"
    path.write_text(json.dumps([{"spec": SPEC, "changes": CHANGES | changes, "workdir": str(folder / name)}]))
    script = [sys.executable, str(Path(__file__).parent / "runs.py"), str(path)]
    return [sys.executable, "-m", "experiments.launch", f"--processes={processes}", f"--devices={devices}", "--", *script]


def begun(*arguments) -> subprocess.Popen:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def ended(run: subprocess.Popen) -> str:
    _, told = run.communicate(timeout=600)
    return told


def workers(folder: Path, name: str) -> list[int]:
    """The processes of a run, in the order of their numbers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
            number = (path.parent / "environ").read_bytes().decode().partition("ASSAY_PROCESS=")[2].partition("\0")[0]
        except OSError:
            continue
        if str(folder / f"{name}.json") in words and "experiments.launch" not in words:
            found.append((int(number), int(path.parent.name)))
    return [process for _, process in sorted(found)]


def after_first_save(folder: Path, name: str) -> list[int]:
    deadline = time.monotonic() + 300
    while not (folder / name / "checkpoints" / "10").is_dir():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return workers(folder, name)


def predictions(workdir: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(workdir.glob("predictions/*.jsonl")) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    run = begun(folder, "unbroken", 2, 2, MESH)
    told = ended(run)
    assert run.returncode == 0, told
    return folder


def test_two_processes_of_two_equal_one_of_four(unbroken):
    run = begun(unbroken, "one", 1, 4, MESH)
    told = ended(run)
    assert run.returncode == 0, told
    assert losses(unbroken / "one") == pytest.approx(losses(unbroken / "unbroken"), rel=1e-5)
    equal(*(dict(np.load(unbroken / name / "params.npz")) for name in ("unbroken", "one")))


def test_decoding_on_a_mesh_answers_as_one_device_does(unbroken, tmp_path):
    train(SPEC, CHANGES, str(tmp_path / "alone"))
    equal(dict(np.load(unbroken / "unbroken" / "params.npz")), arrays(str(tmp_path / "alone")), 1e-4)  # adam turns rounding into steps
    alone, two = predictions(tmp_path / "alone"), predictions(unbroken / "unbroken")
    assert len(alone) > 20 and alone == two
    alone, two = (json.loads((path / "results.json").read_text())["rows"] for path in (tmp_path / "alone", unbroken / "unbroken"))
    assert [row["value"] for row in alone] == pytest.approx([row["value"] for row in two], rel=1e-5)


def test_when_one_dies_the_others_stop_and_the_next_start_ends_the_same(unbroken):
    run = begun(unbroken, "killed", 2, 2, MESH)
    os.kill(after_first_save(unbroken, "killed")[1], signal.SIGKILL)
    since = time.monotonic()
    told = ended(run)
    assert time.monotonic() - since < 20 and run.returncode == 137
    assert "process 1 of 2 was ended by SIGKILL" in told and "resumes from the last checkpoint" in told and "Traceback" not in told
    assert not (unbroken / "killed" / "results.json").exists()
    again = begun(unbroken, "killed", 2, 2, MESH)
    told = ended(again)
    assert again.returncode == 0, told
    equal(*(dict(np.load(unbroken / name / "params.npz")) for name in ("unbroken", "killed")), 0.0)
    assert losses(unbroken / "killed") == losses(unbroken / "unbroken")


def test_told_to_stop_all_save_at_one_step_and_one_device_goes_on(unbroken):
    run = begun(unbroken, "stopped", 2, 2, MESH)
    after_first_save(unbroken, "stopped")
    run.send_signal(signal.SIGTERM)
    told = ended(run)
    assert run.returncode == 143 and "saved at step" in told and "Traceback" not in told
    step = int(told.partition("saved at step ")[2].partition(";")[0])
    assert (unbroken / "stopped" / "checkpoints" / str(step)).is_dir() and 10 <= step < 40
    train(SPEC, CHANGES, str(unbroken / "stopped"))
    assert losses(unbroken / "stopped") == pytest.approx(losses(unbroken / "unbroken"), rel=1e-4)
    assert len(losses(unbroken / "stopped")) == 40


def test_two_processes_count_ngrams(tmp_path):
    """A model that is fitted by counting: every process counts all, and together they save what one would."""
    found = {}
    for processes, devices in ((2, 1), (1, 1)):
        path = tmp_path / f"of_{processes}"
        flags = ["--config=experiments/text/language_model.py:ngram3,tiny", f"--workdir={path}"]
        launch = [sys.executable, "-m", "experiments.launch", f"--processes={processes}", f"--devices={devices}", "--"]
        done = subprocess.run([*launch, sys.executable, "-m", "experiments.main", *flags], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        found[processes] = json.loads((path / "results.json").read_text())["rows"], arrays(str(path))
    assert found[1][0] == found[2][0] and len(found[1][0]) > 1
    equal(found[1][1], found[2][1], 0.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--processes=0", "--", "true"], "--processes=0"),
        (["--processes=two", "--", "true"], "--processes='two'"),
        (["--processes=2"], "after --"),
        (["--processes=2", "--devices=-1", "--", "true"], "--devices=-1"),
        (["--processes=9007199254740992", "--", "true"], "at most 256"),
        (["--processes=2", "--", "no_such_program"], "no_such_program"),
        (["--config.mesh=data:2", "--", "true"], "before the command"),
    ],
)
def test_mistakes_of_launch(arguments, words):
    done = subprocess.run([sys.executable, "-m", "experiments.launch", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--processes=2"], "--coordinator=HOST:PORT"),
        (["--coordinator=somewhere", "--processes=2", "--process=0"], "somewhere"),
        (["--coordinator=localhost:1", "--processes=2"], "--process=''"),
        (["--coordinator=localhost:1", "--processes=2", "--process=2"], "from 0 to 1"),
        (["--coordinator=auto"], "could not connect"),
    ],
)
def test_mistakes_of_joining(flags, words, tmp_path):
    main = [sys.executable, "-m", "experiments.main", "--config=experiments/reason/parity.py:tiny", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run([*main, *flags], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
