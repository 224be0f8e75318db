"""From a config to the values of a run: task, model, objective, optimizer and sample, with the treatments applied at their links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from assay.config.schema import require, typed
from assay.core import secret
from assay.core.errors import Inapplicable, UserError
from assay.core.tree import PyTree
from assay.data.loader import Sample, bucket_ends, drawn, sampler, stacked
from assay.data.source import Source
from assay.dist.mesh import MeshConfig
from assay.evals.evaluate import FORCED, EvaluateConfig, make_answer
from assay.models.families import build as build_model
from assay.models.model import Batch, Model, Output
from assay.models.precision import PrecisionConfig
from assay.tasks.table import build as build_task
from assay.tasks.task import Score, Task
from assay.train.checkpoint import CheckpointConfig
from assay.train.objective import OBJECTIVES, Objective, ObjectiveConfig
from assay.train.optim import OptimizerConfig, make_optimizer, make_schedule
from assay.train.state import INHERITED, STATE, TrainState, init_params, init_state
from assay.train.treatment import Treatment, compose, links

TRAINING = ("init", "objective", "gradient", "optimizer", "sample")  # links that only training asks
COUNTED = 16  # steps over which the examples of a sample with weights are averaged


@dataclass(frozen=True)
class TrainConfig:
    steps: int  # parameter updates in all
    batch_size: int  # examples an update, over all devices
    buckets: int  # padded shapes that training compiles
    steps_per_call: int  # updates in one compiled call; they share a length bucket
    log_every: int  # steps between lines of metrics.jsonl
    read_threads: int  # threads by which Grain reads ahead, for record files; 0: batches are made when asked for, the fastest from memory
    validate_every: int  # steps between looks at the split `valid`; 0: none
    patience: int  # looks without a better value after which training stops, and answers with the best look's parameters; 0: never

    def __post_init__(self):
        for name in ("read_threads", "validate_every", "patience"):
            require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "it is at least 0")
        require(not self.patience or self.validate_every > 0, "train.patience", self.patience, "looks need train.validate_every above 0")
        require(self.steps >= 0, "train.steps", self.steps, "it is at least 0")
        for name in ("batch_size", "buckets", "steps_per_call", "log_every"):
            require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "it is at least 1")


@dataclass(frozen=True)
class Settings:
    """The config, typed. `task` and `model` are checked by their own tables."""

    seed: int
    task: Mapping[str, Any]
    model: Mapping[str, Any]
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    checkpoint: CheckpointConfig
    mesh: MeshConfig
    precision: PrecisionConfig
    treatments: tuple[str, ...]

    def __post_init__(self):
        require(0 <= self.seed < 2**31, "seed", self.seed, "a non-negative integer below 2147483648")


class Experiment(NamedTuple):
    settings: Settings
    task: Task  # treated
    model: Model  # treated; `untreated` makes the state
    untreated: Model
    objective: Objective
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    treatment: Treatment
    source: Source  # of training examples
    sample: Sample
    ends: list[int]  # upper ends of the training length buckets
    rows: int  # along the leading axis of a step's batch, which the mesh divides: train.batch_size, unless a treatment draws others
    examples: float  # that count in a step's batch; on average, where the sample has weights

    def batches(self, start: int, count: int, rows: slice = slice(None)) -> dict[str, np.ndarray]:
        """The batches of steps `start` to `start + count - 1`, stacked to the shape of a full call; `rows` of them."""
        block = self.settings.train.steps_per_call
        return stacked(self.source, self.sample, self.task.encode, self.task.width, self.ends, start, count, block, rows)

    def init_state(
        self, key: jax.Array, given: Mapping[str, PyTree], batch: Mapping[str, Any], started: Mapping[str, PyTree] | None = None
    ) -> TrainState:
        return init_state(key, given, self.untreated, self.objective, self.optimizer, self.treatment, batch, started)

    def started(self) -> PyTree:
        """Values of other runs that a fresh start has in place of drawn ones."""
        shapes = jax.eval_shape(self.treatment.init(self.untreated.init), self.key, self.seen_at_once())
        values = self.treatment.start({"model": shapes})
        return values if self.treatment.inherit is None else {**values, INHERITED: self.treatment.inherit()[1]}

    def given(self, loaded: bool = True) -> dict[str, PyTree]:
        """The trees that are given to the state; not `loaded`: those only that are saved with it."""
        return {name: tree() if callable(tree) else tree for name, tree in self.treatment.given.items() if loaded or not callable(tree)}

    def saved(self, state: TrainState) -> TrainState:
        """The state without the trees that are loaded again when training goes on, and without a secret."""
        loaded = {name for name, tree in self.treatment.given.items() if callable(tree)}
        state = state._replace(frozen={name: tree for name, tree in state.frozen.items() if name not in loaded})
        if not self.treatment.secret or isinstance(state.key, jax.ShapeDtypeStruct):
            return state
        return state._replace(key=jax.jit(lambda: self.key, out_shardings=state.key.sharding)())

    def hidden(self, state: TrainState) -> TrainState:
        """The state as training has it: where a treatment asks for it and there is one, its key follows from a secret too."""
        found = secret.read() if self.treatment.secret else None
        if found is None:
            return state
        return state._replace(key=jax.jit(secret.folded, out_shardings=state.key.sharding)(state.key, secret.words(found)))

    def abstract(self) -> TrainState:
        """Shapes of what is saved."""
        return self.saved(jax.eval_shape(self.init_state, self.key, self.given(loaded=False), self.first_batch()))

    def first_batch(self) -> dict[str, np.ndarray]:
        """The batch of one step, for shapes."""
        return {name: array[0] for name, array in self.batches(0, 1).items()}

    def seen_at_once(self) -> Mapping[str, Any]:
        """What the model is called with in a step, for shapes: the batch, unless a treatment deals it out to clients or into episodes."""
        batch: Mapping[str, Any] = self.first_batch()
        return self.treatment.one(batch)

    @property
    def key(self) -> jax.Array:
        return jax.random.key(self.settings.seed)


def assemble(config: Mapping[str, Any], treatments: Sequence[Treatment]) -> Experiment:
    """Everything that a run is made of. Raises UserError before anything is written where parts do not fit."""
    settings = typed(Settings, config, "")
    treatment = compose(treatments)
    train, model_settings = treatment.settings(settings.train, settings.model)
    settings = replace(settings, train=train, model=model_settings)
    task = treatment.task(build_task(settings.task, settings.seed))
    untreated = build_model(settings.model, task.vocabulary, settings.precision)
    if task.free_running and untreated.decode is None:
        raise UserError(
            f"the model {settings.model['name']!r} cannot decode step by step, which {' with '.join((task.name, *settings.treatments))} "
            "needs. Choose a decoder or a recurrent model in one direction with --config.model.name, such as decoder, lstm or gru "
            "(encoder_decoder for translation)."
        )
    if settings.evaluate.samples and not task.free_running:
        raise UserError(
            f"evaluate.samples={settings.evaluate.samples} draws answers that a model writes token by token, and {task.name} reads all of "
            "an answer at once. Set --config.evaluate.samples=0, or choose another task or treatment."
        )
    if settings.model.get("positions") == "learned" and settings.model["max_length"] < task.places:
        raise UserError(
            f"this task gives its tokens positions up to {task.places - 1}, but config.model.max_length={settings.model['max_length']}. "
            f"Set --config.model.max_length={task.places} or more, or lower the span of couple in --config.treatments."
        )
    seed = secret.seed_of(settings.seed) if treatment.secret else settings.seed
    source = replace(task.source("train"), seed=seed)
    ends = bucket_ends(source.lengths, train.buckets)
    schedule = make_schedule(settings.optimizer, train.steps)
    sample = treatment.sample(sampler(source, seed, train.batch_size, ends, train.steps_per_call), source)
    rows, examples = _size(sample)
    experiment = Experiment(
        settings=settings,
        task=task,
        model=untreated,
        untreated=untreated,
        objective=treatment.objective(OBJECTIVES[settings.objective.name](_training_score(task))),
        optimizer=treatment.optimizer(make_optimizer(settings.optimizer, schedule)),
        schedule=schedule,
        treatment=treatment,
        source=source,
        sample=sample,
        ends=ends,
        rows=rows,
        examples=examples,
    )
    if "decoder_inputs" in experiment.first_batch() and settings.model["name"] != "encoder_decoder":
        raise UserError(
            f"{task.name} with --config.task.layout=translation reads one sequence and writes another, and the model "
            f"{settings.model['name']!r} has one stream of tokens. Set --config.task.layout=prompted, or "
            "--config.model.name=encoder_decoder."
        )
    if treatment.steps > train.steps or (treatment.steps and train.patience):
        raise UserError(
            f"{treatment.name} takes {treatment.steps} steps until it is done, and the run has config.train.steps={train.steps}"
            f"{', of which patience may take the best look' if train.patience else ''}. Raise --config.train.steps (of a stage: steps=), "
            "lower the ramp in --config.treatments, or set --config.train.patience=0."
        )
    trained = {link: names for link, names in links(treatments).items() if link in TRAINING}
    if untreated.fit is not None and trained:
        names = ", ".join(dict.fromkeys(name for found in trained.values() for name in found))
        raise Inapplicable(
            f"does not apply: the model {settings.model['name']!r} is fitted by counting, and not trained by gradients. Leave {names} out "
            "of --config.treatments, or change --config.model.name."
        )
    if untreated.fit is not None and train.steps:
        raise UserError(f"the model {settings.model['name']!r} is fitted by counting, not by gradient. Set --config.train.steps=0.")
    model, params = jax.eval_shape(lambda key: init_params(key, untreated, treatment, experiment.first_batch()), jax.random.key(0))
    experiment = experiment._replace(model=model)
    if treatment.per_example and isinstance(params, Mapping) and STATE in params:
        raise UserError(
            f"{treatment.name} takes the gradient of each example alone, and the model {settings.model['name']!r} keeps statistics of a "
            "batch. Choose a model without them with --config.model.name, or leave the treatment out of --config.treatments."
        )
    for split in settings.evaluate.splits:  # an evaluation that cannot be done is better known before training than after
        _, last = task.source(split).lengths
        batch = {name: jax.ShapeDtypeStruct((1, *array.shape[1:]), array.dtype) for name, array in _widest(task, split, last).items()}
        jax.eval_shape(make_answer(model, task), params, batch)
    return experiment


def _size(sample: Sample) -> tuple[int, float]:
    """(rows along the leading axis, examples that count) of a step's batch."""
    first = drawn(sample(0))
    if first.weight is None:
        return len(first.indices), float(first.indices.size)
    weights = [drawn(sample(step)).weight for step in range(COUNTED)]
    return len(first.indices), float(np.mean([np.count_nonzero(weight) for weight in weights if weight is not None]))


def _training_score(task: Task) -> Score:
    """The task's score; where a model reads its own answers in test, the figures of training, which gives it the true ones, have the names
    of that."""
    if not task.free_running:
        return task.score

    def score(output: Output, batch: Batch) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
        values, weights, metrics = task.score(output, batch)
        return values, weights, {FORCED + name: value for name, value in metrics.items()}

    return score


def _widest(task: Task, split: str, last: int) -> Mapping[str, np.ndarray]:
    source = task.source(split)
    return task.encode(source.fetch(source.index_of(np.zeros(1), last)), task.width(last))
