"""Evaluation with several sampled answers per example, for models that generate their answers: self-consistency and best-of-n.

Self-consistency follows Wang et al. 2023, arXiv 2203.11171; best-of-n with a verifier follows Cobbe et al. 2021, arXiv 2110.14168.

vote_METRIC   score of the most common of n sampled answers; ties go to the one sampled first. vote_answer_accuracy compares the last token
              alone, whatever precedes it
best_METRIC   score of the first of n sampled answers that the task's verifier accepts, or of the first if it accepts none; where the
              verifier compares with the correct answer, this says whether one of n is correct

    --config.evaluate.samples=8 --config.evaluate.temperature=0.7
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from assay.core.tree import PyTree
from assay.infer.decode import written
from assay.models.model import Batch, Model, Output
from assay.tasks.task import Task

VOTE, BEST = "vote_", "best_"

Draw = Callable[[PyTree, Batch, jax.Array, Any], tuple[Mapping[str, jax.Array], jax.Array]]


def make_draw(model: Model, task: Task, samples: int, temperature: float) -> Draw:
    """Builds `(params, batch, key, ids [batch]) -> (metrics [samples, batch], answers [samples, batch, seq])`, a pure function."""

    def draw(params: PyTree, batch: Batch, key: jax.Array, ids: Any) -> tuple[Mapping[str, jax.Array], jax.Array]:
        def one(key: jax.Array) -> tuple[Mapping[str, jax.Array], jax.Array]:
            keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(ids)
            found = written(model, params, batch, task.answer_to_input, task.free_running, keys, temperature)
            chosen = Output(jax.nn.one_hot(found.answers, found.logits.shape[-1]), {})  # scored as if the model were certain of its choice
            return task.score(chosen, batch)[2], found.answers

        return jax.lax.map(one, jax.random.split(key, samples))

    return draw


def names(task: Task) -> tuple[str, ...]:
    """Returns the names of the metrics that voting adds: those of the task's metrics that do not need a model's probabilities."""
    own = [name for name in task.metrics if name in ("exact_match", "answer_accuracy")]
    return (
        *(VOTE + name for name in own),
        *((VOTE + "verified",) if task.verify is not None else ()),
        *((BEST + name for name in [*own, "verified"]) if task.verify is not None else ()),
    )


def add_votes(records: Sequence[dict[str, Any]], samples: Sequence[Sequence[Mapping[str, Any]]], task: Task) -> None:
    """Adds the scores of the voted and of the best sample to each record.

    `samples` has the records of each example's samples, in the order of sampling.
    """
    for record, drawn in zip(records, samples, strict=True):
        best = next((one for one in drawn if one["scores"].get("verified")), drawn[0])
        for name in names(task):
            if name.startswith(BEST):
                record["scores"][name] = best["scores"][name.removeprefix(BEST)]
                continue
            metric = name.removeprefix(VOTE)
            winner = drawn[chosen_by_vote([json.dumps(_answer(one["prediction"], metric)) for one in drawn])]
            record["scores"][name] = winner["scores"][metric]


def chosen_by_vote(answers: Sequence[str]) -> int:
    """Returns the index of the first occurrence of the most common answer."""
    return answers.index(Counter(answers).most_common(1)[0][0])


def _answer(prediction: Any, metric: str) -> Any:
    """Returns the part of a prediction that is voted on."""
    return prediction[-1:] if metric == "answer_accuracy" and isinstance(prediction, list) else prediction


def key_of(seed: int) -> jax.Array:
    """Returns the key for sampling: the same for all runs with one seed."""
    return jax.random.fold_in(jax.random.key(seed), jnp.uint32(0x7A3))
