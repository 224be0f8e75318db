"""Evaluation row by row of what is more than a row: personal models, whose rows choose their client's parameters, and whole episodes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.core.errors import UserError
from assay.data.loader import Drawn, encoded, stacked
from assay.data.source import Examples, Source, finite, in_memory, subset
from assay.data.split import episodes
from assay.diagnostics.subject import Subject, limited
from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals.evaluate import EvaluateConfig, compiled, evaluate, make_answer
from assay.evals.rows import rows
from assay.models.model import Model, Output, Vocabulary, of_client
from assay.tasks.datasets import classify
from assay.tasks.sequence import score_tokens
from assay.tasks.task import Task
from assay.train.objective import supervised

KEY = jax.random.key(0)
CLIENTS, EACH = 3, 4
WHO = np.random.default_rng(0).permutation(np.repeat(np.arange(CLIENTS), EACH)).astype(np.int32)


def records_of(model: Model, params, task: Task, split: str = "test", batch_size: int = 5):
    mesh = make_mesh(MeshConfig(-1, 1, 1))
    return evaluate(compiled(make_answer(model, task), mesh), params, task, split, EvaluateConfig((), 1, batch_size, 1), mesh)


# -- clients ------------------------------------------------------------------------------------------------------------------


def of_clients() -> Source:
    """Twelve empty images whose class is their client: nothing but the client tells them apart."""
    source = in_memory("test", classify.labelled(WHO, np.zeros((len(WHO), 1, 1, 1), np.float32)))
    return replace(source, columns=lambda indices: {"client": WHO[indices % len(WHO)]})


def encode(examples: Examples, width: int) -> dict[str, np.ndarray]:
    return {"inputs": examples.input, "targets": examples.target[:, 0], "weight": np.ones(len(examples.id), np.float32)}


def task_of_clients() -> Task:
    return classify.task("clients", {"test": of_clients}, range(CLIENTS), encode)


def personal() -> Model:
    """A bias of each client, and nothing that is shared."""

    def init(key, batch):
        return {"bias": jnp.zeros((CLIENTS, CLIENTS))}

    return Model(init, lambda params, batch, **_: Output(of_client(params["bias"], batch), {}))


def test_each_row_is_answered_by_the_parameters_of_its_client():
    task, own = task_of_clients(), {"bias": 5 * jnp.eye(CLIENTS)}
    records = records_of(personal(), own, task)
    assert [record["scores"]["accuracy"] for record in records] == [1.0] * len(WHO)
    assert [record["client"] for record in records] == WHO.tolist()
    others = records_of(personal(), {"bias": jnp.roll(own["bias"], 1, axis=0)}, task)
    assert [record["prediction"] for record in others] == [int(who - 1) % CLIENTS for who in WHO]
    subject = Subject(personal(), own, task, "test", examples=7)
    assert subject.answers("test").columns["score"].tolist() == [1.0] * 7, "of some of the examples"
    assert subject.first(4)["client"].tolist() == WHO[subject.places("test")[[0, 2, 4, 6]]].tolist()


def test_a_row_trains_the_parameters_of_its_client_alone():
    task, params = task_of_clients(), {"model": personal().init(KEY, {})}
    rows_of_one = np.flatnonzero(WHO == 1)
    batch = {name: array[0] for name, array in stacked(of_clients(), lambda step: rows_of_one, encode, task.width, [1], 0, 1, 1).items()}
    grads = jax.grad(lambda params: supervised(task.score).loss(personal(), params, batch, KEY, jnp.int32(0))[0])(params)["model"]["bias"]
    assert not grads[0].any() and not grads[2].any()
    np.testing.assert_allclose(grads[1], np.full(CLIENTS, 1 / CLIENTS) - np.eye(CLIENTS)[1], rtol=1e-6)


def test_columns_follow_their_examples():
    for source in (limited(of_clients(), 5), subset(of_clients(), WHO != 1), finite(of_clients(), 7)):
        indices = np.arange(2 * source.size)
        examples, batch = encoded(source, indices, encode, 1)
        assert batch["client"].tolist() == examples.target[:, 0].tolist(), "the class is the client"
    clash = replace(of_clients(), columns=lambda indices: {"targets": indices})
    with pytest.raises(ValueError, match="the column 'targets', which its batches already have"):
        encoded(clash, np.arange(2), encode, 1)
    drawn = stacked(of_clients(), lambda step: Drawn(np.arange(2), columns={"client": np.array([7, 8])}), encode, lambda n: n, [1], 0, 1, 1)
    assert drawn["client"].tolist() == [[7, 8]], "what the sample says of a row goes before what the split says"


def test_a_client_without_parameters_is_not_answered_by_another():
    found = of_client({"bias": jnp.eye(2)}, {"client": jnp.array([1, 2, -1])})["bias"]
    np.testing.assert_array_equal(found, [[0, 1], [np.nan] * 2, [np.nan] * 2])
    with pytest.raises(UserError, match="the split needs a column `client`"):
        of_client({"bias": jnp.eye(2)}, {"weight": jnp.ones(2)})


# -- episodes -----------------------------------------------------------------------------------------------------------------

WAYS, SHOTS, QUERIES, NUMBER = 3, 2, 4, 11
POOL_LABELS = np.repeat(np.arange(6), 10)
POOL = np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32) + np.eye(6, 5, dtype=np.float32)[POOL_LABELS] * 2


def draw(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Support [episodes, ways, shots, features] and query [episodes, ways, queries, features]."""
    found = episodes(np.arange(60), POOL_LABELS, WAYS, SHOTS, QUERIES, 0, numbers)
    return POOL[found.support], POOL[found.query]


