"""Parts of a batch add up to the whole one's gradient and metrics, also where a loss adds up means over different examples."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from assay.models.model import Model, Output
from assay.train.objective import mean_of, shares_of, supervised, terms_of
from assay.train.state import init_params, init_state
from assay.train.step import make_step
from assay.train.treatment import Treatment, compose
from assay.treatments.compression.distill import taught
from assay.treatments.compression.match import Match
from assay.treatments.pipeline.load import treatments
from assay.treatments.training.accumulate import accumulated

ROWS, SEQ, FEATURES, WIDTH, CLASSES = 8, 3, 4, 5, 3
KEY = jax.random.key(0)


def _init(key, batch):
    first, second = jax.random.split(key)
    return {"up": {"kernel": jax.random.normal(first, (FEATURES, WIDTH))}, "head": {"kernel": jax.random.normal(second, (WIDTH, CLASSES))}}


def _apply(params, batch, *, key=None, train=False, edits=None):
    hidden = jnp.tanh(batch["inputs"] @ params["up"]["kernel"])
    return Output(hidden @ params["head"]["kernel"], {"hidden": hidden})


MODEL = Model(_init, _apply)
TEACHER = {"teacher_0": jax.tree.map(np.asarray, _init(jax.random.key(7), {}))}


def score(output, batch):
    """Cross-entropy; labels of some rows are withheld, and tokens weigh what their mask says."""
    nll = -jnp.take_along_axis(jax.nn.log_softmax(output.logits), batch["targets"][..., None], axis=-1)[..., 0]
    rows = batch["weight"] * batch["labelled"]
    if nll.ndim == 1:
        return nll, rows, {"nll": nll}
    count = batch["mask"].sum(axis=1)
    mean = (nll * batch["mask"]).sum(axis=1) / jnp.maximum(count, 1.0)
    return mean, count * rows, {"nll": mean}


def a_batch(tokens: bool) -> dict[str, np.ndarray]:
    """Labels are in two rows of one part and one of another; rows have different weights, one part of eight none."""
    random = np.random.default_rng(3)
    shape = (ROWS, SEQ) if tokens else (ROWS,)
    batch = {"inputs": random.standard_normal((*shape, FEATURES)).astype(np.float32), "targets": random.integers(0, CLASSES, shape)}
    batch |= {"weight": np.array([1, 1, 3, 1, 0.5, 2, 0, 1], np.float32), "labelled": np.array([1, 0, 0, 1, 1, 0, 0, 0], np.float32)}
    if tokens:
        batch["mask"] = (np.arange(SEQ)[None] < random.integers(1, SEQ + 1, ROWS)[:, None]).astype(np.float32)
    return batch


def distilled(matches=(), hard: float = 0.3) -> Treatment:
    named = [SimpleNamespace(model=MODEL)]
    objective = partial(taught, named=named, temperature=3.0, hard=hard, matches=matches, weight=0.7)
    return Treatment(objective=objective, given=TEACHER, frozen="^teacher_0/", name="distill")


MATCHED = [Match("hidden", "hidden", "hidden")]
LISTS = {
    "plain": [],
    "distill": [distilled()],
    "smooth, match, l2": ["smooth:share=0.2", distilled(MATCHED), "l2:weight=0.1"],
    "distill, smooth, ensemble": [distilled(), "smooth:share=0.2", "ensemble:members=2"],
}


def stepped(listed, batch, *arrows):
    """(parameters after one step of plain descent, metrics)."""
    specs = [treatments([one])[0] if isinstance(one, str) else one for one in listed]
    treatment = compose([*specs, *(Treatment(gradient=arrow) for arrow in arrows)])
    objective = treatment.objective(supervised(score))
    model, _ = jax.eval_shape(lambda key: init_params(key, MODEL, treatment, batch), KEY)

    @jax.jit
    def both(given, batch):
        state = init_state(KEY, given, MODEL, objective, optax.sgd(1.0), treatment, batch)
        after, metrics = make_step(model, objective, treatment.gradient, optax.sgd(1.0))(state, batch)
        return jax.tree.map(jnp.subtract, state.params, after.params), metrics

    return both(treatment.given, batch)


@pytest.mark.parametrize(
    ("name", "tokens", "nested"),
    [
        ("plain", False, (2, 4)),
        ("distill", False, (4,)),
        ("distill", True, (2, 4)),
        ("smooth, match, l2", True, (8,)),
        ("distill, smooth, ensemble", False, (2,)),
    ],
)
def test_parts_are_the_whole_batch_for_any_sum_of_means(name, tokens, nested):
    batch = a_batch(tokens)
    whole, told = stepped(LISTS[name], batch)
    apart, figures = stepped(LISTS[name], batch, *(partial(accumulated, parts=parts) for parts in nested))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), apart, whole)
    for metric, value in told.items():
        np.testing.assert_allclose(figures[metric], value, rtol=1e-5, atol=1e-6, err_msg=metric)


@pytest.mark.parametrize("listed", [["l2:weight=0.1"], ["l2:weight=0.1", distilled()], ["smooth:share=0.2", "l2:weight=0.1"]])
def test_a_batch_without_labels_has_its_penalty(listed):
    """A mean over no label is 0, but the penalty beside it is not."""
    batch = {**a_batch(False), "labelled": np.zeros(ROWS, np.float32)}
    whole, told = stepped(listed, batch)
    apart, figures = stepped(listed, batch, partial(accumulated, parts=4))
    assert float(optax.tree.norm(whole)) > 0.05 and float(told["loss"]) > 0.05
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), apart, whole)
    assert float(figures["loss"]) == pytest.approx(float(told["loss"]), rel=1e-5)


def test_one_weight_for_the_sum_would_be_far_off():
    """What the test above would see: the parts of distillation combined by their rows alone."""

    def by_rows(gradient):
        return accumulated(lambda *given: (lambda found: (found[0], found[1]._replace(terms=()), found[2]))(gradient(*given)), 4)

    whole, apart = stepped([distilled()], a_batch(False))[0], stepped([distilled()], a_batch(False), by_rows)[0]
    assert float(optax.tree.norm(optax.tree.sub(whole, apart)) / optax.tree.norm(whole)) > 0.05


def test_a_wrapper_that_knows_no_terms_keeps_the_rest_of_its_loss():
    """An objective written elsewhere changes the mean only; what the terms do not account for is a mean over Aux.weight."""

    def shifted(objective):
        def loss(model, params, batch, key, step):
            mean, aux = objective.loss(model, params, batch, key, step)
            return mean + jnp.square(params["model"]["head"]["kernel"]).sum(), aux

        return replace(objective, loss=loss)

    batch = a_batch(False)
    listed = [distilled(), Treatment(objective=shifted)]
    whole, apart = stepped(listed, batch), stepped(listed, batch, partial(accumulated, parts=4))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), apart, whole)


def test_terms_add_up_to_the_loss():
    objective = compose([distilled(MATCHED), *treatments(["smooth", "l2"])]).objective(supervised(score))
    batch = jax.tree.map(jnp.asarray, a_batch(True))
    params = {"model": _init(KEY, batch), **TEACHER}
    params |= objective.init(KEY, MODEL, params, batch)
    mean, aux = objective.loss(MODEL, params, batch, KEY, jnp.int32(0))
    found = terms_of(mean, aux, 2.0)
    np.testing.assert_allclose(sum(map(mean_of, found)), 2 * mean, rtol=1e-5)
    shares, weights = shares_of(jnp.array([[1.0, 4.0], [3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(shares * weights[:, None], [[0.25, 0.5], [0.75, 0.5], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(shares_of(jnp.zeros((2, 2)))[1], 0)
