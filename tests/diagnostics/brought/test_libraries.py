"""Equinox, Haiku and Keras models that people bring: the same answers as the library gives, dropout and statistics in training."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import assay
from assay.core.errors import UserError
from assay.core.tree import paths
from assay.diagnostics.bring import bring
from assay.diagnostics.table import examine
from assay.models.families import FAMILIES
from assay.models.model import STATE
from assay.tasks.table import TASKS
from assay.train.objective import supervised
from assay.train.state import all_params, init_state
from assay.train.step import make_step
from assay.train.treatment import Treatment

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(32, 4)).astype(np.float32)
LABELS = INPUTS[:, :3].argmax(axis=1)
DATA = {"train": (INPUTS, LABELS), "test": (INPUTS, LABELS)}


@pytest.fixture(autouse=True)
def _broadcasting():
    """These libraries broadcast biases, which Assay's own models do not."""
    with jax.numpy_rank_promotion("allow"):
        yield


def logits_of(subject, **more):
    return subject.model.apply(subject.params, {"inputs": INPUTS}, **more).logits


def stepped(subject):
    """Parameters and state after a step of gradient descent, with the step's own randomness."""
    objective, optimizer, none = supervised(subject.task.score), optax.sgd(0.1), Treatment()
    batch = subject.first(32, "train")
    state = init_state(jax.random.key(0), {}, subject.model, objective, optimizer, none, batch, {"model": subject.params})
    return all_params(jax.jit(make_step(subject.model, objective, none.gradient, optimizer))(state, batch)[0])["model"]


def check(subject, answers):
    np.testing.assert_allclose(logits_of(subject), answers, rtol=1e-5, atol=1e-5)
    rows = examine(subject, ["held_out", "gradients"])
    assert not [row.reason for row in rows if row.crashed]
    one, again, other = (logits_of(subject, key=jax.random.key(seed), train=True) for seed in (0, 0, 1))
    assert jnp.array_equal(one, again) and not jnp.allclose(one, other), "dropout follows the key of the step"


def check_run(make, folder):
    """Two steps of a run; a subject made again reads it, since the program has the same digest. The state of a run is the library's."""
    subject = make()
    assay.fit(subject, folder, {"train.steps": 2, "train.batch_size": 8})
    ended = assay.load(folder)
    for path, before, after in zip(paths(subject.params), jax.tree.leaves(subject.params), jax.tree.leaves(ended.params), strict=True):
        moves = (path.startswith(STATE) and jnp.issubdtype(after.dtype, jnp.floating)) or path.rpartition("/")[2] in (
            "kernel",
            "weight",
            "w",
        )
        assert not moves or not np.array_equal(before, after), path
    assert assay.load(folder, subject=make()).predict(INPUTS[:2]) == ended.predict(INPUTS[:2])


@pytest.fixture(autouse=True)
def _as_before():
    yield
    for table in (FAMILIES, TASKS):
        table.pop("mine/yours", None)


def test_equinox(tmp_path):
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        first: eqx.nn.Linear
        dropout: eqx.nn.Dropout
        last: eqx.nn.Linear

        def __init__(self, key):
            one, two = jax.random.split(key)
            self.first, self.last = eqx.nn.Linear(4, 16, key=one), eqx.nn.Linear(16, 3, key=two)
            self.dropout = eqx.nn.Dropout(0.5)

        def __call__(self, x, *, key=None):
            return self.last(self.dropout(jax.nn.relu(self.first(x)), key=key))

    model = Net(jax.random.key(0))
    subject = assay.from_equinox(model, DATA)
    check(subject, jax.vmap(eqx.nn.inference_mode(model))(INPUTS))
    assert set(subject.params) == {"first", "last"} and not model.dropout.inference
    assert not jnp.array_equal(stepped(subject)["last"]["weight"], model.last.weight)
    by_hand = assay.from_equinox(model, DATA, call=lambda model, inputs, train: jax.vmap(lambda x: model(x, key=None))(inputs))
    np.testing.assert_allclose(logits_of(by_hand), logits_of(subject), rtol=1e-6)
    with pytest.raises(UserError, match=r"model fails on inputs of 'test', float32 \[2, 3\]: .*Pass call=lambda .*: jax.vmap"):
        assay.from_equinox(model, {"test": (INPUTS[:, :3], LABELS)})
    with pytest.raises(UserError, match=r"call assay.from_equinox"):
        bring(model, None, DATA)
    check_run(lambda: assay.from_equinox(Net(jax.random.key(0)), DATA), tmp_path / "run")


