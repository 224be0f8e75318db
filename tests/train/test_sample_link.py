"""A sample is more than indices: weights and columns of rows, what a step's batch is to the model, and settings that treatments choose."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from carrying import averaged, config_of, draw_clients, fed_avg, one_client
from test_laws import bits

from assay.core.errors import UserError
from assay.core.rng import example_keys, integers
from assay.core.tree import count
from assay.data.loader import Drawn, drawn
from assay.evals.evaluate import batches
from assay.models.families import FAMILIES
from assay.train import loop
from assay.train.experiment import assemble
from assay.train.objective import Objective
from assay.train.step import make_step
from assay.train.treatment import Treatment, compose, links
from assay.treatments.training.accumulate import accumulate

RATE, ROWS = 0.01, 16


def poisson(index: int = 0, rows: int = ROWS) -> Treatment:
    """Each example with a probability of its own: as many rows as there is room for, of which those not drawn weigh nothing."""

    def arrow(sample, source):
        def draw(step):
            keys = example_keys(f"poisson/{step}", source.seed, np.arange(source.size))
            chosen = np.flatnonzero(integers(keys, "chosen", 1, 2**32)[:, 0] < RATE * 2**32)[:rows]
            indices = np.full(rows, index)
            indices[: len(chosen)] = chosen
            return Drawn(indices, np.arange(rows) < len(chosen), {"domain": (indices % 3).astype(np.int32)})

        return draw

    return Treatment(sample=arrow, name="poisson")


def stepped(made, count: int = 2):
    """(state, metrics) after some steps."""
    state = jax.jit(made.init_state)(made.key, made.given(), made.first_batch())
    step = jax.jit(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer))
    for i in range(count):
        state, metrics = step(state, {name: array[0] for name, array in made.batches(i, 1).items()})
    return state, metrics


# -- rows ---------------------------------------------------------------------------------------------------------------------


def test_rows_without_weight_change_no_bit():
    ends = []
    for index in (0, 700):
        made = assemble(config_of(), [poisson(index)])
        batch = made.first_batch()
        weight = batch["weight"]
        assert 0 < weight.sum() < ROWS and weight.dtype == np.float32, "some rows count and some do not"
        assert set(batch["id"][weight == 0]) <= set(batch["id"][weight > 0]), "an example that counts stands in a row that does not"
        assert np.array_equal(batch["domain"][weight > 0], batch["id"][weight > 0] % 3)
        assert made.rows == ROWS and made.examples == pytest.approx(RATE * 718, rel=0.3)
        ends.append([bits(part) for part in stepped(made)])
    assert ends[0] == ends[1], "whatever example stands in such a row"
    few = {name: array[weight > 0] for name, array in batch.items()}
    states = [jax.jit(made.init_state)(made.key, {}, rows) for rows in (few, batch)]
    step = jax.jit(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer))
    (alone, metrics), (among, others) = step(states[0], few), step(states[1], batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), (alone.params, metrics), (among.params, others))
    strange = np.where((weight > 0).reshape(-1, 1, 1, 1), batch["inputs"], 7.0).astype(np.float32)
    assert bits(step(states[1], {**batch, "inputs": strange})[0]) == bits(among), "whatever stands in such a row"
    empty, nothing = step(states[1], {**batch, "weight": np.zeros_like(weight)})
    assert bits(empty.params) == bits(states[1].params) and float(nothing["loss"]) == float(nothing["grad_norm"]) == 0.0


def test_batches_name_their_examples_in_every_epoch():
    made = assemble(config_of(), [])
    size, found = made.source.size, []
    for step in range(0, 120, 3):
        batch = made.batches(step, 3)
        assert batch["id"].dtype == np.int32 and batch["id"].shape == batch["weight"].shape
        found.append(batch["id"].reshape(-1))
        images = made.task.encode(made.source.fetch(batch["id"].reshape(-1)), 1)["inputs"]
        assert np.array_equal(images.reshape(batch["inputs"].shape), batch["inputs"])
    ids = np.concatenate(found)
    assert np.array_equal(np.sort(ids[:size]), np.arange(size)) and ids.max() == size - 1
    assert (made.rows, made.examples) == (12, 12.0)


def test_an_index_below_zero_raises(tiny):
    with pytest.raises(IndexError, match="index -1 of a split of 718 examples"):
        assemble(config_of(), [Treatment(sample=lambda sample, source: lambda step: np.array([3, -1]))])
    source = assemble(config_of(), []).source
    for fetch in (source.fetch, source.length_of):
        with pytest.raises(IndexError, match="index -1"):
            fetch(np.array([-1]))
    assert np.array_equal(source.fetch(np.array([718])).input, source.fetch(np.array([0])).input), "the next epoch"
    endless = assemble(tiny("lstm"), []).source
    for fetch in (endless.fetch, endless.length_of):
        with pytest.raises(IndexError, match="index -1 of an endless split"):
            fetch(np.array([4, -1]))


def test_a_row_that_does_not_count_never_sets_the_length(tiny):
    def arrow(sample, source):
        short, long = source.index_of(np.arange(2), 1), source.index_of(np.arange(2), source.lengths[1])
        return lambda step: Drawn(np.concatenate([short, long]), np.array([1.0, 1.0, 0.0, 0.0]))

    made = assemble(tiny("lstm", {"train.buckets": "4"}), [Treatment(sample=arrow)])
    batch, widest = made.first_batch(), made.task.width(made.source.lengths[1])
    assert batch["inputs"].shape[1] < widest and batch["weight"].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert (batch["inputs"][2:] == batch["inputs"][0]).all()


def test_a_column_of_a_sample_replaces_no_other():
    taken = Treatment(sample=lambda sample, source: lambda step: Drawn(sample(step), columns={"targets": np.zeros(12, np.int32)}))
    with pytest.raises(ValueError, match="'targets', which the batch already has"):
        assemble(config_of(), [taken])


def test_evaluation_names_its_examples_too():
    made = assemble(config_of(), [])
    for examples, batch in batches(made.task, "valid", made.settings.evaluate):
        assert batch["id"].dtype == np.int32 and np.array_equal(batch["id"], examples.id)


def test_an_arrow_sees_the_labels_of_its_source(tiny):
    seen = []

    def arrow(sample, source):
        seen.append((source.labels(), source.seed))
        return lambda step: sample(step)[::-1]  # bare indices

    made, plain = (assemble(config_of(seed=3), treated) for treated in ([Treatment(sample=arrow)], []))
    labels, seed = seen[0]
    assert len(labels) == 718 and seed == 3
    for name, array in plain.first_batch().items():
        assert np.array_equal(made.first_batch()[name], array[::-1])
    assert np.array_equal(labels[plain.first_batch()["id"]], plain.first_batch()["targets"])
    assert assemble(tiny("lstm"), []).source.labels is None
    few = assemble(config_of(task__labels=50, task__unlabelled="true"), []).source.labels()
    assert (few >= 0).sum() == 50 and np.array_equal(few[few >= 0], labels[few >= 0]), "a label that is withheld stays so"


def test_a_family_that_is_replaced_is_built_anew(monkeypatch):
    """As when a cell of a notebook runs again: no run keeps what an earlier one built."""
    before, family = assemble(config_of(), []), FAMILIES["mlp"]
    monkeypatch.setitem(FAMILIES, "mlp", family._replace(build=lambda settings, *rest: family.build(replace(settings, width=3), *rest)))
    sizes = [count(jax.eval_shape(made.untreated.init, made.key, made.first_batch())) for made in (before, assemble(config_of(), []))]
    assert sizes == [64 * 8 + 8 + 8 * 10 + 10, 64 * 3 + 3 + 3 * 10 + 10]


# -- what the model sees at once ----------------------------------------------------------------------------------------------


def dann(objective: Objective) -> Objective:
    """A discriminator that the objective owns tells domains apart from logits, against a reversed gradient (Ganin et al. 2016)."""

    def init(key, model, params, batch):
        output = jax.eval_shape(lambda: model.apply(params["model"], batch))
        assert output.logits.ndim == 2, "the model sees rows of one client"
        return {**objective.init(key, model, params, batch), "discriminator": 0.1 * jax.random.normal(key, (output.logits.shape[-1],))}

    def loss(model, params, batch, key, step):
        mean, aux = objective.loss(model, params, batch, key, step)
        logits = aux.output.logits
        reversed_ = 2 * jax.lax.stop_gradient(logits) - logits
        domain = (batch["id"] % 2).astype(jnp.float32)
        told = reversed_ @ params["discriminator"]
        return mean + (jnp.logaddexp(0.0, told) - domain * told).mean(), aux

    return Objective(init, loss)


def test_an_objective_with_parameters_under_clients():
    treated = [Treatment(objective=dann, name="dann"), fed_avg(count=5, chosen=4, local=2, rows=3)]
    made = assemble(config_of(), treated)
    batch = made.first_batch()
    assert batch["inputs"].shape[:3] == (4, 2, 3) and batch["client"].shape == (4,) and made.seen_at_once()["inputs"].shape[0] == 3
    assert (made.rows, made.examples) == (4, 24.0), "the mesh divides clients; examples are counted one by one"
    before = jax.jit(made.init_state)(made.key, {}, batch)
    after, metrics = stepped(made)
    assert after.params["discriminator"].shape == (10,) and float(metrics["loss"]) > 0
    for old, new in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True):
        assert not np.array_equal(old, new)
    shapes = jax.eval_shape(made.init_state, made.key, {}, batch)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, made.abstract()) == jax.tree.map(jnp.shape, after)


def test_one_client_is_plain_training_to_rounding():
    """One step of one client on the rows of a plain batch, at the rate of the client and a server that takes its move whole."""

    def alone(sample, source):
        return lambda step: Drawn(drawn(sample(step)).indices[None, None], columns={"client": np.zeros(1, np.int32)})

    federated = Treatment(gradient=averaged(0.5), sample=alone, one=one_client, name="alone")
    (one, _), (plain, _) = (
        stepped(assemble(config_of(optimizer__learning_rate=rate), treated)) for rate, treated in ((1.0, [federated]), (0.5, []))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one.params, plain.params)


def test_a_run_of_clients_counts_examples_and_names_rows_that_do_not_divide(tmp_path, monkeypatch):
    loop.run(config_of(train__steps=3), str(tmp_path / "run"), [fed_avg(count=5, chosen=3, local=2, rows=5)], quiet=True)
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["examples_per_second"] * line["elapsed_seconds"] == pytest.approx(3 * 3 * 2 * 5)
    with pytest.raises(UserError, match="fed_avg draws 3 rows per step"):
        made = assemble(config_of(), [fed_avg(count=5, chosen=3, local=2, rows=5)])
        mesh = jax.sharding.AbstractMesh((2, 1, 1), ("data", "fsdp", "tensor"))
        loop._check_rows(made, mesh)


# -- settings -----------------------------------------------------------------------------------------------------------------


def test_a_treatment_chooses_settings_before_anything_is_built(tmp_path):
    def chosen(train, model):
        return replace(train, validate_every=1, patience=2), {**model, "dropout": 0.5}

    stopping = Treatment(settings=chosen, name="regularised")
    made, plain = assemble(config_of(), [stopping]), assemble(config_of(), [])
    assert made.settings.train.patience == 2 and made.settings.model["dropout"] == 0.5 and plain.settings.model["dropout"] == 0.0
    assert links([stopping]) == {"settings": ["regularised"]}
    batch, params = made.first_batch(), plain.model.init(made.key, made.first_batch())
    logits = [one.model.apply(params, batch, key=made.key, train=True).logits for one in (made, plain)]
    assert (logits[0] != logits[1]).any(), "the model drops features"
    with pytest.raises(UserError, match=r"train\.patience"):
        assemble(config_of(), [Treatment(settings=lambda train, model: (replace(train, patience=2), model))])
    loop.run(config_of(train__steps=30, optimizer__learning_rate=1e-12), str(tmp_path), [stopping], quiet=True)
    kept = json.loads((tmp_path / "checkpoints" / "3" / "data" / "metadata").read_text())
    assert kept["stopping"]["patience_left"] == 0, "without a better validation the run stops after the third"


# -- order --------------------------------------------------------------------------------------------------------------------


def test_rows_are_not_mixed_below_gradients_of_each():
    private = Treatment(gradient=lambda gradient: gradient, per_example=True, name="private")
    mixup = Treatment(objective=lambda objective: objective, mixes=True, name="mixup")
    rounds = Treatment(gradient=lambda gradient: gradient, mixes=True, name="rounds")
    for listed in ([private, mixup], [mixup, private]):
        with pytest.raises(UserError, match="'private' takes per-example gradients, and 'mixup' mixes"):
            compose(listed)
    with pytest.raises(UserError, match="List 'rounds' after it"):
        compose([rounds, private])
    composed = compose([compose([private]), compose([rounds]), accumulate(2)])
    assert links([compose([private, rounds])]) == {"gradient": ["private + rounds"]}, "a composition acts where its members do"
    assert composed.mixes and composed.per_example and not compose([accumulate(2)]).mixes
    compose([rounds, mixup])


def test_batch_statistics_are_refused_below_gradients_of_each():
    def with_statistics(model, params):
        return model, {**params, "state": {"mean": jnp.zeros(3)}}

    private = Treatment(gradient=lambda gradient: gradient, per_example=True, name="private")
    with pytest.raises(UserError, match="keeps batch statistics"):
        assemble(config_of(), [Treatment(model=with_statistics), private])


def test_clients_of_the_test_code_hold_every_example_once():
    made = assemble(config_of(), [fed_avg(count=5, chosen=2, local=1, rows=2)])
    draw = draw_clients(5, 5, 1, 400)(made.sample, made.source)
    assert len({int(index) for step in range(3) for index in draw(step).indices.reshape(-1)}) > 600
