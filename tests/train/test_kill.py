"""`kill -9` at any moment loses at most the steps since the last completed save, and the resumed run ends bit for bit as an unbroken one.

One work directory, killed again and again at moments drawn from a seed: after a random time of training, while a save is half-written,
and right at the start.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from assay.treat.load import rebuild, restore

ROOT = Path(__file__).parents[2]
STEPS, EVERY = 300, 8
KILLS = ("time", "save", "start", "save", "time")
CLOCK = ("examples_per_second", "elapsed_seconds")


def launch(folder: Path, every: int, err: Path) -> subprocess.Popen:
    settings = {"train.steps": STEPS, "train.log_every": 1, "checkpoint.every": every, "evaluate.splits": "iid", "evaluate.per_length": 1}
    command = [sys.executable, "-m", "experiments.main", "--config=experiments/reason/parity.py:tiny", f"--workdir={folder}"]
    command += [f"--config.{key}={value}" for key, value in settings.items()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "lib")])}
    with open(err, "w") as file:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=file)


def wait(process: subprocess.Popen, happened, seconds: float) -> None:
    """Until it has happened or the run has ended."""
    end = time.monotonic() + seconds
    while not happened() and process.poll() is None:
        assert time.monotonic() < end, "timed out"
        time.sleep(0.002)


def saves(folder: Path) -> list[int]:
    """The steps of the completed saves; orbax renames a folder once it is whole."""
    if not (folder / "checkpoints").exists():
        return []
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def half_written(folder: Path) -> list[str]:
    if not (folder / "checkpoints").exists():
        return []
    return [path.name for path in (folder / "checkpoints").iterdir() if not path.name.isdigit()]


def logged(folder: Path) -> list[dict]:
    """The lines of metrics.jsonl without the figures of the clock. Only a last line may be cut short."""
    text = (folder / "metrics.jsonl").read_text() if (folder / "metrics.jsonl").exists() else ""
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


def state_bytes(folder: Path) -> dict[str, bytes]:
    """Every array of the newest checkpoint by its path: step, parameters, optimiser state, key."""
    state = restore(rebuild(folder), folder)
    leaves = jax.tree_util.tree_leaves_with_path(state._replace(key=jax.random.key_data(state.key)))
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def step_of(state: dict[str, bytes]) -> int:
    return int(np.frombuffer(state[".step"], np.int32)[0])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run that was never stopped and saved at its end only."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    process = launch(folder, STEPS, folder.parent / "err")
    assert process.wait(timeout=120) == 0, (folder.parent / "err").read_text()
    assert saves(folder) == [STEPS]
    return folder


def test_killed_runs_end_as_the_unbroken_one(unbroken, tmp_path):
    run, err, chance = tmp_path / "run", tmp_path / "err", random.Random(20240607)
    wanted, resumed, found_half_written = logged(unbroken), [], 0
    for kill in KILLS:
        before, size, written = saves(run), _size(run), _claimed(run)
        process = launch(run, EVERY, err)
        if kill == "start":
            wait(process, lambda: _claimed(run) > written, 90)  # noqa: B023 - called before the next turn
            time.sleep(chance.uniform(0.0, 0.3))
        else:
            wait(process, lambda: _size(run) > size and saves(run), 90)  # noqa: B023
        if kill == "time":
            time.sleep(chance.uniform(0.1, 0.8))
        elif kill == "save":
            wait(process, lambda: half_written(run), 30)
            time.sleep(chance.uniform(0.0, 0.03))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed: raise STEPS"
        if kill != "start":
            resumed.append(_resumed_at(err, before))
        found_half_written += bool(half_written(run))
        _check_what_is_left(run, tmp_path / "copy", wanted)
    before, process = saves(run), launch(run, EVERY, err)
    assert process.wait(timeout=120) == 0, err.read_text()
    resumed.append(_resumed_at(err, before))
    assert found_half_written, "no kill hit a save"
    assert resumed[0] == 0 and resumed == sorted(resumed) and resumed[-1] >= EVERY * len(resumed), "every start went on from the one before"
    assert state_bytes(run) == state_bytes(unbroken)
    assert logged(run) == wanted and [line["step"] for line in wanted] == list(range(1, STEPS + 1))
    assert half_written(run) == [] and saves(run)[-1] == STEPS
    mine, reference = (json.loads((folder / "results.json").read_text())["rows"] for folder in (run, unbroken))
    assert mine == reference


def _size(run: Path) -> int:
    return (run / "metrics.jsonl").stat().st_size if (run / "metrics.jsonl").exists() else 0


def _claimed(run: Path) -> int:
    """When config.json was last written: a run does so before it restores."""
    return (run / "config.json").stat().st_mtime_ns if (run / "config.json").exists() else 0


def _resumed_at(err: Path, before: list[int]) -> int:
    """The step that the run says it went on from: the last completed save."""
    told = re.search(r"from (?:step (\d+)|the start)", err.read_text())
    assert told, err.read_text()
    step = int(told.group(1) or 0)
    assert step == (before[-1] if before else 0)
    return step


def _check_what_is_left(run: Path, copy: Path, wanted: list[dict]) -> None:
    """config.json is whole, no results are claimed, the newest checkpoint can be read, and at most one save's steps were lost."""
    assert json.loads((run / "config.json").read_text())["train"]["steps"] == STEPS
    assert not (run / "results.json").exists()
    lines = logged(run)
    assert lines == wanted[: len(lines)], "what was logged before the kill is what the unbroken run logged"
    shutil.copytree(run, copy)  # looking tidies up, so look at a copy
    step = step_of(state_bytes(copy))
    shutil.rmtree(copy)
    assert step == saves(run)[-1] and step % EVERY == 0
    assert step >= len(lines) - 2 * EVERY, "a save is complete before the next one begins"
