"""What treatments carry from step to step: read and returned by gradients and objectives, saved, and no parameter to anybody."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from carrying import averaged, carry_scaffold, config_of, scaffold, scaffold_gradient
from test_laws import CLASSES, KEY, bits, leaves_close, linear, run, score, toy, toy_batch

from assay.core.errors import UserError
from assay.core.tree import count, paths
from assay.dist.mesh import make_mesh
from assay.models.model import Model, Output
from assay.train import loop
from assay.train.checkpoint import CheckpointConfig, Checkpointer
from assay.train.experiment import assemble
from assay.train.objective import Objective, supervised
from assay.train.state import TrainState, all_params, final_params, init_state
from assay.train.step import make_step
from assay.train.treatment import Treatment, compose
from assay.treatments.table import FACTORIES
from assay.treatments.training.accumulate import accumulated
from assay.treatments.training.average import average
from assay.treatments.training.clip import clipped
from assay.treatments.training.ensemble import ensemble
from assay.treatments.training.gradients import watched

ARROWS = {"accumulate": lambda gradient: accumulated(gradient, 2), "clip": lambda gradient: clipped(gradient, 1e9), "gradients": watched}
SLOPES, CENTRES, LOCAL, RATE = np.array([1.0, 10.0], np.float32), np.array([0.0, 1.0], np.float32), 5, 0.05


# -- gradients ----------------------------------------------------------------------------------------------------------------


def quadratic():
    """f_k(w) = a_k (w - b_k)^2 / 2 of client k, as (objective, batch [clients, steps, rows]): its optimum is sum a b / sum a = 10 / 11."""
    model = Model(lambda key, batch: {"w": jnp.zeros(())}, lambda params, batch, **_: Output(params["w"], {}))

    def loss(output, batch):
        values = batch["a"] * (output.logits - batch["b"]) ** 2 / 2
        return values, batch["weight"], {"nll": values}

    shape = (2, LOCAL, 1)
    each = {name: np.broadcast_to(values[:, None, None], shape) for name, values in (("a", SLOPES), ("b", CENTRES))}
    return model, supervised(loss), {**each, "weight": np.ones(shape, np.float32), "client": np.arange(2, dtype=np.int32)}


@pytest.mark.parametrize(
    ("treatment", "expected"),
    [
        (Treatment(gradient=averaged(RATE)), 0.810690),  # sum c b / sum c with c = 1 - (1 - rate a)^5
        (Treatment(gradient=scaffold_gradient(RATE), carry=carry_scaffold(2)), 10 / 11),
    ],
    ids=["fed_avg", "scaffold"],
)
def test_control_variates_that_are_carried_correct_the_drift_of_clients(treatment, expected):
    model, objective, batch = quadratic()
    treatment = compose([treatment._replace(one=lambda batch: {name: array[0, 0] for name, array in batch.items() if name != "client"})])
    optimizer = optax.sgd(1.0)
    state = init_state(KEY, {}, model, objective, optimizer, treatment, batch)
    step = jax.jit(make_step(model, objective, treatment.gradient, optimizer))
    for _ in range(150):
        state, metrics = step(state, batch)
    assert float(state.params["model"]["w"]) == pytest.approx(expected, abs=1e-5)
    assert float(metrics["grad_norm"]) < 1e-4, "the norm is that of the model's gradient"
    assert float(metrics["parameter_norm"]) == pytest.approx(expected, abs=1e-5)


def bump(gradient):
    """Counts how often a gradient is asked for."""

    def counted(params, batch, key, step, carried):
        grads, aux, carried = gradient(params, batch, key, step, carried)
        return grads, aux, {**carried, "asked": carried["asked"] + 1}

    return counted


COUNTER = Treatment(gradient=bump, carry=lambda shapes, batch: {"asked": jnp.zeros(())}, name="counter")


@pytest.mark.parametrize("name", ARROWS)
def test_every_gradient_arrow_hands_on_what_is_carried(name):
    state, step, _ = toy([COUNTER, Treatment(gradient=ARROWS[name])])
    after, _ = run(state, step, 3)
    assert float(after.carried["asked"]) == (6 if name == "accumulate" else 3), "through the parts of a batch, one after the other"
    plain, _, _ = toy([Treatment(gradient=ARROWS[name])])
    assert bits(plain.params) == bits(state.params) and plain.carried == {}


def test_all_treatments_of_the_gradient_are_among_these():
    made = {
        name: factory() for name, factory in FACTORIES.items() if name in {"accumulate", "augment", "average", "clip", "gradients", "l1"}
    }
    assert {name for name, treatment in made.items() if treatment.gradient is not Treatment().gradient} == {*ARROWS}


def test_a_gradient_sees_the_step_and_a_key_that_does_not_change():
    seen = []

    def watching(gradient):
        def seeing(params, batch, key, step, carried):
            jax.debug.callback(lambda step, key: seen.append((int(step), key.tobytes())), step, jax.random.key_data(key))
            return gradient(params, batch, key, step, carried)

        return seeing

    state, step, _ = toy([Treatment(gradient=watching)])
    after, _ = run(state, step, 3)
    jax.effects_barrier()
    assert sorted(seen) == [(i, np.asarray(jax.random.key_data(state.key)).tobytes()) for i in range(3)]
    assert bits(after) == bits(run(*toy()[:2], 3)[0]), "and changes no bit"


def test_what_is_carried_is_no_parameter():
    wide = Treatment(carry=lambda shapes, batch: {"wide": jax.tree.map(lambda leaf: jnp.full(leaf.shape, 100.0), shapes)}, name="wide")
    ends = {}
    for name, treated in {"plain": [], "carrying": [wide]}.items():
        treated = [*treated, average(0.9)]
        state, step, _ = toy(treated)
        after, metrics = run(state, step)
        ends[name] = (count(after.params), bits(metrics), bits(after.opt_state), bits(final_params(after, compose(treated))))
    assert ends["plain"] == ends["carrying"]
    assert paths(after.carried) == ["wide/model/head/kernel", "wide/model/up/kernel"]


def test_names_are_taken_once_and_what_is_carried_keeps_its_shape():
    with pytest.raises(UserError, match="'counter' carries 'asked', a name that is taken"):
        toy([COUNTER, COUNTER])
    with pytest.raises(UserError, match="carries 'model'"):
        toy([Treatment(carry=lambda shapes, batch: {"model": 0}, name="greedy")])

    def forgets(gradient):
        return lambda *arguments: (*gradient(*arguments)[:2], {})

    with pytest.raises(UserError, match=r"asked is float32\[\] here and nothing there"):
        run(*toy([COUNTER, Treatment(gradient=forgets)])[:2], 1)
    with pytest.raises(UserError, match=r"asked is float32\[\] here and int32\[\] there"):
        run(*toy([COUNTER, Treatment(gradient=lambda g: lambda *a: (*g(*a)[:2], {"asked": jnp.int32(0)}))])[:2], 1)


# -- objectives ---------------------------------------------------------------------------------------------------------------


def group_dro(rate: float = 0.5):
    """GroupDRO (Sagawa et al. 2020): classes as groups, q_g <- q_g exp(rate loss_g) normalised, and the loss is sum q_g loss_g."""

    def objective(inner: Objective) -> Objective:
        def loss(model, params, batch, key, step):
            _, aux = inner.loss(model, params, batch, key, step)
            values, _, _ = score(aux.output, batch)
            groups = jax.nn.one_hot(batch["targets"], CLASSES) * batch["weight"][:, None]
            losses = (values[:, None] * groups).sum(axis=0) / jnp.maximum(groups.sum(axis=0), 1e-9)
            q = params["carried"]["group_dro"] * jnp.exp(rate * losses)
            q = jax.lax.stop_gradient(q / q.sum())
            return (q * losses).sum(), aux._replace(carried={"group_dro": q})

        return replace(inner, loss=loss)

    return Treatment(objective=objective, carry=lambda shapes, batch: {"group_dro": jnp.full(CLASSES, 1 / CLASSES)}, name="group_dro")


@pytest.mark.parametrize("parts", [1, 2])
def test_an_objective_carries_its_part_in_aux(parts):
    quiet = replace(linear(5), apply=lambda params, batch, **_: linear(5).apply(params, batch))
    treatment = compose([group_dro(), Treatment(gradient=lambda gradient: accumulated(gradient, parts))])
    objective = treatment.objective(supervised(score))
    state = init_state(KEY, {}, quiet, objective, optax.sgd(0.0), treatment, toy_batch())
    after, _ = jax.jit(make_step(quiet, objective, treatment.gradient, optax.sgd(0.0)))(state, toy_batch())
    q = np.full(CLASSES, 1 / CLASSES)
    for part in range(parts):
        batch = {name: array[part::parts] for name, array in toy_batch().items()}
        values = np.asarray(score(quiet.apply(state.params["model"], batch), batch)[0])
        q = q * np.exp(
            0.5 * np.array([values[batch["targets"] == group].mean() if (batch["targets"] == group).any() else 0 for group in range(3)])
        )
        q /= q.sum()
    np.testing.assert_allclose(after.carried["group_dro"], q, rtol=1e-5)
    assert not np.allclose(q, 1 / CLASSES)


def test_members_of_an_ensemble_carry_nothing_in_common():
    with pytest.raises(UserError, match="'group_dro' is carried once for all"):
        run(*toy([group_dro(), ensemble(2)])[:2], 1)


# -- a model's own state ------------------------------------------------------------------------------------------------------


def normalising() -> Model:
    """Inputs minus a running mean: batch statistics in training, and what was gathered in evaluation."""

    def init(key, batch):
        features = batch["inputs"].shape[-1]
        return {"kernel": jax.random.normal(key, (features, CLASSES)), "state": {"mean": jnp.zeros(features)}}

    def apply(params, batch, *, key=None, train=False, edits=None):
        mean, kept = batch["inputs"].mean(axis=0), params["state"]["mean"]
        logits = (batch["inputs"] - (mean if train else kept)[None]) @ params["kernel"]
        return Output(logits, {}, {"mean": 0.5 * kept + 0.5 * mean} if train else {})

    return Model(init, apply)


@pytest.mark.parametrize(
    "treated", [[], [Treatment(gradient=ARROWS["accumulate"])], [ensemble(2)]], ids=["plain", "accumulate", "ensemble"]
)
def test_batch_statistics_are_gathered_in_training_and_read_in_evaluation(treated):
    treatment = compose([*treated, average(0.5)])
    objective, optimizer = treatment.objective(supervised(score)), treatment.optimizer(optax.sgd(0.1))
    state = init_state(KEY, {}, normalising(), objective, optimizer, treatment, toy_batch())
    model = treatment.model(normalising(), all_params(state)["model"])[0]
    assert paths(state.params) == ["model/kernel"] and paths(state.carried) == ["model/mean"]
    assert not [path for path in paths(state.opt_state) if "mean" in path]
    step, expected = jax.jit(make_step(model, objective, treatment.gradient, optimizer)), 0.0
    for i in range(3):
        state, metrics = step(state, toy_batch(i))
        inputs = toy_batch(i)["inputs"]
        for rows in (inputs[0::2], inputs[1::2]) if treated and treated[0].name != "ensemble" else (inputs,):
            expected = 0.5 * expected + 0.5 * rows.mean(axis=0)
    members = (2,) if state.params["model"]["kernel"].ndim == 3 else ()
    np.testing.assert_allclose(state.carried["model"]["mean"], np.broadcast_to(expected, (*members, len(expected))), rtol=1e-5, atol=1e-6)
    assert float(metrics["parameter_norm"]) == pytest.approx(float(optax.tree.norm(state.params)), rel=1e-6)
    answering = final_params(state, treatment)["model"]
    assert bits(answering["state"]) == bits(state.carried["model"]), "what evaluation reads has the statistics, and no average of them"
    assert model.apply(answering, toy_batch()).state == {}


def test_an_objective_that_would_freeze_batch_statistics_is_refused():
    plain = supervised(score)

    def loss(*given):
        mean, aux = plain.loss(*given)
        return mean, aux._replace(output=None)

    objective, optimizer = Objective(plain.init, loss), optax.sgd(0.1)
    state = init_state(KEY, {}, normalising(), objective, optimizer, Treatment(), toy_batch())
    with pytest.raises(UserError, match=r"keeps batch statistics.*Aux\.output"):
        make_step(normalising(), objective, lambda gradient: gradient, optimizer)(state, toy_batch())


# -- checkpoints --------------------------------------------------------------------------------------------------------------


def carried_of(folder: Path, steps: int) -> tuple[dict, dict]:
    made = assemble(config_of(train__steps=steps), [scaffold()])
    mesh = make_mesh(made.settings.mesh)
    with Checkpointer(folder / "checkpoints", made.settings.checkpoint) as checkpointer:
        state, _, _ = loop.start(made, mesh, checkpointer)
    return bits(state), {path: np.asarray(leaf) for path, leaf in zip(paths(state.carried), jax.tree.leaves(state.carried), strict=True)}


def test_a_run_that_carries_resumes_exactly_also_on_another_mesh(tmp_path):
    whole, broken, moved = (tmp_path / name for name in ("whole", "broken", "moved"))
    loop.run(config_of(train__steps=6), str(whole), [scaffold()], quiet=True)
    loop.run(config_of(train__steps=2), str(broken), [scaffold()], quiet=True)
    shutil.copytree(broken, moved)
    halfway, _ = carried_of(broken, 2)
    loop.run(config_of(train__steps=6), str(broken), [scaffold()], quiet=True)
    (end, carried), (resumed, _) = carried_of(whole, 6), carried_of(broken, 6)
    assert end == resumed
    assert all(halfway[path] != end[path] for path in end if path.startswith("carried/scaffold/server"))
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(Path(__file__).with_name("carrying.py")), str(moved), "6", "data:1,fsdp:2"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    leaves_close(carried_of(moved, 6)[1], carried, 1e-4)


def test_checkpoints_of_before_and_of_runs_that_carry_nothing_are_alike(tmp_path):
    before = namedtuple("before", ["step", "params", "frozen", "opt_state", "key"])  # the fields that a state had
    arrays = (jnp.int32(3), {"model": {"kernel": jnp.arange(3.0)}}, {}, (jnp.ones(2), {}), jax.random.key(1))
    metadata = []
    for name, state in (("old", before(*arrays)), ("new", TrainState(*arrays))):
        with Checkpointer(tmp_path / name, CheckpointConfig(1, 1)) as checkpointer:
            checkpointer.save(3, state, {})
        metadata.append((tmp_path / name / "3" / "state" / "_METADATA").read_bytes())
    assert metadata[0] == metadata[1]
    target = jax.eval_shape(lambda: TrainState(*arrays))
    with Checkpointer(tmp_path / "old", CheckpointConfig(1, 1)) as checkpointer:
        found, _ = checkpointer.restore(3, target)
        assert isinstance(found, TrainState) and bits(found) == bits(TrainState(*arrays)) and found.carried == {}
        with pytest.raises(UserError, match="cannot be restored"):
            checkpointer.restore(3, target._replace(carried={"scaffold": jax.ShapeDtypeStruct((2,), jnp.float32)}))
