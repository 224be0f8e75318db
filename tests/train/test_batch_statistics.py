"""Linen modules with batch statistics: trained by the step of all models, against Flax's own update, resumed, and read in evaluation."""

from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from carrying import averaged, config_of, draw_clients, one_client
from test_laws import bits, leaves_close

from assay.core.errors import UserError
from assay.diagnostics.bring import bring
from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals.evaluate import EvaluateConfig, compiled, evaluate, make_answer
from assay.models.families import FAMILIES, Family
from assay.models.model import STATE, Model, from_linen
from assay.models.precision import PrecisionConfig, with_precision
from assay.train import loop
from assay.train.experiment import Experiment, assemble
from assay.train.state import all_params, final_params
from assay.train.step import make_step
from assay.train.treatment import Treatment
from assay.treatments.pipeline.load import restore
from assay.treatments.training.average import average

MOMENTUM, WIDTH, CLASSES, RATE = 0.9, 6, 10, 0.1


class Net(nn.Module):
    """A perceptron as a user writes it: called with an array of inputs."""

    name_of_norm: str = "norm"

    @nn.compact
    def __call__(self, inputs, train: bool):
        hidden = nn.Dense(WIDTH, name="up")(inputs.reshape(len(inputs), -1))
        hidden = nn.BatchNorm(use_running_average=not train, momentum=MOMENTUM, name=self.name_of_norm)(hidden)
        return nn.Dense(CLASSES, name="head")(nn.relu(hidden))


class Stateful(nn.Module):
    """A module without statistics that uses their name."""

    @nn.compact
    def __call__(self, batch, train: bool):
        return nn.Dense(CLASSES, name=STATE)(batch["inputs"])


class Counting(nn.Module):
    """A module with a variable that nothing would update."""

    @nn.compact
    def __call__(self, batch, train: bool):
        self.variable("memory", "calls", lambda: jnp.zeros(())).value += 1
        return nn.Dense(CLASSES)(batch["inputs"])


def called(module, batch, train):
    return module(batch["inputs"], train)


@dataclass(frozen=True)
class NetConfig:
    """It has no keys."""


def model_of(**settings) -> Model:
    return from_linen(Net(**settings), method=called)


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(FAMILIES, "net", Family(NetConfig, lambda config, vocabulary, dtype: model_of()))


def config(**changes) -> dict:
    return {**config_of(optimizer__learning_rate=RATE, train__batch_size=16, **changes), "model": {"name": "net"}}


def begun(made: Experiment):
    return jax.jit(made.init_state)(made.key, made.given(), made.first_batch()), jax.jit(
        make_step(made.model, made.objective, made.treatment.gradient, made.optimizer)
    )


def batch_of(made: Experiment, step: int) -> dict[str, np.ndarray]:
    return {name: array[0] for name, array in made.batches(step, 1).items()}


