"""Builds a run from its config: task, model, objective, optimizer and sample, with the treatments applied at their links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from assay.config.schema import LAST_STEP, require, typed
from assay.core import secret
from assay.core.errors import Inapplicable, UserError, unknown
from assay.core.tree import PyTree, differing, merge
from assay.data.loader import Sample, bucket_ends, drawn, encoded, sampler, stacked
from assay.data.source import Source
from assay.dist.memory import check_fits
from assay.dist.mesh import MeshConfig
from assay.evals.evaluate import FORCED, EvaluateConfig, make_answer
from assay.evals.summary import SUMMARIES
from assay.models.families import build as build_model
from assay.models.model import STATE, Batch, Model, Output
from assay.models.precision import PrecisionConfig
from assay.tasks.table import build as build_task
from assay.tasks.task import Score, Task
from assay.train.checkpoint import CheckpointConfig
from assay.train.objective import OBJECTIVES, Objective, ObjectiveConfig
from assay.train.optim import OptimizerConfig, make_optimizer, make_schedule
from assay.train.state import INHERITED, TrainState, init_params, init_state
from assay.train.treatment import Treatment, compose, links

TRAINING = ("init", "objective", "gradient", "optimizer", "sample")  # links used in training only
VALID = "valid"  # the split that early stopping chooses by
LARGEST_BATCH = 2**24  # examples; the numbers of more would fill the host's memory before anything is said
RECORD_BYTES = 256  # of an evaluated example, at least
COUNTED = 16  # number of steps over which weighted samples are averaged to count examples


@dataclass(frozen=True)
class TrainConfig:
    steps: int  # total number of parameter updates
    batch_size: int  # examples per update, over all devices
    buckets: int  # number of padded lengths that training compiles
    steps_per_call: int  # updates per compiled call; they share a length bucket
    log_every: int  # steps between lines of metrics.jsonl
    read_threads: int  # Grain reader threads, for record files; 0 makes batches on demand, which is fastest for data in memory
    validate_every: int  # steps between validations on the split `valid`; 0 disables validation
    patience: int  # validations without improvement before stopping; the best checkpoint is restored; 0 disables early stopping
    metric: str = ""  # metric of validations and early stopping, listed first in the rows; "": the task's first
    valid_is_public: bool = False  # True if `valid` has no private examples; a private treatment may then stop early by it

    def __post_init__(self):
        for name in ("steps", "read_threads", "validate_every", "patience"):
            require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "it must be at least 0")
        require(not self.patience or self.validate_every > 0, "train.patience", self.patience, "it requires train.validate_every above 0")
        for name in ("batch_size", "buckets", "steps_per_call", "log_every"):
            require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "it must be at least 1")
        for name, most in (("steps", LAST_STEP), ("steps_per_call", LAST_STEP), ("batch_size", LARGEST_BATCH)):
            require(getattr(self, name) <= most, f"train.{name}", getattr(self, name), f"it must be at most {most:,}")


@dataclass(frozen=True)
class Settings:
    """Typed config. The tables of tasks and models check `task` and `model`."""

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
        require(0 <= self.seed < 2**31, "seed", self.seed, "it must be a non-negative integer below 2147483648")


class Experiment(NamedTuple):
    """All parts of a run, treated and ready to train."""

    settings: Settings
    task: Task  # treated
    model: Model  # treated; the state is initialized from `untreated`
    untreated: Model
    objective: Objective
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    treatment: Treatment
    source: Source  # training examples
    sample: Sample
    ends: list[int]  # upper ends of the training length buckets
    rows: int  # size of a batch's leading axis, which the mesh divides: train.batch_size, unless a treatment draws another number
    examples: float  # examples that count in a step's batch; an average if the sample has weights

    def batches(self, start: int, count: int, rows: slice = slice(None)) -> dict[str, np.ndarray]:
        """Returns the batches of steps `start` to `start + count - 1`, stacked to the shape of a full call, restricted to `rows`."""
        block = self.settings.train.steps_per_call
        return stacked(self.source, self.sample, self.task.encode, self.task.width, self.ends, start, count, block, rows)

    def init_state(
        self, key: jax.Array, given: Mapping[str, PyTree], batch: Mapping[str, Any], started: Mapping[str, PyTree] | None = None
    ) -> TrainState:
        return init_state(key, given, self.untreated, self.objective, self.optimizer, self.treatment, batch, started)

    def started(self) -> PyTree:
        """Returns parameters that replace initial values in a fresh start: those of other runs, or of a model made elsewhere."""
        shapes = jax.eval_shape(self.treatment.init(self.untreated.init), self.key, self.seen_at_once())
        values = self.treatment.start({"model": shapes})
        if self.treatment.inherit is not None:
            return {**values, INHERITED: self.treatment.inherit()[1]}
        if self.untreated.start is None:
            return values
        given = jax.tree.map(lambda leaf, like: jax.numpy.asarray(leaf, like.dtype), self.untreated.start(), shapes)
        return merge({"model": given}, values)

    def given(self, loaded: bool = True) -> dict[str, PyTree]:
        """Returns the trees given to the state; with `loaded=False`, only those saved with it."""
        return {name: tree() if callable(tree) else tree for name, tree in self.treatment.given.items() if loaded or not callable(tree)}

    def saved(self, state: TrainState) -> TrainState:
        """Returns the state as a checkpoint stores it: without trees that are reloaded on resume, and without the secret."""
        loaded = {name for name, tree in self.treatment.given.items() if callable(tree)}
        state = state._replace(frozen={name: tree for name, tree in state.frozen.items() if name not in loaded})
        if not self.treatment.secret or isinstance(state.key, jax.ShapeDtypeStruct):
            return state
        return state._replace(key=jax.jit(lambda: self.key, out_shardings=state.key.sharding)())

    def hidden(self, state: TrainState) -> TrainState:
        """Returns the state used in training; if a treatment requires it and a secret exists, the key also derives from the secret."""
        found = secret.read() if self.treatment.secret else None
        if found is None:
            return state
        return state._replace(key=jax.jit(secret.folded, out_shardings=state.key.sharding)(state.key, secret.words(found)))

    def abstract(self) -> TrainState:
        """Returns the shapes of the saved state."""
        return self.saved(jax.eval_shape(self.init_state, self.key, self.given(loaded=False), self.first_batch()))

    def first_batch(self) -> dict[str, np.ndarray]:
        """Returns the batch of one step, for shapes."""
        return {name: array[0] for name, array in self.batches(0, 1).items()}

    def seen_at_once(self) -> Mapping[str, Any]:
        """Returns one model input, for shapes: the batch, unless a treatment splits it into clients or episodes."""
        batch: Mapping[str, Any] = self.first_batch()
        return self.treatment.one(batch)

    def releases(self, split: str) -> bool:
        """Returns True if values of a split lie outside the guarantee of a private treatment: they depend on private examples."""
        return self.treatment.private and (split == "train" or (split == VALID and not self.settings.train.valid_is_public))

    @property
    def key(self) -> jax.Array:
        return jax.random.key(self.settings.seed)


def assemble(config: Mapping[str, Any], treatments: Sequence[Treatment]) -> Experiment:
    """Builds all parts of a run. Raises UserError before anything is written if the parts do not fit together."""
    settings = typed(Settings, config, "")
    treatment = compose(treatments)
    train, model_settings = treatment.settings(settings.train, settings.model)
    settings = replace(settings, train=train, model=model_settings)
    _check_settings(treatments, settings)
    task = _scored_by(treatment.task(build_task(settings.task, settings.seed)), train.metric)
    if treatment.fitted and VALID not in task.splits:
        raise Inapplicable(
            f"does not apply: {', '.join(one.name for one in treatments if one.fitted)} needs the split {VALID!r}, and {task.name} has "
            f"{', '.join(task.splits)}. Hold out some examples, or remove it from --config.treatments."
        )
    untreated = build_model(settings.model, task.vocabulary, settings.precision)
    untreated = replace(untreated, init=jax.jit(untreated.init, inline=True))  # traced once for all that ask for shapes or values
    if task.free_running and untreated.decode is None:
        raise UserError(
            f"the model {settings.model['name']!r} cannot decode step by step, which {' with '.join((task.name, *settings.treatments))} "
            "needs. Choose a decoder or a unidirectional recurrent model with --config.model.name, such as decoder, lstm or gru "
            "(encoder_decoder for translation)."
        )
    if settings.evaluate.samples and not task.free_running:
        raise UserError(
            f"evaluate.samples={settings.evaluate.samples} samples answers token by token, but {task.name} predicts the whole "
            "answer at once. Set --config.evaluate.samples=0, or choose another task or treatment."
        )
    if settings.model.get("positions") == "learned" and settings.model["max_length"] < task.places:
        raise UserError(
            f"this task uses token positions up to {task.places - 1}, but config.model.max_length={settings.model['max_length']}. "
            f"Set --config.model.max_length={task.places} or more, or lower the span of couple in --config.treatments."
        )
    seed = secret.seed_of(settings.seed) if treatment.secret else settings.seed
    source = replace(task.source("train"), seed=seed)
    ends = bucket_ends(source.lengths, train.buckets)
    schedule = make_schedule(settings.optimizer, train.steps)
    _check_rows(task, settings)
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
            f"{task.name} with --config.task.layout=translation reads one sequence and writes another, but the model "
            f"{settings.model['name']!r} has a single token stream. Set --config.task.layout=prompted, or "
            "--config.model.name=encoder_decoder."
        )
    if treatment.steps > train.steps or (treatment.steps and train.patience):
        raise UserError(
            f"{treatment.name} takes {treatment.steps} steps to complete, but the run has config.train.steps={train.steps}"
            f"{', and early stopping may choose an earlier step' if train.patience else ''}. Raise --config.train.steps (of a stage: "
            "steps=), lower the ramp in --config.treatments, or set --config.train.patience=0."
        )
    trained = {link: names for link, names in links(treatments).items() if link in TRAINING}
    if untreated.fit is not None and trained:
        names = ", ".join(dict.fromkeys(name for found in trained.values() for name in found))
        raise Inapplicable(
            f"does not apply: the model {settings.model['name']!r} is fitted by counting, not trained by gradients. Remove {names} "
            "from --config.treatments, or change --config.model.name."
        )
    if untreated.fit is not None and train.steps:
        raise UserError(f"the model {settings.model['name']!r} is fitted by counting, not by gradients. Set --config.train.steps=0.")
    model, params = jax.eval_shape(lambda key: init_params(key, untreated, treatment, experiment.first_batch()), jax.random.key(0))
    experiment = experiment._replace(model=model)
    if treatment.per_example and isinstance(params, Mapping) and STATE in params:
        raise UserError(
            f"{treatment.name} computes per-example gradients, but the model {settings.model['name']!r} keeps batch statistics. "
            "Choose a model without them with --config.model.name, or remove the treatment from --config.treatments."
        )
    _check_start(experiment)
    answer = make_answer(model, task)
    for split in settings.evaluate.splits:  # an impossible evaluation should fail before training, not after
        _, last = task.source(split).lengths
        batch = {name: jax.ShapeDtypeStruct((1, *array.shape[1:]), array.dtype) for name, array in _widest(task, split, last).items()}
        jax.eval_shape(answer, params, batch)
    return experiment


def _scored_by(task: Task, metric: str) -> Task:
    """Returns the task with a metric first, which may be a registered one; "": as it is. Raises UserError for a metric that it lacks."""
    if not metric:
        return task
    known = [*task.metrics, *(name for name, summary in SUMMARIES.items() if summary.registered)]
    if metric not in known:
        raise unknown(f"metric of {task.name}", metric, known, "--config.train.metric")
    members = {name: _scored_by(member, metric) for name, member in task.members.items()}
    return replace(task, metrics=tuple(dict.fromkeys((metric, *task.metrics))), members=members)


def _check_settings(treatments: Sequence[Treatment], settings: Settings) -> None:
    """Raises UserError if a treatment would not be what it claims to be under these settings."""
    norm, patience = settings.optimizer.clip_norm, settings.train.patience
    for treatment in treatments:
        if treatment.unclipped and norm:
            raise UserError(
                f"the treatment {treatment.name!r} returns a pseudo-gradient, which optimizer.clip_norm={norm:g} would clip. "
                "Set --config.optimizer.clip_norm=0."
            )
        if treatment.private and not settings.train.valid_is_public and (fits := [one.name for one in treatments if one.fitted]):
            raise UserError(
                f"the treatment {treatment.name!r} claims differential privacy, but {fits[0]!r} would fit a parameter on the private "
                f"examples of {VALID!r}. Remove {fits[0]!r}, or set --config.train.valid_is_public=True if they are public."
            )
        if treatment.private and patience and not settings.train.valid_is_public:
            raise UserError(
                f"the treatment {treatment.name!r} claims differential privacy, but train.patience={patience} would choose the parameters "
                f"by the private examples of {VALID!r}. Set --config.train.patience=0, or --config.train.valid_is_public=True if they "
                "are public."
            )


def _size(sample: Sample) -> tuple[int, float]:
    """Returns (rows along the leading axis, examples that count) of a step's batch."""
    first = drawn(sample(0))
    if first.weight is None:
        return len(first.indices), float(first.indices.size)
    found = [drawn(sample(step)) for step in range(COUNTED)]
    return len(first.indices), float(np.mean([one.indices.size if one.weight is None else np.count_nonzero(one.weight) for one in found]))


