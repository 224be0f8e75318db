"""Training loop, the only impure part of training: it moves batches to the devices, logs, saves checkpoints, and exits cleanly.

The metrics of one call are fetched while the next one runs; otherwise nothing in the loop waits for the device.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh
from ml_collections import ConfigDict

from assay.config import modules
from assay.config.reproduce import changed_keys
from assay.config.schema import to_dict
from assay.core import secret
from assay.core.errors import Terminated, UserError
from assay.core.tree import count, size_in_bytes
from assay.data.ahead import Call, ahead
from assay.dist import launch
from assay.dist.memory import check_fits
from assay.dist.mesh import check_divides, global_batch, make_mesh, own_rows, spread
from assay.dist.shard import place, shardings
from assay.evals.evaluate import batches
from assay.train.checkpoint import Checkpointer, rewind
from assay.train.clock import FULL, Clock, tracing
from assay.train.experiment import Experiment, assemble
from assay.train.log import Log, logging
from assay.train.measure import Labels, labels_of, measure, settle
from assay.train.optim import ENDLESS, check_schedule
from assay.train.state import TrainState, all_params
from assay.train.step import Metrics, Steps, make_call, make_step
from assay.train.treatment import Treatment, links
from assay.train.watch import Watch, watching
from assay.train.workdir import OVERRIDES, WorkDir, held, unless_empty

FREE = ("checkpoint", "evaluate", "train.log_every", "mesh", "model.remat", "model.scan")  # keys that may change when a run resumes


def run(
    config: ConfigDict | Mapping[str, Any],
    workdir: str,
    treatments: Sequence[Treatment],
    experiment: str = "",
    quiet: bool = False,
    from_step: int | None = None,
    profile: bool = False,
    source: str = "",
    overrides: Mapping[str, str] = {},
) -> dict[str, Any]:
    """Trains as far as needed, evaluates, and returns results.json. A finished run is only read.

    Args:
        from_step: checkpoint to resume from instead of the newest; newer ones are moved to `set_aside/`.
        profile: writes a trace of some steps.
        source: the user's own config file with its variant, for the command that trains the run again; "" for one of the package.
        overrides: the keys of the config file that the command changed, with their texts. They are only recorded, in config.json and in
            the rows; the seed is not.

    Raises UserError for what the user can fix, if possible before anything is written, and Terminated after a signal.
    """
    resolved = to_dict(config) if isinstance(config, ConfigDict) else dict(config)
    launch.start()
    quiet = quiet or not launch.leader()
    made = assemble(resolved, treatments)
    mesh = make_mesh(made.settings.mesh)
    _check_rows(made, mesh)
    folder, labels = WorkDir(workdir), labels_of(made, experiment, changed_keys(resolved, overrides))
    folder.check_parts()
    full = {"experiment": labels.experiment, "composition": links(treatments), **resolved}
    if labels.overrides:
        full[OVERRIDES] = dict(labels.overrides)
    if made.task.data:
        full["data"] = made.task.data
    if source:
        full["source"] = source
    if modules.given():
        full[modules.IMPORTS] = list(modules.given())
    finished = folder.finished(full)
    if finished and from_step is None:
        return finished
    check_schedule(made.settings.optimizer)
    if made.treatment.finished and made.treatment.inherit is None:
        raise UserError(
            f"{made.treatment.name} applies to a trained model. Apply it to a finished run with assay treat, or list "
            "inherit:from=WORKDIR before it in --config.treatments."
        )
    made.treatment.prepare()
    _check_memory(made)
    found = secret.read(folder.path) if made.treatment.secret else None
    if made.treatment.secret:
        secret.check(folder.secret, found, begun=folder.checkpoints.is_dir() and any(folder.checkpoints.iterdir()))
    free = (*FREE, "train.steps") if made.settings.optimizer.schedule in ENDLESS else FREE

    def claim() -> None:
        folder.claim(full)
        if found is not None and not folder.secret.exists():
            folder.write_json(folder.secret, secret.fingerprint(found))

    with unless_empty(folder.checkpoints):
        folder.check(full, free)
        with held(folder.path):
            if from_step is not None:
                rewind((folder.checkpoints, folder.best), folder.set_aside, from_step)
            state = train(made, folder, mesh, labels, quiet, claim=claim, profile=profile)
            labels = labels._replace(steps=int(state.step))  # fewer than requested if training stopped early
            with launch.among_others():
                results = folder.write_results(measure(made, folder, settle(made, folder, state), mesh, labels, quiet))
                launch.together("results")
    return results


def train(
    made: Experiment,
    folder: WorkDir,
    mesh: Mesh,
    labels: Labels,
    quiet: bool,
    claim: Callable[[], None] = lambda: None,
    profile: bool = False,
) -> TrainState:
    """Trains from the newest checkpoint, or from scratch, to the last step or an early stop, and returns the state to evaluate.

    `claim` is called once existing files have been read.
    """
    settings = made.settings
    checkpoints = Checkpointer(folder.checkpoints, settings.checkpoint)
    with checkpoints as checkpointer, watching(made, folder, mesh) as watch, launch.among_others():
        state, begun, kept = start(made, mesh, checkpointer)
        watch.resume(kept)
        total = settings.train.steps
        if begun > total:
            raise UserError(
                f"{folder.path} holds a checkpoint of step {begun}, beyond config.train.steps={total}. "
                f"Raise --config.train.steps to at least {begun}, or start from scratch in another --workdir."
            )
        claim()
        if begun == total or watch.over:
            if made.model.fit is not None and checkpointer.latest() is None:
                state = _fitted(made, state)
            checkpointer.save(begun, made.saved(state), watch.keep())  # writes only for a run of zero steps; else the checkpoint exists
            return _answering(made, mesh, watch, state)
        if not quiet:
            inherited = "with the parameters of the run that it continues" if made.treatment.inherit is not None else "from scratch"
            origin = f"from step {begun}" if begun else inherited
            print(f"{labels.experiment}: {count(state.params):,} parameters, {jax.device_count()} device(s), {origin}", file=sys.stderr)
            for notice in made.task.notices:
                print(f"note: {notice}", file=sys.stderr)
        every = settings.train.log_every
        private = made.treatment.private
        with _signals() as received, logging(folder, labels.short, made.examples, every, begun, total, quiet, private) as log:
            try:
                state, clock = _steps(made, mesh, checkpointer, watch, state, begun, log, received, folder.profile if profile else None)
                folder.write_json(folder.timing, clock.split())
                return _answering(made, mesh, watch, state)
            except FloatingPointError as fault:
                saved = checkpointer.finished()
                where = f"the last good checkpoint is in {folder.checkpoints}" if saved else "no checkpoint had been saved yet"
                raise UserError(
                    f"{fault}, so training stopped; {where}. "
                    "Lower --config.optimizer.learning_rate or set --config.optimizer.clip_norm, and train in another --workdir."
                ) from None


def start(made: Experiment, mesh: Mesh, checkpointer: Checkpointer) -> tuple[TrainState, int, dict[str, Any]]:
    """Returns the state at the newest checkpoint (or the initial state) on its shardings, its step, and the data stored beside it."""
    step, total = checkpointer.latest(), made.settings.train.steps
    if step is not None:
        state, kept = checkpointer.restore(step, place(made.abstract(), mesh))
        given = made.given() if step < total else {}
        loaded = {name: tree for name, tree in given.items() if name not in all_params(state)}
        placed = jax.tree.map(jax.device_put, loaded, shardings(loaded, mesh))
        return made.hidden(state._replace(frozen={**state.frozen, **placed})), step, kept
    arguments = (made.key, made.given(), made.first_batch())
    abstract = jax.eval_shape(made.init_state, *arguments)
    state = jax.jit(made.init_state, out_shardings=shardings(abstract, mesh))(*arguments, made.started())
    return made.hidden(state), 0, {}


def compiled(made: Experiment, mesh: Mesh, state: TrainState) -> Steps:
    """Returns `(state, stacked batches, count) -> (state, stacked metrics)`, compiled for states with the shardings of `state`."""
    step = make_step(made.model, made.objective, made.treatment.gradient, made.optimizer)
    looped = not (made.model.convolves and jax.default_backend() == "cpu")
    return make_call(step, made.schedule, mesh, jax.tree.map(lambda leaf: leaf.sharding, state), looped)


# -- private --------------------------------------------------------------------------------------------------------------


def _check_rows(made: Experiment, mesh: Mesh | AbstractMesh) -> None:
    """Raises UserError if the mesh cannot divide a step's batch."""
    if made.rows == made.settings.train.batch_size:
        check_divides(made.rows, mesh, "train.batch_size")
    elif made.rows % (parts := mesh.shape["data"] * mesh.shape["fsdp"]):
        raise UserError(
            f"{made.treatment.name} draws {made.rows} rows per step (such as clients), which cannot be divided over {parts} devices. "
            f"Make it a multiple of {parts} in --config.treatments, or change --config.mesh.data."
        )


