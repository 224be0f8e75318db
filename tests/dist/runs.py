"""A script: trains the runs that a JSON file lists on the devices that the environment gives, and keeps their parameters as arrays.

[{"spec": "FILE.py:variant", "changes": {KEY: VALUE}, "workdir": PATH}, ...]: the workdir gets params.npz beside what a run writes. A run
with "error" is expected to raise a UserError, whose message goes to workdir.error.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax

from assay.config.schema import to_dict
from assay.config.overrides import override
from assay.config.files import load
from assay.core.errors import Alone, Terminated, UserError
from assay.core.tree import map_with_path
from assay.dist import launch
from assay.train import loop
from assay.train.experiment import assemble
from assay.treatments.pipeline.load import rebuild, restore
from assay.treatments.pipeline.load import treatments

LIMIT = 1e-5


def train(spec: str, changes: dict[str, str], workdir: str) -> None:
    config = override(load(spec), changes)
    loop.run(to_dict(config), workdir, treatments(config.treatments), quiet=True)


def train_by_pmap(spec: str, changes: dict[str, str], workdir: str) -> None:
    """The same updates as plain data parallelism writes them: every device has all parameters, and gradients are summed by hand."""
    made = assemble(to_dict(override(load(spec), changes)), ())
    state = jax.jit(made.init_state)(made.key, made.given(), made.first_batch())
    devices = jax.device_count()

    @partial(jax.pmap, axis_name="devices")
    def step(params, opt_state, batch):
        def loss(params):
            mean, aux = made.objective.loss(made.model, params, batch, made.key, 0)
            return mean * aux.weight, aux.weight

        grads, weight = jax.grad(loss, has_aux=True)(params)
        weight = jax.lax.psum(weight, "devices")
        grads = jax.tree.map(lambda leaf: jax.lax.psum(leaf, "devices") / weight, grads)
        updates, opt_state = made.optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = jax.tree.map(lambda leaf: np.stack([leaf] * devices), (state.params, state.opt_state))
    for number in range(made.settings.train.steps):
        batch = {name: array[0].reshape(devices, -1, *array.shape[2:]) for name, array in made.batches(number, 1).items()}
        params, opt_state = step(params, opt_state, batch)
    found: dict[str, np.ndarray] = {}
    map_with_path(lambda path, leaf: found.update({path: np.asarray(leaf[0])}), params)
    Path(workdir).mkdir(parents=True)
    np.savez(f"{workdir}/params.npz", **found)


def arrays(workdir: str) -> dict[str, np.ndarray]:
    """The parameters of a run, by path."""
    found: dict[str, np.ndarray] = {}
    map_with_path(lambda path, leaf: found.update({path: np.asarray(leaf)}), restore(rebuild(workdir), workdir).params)
    return found


def losses(workdir: str | Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]


def equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray], limit: float = LIMIT) -> None:
    """Leaf for leaf within `limit`, relative or absolute."""
    assert first.keys() == second.keys()
    for path in first:
        np.testing.assert_allclose(first[path], second[path], rtol=limit, atol=limit, err_msg=path)


def main() -> None:
    for job in json.loads(Path(sys.argv[1]).read_text()):
        if job.get("pmap"):
            train_by_pmap(job["spec"], job["changes"], job["workdir"])
            continue
        try:
            train(job["spec"], job["changes"], job["workdir"])
            np.savez(f"{job['workdir']}/params.npz", **arrays(job["workdir"]))
        except UserError as error:
            if not job.get("error"):
                raise
            Path(f"{job['workdir']}.error").write_text(str(error))
    launch.together("end")
    print(f"{jax.process_index()} of {jax.process_count()}, {jax.device_count()} devices")


if __name__ == "__main__":
    try:
        main()
    except Terminated as stop:  # as verbs end
        print(stop, file=sys.stderr)
        sys.exit(128 + stop.number)
    except Alone as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
