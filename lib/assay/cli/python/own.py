"""Runs of a model made elsewhere: a Subject, as `assay.from_linen` and the like return it, becomes a config that names its model and data.

    config = config_of(subject)                          # config.model.name and config.task.name are "mine/NAME"
    rows = fit(subject, "runs/mine", {"train.steps": 500})

Training is that of any run: `loop.run`, with its checkpoints, rows and pages. A process that reads the run needs the subject again, because
its model is code and its data are arrays; config.json has digests of both.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from assay import config as configs
from assay.cli.train import report
from assay.config.modules import OWN
from assay.core.digest import program_digest, same_program
from assay.core.errors import Inapplicable, UserError
from assay.diagnostics.measurement import Measurement
from assay.diagnostics.subject import Subject
from assay.fitting.plans import PATIENCE, pace
from assay.models.brought import own as models
from assay.models.brought.call import said
from assay.models.brought.function import ANSWERS
from assay.models.model import Output
from assay.tasks import own as tasks
from assay.tasks.task import Task
from assay.train import loop
from assay.train.experiment import assemble
from assay.train.workdir import WorkDir
from assay.treatments.pipeline.load import treatments
from assay.verdicts.recommend import facts_of, possible

FURTHER, NEW = 3e-4, 1e-3  # learning rates of Adam: from parameters that have learned the targets, and from others
LEARNED = 0.5  # share of the loss on other examples' targets below which parameters are trained already
PROBED = 256  # examples that say so
KNOWN, RATE = "known", "rate"  # where a subject keeps what is computed once

# Keys of config.json that must be the subject's, and what a run is of otherwise: to read it, and to resume it.
SAME = (
    ("task", "name", "data of another name"),
    ("task", "examples", "other data"),
    ("task", "score", "another loss"),
    ("model", "parameters", "a model with other parameters"),
    ("model", "code", "a model that computes otherwise"),
)
STARTED = (("model", "start", "another start"), ("model", "begun", "a model that began with other values"))
PROGRAMS = ("code", "score")  # which another version of JAX writes otherwise


class Known(NamedTuple):
    task: Task  # with a split `valid`
    code: str  # digest of the program
    score: str  # digest of the loss and the scores
    examples: str  # digest of the examples


class Registered(NamedTuple):
    """A subject that this process knows by name."""

    name: str
    config: Mapping[str, Any]  # config.task
    model: Mapping[str, Any]  # config.model of a run that starts from the subject's parameters
    task: Task  # with a split `valid`
    rows: int  # training examples
    measured: tuple[str, ...]  # splits that a run evaluates


def fit(
    subject: Subject, workdir: str | Path, overrides: Mapping[str, str] = {}, start: str = models.GIVEN, quiet: bool = True
) -> list[dict[str, Any]]:
    """Trains a subject's model on its `train` split, with early stopping on `valid`, and returns the rows of the run in `workdir`.

    Args:
      overrides: dotted keys of the config and their values as texts.
      start: "given" trains further from the subject's parameters, "fresh" begins with new ones.
      quiet: True shows no progress.

    Raises UserError for a subject without gradients or without `train`, and for a folder that holds another run.
    """
    refused = [key for key in overrides if key.split(".")[0] in ("task", "model")]
    if refused:
        raise UserError(
            f"{refused[0]} cannot be overridden, because model and data are those of the subject. Override keys of train, optimizer, "
            "evaluate, checkpoint, mesh, objective or precision, or treatments."
        )
    made = _as_written(workdir, configs.override(config_of(subject, start, overrides).lock(), overrides))
    results = loop.run(made, str(workdir), treatments(made.treatments), made.task.name, quiet, overrides=overrides)
    if not WorkDir(workdir).report.exists():
        report(workdir)
    return list(results["rows"])


def config_of(subject: Subject, start: str = models.GIVEN, overrides: Mapping[str, str] = {}) -> ConfigDict:
    """Registers the subject's model and data in this process, and returns the config of a run of them.

    Steps follow the number of training rows, or `train.steps` of the overrides, which decides how often the run validates.
    """
    task = register(subject)
    config = configs.defaults()
    config.task, config.model = ConfigDict(task.config), ConfigDict({**task.model, "start": start})
    if start != models.GIVEN:
        config.model.begun = ""
    steps = overrides.get("train.steps", "")
    batch, steps_, every = pace(task.rows, int(steps) if steps.isdecimal() else None)
    settings = {
        "train.steps": steps_,
        "train.batch_size": batch,
        "train.steps_per_call": min(8, every),
        "train.log_every": every,
        "train.validate_every": every if steps_ else 0,
        "train.patience": PATIENCE if steps_ else 0,
        "optimizer.learning_rate": _rate(subject) if start == models.GIVEN else NEW,
        "optimizer.schedule": "cosine",
        "optimizer.warmup_steps": min(100, steps_ // 20),
        "evaluate.splits": task.measured,
    }
    config.update_from_flattened_dict(settings)
    return config


def written_of(subject: Subject, overrides: Mapping[str, str] = {}) -> dict[str, Any]:
    """Returns what config.json of a run of the subject says."""
    config = configs.to_dict(configs.override(config_of(subject, overrides=overrides).lock(), overrides))
    return {"experiment": config["task"]["name"], "composition": {}, **config}


def register(subject: Subject) -> Registered:
    """Makes a subject's model and data known by name in this process. Raises UserError if there is nothing to train."""
    if subject.model.opaque:
        raise Inapplicable(f"does not apply: {ANSWERS}. Bring the model itself, such as with assay.from_nnx or assay.from_function.")
    task, code, score, examples = _known(subject)
    name = f"{OWN}{subject.task.name}"
    config = tasks.register(name, task, examples, score)
    model = models.register(name, subject.model, subject.params, code)
    rows = task.source(tasks.TRAIN).size
    assert rows is not None
    return Registered(name, config, model, task, rows, tuple(split for split in task.splits if split != tasks.TRAIN))


