"""What is diagnosed: a model with its parameters and its task, and what it answers on a share of a split, asked once.

    subject = Subject(model, params, task, "test", examples=512)
    subject.answers("test").columns["score"]

Examples are spread evenly over a split's lengths, the same ones for every model of the task.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.data.source import Examples, Source
from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals.evaluate import Answer, EvaluateConfig, compiled, evaluate
from assay.evals.rows import HEADLINES, LOWER_IS_BETTER
from assay.infer.decode import free_running
from assay.models.model import Batch, Model, Output
from assay.nn.tap import Taps, to_tokens
from assay.tasks.task import Task

HELD_OUT = ("test", "iid", "valid")  # where a model is measured, the first that the task has
CHOICES = ("valid", "iid", "train")  # where what to do about it is chosen
FARTHER = 4  # times the lengths of training, up to which longer inputs are tried
ROWS = 128  # examples in a call
RIGHT = ("verified", "answer_accuracy", "exact_match", "accuracy")  # headlines by which an example is right (1) or wrong (0)
LOOKED = ("embedded", "residual", "mlp", "gate", "hidden", "dense", "features", "pooled")  # how the paths of taps end that are looked at


class Answers(NamedTuple):
    """What a model answered on a set of examples. `score`: the headline of each, higher is better unless it is an error."""

    ids: np.ndarray  # uint64 [n]: a hash of the input
    groups: np.ndarray | None  # str [n]: what is drawn together
    columns: Mapping[str, np.ndarray]  # score, loss (nats), length, and confidence where answers are classes: [n]
    records: Sequence[Mapping[str, Any]]


class Run(NamedTuple):
    """Where a subject's parameters come from: what an accountant, a membership test or an audit must know of the training."""

    config: Mapping[str, Any]  # as in config.json
    treatments: Sequence[str]
    steps: int  # taken
    members: np.ndarray | None = None  # bool [size of `train`]: the examples that training had, where it had a part; None: all


