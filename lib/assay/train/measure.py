"""Final evaluation of a run: fits what is fitted after training, evaluates its splits, and writes predictions and results.json."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from assay.core.errors import UserError
from assay.core.file import read_json
from assay.core.secret import origin
from assay.core.tree import PyTree
from assay.data.loader import Sample, counted
from assay.data.source import Source, occurring
from assay.evals.evaluate import compiled, evaluate, make_answer, size
from assay.evals.rows import rows
from assay.evals.vote import BEST, VOTE, key_of, make_draw, names
from assay.models.families import label
from assay.tasks.task import Task
from assay.train.experiment import Experiment
from assay.train.progress import bar
from assay.train.state import TrainState, final_params
from assay.train.workdir import WorkDir

SEEN_STEPS = 20_000  # training steps redrawn to count how many test inputs occurred in training
PART = 4096  # training examples fetched at a time for it
NOT_TESTED = ("train", "valid")
UNSEEN = "-unseen"  # ends the name of a split's rows over inputs that training never had
UNSEEN_NOTE = "over the examples whose inputs never occurred in training"


class Labels(NamedTuple):
    """Fields of a result row that identify its run."""

    experiment: str
    model: str
    treatment: str
    seed: int
    steps: int
    settings: Mapping[str, Any] = MappingProxyType({})  # config.model
    overrides: Mapping[str, str] = MappingProxyType({})  # keys that the command changed, except the seed

    @property
    def short(self) -> str:
        return self.experiment.rpartition(":")[2] or self.model


def labels_of(made: Experiment, experiment: str, overrides: Mapping[str, str] = MappingProxyType({})) -> Labels:
    """Returns the labels of a run; `overrides` are the keys of its config file that the command changed."""
    settings = made.settings
    model = dict(settings.model)
    name = experiment or made.task.name
    return Labels(name, label(model), made.treatment.name, settings.seed, settings.train.steps, model, dict(overrides))


def settle(made: Experiment, folder: WorkDir, state: TrainState) -> PyTree:
    """Returns the model's parameters for evaluation, after `Treatment.fitted` has been fitted and written to fitted.json."""
    params, listed = final_params(state, made.treatment)["model"], made.treatment.fitted
    if not listed:
        return params
    params = {**params, **{name: np.float32(one.neutral) for name, one in listed.items()}}
    for name, one in listed.items():
        params[name] = np.float32(one.fit(made.model, params, made.task))
    folder.write_json(folder.fitted, {"step": int(state.step), "values": {name: float(params[name]) for name in listed}})
    return params


def settled(made: Experiment, folder: WorkDir, state: TrainState) -> PyTree:
    """Returns the model's parameters for evaluation, with what the run fitted after training at this step, if it did."""
    params, listed = final_params(state, made.treatment)["model"], made.treatment.fitted
    if not listed or not folder.fitted.exists():
        return params
    try:
        found = read_json(folder.fitted)
        values = {name: np.float32(found["values"][name]) for name in listed}
        return {**params, **values} if found["step"] == int(state.step) else params
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder.fitted} cannot be read: {error!r}. Delete it and results.json, and train again to write both.") from None


