"""Benchmarks. Ratios of one process, medians over alternating repeats; machines drift, so only ratios mean something.

    python -m experiments.bench loop --config=experiments/reason/parity.py:transformer

loop   time of a step inside the training loop (data, logging, progress, TensorBoard) over the bare compiled step on ready batches
start  seconds from the launch of `experiments.main` to its first logged step, with an empty compilation cache and with a warm one
fsdp   bytes that a step's arguments, parameters with optimiser state among them, take on each of 1, 2, 4 and 8 simulated devices
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

from assay.core import config as configs
from assay.core.command import launch
from assay.diagnose.plan import memory_on_each
from assay.dist import launch as process
from assay.dist.mesh import AXES, batch_sharding, make_mesh
from assay.dist.shard import shardings
from assay.train import loop
from assay.train.experiment import assemble
from assay.train.measure import labels_of
from assay.train.workdir import WorkDir, environment, write_text
from assay.treat.table import treatments

CONFIG = flags.DEFINE_string("config", "experiments/reason/parity.py:transformer", "FILE.py:variant to measure.")
REPEATS = flags.DEFINE_integer("repeats", 7, "Alternating repeats.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 150, "Steps in one repeat.", lower_bound=20)
OUT = flags.DEFINE_string("out", "", "JSON file for the result; without it, it is only printed.")

WARM = 20  # steps before the clock starts


def bench_loop(overrides: dict[str, str], root: str) -> dict:
    config = configs.override(configs.load(CONFIG.value), overrides)
    values = configs.to_dict(config)
    values["train"] |= {"steps": WARM + STEPS.value}
    values["checkpoint"] |= {"every": 10**9}
    process.start()
    made = assemble(values, treatments(values["treatments"]))
    mesh, block = make_mesh(made.settings.mesh), made.settings.train.steps_per_call
    count = np.int32(block)
    ready = [jax.device_put(made.batches(step, block), batch_sharding(mesh, steps=True)) for step in range(0, STEPS.value, block)]
    arguments, bare, whole, call = (made.key, made.treatment.given, made.first_batch()), [], [], None
    initial = jax.jit(made.init_state, out_shardings=shardings(jax.eval_shape(made.init_state, *arguments), mesh))
    for turn in range(REPEATS.value):
        state = initial(*arguments)
        call = call or loop.compiled(made, mesh, state)
        state, metrics = call(state, ready[0], count)
        jax.block_until_ready(metrics)
        started = time.perf_counter()
        for batches in ready:
            state, metrics = call(state, batches, count)
        jax.block_until_ready(metrics)
        bare.append((time.perf_counter() - started) / (len(ready) * block))
        folder = WorkDir(os.path.join(root, f"turn_{turn}"))
        folder.path.mkdir(parents=True)
        loop.train(made, folder, mesh, labels_of(made, ""), quiet=True)
        lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
        lines = [line for line in lines if line["step"] >= WARM and "elapsed_seconds" in line]  # a look has a line of its own
        whole.append((lines[-1]["elapsed_seconds"] - lines[0]["elapsed_seconds"]) / (lines[-1]["step"] - lines[0]["step"]))
    ratios = np.array(whole) / np.array(bare)
    medians = np.median(np.random.default_rng(0).choice(ratios, (10_000, len(ratios))), axis=1)
    return {
        "bare_seconds": float(np.median(bare)),
        "loop_seconds": float(np.median(whole)),
        "ratio": float(np.median(ratios)),
        "ratio_interval": [float(np.quantile(medians, q)) for q in (0.025, 0.975)],
        "interval_method": "bootstrap 95 % of the median over repeats",
        "ratios": [round(float(ratio), 4) for ratio in ratios],
    }


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


BENCHES = {"loop": bench_loop, "start": bench_start, "fsdp": bench_fsdp}
DEVICES = (1, 2, 4, 8)


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