def check(subject: Subject, workdir: str | Path) -> None:
    """Registers a subject, with which a run is to be read. Raises UserError if the run in `workdir` is of another one."""
    known = register(subject)
    written = WorkDir(workdir).read_config()
    _check_same(workdir, written, {"task": known.config, "model": known.model}, SAME)


def suggested(subject: Subject, rows: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Returns the treatments that apply to a subject, from rows on the split for choices; a stage is as long as a run of the subject."""
    written = written_of(subject)
    return possible(rows, facts_of(assemble(configs.to_dict(config_of(subject)), [])), "subject", written)


# -- private --------------------------------------------------------------------------------------------------------------


def _known(subject: Subject) -> Known:
    """Returns a subject's task and the digests of both, which are made once. Raises UserError if the model cannot be called in training."""
    if KNOWN in subject.asked:
        found: Known = subject.asked[KNOWN]
        return found
    task = tasks.with_valid(subject.task)
    batch, key = subject.first(2, tasks.TRAIN, again=True), jax.random.key(0)

    def both(params: Any, batch: Any, key: jax.Array) -> tuple[Output, Output]:
        return subject.model.apply(params, batch), subject.model.apply(params, batch, key=key, train=True)

    try:
        code = program_digest(both, subject.params, batch, key)
    except UserError:
        raise
    except Exception as error:
        hint = "Pass call=lambda model, inputs, train: ... to its from_ function"
        raise UserError(f"the model fails in training: {said(error)}. {hint}.") from error
    logits = jax.eval_shape(both, subject.params, batch, key)[1].logits
    score = program_digest(lambda logits, batch: subject.task.score(Output(logits, {}), batch), logits, batch)
    subject.asked[KNOWN] = Known(task, code, score, tasks.digest(subject.task))
    return _known(subject)


def _rate(subject: Subject) -> float:
    """Returns the learning rate for training further: lower if the parameters have learned the targets.

    They have if the loss is far below that of the same answers against the targets of other examples.
    """
    if RATE not in subject.asked:
        batch = subject.first(PROBED, tasks.TRAIN)

        def losses(params: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
            output = subject.model.apply(params, batch)
            others = {**batch, **{name: jax.numpy.roll(batch[name], 1, axis=0) for name in ("targets", "mask") if name in batch}}
            own, rolled = ((values * weights).sum() for values, weights, _ in (subject.task.score(output, one) for one in (batch, others)))
            return own, rolled

        own, rolled = jax.jit(losses)(subject.params, batch)
        subject.asked[RATE] = FURTHER if float(own) < LEARNED * float(rolled) else NEW
    return float(subject.asked[RATE])


def _check_same(workdir: str | Path, written: Mapping[str, Any], config: Mapping[str, Any], keys: Sequence[tuple[str, str, str]]) -> None:
    """Raises UserError if the run in a work directory, whose config.json is `written`, is not of the subject with this config."""
    for group, key, what in keys:
        old, new = str(written[group].get(key)), str(config[group][key])
        if old != new and not (key in PROGRAMS and same_program(old, new)):
            raise UserError(f"{workdir} holds a run of {what}: {old} in the run, {new} now. Pass its subject, or choose another workdir.")


def _as_written(workdir: str | Path, config: ConfigDict) -> ConfigDict:
    """Returns the config with the digests of programs that another version of JAX wrote in a work directory, so that its run resumes.

    Raises UserError if the folder holds a run of another model, of other data or of other parameters.
    """
    if not WorkDir(workdir).config.exists():
        return config
    written = WorkDir(workdir).read_config()
    if written["task"].get("name") == config.task.name and written["model"].get("name") == config.model.name:
        _check_same(workdir, written, config, (*SAME, *STARTED))
        for group, key, _ in SAME:
            with config.unlocked():
                config[group][key] = written[group][key]
    return config  # of a run with other names, the loop says which keys differ