def test_equinox_with_statistics(tmp_path):
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        norm: eqx.nn.BatchNorm
        last: eqx.nn.Linear

        def __init__(self, key):
            self.norm, self.last = eqx.nn.BatchNorm(4, axis_name="batch", momentum=0.5, mode="batch"), eqx.nn.Linear(4, 3, key=key)

        def __call__(self, x, state):
            x, state = self.norm(x, state)
            return self.last(x), state

    model, state = eqx.nn.make_with_state(Net)(jax.random.key(0))
    batched = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    _, state = batched(INPUTS, state)  # statistics of one batch, without which there are none to answer with
    subject = assay.from_equinox(model, DATA, state)
    answers = jax.vmap(eqx.nn.inference_mode(model), axis_name="batch", in_axes=(0, None), out_axes=(0, None))(INPUTS, state)[0]
    np.testing.assert_allclose(logits_of(subject), answers, rtol=1e-5, atol=1e-5)
    before, after = (jax.tree.leaves(params[STATE]) for params in (subject.params, stepped(subject)))
    assert any(not jnp.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert not [row.reason for row in examine(subject, ["gradients", "held_out"]) if row.crashed]
    check_run(lambda: assay.from_equinox(model, DATA, state), tmp_path / "run")


def test_haiku(tmp_path):
    hk = pytest.importorskip("haiku")

    def forward(x, is_training):
        x = jax.nn.relu(hk.BatchNorm(True, True, 0.5)(hk.Linear(16)(x), is_training))
        return hk.Linear(3)(hk.dropout(hk.next_rng_key(), 0.5, x) if is_training else x)

    transformed = hk.transform_with_state(forward)
    params, state = transformed.init(jax.random.key(0), INPUTS, True)
    subject = assay.from_haiku(transformed, params, DATA, state=state)
    check(subject, transformed.apply(params, state, None, INPUTS, False)[0])
    check_run(lambda: assay.from_haiku(transformed, params, DATA, state=state), tmp_path / "run")
    before, after = (jax.tree.leaves(params[STATE]) for params in (subject.params, stepped(subject)))
    assert any(not jnp.array_equal(one, other) for one, other in zip(before, after, strict=True))
    fresh = subject.model.init(jax.random.key(7), subject.first(2))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, subject.params)
    assert not jnp.array_equal(fresh["linear"]["w"], subject.params["linear"]["w"])
    with pytest.raises(UserError, match="the transformed function has a state: pass from_haiku"):
        assay.from_haiku(transformed, params, DATA)
    plain = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([8, 3])(x)))
    params = plain.init(jax.random.key(0), INPUTS)
    np.testing.assert_allclose(logits_of(assay.from_haiku(plain, params, DATA)), plain.apply(params, INPUTS), rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match=r"call assay.from_haiku\(transformed, params, data\)"):
        bring(plain, params, DATA)


def test_keras(monkeypatch, tmp_path):
    if "keras" not in sys.modules:
        monkeypatch.setenv("KERAS_BACKEND", "jax")  # read when it is imported
    keras = pytest.importorskip("keras", minversion="3")
    layers = keras.layers
    hidden = [layers.Dense(16, "relu"), layers.BatchNormalization(momentum=0.5), layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(3)])
    subject = assay.from_keras(model, DATA)
    np.testing.assert_allclose(logits_of(subject), model(INPUTS, training=False), rtol=1e-5, atol=1e-5)
    assert not [row.reason for row in examine(subject, ["held_out", "gradients"]) if row.crashed]
    before, after = subject.params, stepped(subject)
    before, after = ({path: leaf for path, leaf in zip(paths(tree), jax.tree.leaves(tree), strict=True)} for tree in (before, after))
    for name in ("dense/kernel", "batch_normalization/moving_mean"):
        (path,) = [path for path in before if path.endswith(name)]
        assert path.startswith(STATE) == ("moving" in path) and not jnp.array_equal(before[path], after[path])
    np.testing.assert_allclose(logits_of(subject), model(INPUTS, training=False), rtol=1e-5, atol=1e-5)
    check_run(lambda: assay.from_keras(model, DATA), tmp_path / "run")
    two = [keras.Input((4,), name="left"), keras.Input((4,), name="right")]
    both = keras.Model(two, layers.Dense(3)(layers.Concatenate()(two)))
    named = assay.from_keras(both, {"test": ({"left": INPUTS, "right": 2 * INPUTS}, LABELS)})
    found = named.model.apply(named.params, {"inputs": INPUTS, "inputs/right": 2 * INPUTS}).logits
    np.testing.assert_allclose(found, both({"left": INPUTS, "right": 2 * INPUTS}), rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="has no variables yet"):
        assay.from_keras(keras.Sequential([layers.Dense(3)]), DATA)
    with pytest.raises(UserError, match=r"model fails on inputs of 'test', float32 \[2, 3\]: "):
        assay.from_keras(model, {"test": (INPUTS[:, :3], LABELS)})
