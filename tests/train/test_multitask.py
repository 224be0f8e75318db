"""Several tasks at once: whose rows are whose, that each task is scored and reported as if alone, and what cannot go together."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.config import defaults, multi, recurrent, transformer
from assay.config.schema import to_dict
from assay.core.errors import UserError
from assay.data.source import Examples, in_memory
from assay.models.model import Output, Vocabulary
from assay.tasks.multi import joined, score_members, together
from assay.tasks.table import build
from assay.train.experiment import assemble
from assay.train.loop import run
from assay.train.step import make_step
from assay.treatments.pipeline.load import treatments

PARITY, CYCLE, PAIRS = "chomsky/parity_check", "chomsky/cycle_navigation", "chomsky/even_pairs"
SHARED = {"convention": "code", "lengths": "1:6", "seed": 0}
KEY = jax.random.key(0)


def config_of(*members, weights=(), model=None):
    config = defaults()
    config.task = multi(members, weights, **SHARED)
    config.model = model or transformer("decoder", depth=1, width=16, heads=2, kv_heads=2, mlp=16)
    config.train.update({"steps": 4, "batch_size": 8, "steps_per_call": 2, "log_every": 2})
    config.evaluate.update({"splits": ("iid", "7-9"), "per_length": 4, "batch_size": 16, "buckets": 1})
    return config


def made(*members, specs=(), **changes):
    return assemble(to_dict(config_of(*members, **changes)), treatments(specs))


def task(name, **changes):
    return build({"name": name, **SHARED, **changes}, 0)


# -- examples and batches -------------------------------------------------------------------------------------------------


def test_an_endless_split_takes_turns():
    source = together([task(PARITY), task(CYCLE)], [1, 1]).source("train")
    indices = source.index_of(np.arange(10), 5)
    examples = source.fetch(indices)
    assert (examples.id % 2).tolist() == [0, 1] * 5 and set(examples.length) == {5} == set(source.length_of(indices))
    for number, name in enumerate((PARITY, CYCLE)):
        alone = task(name).source("train")
        rows = examples.id % 2 == number
        expected = alone.fetch(alone.index_of(np.arange(5), 5))
        assert np.array_equal(examples.input[rows][:, : expected.input.shape[1]], expected.input)
        assert np.array_equal(examples.id[rows] // 2, expected.id)


def numbered(size, first):
    ones, tokens = np.ones(size, np.int64), np.arange(first, first + size, dtype=np.int32)[:, None]
    return in_memory(
        "train", Examples(np.arange(size), ones, tokens, ones, tokens, ones, ones), groups=[f"{first}/{i}" for i in range(size)]
    )


def test_a_split_that_ends_has_every_example_once_an_epoch():
    source = joined([numbered(3, 0), numbered(5, 100)], ["a", "b"])
    assert source.size == 8
    first, second = source.fetch(np.arange(8)), source.fetch(np.arange(8, 16))
    assert first.input[:, 0].tolist() == [0, 1, 2, 100, 101, 102, 103, 104] == second.input[:, 0].tolist()
    assert len({*first.id.tolist(), *second.id.tolist()}) == 16, "another epoch, another id"
    assert [source.describe(first, i)["task"] for i in (0, 2, 3, 7)] == ["a", "a", "b", "b"]
    assert [source.groups[i] for i in first.id] == ["0/0", "0/1", "0/2", "100/0", "100/1", "100/2", "100/3", "100/4"]
    assert source.fetch(source.index_of(np.arange(2, 4), 1)).input[:, 0].tolist() == [2, 100]


def test_a_batch_holds_what_each_task_would_encode_with_ids_of_its_own():
    members = [task(PARITY), task("chomsky/cycle_navigation")]
    whole = together(members, [1, 1])
    source = whole.source("train")
    examples = source.fetch(source.index_of(np.arange(6), 4))
    batch, ids = whole.encode(examples, whole.width(4)), set()
    for number, member in enumerate(members):
        rows = batch["member"] == number
        alone = member.source("train")
        expected = member.encode(alone.fetch(examples.id[rows] // 2), whole.width(4))
        start = number * members[0].vocabulary.inputs
        assert np.array_equal(batch["inputs"][rows], expected["inputs"] + start)
        for name in ("targets", "mask", "length", "weight"):
            assert np.array_equal(batch[name][rows], expected[name]) and batch[name].dtype == expected[name].dtype
        found = set(np.unique(batch["inputs"][rows]).tolist())
        assert not found & ids and max(found) < whole.vocabulary.inputs
        ids |= found


# -- score ----------------------------------------------------------------------------------------------------------------


def test_each_row_is_scored_on_its_own_head():
    experiment = made(PARITY, CYCLE, weights=(1.0, 3.0))
    batch = jax.tree.map(jnp.asarray, experiment.first_batch())
    output = experiment.model.apply(experiment.model.init(KEY, batch), batch)
    assert {name: logits.shape[-1] for name, logits in output.logits.items()} == {PARITY: 2, CYCLE: 5}
    values, weights, metrics = experiment.task.score(output, batch)
    assert set(metrics) == {"answer_accuracy"} and np.isfinite(values).all()
    for number, name in enumerate((PARITY, CYCLE)):
        rows = np.flatnonzero(batch["member"] == number)
        one, own = Output(output.logits[name][rows], {}), {key: array[rows] for key, array in batch.items()}
        expected, _, figures = task(name).score(one, own)
        np.testing.assert_allclose(values[rows], expected, rtol=1e-6)
        assert np.array_equal(metrics["answer_accuracy"][rows], figures["answer_accuracy"])
        assert set(weights[rows].tolist()) == {(1.0, 3.0)[number]}


def test_rows_of_a_task_move_its_own_head_only():
    experiment = made(PARITY, CYCLE, weights=(0.0, 1.0))
    batch = jax.tree.map(jnp.asarray, experiment.first_batch())
    params = experiment.model.init(KEY, batch)

    def loss(params):
        return experiment.objective.loss(experiment.model, {"model": params}, batch, KEY, jnp.int32(0))[0]

    head = jax.grad(loss)(params)["head"]["kernel"]
    assert (head[:, :2] == 0).all() and (head[:, 2:] != 0).any() and np.isfinite(head).all()


def test_targets_that_other_heads_do_not_have_give_no_nan():
    logits = {"a": jnp.zeros((2, 2)), "b": jnp.zeros((2, 5))}
    batch = {"targets": jnp.array([1, 4]), "member": jnp.array([0, 1]), "weight": jnp.array([1.0, 0.0])}

    def score(output, batch):
        nll = -jnp.take_along_axis(jax.nn.log_softmax(output.logits), batch["targets"][:, None], axis=1)[:, 0]
        return nll, batch["weight"], {"nll": nll}

    def loss(logits):
        values, weights, _ = score_members(Output(logits, {}), batch, {"a": score, "b": score}, (1.0, 1.0))
        return (values * weights).sum(), (values, weights)

    with jax.debug_nans(True):
        (_, (values, weights)), grads = jax.value_and_grad(loss, has_aux=True)(logits)
    assert np.asarray(values) == pytest.approx([np.log(2), np.log(5)]) and weights.tolist() == [1.0, 0.0]
    assert all(np.isfinite(grad).all() for grad in grads.values()) and (grads["b"] == 0).all()


def test_one_member_is_the_task_alone():
    config = to_dict(config_of(PARITY))
    several, alone = assemble(config, []), assemble({**config, "task": {"name": PARITY, **SHARED}}, [])
    batch, plain = several.first_batch(), alone.first_batch()
    assert all(np.array_equal(batch[name], plain[name]) for name in plain)
    steps = [make_step(one.model, one.objective, one.treatment.gradient, one.optimizer) for one in (several, alone)]
    states = [one.init_state(KEY, {}, one.first_batch()) for one in (several, alone)]
    after = [jax.jit(step)(state, data) for step, state, data in zip(steps, states, (batch, plain), strict=True)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), after[0][0].params, after[1][0].params)
    assert float(after[0][1]["loss"]) == pytest.approx(float(after[1][1]["loss"]), rel=1e-6)


def test_accumulated_parts_are_the_whole_batch():
    plain, parts = made(PARITY, CYCLE, weights=(1.0, 2.0)), made(PARITY, CYCLE, weights=(1.0, 2.0), specs=["accumulate:parts=4"])
    state, batch = plain.init_state(KEY, {}, plain.first_batch()), plain.first_batch()
    one, other = (jax.jit(make_step(m.model, m.objective, m.treatment.gradient, m.optimizer))(state, batch)[1] for m in (plain, parts))
    assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-5)
    assert float(one["grad_norm"]) == pytest.approx(float(other["grad_norm"]), rel=1e-4)


# -- runs -----------------------------------------------------------------------------------------------------------------


def test_a_run_reports_each_task_by_its_own_name(tmp_path):
    config = config_of(PARITY, CYCLE)
    config.train.validate_every = 2
    rows = run(config, str(tmp_path), [], quiet=True)["rows"]
    assert {(row["task"], row["split"]) for row in rows} == {(name, split) for name in (PARITY, CYCLE) for split in ("iid", "7-9")}
    for split, lengths in (("iid", 6), ("7-9", 3)):
        records = [json.loads(line) for line in (tmp_path / "predictions" / f"{split}.jsonl").read_text().splitlines()]
        for name, classes in ((PARITY, 2), (CYCLE, 5)):
            row = next(row for row in rows if (row["task"], row["split"]) == (name, split))
            own = [record for record in records if record["task"] == name]
            assert len(own) == row["n"] == 2 * lengths and row["baselines"]["chance"] == 1 / classes
            assert row["value"] == pytest.approx(np.mean([record["scores"]["answer_accuracy"] for record in own]))
            assert {token for record in own for token in record["prediction"]} <= set(range(classes))
            assert all(len(record["input"]) == record["length"] for record in own) and "one trunk" in row["note"]
    assert "valid_answer_accuracy" in (tmp_path / "metrics.jsonl").read_text()


def test_both_tasks_are_learned():
    config = config_of(PAIRS, "chomsky/parity_check", model=recurrent("lstm", width=16))
    config.task.shared.lengths = "1:3"
    config.optimizer.learning_rate = 2e-2
    config.train.update({"steps": 150, "batch_size": 32, "steps_per_call": 50})
    experiment = assemble(to_dict(config), [])
    step = jax.jit(make_step(experiment.model, experiment.objective, experiment.treatment.gradient, experiment.optimizer))
    state = experiment.init_state(KEY, {}, experiment.first_batch())
    for start in range(150):
        state, metrics = step(state, {name: array[0] for name, array in experiment.batches(start, 1).items()})
    batch = experiment.first_batch()
    _, _, figures = experiment.task.score(experiment.model.apply(state.params["model"], batch), batch)
    for number in (0, 1):
        assert figures["answer_accuracy"][batch["member"] == number].mean() > 0.9, metrics


# -- what cannot be -------------------------------------------------------------------------------------------------------


def test_tasks_that_are_not_alike_are_told():
    with pytest.raises(UserError, match=r"reverse_string and chomsky/parity_check cannot.*--config\.task\.members"):
        together([task(PARITY), task("chomsky/reverse_string")], [1, 1])
    with pytest.raises(UserError, match=r"diabetes.*cannot be trained together"):
        together([build({"name": "diabetes"}, 0)], [1])
    with pytest.raises(UserError, match=r"\(1, 6\) and \(1, 9\).*the same lengths"):
        together([task(PARITY), task(CYCLE, lengths="1:9")], [1, 1]).source("train")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"members": []}, "task.members"),
        ({"members": [PARITY, PARITY], "weights": [1.0, 1.0]}, "task.members"),
        ({"members": ["multi"]}, "task.members"),
        ({"weights": [1.0, 2.0]}, "task.weights"),
        ({"weights": [-1.0]}, "task.weights"),
        ({"weights": [0.0]}, "task.weights"),
        ({"shared": {**SHARED, "length": "1:4"}}, "length"),
        ({"members": ["chomsky/party"]}, "parity_check"),
    ],
)
def test_mistakes_name_their_key(changes, key):
    with pytest.raises(UserError, match=key):
        build({"name": "multi", "members": [PARITY], "weights": [1.0], "shared": SHARED, **changes}, 0)


@pytest.mark.parametrize(("spec", "word"), [("scratchpad", "scratchpad"), ("augment:text=dropout", "no texts")])
def test_treatments_of_one_task_are_refused(spec, word):
    with pytest.raises(UserError, match=word):
        made(PARITY, CYCLE, specs=[spec])


def test_a_model_with_heads_does_not_decode():
    model = made(PARITY, CYCLE).model
    assert model.decode is None and Vocabulary(3, 4).heads == ()
