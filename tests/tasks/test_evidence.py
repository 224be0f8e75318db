"""The scalar that is explained, by hand: of one class, of answers in tokens, of several heads, of numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.config.generated import chomsky
from assay.config.tasks import digits
from assay.core.errors import UserError
from assay.models.model import Output
from assay.tasks import multi
from assay.tasks.datasets import regression
from assay.tasks.evidence import NOTHING, ODDS, predicted
from assay.tasks.table import build

LOGITS = jnp.array([[1.0, 4.0, -2.0], [3.0, 0.0, 6.0]])


def of(logits):
    return Output(logits, {})


@pytest.fixture(scope="module")
def classes():
    return build(digits().to_dict(), 0).evidence


@pytest.fixture(scope="module")
def tokens():
    return build(chomsky("parity_check").to_dict(), 0).evidence


def test_the_predicted_class_less_the_mean_of_the_others(classes):
    np.testing.assert_allclose(classes(of(LOGITS), {}), [4 - (1 - 2) / 2, 6 - 3 / 2])
    np.testing.assert_allclose(classes(of(LOGITS), {}, target=0), [1 - (4 - 2) / 2, 3 - 6 / 2])
    np.testing.assert_allclose(classes(of(LOGITS), {}, target=jnp.array([2, 1])), [-2 - 5 / 2, 0 - 9 / 2])


def test_a_logit_log_odds_and_the_difference_of_two(classes):
    np.testing.assert_allclose(classes(of(LOGITS), {}, 0, NOTHING), [1, 3])
    probability = jax.nn.softmax(LOGITS)[:, 0]
    np.testing.assert_allclose(classes(of(LOGITS), {}, 0, ODDS), jnp.log(probability / (1 - probability)), rtol=1e-5)
    np.testing.assert_allclose(classes(of(LOGITS), {}, 0, 2), [1 + 2, 3 - 6])
    np.testing.assert_allclose(classes(of(LOGITS), {}, 0, jnp.array([1, 2])), [1 - 4, 3 - 6])
    two = LOGITS[:, :2]
    np.testing.assert_allclose(classes(of(two), {}), classes(of(two), {}, against=ODDS), rtol=1e-6), "two classes: the log-odds"
    with pytest.raises(UserError, match=r"'modds'.*Did you mean 'odds'"):
        classes(of(LOGITS), {}, 0, "modds")


def test_a_fixed_target_does_not_follow_the_prediction(classes):
    target = predicted(of(LOGITS))
    assert target.tolist() == [1, 2]
    assert classes(of(-LOGITS), {}, target).tolist() == [-4.5, -4.5] != classes(of(-LOGITS), {}).tolist()


def test_answers_in_tokens_are_summed_over_the_asked_positions(tokens):
    logits = jnp.array([[[9.0, 1.0], [2.0, 5.0], [4.0, 3.0]], [[0.0, 1.0], [7.0, 2.0], [1.0, 8.0]]])
    batch = {"mask": jnp.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])}
    assert tokens(of(logits), batch).tolist() == [(5 - 2) + (4 - 3), 8 - 1]
    assert tokens(of(logits), batch, 0).tolist() == [(2 - 5) + (4 - 3), 1 - 8], "one class for all positions"
    assert tokens(of(logits), batch, jnp.array([0, 1])).tolist() == [(2 - 5) + (4 - 3), 8 - 1], "one for each example"
    each = jnp.array([[0, 0, 1], [0, 0, 0]])
    assert tokens(of(logits), batch, each, NOTHING).tolist() == [2 + 3, 1], "one for each position"
    assert tokens(of(logits), {"mask": batch["mask"].at[0, 1].set(0.0)}).tolist() == [1, 7], "a mask of one position explains that token"
    assert tokens(of(logits.at[:, 0].set(-jnp.inf)), batch).tolist() == [4, 7], "what is not asked does not count, whatever it is"


def test_heads_by_name():
    names = ("parity_check", "cycle_navigation")
    task = multi.together([build(chomsky(name).to_dict(), 0) for name in names], (1.0, 1.0))
    first, second = (name for name, _ in task.vocabulary.heads)
    logits = {first: jnp.array([[[1.0, 4.0]], [[8.0, 1.0]]]), second: jnp.array([[[9.0, 1.0, 2.0, 0.0, 0.0]], [[0.0, 0.0, 4.0, 0.0, 8.0]]])}
    batch = {"mask": jnp.ones((2, 1)), "member": jnp.array([0, 1])}
    assert task.evidence(of(logits), batch).tolist() == [3, 8 - 1], "each example on the head of its own task"
    assert task.evidence(of(logits), batch, head=first).tolist() == [3, 7]
    assert task.evidence(of(logits), batch, 2, 4, second).tolist() == [2, -4]
    assert predicted(of(logits), second).tolist() == [[0], [4]]
    with pytest.raises(UserError, match="unknown head 'parity'"):
        task.evidence(of(logits), batch, head="parity")
    with pytest.raises(UserError, match="has a single head"):
        build(chomsky("parity_check").to_dict(), 0).evidence(of(logits[first]), batch, head=first)


def test_a_regression_speaks_for_itself():
    evidence = regression.build(regression.RegressionConfig("diabetes"), 0).evidence
    assert evidence(of(jnp.array([[1.5], [-2.0]])), {}).tolist() == [1.5, -2]
    assert evidence(of(LOGITS), {}, 2).tolist() == [-2, 6] and evidence(of(LOGITS), {}, 2, 0).tolist() == [-3, 3]
    with pytest.raises(UserError, match="3 numbers"):
        evidence(of(LOGITS), {})


def test_evidence_is_differentiable_and_no_longer_than_its_type(classes):
    gradient = jax.grad(lambda logits: classes(of(logits), {}).sum())(LOGITS)
    np.testing.assert_allclose(gradient, [[-0.5, 1, -0.5], [-0.5, -0.5, 1]])
    assert np.isfinite(jax.grad(lambda logits: classes(of(logits), {}, 0, ODDS).sum())(LOGITS)).all()
    assert classes(of(LOGITS.astype(jnp.bfloat16)), {}).dtype == jnp.float32
