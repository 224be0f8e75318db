"""Several steps in one call: inside a compiled loop, or one after another where a model's operations are slow in loops."""

import jax
import numpy as np
import pytest

from assay.config.files import load
from assay.config.overrides import override
from assay.config.schema import to_dict
from assay.dist.mesh import make_mesh
from assay.train import loop
from assay.train.experiment import assemble
from assay.train.step import make_call, make_step
from assay.treatments.pipeline.load import treatments


def assembled(spec: str, **changes: str):
    values = to_dict(override(load(spec), {key.replace("__", "."): value for key, value in changes.items()}))
    return assemble(values, treatments(values["treatments"]))


@pytest.mark.parametrize("spec", ["experiments/vision/resnet_digits.py:tiny", "experiments/vision/cnn_digits.py:tiny"])
def test_one_after_another_equals_the_loop(spec):
    made = assembled(spec, train__steps_per_call="4", optimizer__name="momentum")
    mesh, step = make_mesh(made.settings.mesh), make_step(made.model, made.objective, made.treatment.gradient, made.optimizer)
    found = []
    for looped in (True, False):
        state = jax.jit(made.init_state)(made.key, made.given(), made.first_batch())
        placed = jax.tree.map(lambda leaf: leaf.sharding, state)
        call = make_call(step, made.schedule, mesh, placed, looped)
        for begun, count in ((0, 4), (4, 2)):
            state, metrics = call(state, made.batches(begun, count), np.int32(count))
            assert metrics["loss"].shape == (4,) and not np.any(np.asarray(metrics["loss"])[count:])
        assert int(state.step) == 6
        found.append((state.params, metrics))
    jax.tree.map(lambda first, second: np.testing.assert_allclose(first, second, rtol=2e-4, atol=2e-5), *found)


@pytest.mark.parametrize(
    ("spec", "convolves"),
    [
        ("experiments/vision/resnet_digits.py:tiny", True),
        ("experiments/vision/cnn_digits.py:tiny", True),
        ("experiments/reason/parity.py:tiny", False),
    ],
)
def test_convolutions_are_kept_out_of_loops_on_a_cpu(monkeypatch, spec, convolves):
    made, asked = assembled(spec), []
    mesh, state = make_mesh(made.settings.mesh), jax.jit(made.init_state)(made.key, made.given(), made.first_batch())
    monkeypatch.setattr(loop, "make_call", lambda *arguments: asked.append(arguments[-1]) or print)
    assert made.model.convolves == convolves
    for backend, looped in (("cpu", not convolves), ("gpu", True)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        loop.compiled(made, mesh, state)
        assert asked.pop() == looped
