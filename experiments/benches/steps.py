"""Step benchmarks: training loop vs. bare step, data loader vs. training loop, and training loop vs. a loop that fetches each loss."""

import json
import tempfile
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
from experiments.benches.turns import Taken, ratio, take

WARM = 20  # warm-up steps before timing starts
LOADER_SECONDS = 0.5  # how long a loader runs alone


def over_bare(values: Mapping[str, Any], repeats: int, steps: int, root: str) -> dict[str, Any]:
    """Returns the step time in the training loop relative to the bare compiled step on prepared batches."""
    made = _assembled(values, WARM + steps)
    mesh, block = make_mesh(made.settings.mesh), made.settings.train.steps_per_call
    count, arguments = np.int32(block), (made.key, made.given(), made.first_batch())
    ready = [jax.device_put(made.batches(step, block), batch_sharding(mesh, steps=True)) for step in range(0, steps, block)]
    initial = _initial(made, mesh)
    call = loop.compiled(made, mesh, initial(*arguments))

    def bare() -> float:
        state, metrics = call(initial(*arguments), ready[0], count)
        jax.block_until_ready(metrics)
        started = time.perf_counter()
        for batches in ready:
            state, metrics = call(state, batches, count)
        jax.block_until_ready(metrics)
        return (time.perf_counter() - started) / (len(ready) * block)

    taken = take({"bare": bare, "loop": lambda: _trained(made, root)}, repeats)
    return {"bare_seconds": _median(taken, "bare"), "loop_seconds": _median(taken, "loop"), **ratio(taken, "loop", "bare")}


def loader(values: Mapping[str, Any], repeats: int, steps: int, root: str) -> dict[str, Any]:
    """Returns the throughput of the loader alone relative to that of training, in examples per second."""
    made = _assembled(values, WARM + steps)
    train = made.settings.train

    def loading() -> float:
        made.batches(0, 1)
        started, taken = time.perf_counter(), 0
        while time.perf_counter() - started < LOADER_SECONDS:
            made.batches(taken, train.steps_per_call)
            taken += train.steps_per_call
        return (time.perf_counter() - started) / taken

    taken = take({"loader": loading, "training": lambda: _trained(made, root)}, repeats)
    each = {side: train.batch_size / _median(taken, side) for side in ("loader", "training")}
    return {"loader_examples_per_second": each["loader"], "training": each["training"], **ratio(taken, "training", "loader")}


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

    def fetching() -> float:
        state, started = initial(*arguments), 0.0
        for taken in range(WARM + steps):
            if taken == WARM:
                started = time.perf_counter()
            state, metrics = step(state, {name: array[0] for name, array in single.batches(taken, 1).items()})
            float(metrics["loss"])
        return (time.perf_counter() - started) / steps

    taken = take({"fetching": fetching, "loop": lambda: _trained(made, root)}, repeats)
    return {"fetching_seconds": _median(taken, "fetching"), "loop_seconds": _median(taken, "loop"), **ratio(taken, "fetching", "loop")}


# -- private --------------------------------------------------------------------------------------------------------------


def _assembled(values: Mapping[str, Any], steps: int) -> Experiment:
    launch.start()
    train = {**values["train"], "steps": steps, "log_every": min(values["train"]["log_every"], WARM // 2)}
    changed = {"train": train, "checkpoint": {**values["checkpoint"], "every": 10**9}}
    return assemble({**values, **changed}, treatments(values["treatments"]))


def _initial(made: Experiment, mesh: jax.sharding.Mesh):
    arguments = (made.key, made.given(), made.first_batch())
    return jax.jit(made.init_state, out_shardings=shardings(jax.eval_shape(made.init_state, *arguments), mesh))


def _median(taken: Taken, side: str) -> float:
    return float(np.median(taken.turns[side]))


def _trained(made: Experiment, root: str) -> float:
    """Returns the seconds per step of a run, without warm-up."""
    folder = WorkDir(tempfile.mkdtemp(dir=root))
    loop.train(made, folder, make_mesh(made.settings.mesh), labels_of(made, ""), quiet=True)
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    lines = [line for line in lines if line["step"] >= WARM and "elapsed_seconds" in line]  # validations have separate lines
    return (lines[-1]["elapsed_seconds"] - lines[0]["elapsed_seconds"]) / (lines[-1]["step"] - lines[0]["step"])
