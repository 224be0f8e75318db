"""Final evaluation of a run: evaluates its splits and writes predictions and results.json."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from jax.sharding import Mesh

from assay.core.secret import origin
from assay.core.tree import PyTree
from assay.data.loader import counted
from assay.data.source import occurring
from assay.evals.evaluate import compiled, evaluate, make_answer, size
from assay.evals.rows import rows
from assay.evals.vote import BEST, VOTE, key_of, make_draw, names
from assay.models.families import label
from assay.tasks.task import Task
from assay.train.experiment import Experiment
from assay.train.progress import bar
from assay.train.workdir import WorkDir

SEEN_STEPS = 20_000  # training steps redrawn to count how many test inputs occurred in training


class Labels(NamedTuple):
    """Fields of a result row that identify its run."""

    experiment: str
    model: str
    treatment: str
    seed: int
    steps: int
    settings: Mapping[str, Any] = MappingProxyType({})  # config.model

    @property
    def short(self) -> str:
        return self.experiment.rpartition(":")[2] or self.model


def labels_of(made: Experiment, experiment: str) -> Labels:
    settings = made.settings
    model = dict(settings.model)
    return Labels(experiment or made.task.name, label(model), made.treatment.name, settings.seed, settings.train.steps, model)


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
        if split == "iid" and not made.treatment.private:
            share = seen_in_training(made, records, labels.steps)
            measured = [row | {"seen_in_training": share} for row in measured]
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


def seen_in_training(made: Experiment, records: Sequence[Mapping[str, Any]], steps: int) -> float:
    """Returns the fraction of records whose input occurred in the first `steps` training steps (at most SEEN_STEPS).

    Short strings inevitably collide.
    """
    parts = (counted(made.sample, step) for step in range(min(steps, SEEN_STEPS)))
    return float(occurring([record["input"] for record in records], made.source, parts).mean())