@dataclass(frozen=True)
class Subject:
    model: Model
    params: PyTree
    task: Task
    split: str  # held out
    examples: int = 512  # of a split, at most
    history: Sequence[Mapping[str, Any]] = ()  # lines of metrics.jsonl
    started: Callable[[], PyTree] | None = None  # the parameters that training began with
    seconds: float = 20.0  # for timing
    asked: dict[str, Any] = field(default_factory=dict)  # answers by set, and programs: asked once
    choosing: bool = False  # whether a remedy is chosen by it: splits that do not end give it other examples than those judged by
    run: Run | None = None  # None: the model was brought, and nothing is known of its training
    again: Callable[[int, np.ndarray], PyTree] | None = None  # (seed, bool [size of `train`]) -> parameters, trained anew on those examples

    @property
    def headline(self) -> str:
        """The score that examples are compared by."""
        records = self.answers(self.split).records
        return next((name for name in HEADLINES if name in records[0]["scores"]), next(iter(records[0]["scores"])))

    @property
    def better(self) -> str:
        return "lower" if self.headline in LOWER_IS_BETTER else "higher"

    @property
    def right(self) -> tuple[str, ...]:
        """The columns of `answers` that are right (1) or wrong (0): `score`, where the headline is of that kind."""
        return ("score",) if self.headline in RIGHT else ()

    @property
    def probe(self) -> str:
        """The split whose examples a model is looked into with: not the one on which it is measured, where the task has another."""
        return choosing(self.task)

    @property
    def images(self) -> bool:
        return self.task.vocabulary.inputs == 0 and self.first(1)["inputs"].ndim == 4

    @property
    def tokens(self) -> bool:
        return self.task.vocabulary.inputs > 0

    def answers(self, split: str, change: Callable[[Examples], Examples] | None = None, name: str = "") -> Answers:
        """Of a split, or of what `change` makes of its examples, which then has a name of its own; the ids stay."""
        again = self.choosing and self.task.source(split).size is None
        name = f"{name or split} for choices" if again else name or split
        if name not in self.asked:
            if "answer" not in self.asked:
                self.asked["answer"] = compiled(_answering(self.model, self.task), _mesh())
            ids = self._ids(split, change)
            self.asked[name] = _answers(self.asked["answer"], self.params, self.task, split, self.examples, change, ids, again)
        return self.asked[name]

    def places(self, split: str) -> np.ndarray:
        """int64 [n]: which examples of a split `answers` are of, as indices of the split."""
        return np.array([record["id"] for record in self.answers(split).records], np.int64)

    def members(self, split: str) -> np.ndarray:
        """bool [n]: which examples of `answers` were available to training. Of `train`, all, or those of `run.members`; of an endless one,
        those that the steps taken have come to; of other splits none, as splits share no examples.

        Raises UserError where an endless split was trained on for an unknown number of steps.
        """
        places, source = self.places(split), self.task.source(split)
        if split != "train":
            return np.zeros(len(places), bool)
        if self.run is not None and self.run.members is not None:
            return np.asarray(self.run.members, bool)[places]
        if source.size is not None:
            return np.ones(len(places), bool)
        if self.run is None:
            raise UserError(f"{self.task.name} makes training examples without end, and how many steps were taken is not known: give run=.")
        lengths = source.lengths[1] - source.lengths[0] + 1
        return places // lengths < self.run.steps * self.run.config["train"]["batch_size"]

    def first(self, rows: int, split: str = "", again: bool = False) -> dict[str, Any]:
        """A batch of a split's examples, of all its lengths, padded to the longest: as many as `rows`, or as there are; `again`: `rows`, if
        need be some of them twice."""
        source = limited(self.task.source(split or self.split), max(rows, 1))
        rows = rows if again else min(rows, source.size or rows)
        examples = source.fetch(np.resize(source.indices(1), rows))
        return {**self.task.encode(examples, self.task.width(source.lengths[1])), "weight": np.ones(rows, np.float32)}

    def groups(self, rows: int, split: str = "") -> np.ndarray | None:
        """str [n]: what the examples of `first` are drawn together with."""
        source = limited(self.task.source(split or self.split), max(rows, 1))
        if source.groups is None:
            return None
        return np.array([str(source.groups[one]) for one in source.fetch(source.indices(1)).id])

    def taps(self, split: str = "") -> Mapping[str, np.ndarray]:
        """Activations on the split's examples by path, read once: float32 [n, ...]; attention weights are not among them."""
        name = f"taps/{split or self.probe}"
        if name not in self.asked:
            batch = self.first(min(self.examples, 256), split or self.probe)
            n = len(batch["weight"])
            guessed = not self.model.editable  # a model that was made elsewhere does not say what its axes are
            if guessed and batch["inputs"].shape[1:2] == (n,) and n > 1:  # else it could not be told which axis the examples are
                n -= 1
                batch = {key: array[:n] for key, array in batch.items()}
            taps = jax.device_get(_tapped(self.model)(self.params, batch))
            said = taps.axes
            laid = {path: to_tokens(taps[path], said[path], n) if path in said else _by_example(taps[path], n) for path in sorted(taps)}
            self.asked[name] = {path: value for path, value in laid.items() if value is not None}
        return self.asked[name]

    def _ids(self, split: str, change: Any) -> np.ndarray | None:
        return self.answers(split).ids if change is not None else None


def held_out(task: Task) -> str:
    """The split on which a model is measured."""
    return next((name for name in HELD_OUT if name in task.splits), task.splits[-1])


def choosing(task: Task) -> str:
    """The split by which a remedy is chosen: not the one on which it is then measured, where the task has another."""
    return next((name for name in CHOICES if name in task.splits), held_out(task))


def farther(task: Task) -> list[str]:
    """Splits that ask for more than training did: longer, deeper or other inputs, the nearest first."""
    known = [name for name in task.splits if name not in ("train", "valid", "test", "iid")]
    if task.shifted and not task.vocabulary.pooled:
        return ["test"]
    if "train" not in task.splits:
        return []
    _, last = task.source("train").lengths
    ranged = [name for name in known if re.fullmatch(r"\d+-\d+", name)]
    if not ranged:
        return known[:1]
    for top in (FARTHER * last, *(int(name.partition("-")[2]) for name in ranged)):  # a task may have a highest length
        try:
            task.source(f"{last + 1}-{top}").fetch(np.arange(1))
            return [f"{last + 1}-{top}"]
        except (UserError, ValueError):
            continue
    return []


