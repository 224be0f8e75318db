"""Subject of a diagnosis: a model with its parameters and task, and its cached answers on a sample of a split.

    subject = Subject(model, params, task, "test", examples=512)
    subject.answers("test").columns["score"]

Examples are spread evenly over a split's lengths and are the same for every model of the task.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.data.loader import encoded, id_of
from assay.data.source import Examples, Source, occurring, row_of
from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals.evaluate import ASKED, Answer, EvaluateConfig, compiled, evaluate
from assay.evals.rows import LOWER_IS_BETTER, RIGHT, headline_of
from assay.infer.decode import free_running
from assay.models.model import Batch, Model, Output
from assay.nn.tap import Taps, to_tokens
from assay.tasks.task import Task

HELD_OUT = ("test", "iid", "valid")  # splits for measuring a model; the first that the task has is used
CHOICES = ("valid", "iid", "train")  # splits for choosing a remedy
FARTHER = 4  # longest inputs beyond training, as a multiple of the training lengths
ROWS = 128  # examples per call
FURTHER = ("mae", "label_accuracy")  # scores of an example besides the headline that have rows
LOOKED = ("embedded", "residual", "mlp", "gate", "hidden", "dense", "features", "pooled")  # path suffixes of the taps that are read


class Answers(NamedTuple):
    """Answers of a model on a set of examples. `score` is the headline of each example; higher is better unless it is an error."""

    ids: np.ndarray  # uint64 [n]: a hash of the input
    groups: np.ndarray | None  # str [n]: cluster of each example; examples of one cluster are resampled together
    # score, loss (nats), length; confidence if answers are classes; those of FURTHER; tokens that a score averages: [n]
    columns: Mapping[str, np.ndarray]
    records: Sequence[Mapping[str, Any]]

    @property
    def mean(self) -> float:
        """Returns the mean score: over tokens if each score is a mean over some, otherwise over examples, as in results.json."""
        return float(np.average(self.columns["score"], weights=self.columns.get("tokens")))

    @property
    def statistic(self) -> str:
        """Returns the name of the statistic that `mean` is."""
        return "token_mean" if "tokens" in self.columns else "mean"

    def scores(self, name: str) -> dict[str, np.ndarray]:
        """Returns the columns of that statistic, of a set by its name."""
        return {f"{name}/{what}": self.columns[what] for what in ("score", "tokens") if what in self.columns}


class Run(NamedTuple):
    """Training run that the parameters come from, as far as a privacy accountant, a membership test or an audit needs it."""

    config: Mapping[str, Any]  # as in config.json, with the settings that treatments chose
    treatments: Sequence[str]
    steps: int  # steps taken; with early stopping, those after the best checkpoint included
    members: np.ndarray | None = None  # bool [size of `train`]: examples available to training; None: all
    drawn: Callable[[], Iterable[np.ndarray]] | None = None  # indices of the training examples of each step taken; None: unknown


@dataclass(frozen=True)
class Subject:
    """A model with its parameters and its task, measured on a held-out split."""

    model: Model
    params: PyTree
    task: Task
    split: str  # held-out split
    examples: int = 512  # maximum number of examples per split
    history: Sequence[Mapping[str, Any]] = ()  # lines of metrics.jsonl
    started: Callable[[], PyTree] | None = None  # loads the initial parameters of training
    seconds: float = 20.0  # time budget of the speed measurements
    asked: dict[str, Any] = field(default_factory=dict)  # cache of answers by set, and of compiled programs
    choosing: bool = False  # True if used to choose a remedy: endless splits then yield examples distinct from those used for measuring
    run: Run | None = None  # None: an external model whose training is unknown
    again: Callable[[int, np.ndarray], PyTree] | None = None  # (seed, bool [size of `train`]) -> parameters retrained on those examples

    def __repr__(self) -> str:
        return f"Subject(task={self.task.name!r}, split={self.split!r}, examples={self.examples})"

    @property
    def headline(self) -> str:
        """Returns the name of the score by which examples are compared."""
        return headline_of(self.answers(self.split).records[0]["scores"])

    @property
    def better(self) -> str:
        return "lower" if self.headline in LOWER_IS_BETTER else "higher"

    @property
    def right(self) -> tuple[str, ...]:
        """Returns the columns of `answers` whose entries are right (1) or wrong (0): `score` if the headline is of that kind."""
        return ("score",) if self.headline in RIGHT else ()

    @property
    def probe(self) -> str:
        """Returns the split for inspecting the model; it differs from the measured split if the task has another."""
        return choosing(self.task)

    @property
    def images(self) -> bool:
        return self.task.vocabulary.inputs == 0 and self.first(1)["inputs"].ndim == 4

    @property
    def tokens(self) -> bool:
        return self.task.vocabulary.inputs > 0

    @property
    def of_classes(self) -> bool:
        """Returns whether an answer is a class, so that its probability is known."""
        return "confidence" in self.answers(self.split).columns

    def answers(self, split: str, change: Callable[[Examples], Examples] | None = None, name: str = "") -> Answers:
        """Returns the answers on a split, or on its examples after `change`, cached under `name`. The ids do not change."""
        again = self.choosing and self.task.source(split).size is None
        name = f"{name or split} for choices" if again else name or split
        if name not in self.asked:
            if "answer" not in self.asked:
                answering = _answering(self.model, self.task)
                self.asked["answer"] = answering if self.model.opaque else compiled(answering, _mesh())
            ids = self._ids(split, change)
            self.asked[name] = _answers(self.asked["answer"], self.params, self.task, split, self.examples, change, ids, again)
        return self.asked[name]

    def places(self, split: str) -> np.ndarray:
        """Returns the split indices of the examples behind `answers`: int64 [n]."""
        return np.array([record["id"] for record in self.answers(split).records], np.int64)

    def members(self, split: str) -> np.ndarray:
        """Returns which examples of `answers` were used in training: bool [n].

        For a finite task these are the examples of `train` that the steps of the run have drawn; if these are unknown, those of
        `run.members`, or all of them. Its other splits share no examples with training. For a task with endless training examples, an
        example of any split was used if its input occurred in training; short strings inevitably occur in several splits.

        Raises UserError for endless training examples if it is unknown which were drawn.
        """
        places, source = self.places(split), self.task.source("train")
        drawn = None if self.run is None else self.run.drawn
        if source.size is None:
            if drawn is None:
                raise UserError(f"{self.task.name} generates endless training examples, and the drawn ones are unknown: pass Run.drawn.")
            return occurring([record["input"] for record in self.answers(split).records], source, drawn())
        if split != "train":
            return np.zeros(len(places), bool)
        used = np.ones(source.size, bool) if self.run is None or self.run.members is None else np.array(self.run.members, bool)
        if drawn is not None:
            reached = np.zeros(source.size, bool)
            for indices in drawn():
                reached[row_of(indices, source.size)] = True
            used &= reached
        return used[places]

    def first(self, rows: int, split: str = "", again: bool = False) -> dict[str, Any]:
        """Returns a batch of up to `rows` examples of all lengths of a split, padded to the longest. With `again`, examples repeat as
        needed to fill `rows`."""
        source = limited(self.task.source(split or self.split), max(rows, 1))
        rows = rows if again else min(rows, source.size or rows)
        indices = np.resize(source.indices(1), rows)
        examples, batch = encoded(source, indices, self.task.encode, self.task.width(source.lengths[1]))
        return {**batch, "weight": np.ones(rows, np.float32), "id": id_of(examples.id)}

    def groups(self, rows: int, split: str = "") -> np.ndarray | None:
        """Returns the cluster of each example in `first`: str [n], or None."""
        source = limited(self.task.source(split or self.split), max(rows, 1))
        if source.groups is None:
            return None
        return np.array([str(source.groups[one]) for one in source.fetch(source.indices(1)).id])

    def taps(self, split: str = "") -> Mapping[str, np.ndarray]:
        """Returns activations on the split's examples by path, read once: float32 [n, ...]. Attention weights are excluded."""
        name = f"taps/{split or self.probe}"
        if name not in self.asked:
            batch = self.first(min(self.examples, 256), split or self.probe)
            n = len(batch["weight"])
            guessed = not self.model.editable  # an external model does not name the axes of its activations
            if guessed and batch["inputs"].shape[1:2] == (n,) and n > 1:  # two equal axes: the example axis would be ambiguous
                n -= 1
                batch = {key: array[:n] for key, array in batch.items()}
            taps = jax.device_get(_tapped(self.model)(self.params, batch))
            said = taps.axes
            laid = {path: to_tokens(taps[path], said[path], n) if path in said else _by_example(taps[path], n) for path in sorted(taps)}
            self.asked[name] = {path: value for path, value in laid.items() if value is not None}
        return self.asked[name]

    def _ids(self, split: str, change: Any) -> np.ndarray | None:
        return self.answers(split).ids if change is not None else None