def measure(made: Experiment, folder: WorkDir, params: PyTree, mesh: Mesh, labels: Labels, quiet: bool = False) -> list[dict[str, Any]]:
    """Evaluates the configured splits, writes their predictions, and returns their rows. `params` are the model's own.

    Under a private treatment, rows of private examples have `"private": false`, and no row holds a statistic of the training examples.
    """
    answer, evaluation, task = compiled(make_answer(made.model, made.task), mesh), made.settings.evaluate, made.task
    draw = None
    if evaluation.samples:
        draw = compiled(make_draw(made.model, task, evaluation.samples, evaluation.temperature), mesh)
        task = replace(task, metrics=(*task.metrics, *names(task)))
    shown = _without_training(task) if made.treatment.private else task
    found: list[dict[str, Any]] = []
    for split in dict.fromkeys(made.task.source(name).name for name in made.settings.evaluate.splits):  # 8-9 and 8:9 name one split
        source = made.task.source(split)
        total, done = size(made.task, split, made.settings.evaluate), 0
        with bar(f"{labels.short} {split}", total, "examples", quiet=quiet) as update:

            def on_batch(examples: int, update=update) -> None:
                nonlocal done
                done += examples
                update(done, {})

            records = evaluate(answer, params, made.task, split, evaluation, mesh, on_batch, draw, key_of(made.settings.seed))
        folder.write_predictions(split, records)
        measured = rows(records, shown, split, labels._asdict(), by_length=source.size is None)
        if draw is not None:
            drawn = f"{evaluation.samples} answers drawn at temperature {evaluation.temperature:g}"
            measured = [_said(row, drawn) if row["metric"].startswith((VOTE, BEST)) else row for row in measured]
        seen = None
        if not made.treatment.private:
            seen = seen_in_training(made.task, made.source, made.sample, split, records, labels.steps)
        if seen is not None:
            measured = with_seen(measured, records, seen, task, split, labels)
        if made.treatment.secret:
            measured = [_said(row, f"randomness: {origin(folder.secret)}") for row in measured]
        found += [row | {"private": False} for row in measured] if made.releases(split) else measured
    return found


def _without_training(task: Task) -> Task:
    """Returns the task without its training split, so that rows of other splits hold no statistic of private examples."""
    members = {name: _without_training(member) for name, member in task.members.items()}
    return replace(task, splits=tuple(split for split in task.splits if split != "train"), members=members)


def _said(row: dict[str, Any], text: str) -> dict[str, Any]:
    """Adds a text to a row's note."""
    return row | {"note": "; ".join(part for part in (text, row.get("note", "")) if part)}


def with_seen(
    measured: Sequence[dict[str, Any]], records: Sequence[Mapping[str, Any]], seen: np.ndarray, task: Task, split: str, labels: Labels
) -> list[dict[str, Any]]:
    """Returns the rows of a split with the share of its inputs that occurred in training, `seen`.

    If some test inputs did, no published cell stands beside the rows, and the examples whose inputs never did have rows of their own, as a
    split `NAME-unseen`. Among the trained lengths of unlimited splits, short inputs inevitably collide, which changes nothing.
    """
    found = [row | {"seen_in_training": float(seen.mean())} for row in measured]
    if split == "iid" or not seen.any():
        return found
    unseen = [record for record, known in zip(records, seen, strict=True) if not known]
    own = rows(unseen, task, f"{split}{UNSEEN}", labels._asdict(), by_length=False) if unseen else []
    return [row | {"published": []} for row in found] + [_said(row, UNSEEN_NOTE) | {"seen_in_training": 0.0} for row in own]


def seen_in_training(
    task: Task, trained: Source, sample: Sample, split: str, records: Sequence[Mapping[str, Any]], steps: int
) -> np.ndarray | None:
    """Returns which records have an input that occurred in training, bool [records]; None where it is not counted.

    It is counted for the trained lengths of unlimited splits, over the first `steps` training steps (at most SEEN_STEPS), and for every
    finite test split of token sequences, over all examples of a finite training split. `trained` is that split as training uses it.
    """
    source = task.source(split)
    if split in NOT_TESTED or not records or (source.size is None and split != "iid"):
        return None
    inputs = [record["input"] for record in records]
    if source.size is not None:
        examples = source.fetch(np.array([record["id"] for record in records]))
        if examples.input.ndim != 2 or not np.issubdtype(examples.input.dtype, np.integer):
            return None
        inputs = [row[:length].tolist() for row, length in zip(examples.input, examples.input_length, strict=True)]
    if source.size is not None and trained.size is not None:
        every = np.arange(trained.size)
        return occurring(inputs, trained, np.array_split(every, -(-len(every) // PART)))
    parts = (counted(sample, step) for step in range(min(steps, SEEN_STEPS)))
    return occurring(inputs, trained, parts)