def test_training_is_that_of_flax_and_statistics_are_no_parameters():
    made = assemble(config(), [average(0.5)])
    state, step = begun(made)
    variables = {"params": state.params["model"], "batch_stats": state.carried["model"]}

    def loss(params, statistics, batch):
        logits, changed = Net().apply({"params": params, "batch_stats": statistics}, batch["inputs"], True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"]).mean(), changed["batch_stats"]

    gradient = jax.jit(jax.grad(loss, has_aux=True))
    for i in range(3):
        batch = batch_of(made, i)
        state, metrics = step(state, batch)
        grads, statistics = gradient(variables["params"], variables["batch_stats"], batch)
        params = jax.tree.map(lambda leaf, grad: leaf - RATE * grad, variables["params"], grads)
        variables = {"params": params, "batch_stats": statistics}
    leaves_close(state.carried["model"], variables["batch_stats"])
    leaves_close(state.params["model"], variables["params"])
    assert float(jnp.abs(state.carried["model"]["norm"]["mean"]).max()) > 1e-2, "the statistics moved"
    assert float(metrics["parameter_norm"]) == pytest.approx(float(optax.tree.norm(variables["params"])), rel=1e-6)
    averaged_, answering = bits(state.params["model"]), final_params(state, made.treatment)["model"]
    assert bits(answering[STATE]) == bits(state.carried["model"]) and bits(answering) != averaged_, "parameters alone are averaged"


def test_a_run_resumes_exactly_and_its_evaluation_reads_the_statistics(tmp_path):
    ends = {}
    for name, stops in (("whole", (4,)), ("broken", (2, 4))):
        for steps in stops:
            loop.run(config(train__steps=steps), str(tmp_path / name), [], quiet=True)
        ends[name] = restore(assemble(config(train__steps=4), []), tmp_path / name)
    assert bits(ends["whole"]) == bits(ends["broken"]) and ends["whole"].carried["model"]["norm"]["mean"].shape == (WIDTH,)
    made = assemble(config(), [])
    params = all_params(ends["whole"])["model"]
    batch = made.first_batch()
    output = made.model.apply(params, batch)
    variables = {"params": {name: tree for name, tree in params.items() if name != STATE}, "batch_stats": params[STATE]}
    np.testing.assert_allclose(output.logits, Net().apply(variables, batch["inputs"], False), rtol=1e-6, atol=1e-6)
    assert output.state == {}
    halves = [made.model.apply(params, {name: array[rows] for name, array in batch.items()}).logits for rows in (slice(8), slice(8, 16))]
    np.testing.assert_allclose(np.concatenate(halves), output.logits, rtol=1e-5, atol=1e-5, err_msg="an answer depends on its own row")


def test_a_module_that_is_brought_is_scored_by_its_running_statistics():
    random = np.random.default_rng(0)
    inputs = random.normal(3.0, 2.0, (200, 5)).astype(np.float32)
    variables = jax.jit(Net().init, static_argnums=2)(jax.random.key(0), inputs, False)
    training, answering = (jax.jit(partial(Net().apply, train=train, mutable=["batch_stats"])) for train in (True, False))
    logits, changed = training(variables, inputs)
    variables = {"params": variables["params"], **changed}
    labels = np.asarray(answering(variables, inputs)[0].argmax(axis=1))
    assert len(np.unique(labels)) > 2 and (labels != np.asarray(logits.argmax(axis=1))).any()
    mesh = make_mesh(MeshConfig(-1, 1, 1))
    ways = {
        "variables": (lambda variables, batch: Net().apply(variables, batch["inputs"], train=False), variables),
        "a Model": (model_of().apply, {**variables["params"], STATE: variables["batch_stats"]}),
    }
    for way, (apply, params) in ways.items():
        subject = bring(apply, params, {"test": (inputs, labels)})
        answer = compiled(make_answer(subject.model, subject.task), mesh)
        records = evaluate(answer, subject.params, subject.task, "test", EvaluateConfig((), 1, 64, 1), mesh)
        assert [record["scores"]["accuracy"] for record in records] == [1.0] * 200, way


def dropping(gradient):
    """Gradients of each row, and the state of the whole batch left as it was."""

    def each(params, batch, key, step, carried):
        rows = jax.tree.map(lambda array: array[:, None], dict(batch))
        grads, aux, _ = jax.vmap(lambda row: gradient(params, row, key, step, carried))(rows)
        return (
            jax.tree.map(lambda leaf: leaf.mean(axis=0), grads),
            jax.tree.map(lambda leaf: leaf.sum(axis=0), aux._replace(output=None)),
            carried,
        )

    return each


def test_what_would_not_update_the_statistics_is_refused():
    with pytest.raises(UserError, match="private computes per-example gradients, but the model 'net' keeps batch statistics"):
        assemble(config(), [Treatment(gradient=dropping, per_example=True, name="private")])
    silent = Treatment(gradient=dropping, name="silent")
    rounds = Treatment(gradient=averaged(), sample=draw_clients(4, 2, 2, 3), one=one_client, name="rounds")
    for treated in (silent, rounds):
        made = assemble(config(), [treated])
        step = make_step(made.model, made.objective, made.treatment.gradient, made.optimizer)
        with pytest.raises(UserError, match="keeps batch statistics, which a treatment does not hand on"):
            jax.eval_shape(step, made.abstract(), made.first_batch())


def test_statistics_have_a_name_and_a_precision_of_their_own():
    batch = {"inputs": np.ones((2, 3), np.float32)}
    for named in (model_of(name_of_norm=STATE), from_linen(Stateful())):
        with pytest.raises(UserError, match="names a part of it 'state'"):
            jax.eval_shape(named.init, jax.random.key(0), batch)
    with pytest.raises(UserError, match=r'other than parameters and batch_stats.*"calls" from collection "memory"'):
        jax.eval_shape(from_linen(Counting()).init, jax.random.key(0), batch)
    narrow = with_precision(model_of(), PrecisionConfig("bfloat16", "float32", "float32"))
    params = jax.eval_shape(narrow.init, jax.random.key(0), batch)
    assert params["up"]["kernel"].dtype == jnp.bfloat16 and params[STATE]["norm"]["mean"].dtype == jnp.float32
    state = jax.eval_shape(partial(narrow.apply, train=True), params, batch).state
    assert jax.tree.map(jnp.result_type, state) == jax.tree.map(jnp.result_type, params[STATE])
