"""Evaluation of every example of a split: masked, sharded, one record per example, and exact for any batch size."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from assay.config.schema import require
from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.data.loader import bucket_ends, encoded, id_of
from assay.data.source import Examples, Source
from assay.dist.mesh import batch_sharding, everywhere, spread
from assay.dist.shard import on_mesh
from assay.evals.vote import Draw, add_votes
from assay.infer.decode import free_running
from assay.models.model import Batch, Model, Output
from assay.tasks.task import Task

SHORTEST_BUCKET = 64  # lengths; narrower buckets would cost more compile time than they save

MOST = 1000  # maximum number of answers sampled per example

ASKED = "asked"  # beside the metrics of an example: its weight in the score, 0 where nothing is asked
FORCED = "forced_"  # prefix of a metric computed by teacher forcing, where the metric itself is free-running

Answer = Callable[[PyTree, Batch], tuple[Mapping[str, jax.Array], jax.Array]]


@dataclass(frozen=True)
class EvaluateConfig:
    splits: tuple[str, ...]  # splits evaluated at the end of training
    per_length: int  # examples per length
    batch_size: int  # examples per compiled call
    buckets: int  # number of padded shapes used to evaluate a split
    samples: int = 0  # answers sampled per example, for voting and verification; 0: none
    temperature: float = 1.0  # sampling temperature

    def __post_init__(self):
        require(0 <= self.samples <= MOST, "evaluate.samples", self.samples, f"a number of answers up to {MOST:,}, or 0 for none")
        require(0 < self.temperature < float("inf"), "evaluate.temperature", self.temperature, "a number above 0")
        for name in ("per_length", "batch_size", "buckets"):
            require(getattr(self, name) >= 1, f"evaluate.{name}", getattr(self, name), "it must be at least 1")


def make_answer(model: Model, task: Task) -> Answer:
    """Builds a pure function `(params, batch) -> (metrics of each example, with ASKED, and the predicted token at each position)`.

    Where the model reads its own answers, teacher forcing, which lets it read the true ones, gives different values. Those metrics have
    their own names, and are computed if the task asks for any of them.
    """
    forced = any(name.startswith(FORCED) for name in task.metrics)

    def answer(params: PyTree, batch: Batch) -> tuple[Mapping[str, jax.Array], jax.Array]:
        output = answered(model, params, task, batch)
        _, asked, metrics = task.score(output, batch)
        metrics = {**metrics, ASKED: asked}
        if forced:
            _, _, given = task.score(model.apply(params, batch), batch)
            metrics = {**metrics, **{FORCED + name: values for name, values in given.items()}}
        return metrics, task.answer(output.logits)

    return answer


def answered(model: Model, params: PyTree, task: Task, batch: Batch) -> Output:
    """Returns the output of the model, which reads its own answers where the task asks for that."""
    if task.free_running:
        return free_running(model, params, batch, task.answer_to_input, task.free_running)
    return model.apply(params, batch)


def compiled(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Compiles an `Answer` or a `Draw` for the mesh; results are replicated on every device."""
    return jax.jit(on_mesh(function, mesh), out_shardings=everywhere(mesh))


def batches(task: Task, split: str, config: EvaluateConfig, multiple_of: int = 1) -> Iterator[tuple[Examples, dict[str, np.ndarray]]]:
    """Yields the split's examples and their batches, bucket by bucket. All batches are full: the last of a bucket repeats rows with weight
    0.
    """
    source = task.source(split)
    first, last = source.lengths
    ends = bucket_ends(source.lengths, min(config.buckets, -(-(last - first + 1) // SHORTEST_BUCKET)))
    indices = source.indices(config.per_length)
    lengths = source.length_of(indices)
    for low, high in zip([first, *(end + 1 for end in ends)], ends, strict=False):
        inside = indices[(low <= lengths) & (lengths <= high)]
        rows = -(-min(config.batch_size, len(inside)) // multiple_of) * multiple_of
        for start in range(0, len(inside), max(rows, 1)):
            chosen = inside[start : start + rows]
            examples, batch = encoded(source, np.resize(chosen, rows), task.encode, task.width(high))
            batch["weight"] = (np.arange(rows) < len(chosen)).astype(np.float32)
            batch["id"] = id_of(examples.id)
            yield examples, batch


def evaluate(
    answer: Answer,
    params: PyTree,
    task: Task,
    split: str,
    config: EvaluateConfig,
    mesh: Mesh,
    on_batch: Callable[[int], None] = lambda examples: None,
    draw: Draw | None = None,
    key: jax.Array | None = None,
) -> list[dict[str, Any]]:
    """Returns one record per example: id, length, input, target, prediction (as displayed, unpadded) and scores; `group` if the split has
    groups, and `client` if it has that column. Examples in which nothing is asked, such as passages without a masked token, have none.

    The caller compiles `answer` with `compiled`, so that several evaluations share its programs. With `draw` (evals/vote.py, compiled
    likewise) and `key`, each record also has the scores of the sampled answers, beside those of the most likely one. Raises UserError if
    nothing is asked in any example.
    """
    records: list[dict[str, Any]] = []
    source = task.source(split)
    sharding = batch_sharding(mesh)
    multiple = mesh.shape["data"] * mesh.shape["fsdp"]
    pending = None
    for examples, batch in [*batches(task, split, config, multiple), (None, None)]:
        done = pending
        if examples is not None and batch is not None:  # dispatch this batch before fetching the previous one
            placed = spread(batch, sharding)
            ids = (examples.id % 2**31).astype(np.int32)
            drawn = None if draw is None or key is None else draw(params, placed, key, ids)
            pending = (examples, batch, *answer(params, placed), drawn)
        if done is not None:
            found_metrics = dict(jax.device_get(done[2]))
            asked = found_metrics.pop(ASKED, done[1]["weight"])
            found = _records(task, source, done[0], done[1], found_metrics, np.asarray(done[3]), asked)
            if done[4] is not None:
                metrics, answers = jax.device_get(done[4])
                each = [
                    _records(task, source, done[0], done[1], {name: values[i] for name, values in metrics.items()}, answers[i], asked)
                    for i in range(len(answers))
                ]
                add_votes(found, list(zip(*each, strict=True)), task)
            records += found
            on_batch(int(done[1]["weight"].sum()))
    if not records:
        raise UserError(f"no example of {split!r} of {task.name} asks for an answer. Change config.task, or choose another split.")
    return sorted(records, key=lambda record: (record["length"], record["id"]))


def size(task: Task, split: str, config: EvaluateConfig) -> int:
    """Returns the number of examples that `evaluate` processes."""
    return len(task.source(split).indices(config.per_length))


def _records(
    task: Task,
    source: Source,
    examples: Examples,
    batch: Mapping[str, np.ndarray],
    metrics: Mapping[str, np.ndarray],
    answers: np.ndarray,
    asked: np.ndarray,
) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = [
        {
            "id": int(examples.id[i]),
            "length": int(examples.length[i]),
            **({} if source.groups is None else {"group": source.groups[examples.id[i]]}),
            **({} if "client" not in batch else {"client": int(batch["client"][i])}),
            **source.describe(examples, i),
            "prediction": task.read(answers[i], {name: array[i] for name, array in batch.items()}),
            "scores": {name: float(values[i]) for name, values in metrics.items()},
        }
        for i in range(int(batch["weight"].sum()))
        if asked[i] > 0 and ("labelled" not in batch or batch["labelled"][i])  # an unlabelled example cannot be scored
    ]
    if task.verify is not None:
        for record in records:
            record["scores"]["verified"] = float(task.verify(record))
    return records