def episodic() -> Task:
    """An example is an episode: its input the support and then the query, its targets the ways of the query."""

    def fetch(indices):
        n, (support, query) = len(indices), draw(indices % NUMBER)
        items = np.concatenate([support.reshape(n, WAYS * SHOTS, -1), query.reshape(n, WAYS * QUERIES, -1)], axis=1)
        ones, asked = np.ones(n, np.int64), np.full(n, WAYS * QUERIES)
        return Examples(indices, ones, items, ones, np.tile(np.repeat(np.arange(WAYS, dtype=np.int32), QUERIES), (n, 1)), asked, asked)

    def encode(examples, width):
        targets = examples.target
        return {"inputs": examples.input, "targets": targets, "mask": np.ones(targets.shape, np.float32), "weight": np.ones(len(targets))}

    def describe(examples, i):
        return {"input": f"episode {examples.id[i]}", "target": examples.target[i].tolist()}

    each = lambda indices: np.ones(len(indices), np.int64)  # noqa: E731
    source = Source("test", (1, 1), NUMBER, fetch, each, lambda ordinals, length: ordinals, describe)
    return Task(
        name="episodes",
        vocabulary=Vocabulary(0, WAYS),
        splits=("test",),
        source=lambda split: source,
        encode=encode,
        width=lambda length: length,
        score=lambda output, batch: score_tokens(output, batch, metrics=("token_accuracy",)),
        metrics=("token_accuracy",),
        chance=1 / WAYS,
    )


def prototypes() -> Model:
    """Prototypical networks (Snell et al. 2017) without an embedding: minus the squared distance to the mean of each way's support."""

    def apply(params, batch, **_):
        support, query = jnp.split(batch["inputs"] * params["scale"], [WAYS * SHOTS], axis=1)
        means = support.reshape(len(support), WAYS, SHOTS, -1).mean(axis=2)
        return Output(-jnp.square(query[:, :, None] - means[:, None]).sum(axis=-1), {})

    return Model(lambda key, batch: {"scale": jnp.ones(())}, apply)


def test_an_episode_is_evaluated_as_one_example():
    """The score is that of the query alone, and the same in batches of any size."""
    support, query = draw(np.arange(NUMBER))
    distances = np.square(query[:, :, :, None] - support.mean(axis=2)[:, None, None]).sum(axis=-1)
    expected = (distances.argmin(axis=-1) == np.arange(WAYS)[None, :, None]).reshape(NUMBER, -1).mean(axis=1)
    assert 0.4 < expected.mean() < 0.95 and len(set(expected)) > 3
    params = {"scale": jnp.ones(())}
    found = [records_of(prototypes(), params, episodic(), batch_size=size) for size in (4, 11)]
    assert found[0] == found[1]
    assert [record["scores"]["token_accuracy"] for record in found[0]] == pytest.approx(expected.tolist())
    labels = {"experiment": "", "model": "prototypes", "treatment": "none", "seed": 0, "steps": 0}
    (row,) = rows(found[0], episodic(), "test", labels, by_length=False)
    assert row["value"] == pytest.approx(expected.mean()) and row["n"] == NUMBER, "an episode is the unit of the interval"
    assert row["interval"][0] < row["value"] < row["interval"][1]


def test_an_episode_trains_by_its_query_alone():
    batch = encoded(episodic().source("test"), np.arange(4), episodic().encode, 1)[1]
    loss = lambda scale: supervised(episodic().score).loss(prototypes(), {"model": {"scale": scale}}, batch, KEY, jnp.int32(0))  # noqa: E731
    (mean, aux), slope = jax.value_and_grad(loss, has_aux=True)(jnp.ones(()))
    assert float(aux.weight) == 4 * WAYS * QUERIES and np.isfinite(mean) and abs(float(slope)) > 1e-3
