"""Benchmarks: ratios as medians over alternating repeats. Machine speed drifts, so only ratios are meaningful, on the machine that the
result names. Where other work disturbed a timing (diagnostics/cost/disturbance.py), the result says so and has no ratio.

    python -m experiments.bench loop --config=experiments/reason/parity.py:transformer

loop   step time in the training loop (data, logging, progress, TensorBoard) relative to the bare compiled step on prepared batches
start  seconds from the launch of `assay train` to its first logged step, with an empty and with a warm compilation cache
input  throughput of the loader alone relative to training, in examples per second
mlp    a tiny MLP: steps per second of the training loop relative to a loop that fetches the loss at every step
peers  steps per second relative to PyTorch and Hugging Face with the same model and sizes; needs --peers=PYTHON, optional --works
fsdp   bytes per device of a step's arguments, including parameters and optimizer state, on 1, 2, 4 and 8 simulated devices
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh

from assay import config as configs
from assay.cli.command import launch
from assay.core.errors import UserError, unknown
from assay.core.machine import others, used
from assay.diagnostics.cost.disturbance import judge
from assay.diagnostics.cost.plan import memory_on_each
from assay.dist import launch as process
from assay.dist.mesh import AXES
from assay.train.experiment import assemble
from assay.train.workdir import WorkDir, environment, write_text
from assay.treatments.pipeline.load import treatments
from experiments.benches import steps
from experiments.peers import turns
from experiments.peers.works import ON_GPU, WORKS

FLAGS = flags.FlagValues()
CONFIG = flags.DEFINE_string("config", "experiments/reason/parity.py:transformer", "FILE.py:variant to measure.", flag_values=FLAGS)
REPEATS = flags.DEFINE_integer("repeats", 7, "Number of alternating repeats.", lower_bound=1, flag_values=FLAGS)
STEPS = flags.DEFINE_integer("steps", 150, "Steps per repeat.", lower_bound=20, flag_values=FLAGS)
PEERS = flags.DEFINE_string(
    "peers", "", "peers: Python interpreter with PyTorch and transformers (experiments/peers/requirements.txt).", flag_values=FLAGS
)
PEER_WORKS = flags.DEFINE_string("works", "", "peers: comma-separated workloads; empty: all.", flag_values=FLAGS)
OUT = flags.DEFINE_string("out", "", "JSON file for the result; if empty, it is only printed.", flag_values=FLAGS)

DEVICES = (1, 2, 4, 8)


def bench_steps(measured, spec: str = ""):
    """Returns a bench that runs a measurement of `benches/steps.py` on config `spec`, or on --config if `spec` is empty."""

    def bench(overrides: dict[str, str], root: str) -> dict:
        values = configs.to_dict(configs.override(configs.load(spec or CONFIG.value), overrides))
        return {**({"of": spec} if spec else {}), **measured(values, REPEATS.value, STEPS.value, root)}

    return bench


def bench_start(overrides: dict[str, str], root: str) -> dict:
    """Measures the seconds from launch to the first logged step, with a cold and a warm compilation cache."""
    found: dict[str, list[float]] = {"cold_seconds": [], "warm_seconds": []}
    begun = used()
    assignments = [f"--config.{key}={value}" for key, value in overrides.items()]
    for turn in range(REPEATS.value):
        cache = os.path.join(root, f"cache_{turn}")
        for name in found:
            folder = WorkDir(os.path.join(root, f"{name}_{turn}"))
            command = [sys.executable, "-m", "experiments.train", f"--config={CONFIG.value}", f"--workdir={folder.path}", *assignments]
            started = time.perf_counter()
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            with subprocess.Popen(command, env={**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}, **quiet) as running:
                while running.poll() is None and not (folder.metrics.exists() and folder.metrics.stat().st_size):
                    time.sleep(0.02)
                found[name].append(time.perf_counter() - started)
                running.wait()
    timing = judge({}, found, others(begun, used()))
    return {**{name: float(np.median(values)) for name, values in found.items()}, "timing": timing.plain()}


def bench_peers(overrides: dict[str, str], root: str) -> dict:
    """Compares workloads with PyTorch and Hugging Face. Raises UserError for unknown workloads or a missing --peers."""
    del root
    names = PEER_WORKS.value.split(",") if PEER_WORKS.value else list(WORKS)
    for name in names:
        if name not in WORKS | ON_GPU:
            raise unknown("work", name, WORKS | ON_GPU, "--works")
    if overrides or not PEERS.value:
        raise UserError(f"peers takes no --config overrides and needs --peers=PYTHON. {turns.HINT}")
    turns.check(PEERS.value)
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    return {"works": [turns.compare(name, PEERS.value, REPEATS.value, say) for name in names]}


def bench_fsdp(overrides: dict[str, str], root: str) -> dict:
    """Measures the bytes of a step's arguments on each device, for 1, 2, 4 and 8 simulated devices."""
    del root
    jax.config.update("jax_num_cpu_devices", max(DEVICES))
    process.start()
    spec = CONFIG.value if flags.FLAGS["config"].present else "experiments/scale/gpt_125m.py"
    values = configs.to_dict(configs.override(configs.load(spec), overrides))
    made = assemble(values, treatments(values["treatments"]))
    found = []
    for devices in DEVICES:
        mesh = Mesh(np.array(jax.devices()[:devices]).reshape(1, devices, 1), AXES)
        found.append({"devices": devices, **memory_on_each(made, mesh)})
        print(f"{devices} devices: {found[-1]}", file=sys.stderr, flush=True)
    return {"of": spec, "on_each": found}


BENCHES = {
    "loop": bench_steps(steps.over_bare),
    "input": bench_steps(steps.loader),
    "mlp": bench_steps(steps.over_fetching, "experiments/generalise/regression.py"),
    "start": bench_start,
    "peers": bench_peers,
    "fsdp": bench_fsdp,
}


def main(overrides: dict[str, str], subject: str) -> None:
    if OUT.value:
        write_text(Path(OUT.value), "")  # fails early if the file cannot be written
    root = tempfile.mkdtemp()
    try:
        found = BENCHES[subject](overrides, root)
    finally:
        shutil.rmtree(root)
    result = {"bench": subject, "config": CONFIG.value, "repeats": REPEATS.value, **found, "environment": environment()}
    text = json.dumps(result, indent=1)
    print(text)
    if OUT.value:
        write_text(Path(OUT.value), text + "\n")


if __name__ == "__main__":
    launch(main, __doc__, given=FLAGS, subjects=tuple(BENCHES))
