"""Step benchmarks: training loop vs. bare step, data loader vs. training loop, and training loop vs. a loop that fetches each loss."""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from assay.dist import launch
from assay.dist.mesh import batch_sharding, make_mesh
from assay.dist.shard import shardings
from assay.train import loop
from assay.train.experiment import Experiment, assemble
from assay.train.measure import labels_of
from assay.train.step import make_step
from assay.train.workdir import WorkDir
from assay.treatments.pipeline.load import treatments

WARM = 20  # warm-up steps before timing starts
LOADER_SECONDS = 0.5  # how long a loader runs alone


def over_bare(values: Mapping[str, Any], repeats: int, steps: int, root: str) -> dict[str, Any]:
    """Returns the step time in the training loop relative to the bare compiled step on prepared batches."""
    made = _assembled(values, WARM + steps)
    mesh, block = make_mesh(made.settings.mesh), made.settings.train.steps_per_call
    count, arguments = np.int32(block), (made.key, made.given(), made.first_batch())
    ready = [jax.device_put(made.batches(step, block), batch_sharding(mesh, steps=True)) for step in range(0, steps, block)]
    initial = _initial(made, mesh)
    bare, whole, call = [], [], None
    for turn in range(repeats):
        state = initial(*arguments)
        call = call or loop.compiled(made, mesh, state)
        state, metrics = call(state, ready[0], count)
        jax.block_until_ready(metrics)
        started = time.perf_counter()
        for batches in ready:
            state, metrics = call(state, batches, count)
        jax.block_until_ready(metrics)
        bare.append((time.perf_counter() - started) / (len(ready) * block))
        whole.append(_trained(made, root, turn))
    return {"bare_seconds": float(np.median(bare)), "loop_seconds": float(np.median(whole)), **ratio(whole, bare)}


def loader(values: Mapping[str, Any], repeats: int, steps: int, root: str) -> dict[str, Any]:
    """Returns the throughput of the loader alone relative to that of training, in examples per second."""
    made = _assembled(values, WARM + steps)
    train = made.settings.train
    alone, training = [], []
    for turn in range(repeats):
        made.batches(0, 1)
        started, taken = time.perf_counter(), 0
        while time.perf_counter() - started < LOADER_SECONDS:
            made.batches(taken, train.steps_per_call)
            taken += train.steps_per_call
        alone.append(taken * train.batch_size / (time.perf_counter() - started))
        training.append(train.batch_size / _trained(made, root, turn))
    return {"loader_examples_per_second": float(np.median(alone)), "training": float(np.median(training)), **ratio(alone, training)}


def over_fetching(values: Mapping[str, Any], repeats: int, steps: int, root: str) -> dict[str, Any]:
    """Returns the step time of a loop that fetches each loss relative to the training loop.

    The training loop runs several steps per call and does not wait for metrics. The other loop runs one step per call and fetches its loss
    immediately. Both use the same loader.
    """
    values = {**values, "train": {**values["train"], "validate_every": 0, "patience": 0}}
    made = _assembled(values, WARM + 10 * steps)
    single = _assembled({**values, "train": {**values["train"], "steps_per_call": 1}}, WARM + steps)
    arguments, initial = (made.key, made.given(), made.first_batch()), _initial(made, make_mesh(made.settings.mesh))
    step = jax.jit(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer), donate_argnums=0)
    fetching, whole = [], []
    for turn in range(repeats):
        state, started = initial(*arguments), 0.0
        for taken in range(WARM + steps):
            if taken == WARM:
                started = time.perf_counter()
            state, metrics = step(state, {name: array[0] for name, array in single.batches(taken, 1).items()})
            float(metrics["loss"])
        fetching.append((time.perf_counter() - started) / steps)
        whole.append(_trained(made, root, turn))
    return {"fetching_seconds": float(np.median(fetching)), "loop_seconds": float(np.median(whole)), **ratio(fetching, whole)}


def ratio(over: list[float], under: list[float]) -> dict[str, Any]:
    """Returns the median ratio over alternating repeats, with a bootstrap interval."""
    ratios = np.array(over) / np.array(under)
    medians = np.median(np.random.default_rng(0).choice(ratios, (10_000, len(ratios))), axis=1)
    return {
        "ratio": float(np.median(ratios)),
        "ratio_interval": [float(np.quantile(medians, q)) for q in (0.025, 0.975)],
        "interval_method": "bootstrap 95 % of the median over repeats",
        "ratios": [round(float(value), 4) for value in ratios],
    }


# -- private --------------------------------------------------------------------------------------------------------------


def _assembled(values: Mapping[str, Any], steps: int) -> Experiment:
    launch.start()
    train = {**values["train"], "steps": steps, "log_every": min(values["train"]["log_every"], WARM // 2)}
    changed = {"train": train, "checkpoint": {**values["checkpoint"], "every": 10**9}}
    return assemble({**values, **changed}, treatments(values["treatments"]))


def _initial(made: Experiment, mesh: jax.sharding.Mesh):
    arguments = (made.key, made.given(), made.first_batch())
    return jax.jit(made.init_state, out_shardings=shardings(jax.eval_shape(made.init_state, *arguments), mesh))


def _trained(made: Experiment, root: str, turn: int) -> float:
    """Returns the seconds per step of a run, without warm-up."""
    folder = WorkDir(os.path.join(root, f"turn_{turn}"))
    folder.path.mkdir(parents=True)
    loop.train(made, folder, make_mesh(made.settings.mesh), labels_of(made, ""), quiet=True)
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    lines = [line for line in lines if line["step"] >= WARM and "elapsed_seconds" in line]  # validations have separate lines
    return (lines[-1]["elapsed_seconds"] - lines[0]["elapsed_seconds"]) / (lines[-1]["step"] - lines[0]["step"])