def program(model: Model, function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function of a model's answers. One whose model answers on the host runs as it is: a callback inside a program waits for
    the threads that run the program, on few cores forever."""
    return function if model.opaque else jax.jit(function)


def held_out(task: Task) -> str:
    """Returns the split on which a model is measured."""
    return next((name for name in HELD_OUT if name in task.splits), task.splits[-1])


def choosing(task: Task) -> str:
    """Returns the split for choosing a remedy; it differs from the measured split if the task has another."""
    return next((name for name in CHOICES if name in task.splits), held_out(task))


def farther(task: Task) -> list[str]:
    """Returns splits beyond the training distribution (longer, deeper or shifted inputs), the nearest first."""
    known = [name for name in task.splits if name not in ("train", "valid", "test", "iid")]
    if task.shifted and not task.vocabulary.pooled:
        return ["test"]
    if "train" not in task.splits:
        return []
    _, last = task.source("train").lengths
    ranged = [name for name in known if re.fullmatch(r"\d+-\d+", name)]
    if not ranged:
        return known[:1]
    for top in (FARTHER * last, *(int(name.partition("-")[2]) for name in ranged)):  # a task may have a maximum length
        try:
            task.source(f"{last + 1}-{top}").fetch(np.arange(1))
            return [f"{last + 1}-{top}"]
        except (UserError, ValueError):
            continue
    return []


def limited(source: Source, examples: int, again: bool = False) -> Source:
    """Returns `examples` examples of a split, spread evenly over its lengths, or all if it has fewer. With `again`, an endless split yields
    other examples."""
    lengths = source.lengths[1] - source.lengths[0] + 1
    each = -(-examples // lengths)
    indices = source.indices(2 * each).reshape(lengths, -1)[:, each:].ravel() if again else source.indices(each)
    chosen = indices[np.linspace(0, len(indices) - 1, min(examples, len(indices))).round().astype(int)]
    reached = source.length_of(chosen)
    return replace(
        source,
        size=len(chosen),
        lengths=(int(reached.min()), int(reached.max())),
        fetch=lambda places: source.fetch(chosen[row_of(places, len(chosen))]),
        length_of=lambda places: source.length_of(chosen[row_of(places, len(chosen))]),
        columns=lambda places: source.columns(chosen[row_of(places, len(chosen))]),
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
    names = [name for name in ("loss", "confidence", *FURTHER) if name in records[0]["scores"]]
    headline = headline_of(records[0]["scores"])
    columns = {name: np.array([record["scores"][name] for record in records]) for name in names}
    columns |= {"score": np.array([record["scores"][headline] for record in records])}
    columns |= {"length": np.array([record["length"] for record in records], float)}
    if "tokens" in records[0]["scores"]:
        columns |= {"tokens": np.array([record["scores"]["tokens"] for record in records])}
    groups = np.array([str(record["group"]) for record in records]) if "group" in records[0] else None
    if ids is not None:
        return Answers(ids, groups, columns, ())  # records of changed inputs are not stored
    return Answers(np.array([_hash(record) for record in records], np.uint64), groups, columns, records)


def _then(fetch: Callable[[np.ndarray], Examples], change: Callable[[Examples], Examples]) -> Callable[[np.ndarray], Examples]:
    return lambda places: change(fetch(places))


def _answering(model: Model, task: Task) -> Answer:
    """Returns a function for the metrics of each example, its loss, and the model's confidence in its answer."""

    def answer(params: PyTree, batch: Batch) -> tuple[Mapping[str, jax.Array], jax.Array]:
        given = model.apply(params, batch)
        output = free_running(model, params, batch, task.answer_to_input, task.free_running) if task.free_running else given
        _, asked, metrics = task.score(output, batch)
        loss, _, forced = task.score(given, batch)
        loss = forced.get("nll", loss)  # what is minimized may be a loss of the user's own
        return {**metrics, ASKED: asked, "loss": loss, **_confidence(output, batch, task, tuple(metrics))}, task.answer(output.logits)

    return answer


def _confidence(output: Output, batch: Batch, task: Task, metrics: Sequence[str]) -> Mapping[str, jax.Array]:
    """Returns the probability of the answer: of a class, the last token, or all tokens jointly; else the mean over its tokens."""
    if not isinstance(output.logits, jax.Array) or task.vocabulary.heads or {"mse", "label_accuracy"} & set(metrics):
        return {}
    highest = jax.nn.log_softmax(widened(output.logits), axis=-1).max(axis=-1)
    if task.vocabulary.pooled:
        return {"confidence": jnp.exp(highest)}
    mask = batch["mask"]
    if "answer_accuracy" in metrics:
        last = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
        return {"confidence": jnp.exp(jnp.take_along_axis(highest, last[:, None], axis=1)[:, 0])}
    if headline_of(metrics) == "exact_match":
        return {"confidence": jnp.exp((highest * mask).sum(axis=1))}
    return {"confidence": (jnp.exp(highest) * mask).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1.0)}


def _tapped(model: Model) -> Callable[[PyTree, Batch], Taps]:
    def read(params: PyTree, batch: Batch) -> Taps:
        output = model.apply(params, batch)
        own = output.axes  # our own models read the taps listed in LOOKED; external models read every tap they expose
        kept = [path for path in output.taps if path.endswith(LOOKED if path in own else "") and not path.endswith("weights")]
        return Taps({path: widened(output.taps[path]) for path in kept}, {path: own[path] for path in kept if path in own})

    return program(model, read)


def _by_example(value: np.ndarray, n: int) -> np.ndarray | None:
    """Returns activations as [n, ...] from [n, ...], [seq, n, ...] or [n * seq, ...]; None if no axis indexes examples (positions)."""
    first, second = (*value.shape, 0, 0)[:2]
    if first == n:
        return value
    if second == n:
        return np.swapaxes(value, 0, 1)
    return value.reshape(n, first // n, *value.shape[1:]) if first and first % n == 0 else None


def _mesh() -> Any:
    return make_mesh(MeshConfig(-1, 1, 1))


def _hash(record: Mapping[str, Any]) -> int:
    said = json.dumps([record["id"], record.get("input", record["target"])], default=str)  # not the target: a treatment may change it
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest())
