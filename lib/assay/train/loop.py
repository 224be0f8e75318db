"""The conductor, the only impure part of training: it moves batches to the devices, logs, saves, and ends well whatever happens.

The metrics of one call are fetched while the next one runs; otherwise nothing in the loop waits for the device.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from assay.core.config import to_dict
from assay.core.errors import Terminated, UserError
from assay.core.tree import count
from assay.dist import launch
from assay.dist.mesh import batch_sharding, check_divides, make_mesh
from assay.dist.shard import place, shardings
from assay.train.checkpoint import Checkpointer
from assay.train.experiment import Experiment, assemble
from assay.train.log import Log, logging
from assay.train.measure import Labels, labels_of, measure
from assay.train.optim import ENDLESS
from assay.train.state import TrainState, all_params
from assay.train.step import make_step, repeat
from assay.train.treatment import Treatment, links
from assay.train.workdir import WorkDir

FREE = ("checkpoint", "evaluate", "train.log_every", "mesh")  # keys that may change when a run goes on


def run(
    config: ConfigDict | Mapping[str, Any], workdir: str, treatments: Sequence[Treatment], experiment: str = "", quiet: bool = False
) -> dict[str, Any]:
    """Trains what is missing, evaluates, and returns results.json. A finished run is only read.

    Raises UserError for what the user can mend, before anything is written where that can be known, and Terminated after a signal.
    """
    resolved = to_dict(config) if isinstance(config, ConfigDict) else dict(config)
    launch.start()
    made = assemble(resolved, treatments)
    mesh = make_mesh(made.settings.mesh)
    check_divides(made.settings.train.batch_size, mesh, "train.batch_size")
    folder, labels = WorkDir(workdir), labels_of(made, experiment)
    full = {"experiment": labels.experiment, "composition": links(treatments), **resolved}
    finished = folder.finished(full)
    if finished:
        return finished
    free = (*FREE, "train.steps") if made.settings.optimizer.schedule in ENDLESS else FREE
    folder.check(full, free)
    state = train(made, folder, mesh, labels, quiet, claim=lambda: folder.claim(full))
    return folder.write_results(measure(made, folder, all_params(state)["model"], mesh, labels, quiet))


def train(
    made: Experiment, folder: WorkDir, mesh: Mesh, labels: Labels, quiet: bool, claim: Callable[[], None] = lambda: None
) -> TrainState:
    """Trains from the newest checkpoint, or from the start, to the last step. `claim` is called once what is there has been read."""
    settings = made.settings
    with Checkpointer(folder.checkpoints, settings.checkpoint) as checkpointer:
        state, begun = start(made, mesh, checkpointer)
        total = settings.train.steps
        if begun > total:
            raise UserError(
                f"{folder.path} holds a checkpoint of step {begun}, beyond config.train.steps={total}. "
                f"Raise --config.train.steps to at least {begun}, or start anew with another --workdir."
            )
        claim()
        if begun == total:
            checkpointer.save(begun, state)  # of a run without steps; any other is there
            return state
        if not quiet:
            origin = f"from step {begun}" if begun else "from the start"
            print(f"{labels.experiment}: {count(state.params):,} parameters, {jax.device_count()} device(s), {origin}", file=sys.stderr)
        batch_size, every = settings.train.batch_size, settings.train.log_every
        with _signals() as received, logging(folder, labels.short, batch_size, every, begun, total, quiet) as log:
            return _steps(made, mesh, checkpointer, state, begun, log, received)


def start(made: Experiment, mesh: Mesh, checkpointer: Checkpointer) -> tuple[TrainState, int]:
    """The state at the newest checkpoint, or the initial one, each array on its sharding; and its step."""
    arguments = (made.key, made.treatment.given, made.first_batch())
    abstract = jax.eval_shape(made.init_state, *arguments)
    step = checkpointer.latest()
    if step is not None:
        return checkpointer.restore(step, place(abstract, mesh)), step
    return jax.jit(made.init_state, out_shardings=shardings(abstract, mesh))(*arguments), 0


# -- private --------------------------------------------------------------------------------------------------------------


def _steps(
    made: Experiment, mesh: Mesh, checkpointer: Checkpointer, state: TrainState, begun: int, log: Log, received: list[int]
) -> TrainState:
    train, every = made.settings.train, made.settings.checkpoint.every
    step_fn = make_step(made.model, made.objective, made.treatment.gradient, made.optimizer)
    call = jax.jit(repeat(step_fn, made.schedule), donate_argnums=0)
    sharding = batch_sharding(mesh, steps=True)
    step, pending = begun, None
    while step < train.steps:
        taken = min(train.steps_per_call - step % train.steps_per_call, train.steps - step)  # calls end where blocks end
        batches = jax.device_put(made.batches(step, taken), sharding)
        state, metrics = call(state, batches, np.int32(taken))
        if pending:
            log.add(*pending, train.steps)
        pending = (step, taken, metrics)
        due = (step + taken) // every > step // every
        step += taken
        if due or step == train.steps or received:
            log.add(*pending, train.steps)  # raises where this state is not worth keeping
            pending = None
            checkpointer.save(step, state)
        if received:
            raise Terminated(step, received[0])
    return state


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list into which SIGTERM and SIGINT put their number; a second one acts as ever."""
    received: list[int] = []
    before: dict[int, Any] = {}

    def handle(number: int, _: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    try:
        for number in (int(signal.SIGTERM), int(signal.SIGINT)):
            before[number] = signal.signal(number, handle)
    except ValueError:  # not the main thread: nobody can send us signals there
        pass
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
