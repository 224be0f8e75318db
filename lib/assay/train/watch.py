"""Validation during training, and early stopping.

Every `train.validate_every` steps the headline metric of `valid` is measured and written to metrics.jsonl. With `train.patience`, training
stops after that many validations without improvement. The run then uses the parameters of the best validation, which are stored in `best/`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jax.sharding import Mesh

from assay.core.errors import UserError
from assay.evals.evaluate import compiled, evaluate, make_answer
from assay.evals.rows import LOWER_IS_BETTER, value_of
from assay.train.checkpoint import CheckpointConfig, Checkpointer
from assay.train.experiment import VALID, Experiment
from assay.train.log import Log
from assay.train.state import TrainState, final_params
from assay.train.stopping import Stopping, begin, look
from assay.train.workdir import WorkDir


class Watch:
    """Validates one run; made by `watching`. A checkpoint stores `stopping`."""

    def __init__(
        self,
        every: int,
        patience: int,
        measure: Callable[[TrainState], tuple[str, float]],
        best: Checkpointer | None,
        saved: Callable[[TrainState], TrainState],
        released: bool,
    ):
        self.every, self.patience, self.measure, self.best, self.saved = every, patience, measure, best, saved
        self.released = released  # the values depend on private examples
        self.stopping = begin(max(patience, 1))

    def until(self, step: int) -> int:
        """Returns the number of steps from `step` to the next validation."""
        return self.every - step % self.every if self.every else 1 << 30

    def look(self, step: int, state: TrainState, log: Log) -> bool:
        """Validates if due and returns True if training should stop."""
        if not self.every or step % self.every or self.over:
            return self.over
        name, value = self.measure(state)
        log.note(step, {f"{VALID}_{name}": value}, self.released)
        if self.patience:
            self.stopping = look(self.stopping, value, step, self.patience, higher=name not in LOWER_IS_BETTER)
            if self.stopping.step == step and self.best is not None:
                self.best.save(step, self.saved(state), {})
                self.best.finished()  # a checkpoint that refers to this validation must not be written before its parameters are stored
        return self.over

    @property
    def over(self) -> bool:
        return bool(self.patience) and self.stopping.patience_left == 0

    def resume(self, kept: dict) -> None:
        """Restores the early-stopping state from a checkpoint's data."""
        if self.patience and kept.get("stopping"):
            self.stopping = Stopping(**kept["stopping"])

    def keep(self) -> dict:
        return {"stopping": self.stopping._asdict()} if self.patience else {}


@contextmanager
def watching(made: Experiment, folder: WorkDir, mesh: Mesh) -> Iterator[Watch]:
    """Yields a Watch, with `best/` open if the run may stop early. Raises UserError if the task has no validation split."""
    train = made.settings.train
    if train.validate_every and VALID not in made.task.splits:
        raise UserError(
            f"{made.task.name} has no split {VALID!r} for validation (its splits: {', '.join(made.task.splits)}). "
            "Hold out some examples, or set --config.train.validate_every=0."
        )
    answer = compiled(make_answer(made.model, made.task), mesh)
    metric = made.task.metrics[0]

    def measure(state: TrainState) -> tuple[str, float]:
        records = evaluate(answer, final_params(state, made.treatment)["model"], made.task, VALID, made.settings.evaluate, mesh)
        return metric, value_of(records, metric, made.task.source(VALID).size is None)

    if not train.patience:
        yield Watch(train.validate_every, 0, measure, None, made.saved, made.releases(VALID))
        return
    with Checkpointer(folder.best, CheckpointConfig(every=1, keep=1)) as best:
        yield Watch(train.validate_every, train.patience, measure, best, made.saved, made.releases(VALID))