def _check_rows(task: Task, settings: Settings) -> None:
    """Raises UserError if the examples of a compiled call, or the records of an endless split, exceed the memory of the machine."""
    train, evaluate = settings.train, settings.evaluate
    row = _widest(task, "train", task.source("train").lengths[1])
    needed = train.batch_size * train.steps_per_call * (8 + sum(array.nbytes for array in row.values()))  # 8: an index
    check_fits(needed, "the examples of a call", "--config.train.batch_size or --config.train.steps_per_call")
    for source in (task.source(split) for split in evaluate.splits):
        if source.size is None:
            records = evaluate.per_length * (source.lengths[1] - source.lengths[0] + 1) * RECORD_BYTES
            check_fits(records, f"the records of the split {source.name!r}", "--config.evaluate.per_length")


def _check_start(made: Experiment) -> None:
    """Raises UserError if a treatment begins with other parameters than those that are given with the model."""
    if made.untreated.start is None or made.treatment.inherit is not None:
        return
    given, begun = (
        jax.eval_shape(init, made.key, made.seen_at_once()) for init in (made.untreated.init, made.treatment.init(made.untreated.init))
    )
    if unlike := differing(given, begun):
        raise Inapplicable(
            f"does not apply: {made.treatment.name} begins with other parameters than the given ones ({unlike}). Remove it from "
            "--config.treatments, or use start='fresh'."
        )


def _training_score(task: Task) -> Score:
    """Returns the task's score for training. If the model reads its own answers at test time, training metrics get the `FORCED` prefix,
    because training feeds the true answers."""
    if not task.free_running:
        return task.score

    def score(output: Output, batch: Batch) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
        values, weights, metrics = task.score(output, batch)
        return values, weights, {FORCED + name: value for name, value in metrics.items()}

    return score


def _widest(task: Task, split: str, last: int) -> Mapping[str, np.ndarray]:
    source = task.source(split)
    return encoded(source, source.index_of(np.zeros(1), last), task.encode, task.width(last))[1]
