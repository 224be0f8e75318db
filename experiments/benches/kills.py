"""Compares a run that is killed repeatedly, at random moments drawn from a seed, with an uninterrupted run."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from assay.treatments.pipeline.load import rebuild, restore

ROOT = Path(__file__).parents[2]
EVERY = 8  # steps between checkpoints
STEPS_A_KILL = 60  # steps per kill, so that a run does not end before its last kill
KINDS = ("time", "save", "start", "save", "time")
CLOCK = ("examples_per_second", "elapsed_seconds")  # fields of a metrics line that depend on wall-clock time


class Run:
    """A run of the parity config's tiny variant in its own process."""

    def __init__(self, folder: Path, steps: int, every: int):
        self.folder, self.steps, self.every, self.err = folder, steps, every, folder.parent / f"{folder.name}.err"

    def start(self) -> subprocess.Popen:
        settings = {"train.steps": self.steps, "checkpoint.every": self.every}
        settings |= {"train.log_every": 1, "evaluate.splits": "iid", "evaluate.per_length": 1}
        command = [sys.executable, "-m", "experiments.train", "--config=experiments/reason/parity.py:tiny", f"--workdir={self.folder}"]
        command += [f"--config.{key}={value}" for key, value in settings.items()]
        with open(self.err, "w") as file:
            return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=file)

    def finish(self) -> None:
        if self.start().wait(timeout=600):
            raise AssertionError(self.err.read_text())

    def saves(self) -> list[int]:
        """Returns the steps of complete checkpoints. Orbax renames a checkpoint folder when it is complete."""
        return sorted(int(path.name) for path in self.folder.glob("checkpoints/*") if path.name.isdecimal())

    def half_written(self, since: float = 0.0) -> list[str]:
        """Returns incomplete checkpoints started after `since`, because those of an earlier kill may still exist."""
        folders = [path for path in self.folder.glob("checkpoints/*") if not path.name.isdecimal()]
        return [path.name for path in folders if _stat(path, "st_mtime") > since]

    def logged(self) -> list[dict]:
        """Returns the lines of metrics.jsonl without wall-clock fields. Only the last line may be truncated."""
        file = self.folder / "metrics.jsonl"
        text = file.read_text() if file.exists() else ""
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]

    def resumed_at(self) -> int | None:
        """Returns the step that the run reports as its starting point, or None if it was killed before reporting."""
        told = re.search(r"from (?:step (\d+)|scratch)", self.err.read_text())
        return int(told.group(1) or 0) if told else None

    def size(self) -> int:
        return _stat(self.folder / "metrics.jsonl", "st_size")

    def claimed(self) -> int:
        """Returns the modification time of config.json in ns. A run writes it after it has read the work directory."""
        return _stat(self.folder / "config.json", "st_mtime_ns")


