"""Distances are named in units of [0, 1], whatever the scale of the inputs."""

import jax.numpy as jnp
import numpy as np
import pytest

from assay.config.generated import chomsky
from assay.config.tasks import digits
from assay.core.errors import UserError
from assay.diagnostics.bring import bring
from assay.tasks.bounds import Bounds
from assay.tasks.datasets import regression
from assay.tasks.table import build


def test_the_eps_of_papers_is_twice_as_large_on_digits():
    task = build(digits().to_dict(), 0)
    assert task.bounds[:2] == (-1, 1)
    assert task.bounds.to_inputs(0.3) == pytest.approx(0.6) and task.bounds.from_inputs(0.6) == pytest.approx(0.3)
    examples = task.source("train").fetch(np.arange(898 - 180))
    inputs = task.encode(examples, 1)["inputs"]
    assert (inputs.min(), inputs.max()) == (-1, 1), "the bounds are those of the inputs as a model reads them"
    unit = examples.input / 16  # as papers have them, in [0, 1]
    moved = np.clip(unit + 0.3, 0, 1)
    np.testing.assert_allclose(task.bounds.clip(inputs + task.bounds.to_inputs(0.3)), 2 * moved - 1, atol=1e-6)


def test_bounds_that_are_not_known():
    assert build(chomsky("parity_check").to_dict(), 0).bounds is None, "tokens have none"
    bounds = regression.build(regression.RegressionConfig("diabetes"), 0).bounds
    assert bounds.to_inputs(0.5) == bounds.from_inputs(0.5) == 0.5 and "deviation" in bounds.unit
    assert np.array_equal(bounds.clip(jnp.array([-7.0, 7.0])), [-7, 7])


def test_a_brought_model_says_its_bounds():
    inputs, labels = np.linspace(0, 255, 24, dtype=np.float32).reshape(8, 3), np.arange(8) % 2

    def apply(params, batch):
        return batch["inputs"][:, :2] * params["scale"]

    def brought(inputs=inputs, **more):
        return bring(apply, {"scale": jnp.ones(())}, {"test": (inputs, labels)}, **more).task.bounds

    assert brought() is None and brought(bounds=(0, 255)) == Bounds(0.0, 255.0, "the range from 0 to 255")
    assert brought(bounds=(0, 255)).to_inputs(8 / 255) == pytest.approx(8)
    with pytest.raises(UserError, match=r"lie in \[0, 255\]"):
        brought(bounds=(0, 1))
    with pytest.raises(UserError, match="the least and greatest"):
        brought(bounds=(1, 0))
