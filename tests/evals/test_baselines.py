"""What answers without thinking: the baselines beside a row, against models that do just that; and free-running beside forced metrics."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals.evaluate import EvaluateConfig, evaluate, make_answer
from assay.evals.rows import bigrams, rows
from assay.models.model import Decode, Model, Output
from assay.tasks.table import TASKS, build

LABELS = {"experiment": "e", "model": "m", "treatment": "none", "seed": 0, "steps": 1}
CONFIG, MESH = EvaluateConfig((), 3, 64, 2), make_mesh(MeshConfig(1, 1, 1))
SEQUENCES = [
    "chomsky/parity_check",
    "chomsky/cycle_navigation",
    "chomsky/bucket_sort",
    "chomsky/reverse_string",
    "ctl/forward",
    "recall/induction",
]


def constant(answer: int, outputs: int) -> Model:
    """Always the same answer."""
    logits = lambda batch: jnp.broadcast_to(jax.nn.one_hot(answer, outputs), (*batch["inputs"].shape, outputs))  # noqa: E731
    return Model(init=lambda key, batch: {}, apply=lambda params, batch: Output(logits(batch), {}))


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_majority_class_scores_the_majority_baseline(name):
    task = build({**TASKS[name].defaults, "name": name}, 0)
    model = constant(0, task.vocabulary.outputs)
    records = evaluate(jax.jit(make_answer(model, task)), {}, task, "iid", CONFIG, MESH)
    metric = task.metrics[0]
    tokens = Counter(token for record in records for token in (record["target"][-1:] if metric == "answer_accuracy" else record["target"]))
    best = tokens.most_common(1)[0][0]
    records = evaluate(jax.jit(make_answer(constant(best, task.vocabulary.outputs), task)), {}, task, "iid", CONFIG, MESH)
    row = rows(records, task, "iid", LABELS, by_length=True)[0]
    assert row["metric"] == metric and row["value"] == pytest.approx(row["baselines"]["majority"], abs=1e-6)
    assert row["baselines"]["chance"] == pytest.approx(1 / task.vocabulary.outputs) and "bigram" in row["baselines"]


def test_the_bigram_baseline_counts_training_examples():
    task = build({**TASKS["chomsky/reverse_string"].defaults, "name": "chomsky/reverse_string"}, 0)
    examples = task.source("train").fetch(np.arange(1000))
    counts: dict = {}
    for i in range(1000):
        bits = examples.input[i, : examples.input_length[i]].tolist()
        counts.setdefault(("input", bits[-1]), Counter())[bits[-1]] += 1  # the first of the answer is the last of the input
        for one, two in zip(bits[::-1], bits[::-1][1:], strict=False):
            counts.setdefault(("answer", one), Counter())[two] += 1
    assert bigrams(task) == {before: found.most_common(1)[0][0] for before, found in counts.items()}
    assert bigrams(build({**TASKS["recall/mqar"].defaults, "name": "recall/mqar"}, 0)) == {}, "answers inside the input"


def test_a_bigram_knows_what_one_token_tells():
    """In a sorted string most tokens repeat the one before."""
    task = build({**TASKS["chomsky/bucket_sort"].defaults, "name": "chomsky/bucket_sort"}, 0)
    records = evaluate(jax.jit(make_answer(constant(0, 5), task)), {}, task, "41-100", CONFIG, MESH)
    baselines = rows(records, task, "41-100", LABELS, by_length=True)[0]["baselines"]
    assert baselines["bigram"] > 0.9 > 0.3 > baselines["majority"]


def test_forced_metrics_are_those_of_true_tokens_read():
    """A model that copies the token it reads, plus one: right wherever it reads the truth, and lost once it reads itself."""
    task = build({**TASKS["addition"].defaults, "name": "addition"}, 0)
    outputs, first = task.vocabulary.outputs, task.answer_to_input

    def apply(params, batch):
        del params
        return Output(jax.nn.one_hot((batch["inputs"] - first + 1) % outputs, outputs), {})

    decode = Decode(lambda params, batch, length: (), lambda params, cache, tokens: (apply({}, {"inputs": tokens}).logits, cache))
    model = Model(init=lambda key, batch: {}, apply=apply, decode=decode)
    records = evaluate(jax.jit(make_answer(model, task)), {}, task, "iid", CONFIG, MESH)
    found = {row["metric"]: row["value"] for row in rows(records, task, "iid", LABELS, by_length=True)}
    assert set(found) == {"exact_match", "token_accuracy", "forced_token_accuracy"}
    for record in records:
        truth, read = record["target"], [None, *record["target"][:-1]]
        forced = [(token + 1) % outputs if token is not None else (-1 + 1) % outputs for token in read]
        assert record["scores"]["forced_token_accuracy"] == pytest.approx(np.mean([a == b for a, b in zip(forced, truth, strict=True)]))
        own = [(i + forced[0]) % outputs for i in range(len(truth))]
        assert record["prediction"] == own and record["scores"]["token_accuracy"] == pytest.approx(np.mean(np.equal(own, truth)))