def state_bytes(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of every array of the latest checkpoint by path: step, parameters, optimizer state, key."""
    state = restore(rebuild(folder), folder)
    leaves = jax.tree_util.tree_leaves_with_path(state._replace(key=jax.random.key_data(state.key)))
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def kills(root: Path, cycles: int, seed: int, told: Callable[[str], None] = lambda line: None) -> dict:
    """Kills one run `cycles` times and compares its final state with that of an uninterrupted run.

    Raises AssertionError for any difference.
    """
    steps, chance = STEPS_A_KILL * (cycles + 1), random.Random(seed)
    whole, run = Run(root / "whole", steps, steps), Run(root / "run", steps, EVERY)
    whole.finish()
    wanted = whole.logged()
    _check([line["step"] for line in wanted] == list(range(1, steps + 1)), "the uninterrupted run logged every step")
    found: dict[str, list[int]] = {"resumed_at": [], "lost_steps": []}
    halves = 0
    for turn in range(cycles):
        before, since = run.saves(), time.time()
        kill(run, KINDS[turn % len(KINDS)], chance)
        _check_resumed(run, before)
        halves += bool(run.half_written(since))
        lines, saved = run.logged(), run.saves()
        _check(lines == wanted[: len(lines)], "the metrics logged before the kill equal those of the uninterrupted run")
        _check(not (run.folder / "results.json").exists(), "a killed run has no results.json")
        newest = _newest(run, root / "copy")
        _check(
            newest == (saved[-1] if saved else 0) and newest % EVERY == 0,
            f"the latest of the checkpoints {saved} can be restored; got step {newest}",
        )
        _check(newest >= len(lines) - 2 * EVERY, "a checkpoint is complete before the next one starts")
        found["resumed_at"].append(newest)
        found["lost_steps"].append(len(lines) - newest)
        told(f"kill {turn + 1} of {cycles}: {KINDS[turn % len(KINDS)]}, {len(lines)} steps logged, latest checkpoint {newest}")
    before = run.saves()
    run.finish()
    _check_resumed(run, before)
    _check(halves > 0, "at least one kill interrupted a checkpoint")
    _check(state_bytes(run.folder) == state_bytes(whole.folder), "the final states are bit-equal")
    _check(run.logged() == wanted, "all logged metrics are equal")
    rows = [json.loads((each.folder / "results.json").read_text())["rows"] for each in (run, whole)]
    _check(rows[0] == rows[1], "the results are equal")
    _check(run.half_written() == [] and run.saves()[-1] == steps, "no incomplete checkpoint remains")
    return {"cycles": cycles, "steps": steps, "save_every": EVERY, "hit_a_save": halves, **found, "end": "bit-equal"}


def kill(run: Run, kind: str, chance: random.Random) -> None:
    """Starts the run and kills it: after some steps (`time`), during a checkpoint (`save`) or at startup (`start`)."""
    size, written, before, begun = run.size(), run.claimed(), len(run.saves()), time.time()
    running = run.start()
    if kind == "start":
        _wait(running, lambda: run.claimed() > written)
        time.sleep(chance.uniform(0.0, 0.3))
    else:
        _wait(running, lambda: run.size() > size and bool(run.saves() if before else run.half_written() or run.saves()))
    if kind == "time":  # in steps, so that a kill on a slow machine comes as late as on a fast one
        lines = len(run.logged()) + chance.randrange(8, 64)
        _wait(running, lambda: len(run.logged()) >= lines)
    elif kind == "save":
        _wait(running, lambda: bool(run.half_written(begun)))
        time.sleep(chance.uniform(0.0, 0.03))
    running.send_signal(signal.SIGKILL)
    _check(running.wait() == -signal.SIGKILL, f"the run ended before it could be killed: {run.err.read_text()}")


# -- private --------------------------------------------------------------------------------------------------------------


def _stat(path: Path, name: str) -> Any:
    """Returns a field of the path's stat, or 0 if the path does not exist."""
    try:
        return getattr(path.stat(), name)
    except FileNotFoundError:
        return 0


def _wait(running: subprocess.Popen, happened: Callable[[], bool]) -> None:
    """Waits until `happened` returns True or the run has ended. Raises AssertionError after 120 s."""
    end = time.monotonic() + 120
    while not happened() and running.poll() is None:
        _check(time.monotonic() < end, "timed out")
        time.sleep(0.002)


def _check_resumed(run: Run, before: Sequence[int]) -> None:
    step = run.resumed_at()
    _check(step in (None, before[-1] if before else 0), f"it resumes from the latest complete checkpoint; got {step}, complete: {before}")


def _newest(run: Run, copy: Path) -> int:
    """Returns the step of the latest state. Reads a copy, because restoring cleans up the folder."""
    if not run.saves():
        return 0
    shutil.copytree(run.folder, copy)
    step = int(np.frombuffer(state_bytes(copy)[".step"], np.int32)[0])
    shutil.rmtree(copy)
    return step


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(f"does not hold: {what}")