def _check_memory(made: Experiment) -> None:
    """Raises UserError if state and gradients exceed the memory of a machine without accelerators. Accelerators refuse by themselves."""
    if jax.default_backend() == "cpu":
        state = made.abstract()
        needed = sum(map(size_in_bytes, (state.params, state.params, state.frozen, state.opt_state)))
        what = "parameters, gradients and optimizer state"
        check_fits(needed // jax.process_count(), what, "the sizes in --config.model, or choose another --config.optimizer.name")


def _fitted(made: Experiment, state: TrainState) -> TrainState:
    """Fits a counting model in one pass over all training examples. With several processes, each counts all of them."""
    assert made.model.fit is not None
    every: Iterator[Any] = (batch for _, batch in batches(made.task, "train", made.settings.evaluate))
    counted = made.model.fit(state.params["model"], every)
    model = jax.tree.map(lambda leaf, array: spread({"": array}, leaf.sharding)[""], state.params["model"], dict(counted))
    return state._replace(params={**state.params, "model": model})


def _answering(made: Experiment, mesh: Mesh, watch: Watch, last: TrainState) -> TrainState:
    """Returns the state to evaluate: the best validation's with early stopping, else the last. Raises UserError if it is lost."""
    if watch.best is None or watch.stopping.best is None:
        return last
    step, wanted = watch.best.finished(), watch.stopping.step
    if step != wanted:  # its folder was deleted, or the run was rewound to an earlier step
        found = "nothing" if step is None else f"step {step}"
        raise UserError(f"the best validation was at step {wanted}, but {watch.best.path} holds {found}. Choose another --workdir.")
    return watch.best.restore(step, place(made.abstract(), mesh))[0]


def _steps(
    made: Experiment,
    mesh: Mesh,
    checkpointer: Checkpointer,
    watch: Watch,
    state: TrainState,
    begun: int,
    log: Log,
    received: list[int],
    profile: Path | None,
) -> tuple[TrainState, Clock]:
    train, saving = made.settings.train, made.settings.checkpoint
    call = compiled(made, mesh, state)
    rows = own_rows(made.rows, mesh)
    make = made.batches if rows == slice(0, made.rows) else partial(made.batches, rows=rows)
    heard, pending = launch.hearing(), None
    calls = partial(_calls, begun, train.steps, train.steps_per_call, lambda step: min(watch.until(step), saving.until(step)))
    clock = Clock()

    def logged(first: int, count: int, metrics: Metrics) -> None:
        jax.block_until_ready(metrics)
        clock.charge("compute")
        log.add(first, count, metrics, train.steps)
        clock.charge("host")

    with tracing(profile, sum(1 for _ in islice(calls(), FULL))) as trace:
        for (step, taken), stacked in zip(calls(), ahead(calls(), make, train.read_threads), strict=True):
            clock.charge("input")
            trace.before(clock.calls)
            state, metrics = call(state, global_batch(stacked, mesh, made.rows), np.int32(taken))
            clock.taken(taken)
            if pending:
                logged(*pending)
            pending = (step, taken, metrics)
            stop = heard(received[0] if received else 0)
            due = saving.due(step, step + taken)
            step += taken
            seen = watch.until(step) == watch.every  # a validation is due
            if due or seen or step == train.steps or stop:
                logged(*pending)  # raises if this state has non-finite values and must not be saved
                pending = None
                over = watch.look(step, state, log)
                if due or over or step == train.steps or stop:
                    checkpointer.save(step, made.saved(state), watch.keep())
                clock.charge("save")
                if over:
                    break
            if stop:
                raise Terminated(step, stop)
    return state, clock


def _calls(begun: int, total: int, block: int, until: Callable[[int], int]) -> Iterator[Call]:
    """Yields (first step, steps) of each compiled call. Calls end at block ends, at the end of training, and `until(step)` later."""
    while begun < total:
        taken = min(block - begun % block, total - begun, until(begun))
        yield begun, taken
        begun += taken


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Yields a list that collects the numbers of SIGTERM and SIGINT; a second signal has its usual effect."""
    received: list[int] = []
    before: dict[int, Any] = {}

    def handle(number: int, _: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    try:
        for number in (int(signal.SIGTERM), int(signal.SIGINT)):
            before[number] = signal.signal(number, handle)
    except ValueError:  # not the main thread: signals cannot be handled there
        pass
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
