"""A run that is killed again and again, at moments drawn from a seed, against one that was never stopped."""

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
EVERY = 8  # steps between saves
STEPS_A_KILL = 60  # a run must not end before its last kill
KINDS = ("time", "save", "start", "save", "time")
CLOCK = ("examples_per_second", "elapsed_seconds")  # the figures of a line that depend on the day


class Run:
    """A run of parity's tiny variant in a process of its own."""

    def __init__(self, folder: Path, steps: int, every: int):
        self.folder, self.steps, self.every, self.err = folder, steps, every, folder.parent / f"{folder.name}.err"

    def start(self) -> subprocess.Popen:
        settings = {"train.steps": self.steps, "checkpoint.every": self.every}
        settings |= {"train.log_every": 1, "evaluate.splits": "iid", "evaluate.per_length": 1}
        command = [sys.executable, "-m", "experiments.main", "--config=experiments/reason/parity.py:tiny", f"--workdir={self.folder}"]
        command += [f"--config.{key}={value}" for key, value in settings.items()]
        with open(self.err, "w") as file:
            return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=file)

    def finish(self) -> None:
        if self.start().wait(timeout=600):
            raise AssertionError(self.err.read_text())

    def saves(self) -> list[int]:
        """The steps of the complete saves; orbax renames a folder once it is whole."""
        return sorted(int(path.name) for path in self.folder.glob("checkpoints/*") if path.name.isdecimal())

    def half_written(self, since: float = 0.0) -> list[str]:
        """Saves that are not complete; those begun after `since`, since an earlier kill's may still lie there."""
        folders = [path for path in self.folder.glob("checkpoints/*") if not path.name.isdecimal()]
        return [path.name for path in folders if _stat(path, "st_mtime") > since]

    def logged(self) -> list[dict]:
        """The lines of metrics.jsonl without the figures of the clock. Only a last line may be cut short."""
        file = self.folder / "metrics.jsonl"
        text = file.read_text() if file.exists() else ""
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]

    def resumed_at(self) -> int | None:
        """The step that it says it went on from; None where it was killed before."""
        told = re.search(r"from (?:step (\d+)|the start)", self.err.read_text())
        return int(told.group(1) or 0) if told else None

    def size(self) -> int:
        return _stat(self.folder / "metrics.jsonl", "st_size")

    def claimed(self) -> int:
        """When config.json was last written: a run does so once it has read what is there."""
        return _stat(self.folder / "config.json", "st_mtime_ns")


def state_bytes(folder: Path) -> dict[str, bytes]:
    """Every array of the newest checkpoint by its path: step, parameters, optimiser state, key."""
    state = restore(rebuild(folder), folder)
    leaves = jax.tree_util.tree_leaves_with_path(state._replace(key=jax.random.key_data(state.key)))
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def kills(root: Path, cycles: int, seed: int, told: Callable[[str], None] = lambda line: None) -> dict:
    """Kills one run `cycles` times and compares its end with that of a run that was never stopped. Raises AssertionError."""
    steps, chance = STEPS_A_KILL * (cycles + 1), random.Random(seed)
    whole, run = Run(root / "whole", steps, steps), Run(root / "run", steps, EVERY)
    whole.finish()
    wanted = whole.logged()
    _check([line["step"] for line in wanted] == list(range(1, steps + 1)), "the unbroken run logged every step")
    found: dict[str, list[int]] = {"resumed_at": [], "lost_steps": []}
    halves = 0
    for turn in range(cycles):
        before, since = run.saves(), time.time()
        kill(run, KINDS[turn % len(KINDS)], chance)
        _check_resumed(run, before)
        halves += bool(run.half_written(since))
        lines, saved = run.logged(), run.saves()
        _check(lines == wanted[: len(lines)], "what was logged before the kill is what the unbroken run logged")
        _check(not (run.folder / "results.json").exists(), "a killed run claims no results")
        newest = _newest(run, root / "copy")
        _check(
            newest == (saved[-1] if saved else 0) and newest % EVERY == 0, f"the newest save {saved} can be read; it is of step {newest}"
        )
        _check(newest >= len(lines) - 2 * EVERY, "a save is complete before the next one begins")
        found["resumed_at"].append(newest)
        found["lost_steps"].append(len(lines) - newest)
        told(f"kill {turn + 1} of {cycles}: {KINDS[turn % len(KINDS)]}, {len(lines)} steps logged, newest save {newest}")
    before = run.saves()
    run.finish()
    _check_resumed(run, before)
    _check(halves > 0, "some kill hit a save")
    _check(state_bytes(run.folder) == state_bytes(whole.folder), "the state is the same to the last bit")
    _check(run.logged() == wanted, "every logged figure is the same")
    rows = [json.loads((each.folder / "results.json").read_text())["rows"] for each in (run, whole)]
    _check(rows[0] == rows[1], "the results are the same")
    _check(run.half_written() == [] and run.saves()[-1] == steps, "nothing half-written is left")
    return {"cycles": cycles, "steps": steps, "save_every": EVERY, "hit_a_save": halves, **found, "end": "bit-equal"}


def kill(run: Run, kind: str, chance: random.Random) -> None:
    size, written, before, begun = run.size(), run.claimed(), len(run.saves()), time.time()
    running = run.start()
    if kind == "start":
        _wait(running, lambda: run.claimed() > written)
        time.sleep(chance.uniform(0.0, 0.3))
    else:
        _wait(running, lambda: run.size() > size and bool(run.saves() if before else run.half_written() or run.saves()))
    if kind == "time":
        time.sleep(chance.uniform(0.1, 0.8))
    elif kind == "save":
        _wait(running, lambda: bool(run.half_written(begun)))
        time.sleep(chance.uniform(0.0, 0.03))
    running.send_signal(signal.SIGKILL)
    _check(running.wait() == -signal.SIGKILL, f"the run ended before it could be killed: {run.err.read_text()}")


# -- private --------------------------------------------------------------------------------------------------------------


def _stat(path: Path, name: str) -> Any:
    """0 where it is not there, or no longer."""
    try:
        return getattr(path.stat(), name)
    except FileNotFoundError:
        return 0


def _wait(running: subprocess.Popen, happened: Callable[[], bool]) -> None:
    """Until it has happened or the run has ended."""
    end = time.monotonic() + 120
    while not happened() and running.poll() is None:
        _check(time.monotonic() < end, "timed out")
        time.sleep(0.002)


def _check_resumed(run: Run, before: Sequence[int]) -> None:
    step = run.resumed_at()
    _check(step in (None, before[-1] if before else 0), f"it went on from {step}; complete were {before}")


def _newest(run: Run, copy: Path) -> int:
    """The step of the newest state. Looking tidies up, so it looks at a copy."""
    if not run.saves():
        return 0
    shutil.copytree(run.folder, copy)
    step = int(np.frombuffer(state_bytes(copy)[".step"], np.int32)[0])
    shutil.rmtree(copy)
    return step


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(f"does not hold: {what}")
