"""Runs two or more workers side by side, each in its own process. Repeats alternate, and only ratios within one turn are compared."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from assay.core.errors import UserError
from assay.diagnostics.cost.chips import CHIPS
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
        counts = {side: max(1, int(SECONDS / _turn(side, worker, 1))) for side, worker in workers.items()}
        found: dict[str, list[float]] = {side: [] for side in workers}
        for turn in range(WARM + repeats):
            for side, worker in workers.items():
                found[side].append(_turn(side, worker, counts[side]))
            times = ", ".join(f"{side} {1e3 * each[-1]:.2f} ms" for side, each in found.items())
            told(f"{name} turn {turn + 1 - WARM} of {repeats}: {times}")
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    found = {side: each[WARM:] for side, each in found.items()}
    chip = next((CHIPS[name] for name in CHIPS if name in facts["ours"]["device"].lower()), None)
    medians = {side: statistics.median(each) for side, each in found.items()}
    peer = min((side for side in medians if side != "ours"), key=medians.__getitem__)
    ratios = np.array(found[peer]) / np.array(found["ours"])
    drawn = np.median(np.random.default_rng(0).choice(ratios, (10_000, len(ratios))), axis=1)
    return {
        "work": name,
        "sizes": work,
        "seconds": {side: round(seconds, 6) for side, seconds in medians.items()},
        "better_peer": peer,
        "ratio": round(float(np.median(ratios)), 3),
        "ratio_interval": [round(float(np.quantile(drawn, q)), 3) for q in (0.025, 0.975)],
        **({"model_flops_utilisation": facts["ours"]["flops"] / medians["ours"] / chip.flops} if chip and facts["ours"]["flops"] else {}),
        "facts": facts,
    }


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
    quiet = os.environ | {"TRANSFORMERS_VERBOSITY": "error", "TORCHINDUCTOR_COMPILE_THREADS": "1"}  # no idle compile workers
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quiet)


def _answer(side: str, worker: subprocess.Popen):
    assert worker.stdout is not None and worker.stderr is not None
    line = worker.stdout.readline()
    if not line:
        raise UserError(f"the worker of {side} exited: {worker.stderr.read()[-2000:]}")
    return json.loads(line)


def _turn(side: str, worker: subprocess.Popen, count: int) -> float:
    assert worker.stdin is not None
    worker.stdin.write(f"{count}\n")
    worker.stdin.flush()
    return _answer(side, worker)