def limited(source: Source, examples: int, again: bool = False) -> Source:
    """As many examples of a split, spread evenly over its lengths; all, if it has no more. `again`: others, where it does not end."""
    lengths = source.lengths[1] - source.lengths[0] + 1
    each = -(-examples // lengths)
    indices = source.indices(2 * each).reshape(lengths, -1)[:, each:].ravel() if again else source.indices(each)
    chosen = indices[np.linspace(0, len(indices) - 1, min(examples, len(indices))).round().astype(int)]
    reached = source.length_of(chosen)
    return replace(
        source,
        size=len(chosen),
        lengths=(int(reached.min()), int(reached.max())),
        fetch=lambda places: source.fetch(chosen[np.asarray(places) % len(chosen)]),
        length_of=lambda places: source.length_of(chosen[np.asarray(places) % len(chosen)]),
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _answers(
    answer: Answer,
    params: PyTree,
    task: Task,
    split: str,
    examples: int,
    change: Callable[[Examples], Examples] | None,
    ids: np.ndarray | None,
    again: bool,
) -> Answers:
    source = limited(task.source(split), examples, again)
    if change is not None:
        source = replace(source, fetch=_then(source.fetch, change))
    asked = replace(task, source=lambda name: source)
    config = EvaluateConfig(splits=(), per_length=1, batch_size=min(ROWS, examples), buckets=1)
    records = evaluate(answer, params, asked, split, config, _mesh())
    names = [name for name in ("loss", "confidence") if name in records[0]["scores"]]
    headline = next((name for name in HEADLINES if name in records[0]["scores"]), next(iter(records[0]["scores"])))
    columns = {name: np.array([record["scores"][name] for record in records]) for name in names}
    columns |= {"score": np.array([record["scores"][headline] for record in records])}
    columns |= {"length": np.array([record["length"] for record in records], float)}
    groups = np.array([str(record["group"]) for record in records]) if "group" in records[0] else None
    if ids is not None:
        return Answers(ids, groups, columns, ())  # changed inputs are not kept
    return Answers(np.array([_hash(record) for record in records], np.uint64), groups, columns, records)


def _then(fetch: Callable[[np.ndarray], Examples], change: Callable[[Examples], Examples]) -> Callable[[np.ndarray], Examples]:
    return lambda places: change(fetch(places))


def _answering(model: Model, task: Task) -> Answer:
    """The metrics of each example, with its loss and the model's confidence in its answer."""

    def answer(params: PyTree, batch: Batch) -> tuple[Mapping[str, jax.Array], jax.Array]:
        given = model.apply(params, batch)
        output = free_running(model, params, batch, task.answer_to_input, task.free_running) if task.free_running else given
        _, _, metrics = task.score(output, batch)
        loss, _, _ = task.score(given, batch)
        return {**metrics, "loss": loss, **_confidence(output, batch, task, tuple(metrics))}, task.answer(output.logits)

    return answer


def _confidence(output: Output, batch: Batch, task: Task, metrics: Sequence[str]) -> Mapping[str, jax.Array]:
    """The probability of what is answered: of a class, of the last token, of all tokens together, or the mean of a token's."""
    if not isinstance(output.logits, jax.Array) or task.vocabulary.heads or "mse" in metrics:
        return {}
    highest = jax.nn.log_softmax(widened(output.logits), axis=-1).max(axis=-1)
    if task.vocabulary.pooled:
        return {"confidence": jnp.exp(highest)}
    mask = batch["mask"]
    if "answer_accuracy" in metrics:
        last = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
        return {"confidence": jnp.exp(jnp.take_along_axis(highest, last[:, None], axis=1)[:, 0])}
    if "exact_match" in metrics and next(name for name in HEADLINES if name in metrics) == "exact_match":
        return {"confidence": jnp.exp((highest * mask).sum(axis=1))}
    return {"confidence": (jnp.exp(highest) * mask).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1.0)}


def _tapped(model: Model) -> Callable[[PyTree, Batch], Taps]:
    def read(params: PyTree, batch: Batch) -> Taps:
        output = model.apply(params, batch)
        own = output.axes  # of a model of ours a few taps are looked at; of one that was made elsewhere, whatever it shows
        kept = [path for path in output.taps if path.endswith(LOOKED if path in own else "") and not path.endswith("weights")]
        return Taps({path: widened(output.taps[path]) for path in kept}, {path: own[path] for path in kept if path in own})

    return jax.jit(read)


def _by_example(value: np.ndarray, n: int) -> np.ndarray | None:
    """[n, ...] of activations that may lie as [seq, n, ...] or [n * seq, ...]; None of what is no example's, such as positions."""
    first, second = (*value.shape, 0, 0)[:2]
    if first == n:
        return value
    if second == n:
        return np.swapaxes(value, 0, 1)
    return value.reshape(n, first // n, *value.shape[1:]) if first and first % n == 0 else None


def _mesh() -> Any:
    return make_mesh(MeshConfig(-1, 1, 1))


def _hash(record: Mapping[str, Any]) -> int:
    said = json.dumps([record["id"], record.get("input", record["target"])], default=str)  # a treatment may ask for another target
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest())
