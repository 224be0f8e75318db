"""Drawn answers: their law, the vote, and the verifier's choice."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.config import transformer
from assay.core.errors import UserError
from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals.evaluate import EvaluateConfig, batches, evaluate, make_answer
from assay.evals.vote import add_votes, chosen_by_vote, key_of, make_draw, names
from assay.infer.decode import free_running, written
from assay.models.families import build as build_model
from assay.models.model import Vocabulary
from assay.models.precision import PrecisionConfig
from assay.tasks.puzzles.path_star import verify
from assay.tasks.table import TASKS, build
from experiments.reason.path_star import get_config

CONFIG = EvaluateConfig(("test",), 1, 32, 1, 5, 1.0)


def model_of(vocabulary: Vocabulary):
    values = transformer("decoder", depth=1, width=16, heads=2, kv_heads=2, mlp=32).to_dict()
    return build_model(values, vocabulary, PrecisionConfig("float32", "float32", "float32"))


@pytest.fixture(scope="module")
def path_star():
    """A small path-star task, a model that has learned nothing, and a batch."""
    task = build({**TASKS["path_star"].defaults, "name": "path_star", "nodes": 12, "path_length": 3, "train_size": 50, "test_size": 40}, 0)
    model = model_of(task.vocabulary)
    _, batch = next(batches(task, "test", CONFIG))
    return task, model, model.init(jax.random.key(0), batch), batch


def keys(seed: int, batch) -> jax.Array:
    return jax.random.split(jax.random.key(seed), len(batch["inputs"]))


def test_what_is_drawn_for_an_example_does_not_depend_on_its_batch(path_star):
    task, model, params, _ = path_star
    draw, answer, mesh = jax.jit(make_draw(model, task, 3, 2.0)), jax.jit(make_answer(model, task)), make_mesh(MeshConfig(1, 1, 1))
    first, second = (
        evaluate(answer, params, task, "test", CONFIG.__class__(("test",), 1, size, 1), mesh, draw=draw, key=key_of(0)) for size in (8, 40)
    )
    assert [one["scores"] for one in first] == [one["scores"] for one in second]


def test_a_vote_on_the_answer_does_not_ask_how_it_was_reached():
    """Three of four agree on the last state, by different ways."""
    task = replace(
        build({**TASKS["chomsky/parity_check"].defaults, "name": "chomsky/parity_check"}, 0), metrics=("answer_accuracy", "exact_match")
    )
    drawn = [[0, 0, 1], [1, 1, 0], [0, 1, 0], [1, 0, 0]]
    samples = [{"prediction": one, "scores": {"answer_accuracy": float(one[-1] == 0), "exact_match": 0.0}} for one in drawn]
    record = {"scores": {}}
    add_votes([record], [samples], task)
    assert record["scores"] == {"vote_answer_accuracy": 1.0, "vote_exact_match": 0.0}


def test_the_commonest_answer_wins_and_the_first_of_those_as_common():
    assert chosen_by_vote(["a", "b", "b"]) == 1 and chosen_by_vote(["c", "a", "a", "c"]) == 0 and chosen_by_vote(["x"]) == 0


def test_free_running_equals_full_passes_over_what_was_written(path_star):
    """Without a cache, token by token: the whole sequence anew for each."""
    task, model, params, batch = path_star
    cached = np.asarray(free_running(model, params, batch, task.answer_to_input, 1).logits)
    inputs, given = np.array(batch["inputs"]), np.asarray(batch["given"])
    for place in range(1, inputs.shape[1]):
        logits = np.asarray(model.apply(params, batch | {"inputs": inputs}).logits)
        own = logits[:, place - 1].argmax(axis=-1) + task.answer_to_input
        inputs[:, place] = np.where(given[:, place] > 0, inputs[:, place], own)
    full = np.asarray(model.apply(params, batch | {"inputs": inputs}).logits)
    np.testing.assert_array_equal(full.argmax(axis=-1), cached.argmax(axis=-1))
    np.testing.assert_allclose(full, cached, rtol=1e-3, atol=1e-4)


def test_a_cold_draw_is_the_greedy_answer_and_a_warm_one_is_not(path_star):
    task, model, params, batch = path_star
    greedy = written(model, params, batch, task.answer_to_input)
    cold = written(model, params, batch, task.answer_to_input, 1, keys(0, batch), 1e-6)
    warm = [written(model, params, batch, task.answer_to_input, 1, keys(seed, batch)).answers for seed in (0, 0, 1)]
    np.testing.assert_array_equal(greedy.answers, cold.answers)
    np.testing.assert_array_equal(warm[0], warm[1])
    assert (np.asarray(warm[0]) != np.asarray(warm[2])).any() and (np.asarray(warm[0]) != np.asarray(greedy.answers)).any()


def test_draws_follow_the_tempered_softmax(path_star):
    task, model, params, batch = path_star
    one = {name: jnp.repeat(jnp.asarray(array[:1]), 4000, axis=0) for name, array in batch.items()}
    first = int(np.flatnonzero(np.asarray(batch["mask"])[0])[0])
    found = jax.jit(lambda key: written(model, params, one, task.answer_to_input, 1, key, 0.5))(jax.random.split(jax.random.key(1), 4000))
    expected = np.asarray(jax.nn.softmax(found.logits[0, first] / 0.5))
    shares = np.bincount(np.asarray(found.answers)[:, first], minlength=len(expected)) / 4000
    assert np.abs(shares - expected).max() < 5 * np.sqrt(expected.max() / 4000)


def test_votes_and_bests_are_those_of_the_records_samples(path_star):
    task, model, params, _ = path_star
    draw = jax.jit(make_draw(model, task, CONFIG.samples, 3.0))
    seen = []

    def recorded(params, batch, key, ids):
        seen.append((batch, draw(params, batch, key, ids)))
        return seen[-1][1]

    mesh = make_mesh(MeshConfig(1, 1, 1))
    answer = jax.jit(make_answer(model, task))
    records = evaluate(answer, params, task, "test", CONFIG, mesh, draw=recorded, key=key_of(0))
    assert set(names(task)) == {"vote_exact_match", "vote_verified", "best_exact_match", "best_verified"}
    plain = evaluate(answer, params, task, "test", CONFIG, mesh)
    strip = lambda one: {name: value for name, value in one["scores"].items() if not name.startswith(("vote_", "best_"))}  # noqa: E731
    assert [strip(one) for one in records] == [one["scores"] for one in plain], "the likeliest answer is measured as before"
    examples = [found for found, _ in batches(task, "test", CONFIG)]
    by_id = {record["id"]: record for record in records}
    for found, (batch, (_, answers)) in zip(examples, seen, strict=True):
        for row in range(int(batch["weight"].sum())):
            record = by_id[int(found.id[row])]
            rows = {name: np.asarray(array)[row] for name, array in batch.items()}
            drawn = [task.read(np.asarray(answers)[i, row], rows) for i in range(CONFIG.samples)]
            accepted = [verify(record["input"], one) for one in drawn]
            assert record["scores"]["best_verified"] == float(any(accepted))
            winner = drawn[chosen_by_vote([str(one) for one in drawn])]
            assert record["scores"]["vote_exact_match"] == float(winner == record["target"])


def test_tasks_that_read_an_answer_at_once_are_refused(tmp_path):
    from assay.config.files import load
    from assay.config.overrides import override
    from assay.train import loop

    config = override(load("experiments/reason/parity.py:tiny"), {"evaluate.samples": "4"})
    with pytest.raises(UserError, match=r"evaluate\.samples=4.*--config\.evaluate\.samples=0"):
        loop.run(config, str(tmp_path / "run"), [])
    assert get_config("tiny").evaluate.samples == 0
    for key, value in (("samples", "-1"), ("temperature", "0")):
        with pytest.raises(UserError, match=f"evaluate.{key}"):
            loop.run(override(load("experiments/reason/path_star.py:tiny"), {f"evaluate.{key}": value}), str(tmp_path / key), [])
