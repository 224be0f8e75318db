"""Runs two or more workers, each in its own process, in turns. Only ratios within one turn are compared.

A worker is stopped (SIGSTOP) while it has no turn. All get the same settings of glibc's allocator, as environment variables. Each is also
timed alone; see diagnostics/cost/disturbance.py for timings that give no ratio.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.allocator import as_environment
from assay.core.errors import UserError
from assay.diagnostics.cost.chips import CHIPS
from experiments.benches.turns import Taken, ratio, take
from experiments.peers.works import ON_GPU, WORKS

HERE = Path(__file__).parent
SECONDS = 1.0  # approximate duration of a repeat
WARM = 5  # warm-up turns that are not counted: PyTorch is two to three times slower in its first seconds
MODES = {"decode": ("eager",)}  # PyTorch modes by kind of workload; other kinds run in both modes
EITHER = ("eager", "compiled")


def compare(name: str, python: str, repeats: int, told: Callable[[str], None]) -> dict:
    """Returns the seconds per step of this library and each peer, and the ratio to the better peer with a bootstrap interval."""
    work = (WORKS | ON_GPU)[name]
    commands = {"ours": [sys.executable, "-m", "experiments.peers.ours", name]}
    commands |= {mode: [python, str(HERE / "in_torch.py"), name, mode] for mode in MODES.get(work["kind"], EITHER)}
    workers = {side: _start(command) for side, command in commands.items()}
    try:
        facts = {side: _answer(side, worker) for side, worker in workers.items()}
        for worker in workers.values():
            worker.send_signal(signal.SIGSTOP)
        counts = {side: max(1, int(SECONDS / _turn(side, worker, 1))) for side, worker in workers.items()}
        sides = {side: partial(_turn, side, worker, counts[side]) for side, worker in workers.items()}

        def on_turn(turn: int, seconds: Mapping[str, float]) -> None:
            times = ", ".join(f"{side} {1e3 * each:.2f} ms" for side, each in seconds.items())
            told(f"{name} turn {turn} of {repeats}: {times}")

        taken = take(sides, repeats, WARM, on_turn)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    if taken.timing.disturbed:
        told(f"{name}: {taken.timing.disturbed}")
    return row(name, work, taken, facts)


def row(name: str, work: Mapping[str, Any], taken: Taken, facts: Mapping[str, Mapping[str, Any]]) -> dict:
    """Returns the result of a workload. A disturbed timing has its times and its reason, but no better peer and no ratio."""
    medians = {side: float(np.median(each)) for side, each in taken.turns.items()}
    found: dict[str, Any] = {"work": name, "sizes": work, "seconds": {side: round(seconds, 6) for side, seconds in medians.items()}}
    if taken.timing.disturbed:
        found["ratio"] = None
    else:
        peer = min((side for side in medians if side != "ours"), key=medians.__getitem__)
        told = ratio(taken, peer, "ours")
        found |= {
            "better_peer": peer,
            "ratio": round(told["ratio"], 3),
            "ratio_interval": [round(end, 3) for end in told["ratio_interval"]],
        }
        chip = next((CHIPS[name] for name in CHIPS if name in facts["ours"]["device"].lower()), None)
        if chip and facts["ours"]["flops"]:
            found["model_flops_utilisation"] = facts["ours"]["flops"] / medians["ours"] / chip.flops
    return {**found, "timing": taken.timing.plain(), "facts": facts}


def check(python: str) -> None:
    """Raises UserError if the given Python lacks PyTorch or transformers."""
    try:
        found = subprocess.run([python, "-c", "import torch, transformers"], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--peers={python!r} is not a Python interpreter ({error.strerror}). {HINT}") from None
    if found.returncode:
        raise UserError(f"--peers={python!r} lacks PyTorch or transformers. {HINT}")


HINT = (
    "Install the peers in a separate environment: python -m venv .venv-peers && "
    ".venv-peers/bin/pip install -r experiments/peers/requirements.txt, then pass --peers=.venv-peers/bin/python."
)


# -- private --------------------------------------------------------------------------------------------------------------


def _start(command: list[str]) -> subprocess.Popen:
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "TORCHINDUCTOR_COMPILE_THREADS": "1"}  # no idle compile workers
    given = os.environ | quiet | as_environment()  # the allocator that this library sets for itself
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given)


def _answer(side: str, worker: subprocess.Popen):
    assert worker.stdout is not None and worker.stderr is not None
    line = worker.stdout.readline()
    if not line:
        raise UserError(f"the worker of {side} exited: {worker.stderr.read()[-2000:]}")
    return json.loads(line)


def _turn(side: str, worker: subprocess.Popen, count: int) -> float:
    """Returns the seconds per step. The worker is stopped between its turns, so that none of its threads waits in a loop meanwhile."""
    assert worker.stdin is not None
    worker.send_signal(signal.SIGCONT)
    try:
        worker.stdin.write(f"{count}\n")
        worker.stdin.flush()
    except BrokenPipeError:  # the worker has exited: its message is raised below
        pass
    seconds = _answer(side, worker)
    worker.send_signal(signal.SIGSTOP)
    return seconds
