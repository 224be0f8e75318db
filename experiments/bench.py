"""Benchmarks. Ratios of one process, medians over alternating repeats; machines drift, so only ratios mean something.

    python -m experiments.bench loop --config=experiments/reason/parity.py:transformer

loop   time of a step inside the training loop (data, logging, progress, TensorBoard) over the bare compiled step on ready batches
start  seconds from the launch of `experiments.main` to its first logged step, with an empty compilation cache and with a warm one
input  examples a second of the loader alone over those that training uses
mlp    a tiny MLP: steps a second of the loop over those of a loop that fetches its loss at each step
peers  steps a second over those of PyTorch and Hugging Face, same model, same sizes: --peers=PYTHON, an environment of theirs; --works
fsdp   bytes that a step's arguments, parameters with optimiser state among them, take on each of 1, 2, 4 and 8 simulated devices
"""

import json
import os
import platform
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
from assay.diagnostics.cost.plan import memory_on_each
from assay.dist import launch as process
from assay.dist.mesh import AXES
from assay.train.experiment import assemble
from assay.train.workdir import WorkDir, environment, write_text
from assay.treatments.pipeline.load import treatments
from experiments.benches import steps
from experiments.peers import turns
from experiments.peers.works import ON_GPU, WORKS

CONFIG = flags.DEFINE_string("config", "experiments/reason/parity.py:transformer", "FILE.py:variant to measure.")
REPEATS = flags.DEFINE_integer("repeats", 7, "Alternating repeats.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 150, "Steps in one repeat.", lower_bound=20)
PEERS = flags.DEFINE_string("peers", "", "peers: the Python that has PyTorch and transformers, experiments/peers/requirements.txt.")
PEER_WORKS = flags.DEFINE_string("works", "", "peers: names of works, with commas between; without it, all.")
OUT = flags.DEFINE_string("out", "", "JSON file for the result; without it, it is only printed.")

DEVICES = (1, 2, 4, 8)


def bench_steps(measured, spec: str = ""):
    """A bench of `benches/steps.py`, of this config or the one that the command names."""

    def bench(overrides: dict[str, str], root: str) -> dict:
        values = configs.to_dict(configs.override(configs.load(spec or CONFIG.value), overrides))
        return {**({"of": spec} if spec else {}), **measured(values, REPEATS.value, STEPS.value, root)}

    return bench


def bench_start(overrides: dict[str, str], root: str) -> dict:
    found: dict[str, list[float]] = {"cold_seconds": [], "warm_seconds": []}
    assignments = [f"--config.{key}={value}" for key, value in overrides.items()]
    for turn in range(REPEATS.value):
        cache = os.path.join(root, f"cache_{turn}")
        for name in found:
            folder = WorkDir(os.path.join(root, f"{name}_{turn}"))
            command = [sys.executable, "-m", "experiments.main", f"--config={CONFIG.value}", f"--workdir={folder.path}", *assignments]
            started = time.perf_counter()
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            with subprocess.Popen(command, env={**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}, **quiet) as running:
                while running.poll() is None and not (folder.metrics.exists() and folder.metrics.stat().st_size):
                    time.sleep(0.02)
                found[name].append(time.perf_counter() - started)
                running.wait()
    return {name: float(np.median(values)) for name, values in found.items()}


def bench_peers(overrides: dict[str, str], root: str) -> dict:
    del root
    names = PEER_WORKS.value.split(",") if PEER_WORKS.value else list(WORKS)
    for name in names:
        if name not in WORKS | ON_GPU:
            raise unknown("work", name, WORKS | ON_GPU, "--works")
    if overrides or not PEERS.value:
        raise UserError(f"peers takes no --config overrides, and needs --peers=PYTHON. {turns.HINT}")
    turns.check(PEERS.value)
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    return {"works": [turns.compare(name, PEERS.value, REPEATS.value, say) for name in names], "processor": _processor()}


def bench_fsdp(overrides: dict[str, str], root: str) -> dict:
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


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


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
        write_text(Path(OUT.value), "")  # better known before than after
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
    launch(main, __doc__, subjects=tuple(BENCHES))
