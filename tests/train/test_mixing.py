"""Whether a row's gradient depends on other rows of its batch: what treatments say of it is what they do."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from carrying import config_of
from test_laws import bits

from assay.core.tree import merge
from assay.train.experiment import assemble
from assay.train.treatment import Treatment, compose
from assay.treatments.pipeline.load import treatments
from assay.treatments.table import FACTORIES

SPECS = {name: name for name in ("accumulate", "augment", "clip", "ensemble", "gradients", "l2", "smooth")}  # those that act on a batch
SPECS |= {"quantize": "quantize:int8,activations=dynamic,train=True"}
# The others act on parameters or on single examples, or need a run: distill compares each row with a teacher's answer to that row.
OTHERS = {"average", "couple", "curriculum", "distill", "inherit", "init", "l1", "lora", "lowrank", "merge", "prune", "rate", "recombine"}
OTHERS |= {"reverse", "scratchpad", "supervise", "balance", "calibrate", "threshold", "dropout", "early_stopping", "larger", "longer"}


def mixup(objective):
    """Mixup of neighbours (Zhang et al. 2018), without its soft targets."""

    def loss(model, params, batch, key, step):
        return objective.loss(model, params, {**batch, "inputs": 0.5 * (batch["inputs"] + jnp.roll(batch["inputs"], 1, axis=0))}, key, step)

    return replace(objective, loss=loss)


def aligned(objective):
    """The moments of half a batch drawn to those of the other, as by CORAL (Sun and Saenko 2016)."""

    def loss(model, params, batch, key, step):
        mean, aux = objective.loss(model, params, batch, key, step)
        logits = aux.output.logits
        return mean + jnp.square(logits[0::2].mean(axis=0) - logits[1::2].mean(axis=0)).sum(), aux

    return replace(objective, loss=loss)


PLANTED = {
    "mixup": Treatment(objective=mixup, mixes=True, name="mixup"),
    "coral": Treatment(objective=aligned, mixes=True, name="coral"),
}


@functools.cache
def _config():
    return config_of(train__batch_size=8)


@pytest.mark.parametrize("name", [*SPECS, *PLANTED])
def test_a_treatment_that_mixes_rows_says_so(name):
    """Row 0 alone counts. Its gradient depends on the images of the other rows where rows are mixed, and nowhere else."""
    treated = [PLANTED[name]] if name in PLANTED else treatments([SPECS[name]])
    made = assemble(_config(), treated)
    batch = jax.tree.map(jnp.asarray, {**made.first_batch(), "weight": np.eye(1, 8, dtype=np.float32)[0]})
    others = {**batch, "inputs": jnp.concatenate([batch["inputs"][:1], batch["inputs"][:0:-1]])}

    @jax.jit
    def gradient(inputs):
        state = made.init_state(made.key, made.given(), batch)

        def plain(params, rows, key, step, carried):
            def loss(params):
                return made.objective.loss(made.model, merge(params, state.frozen), rows, key, step)

            grads, aux = jax.grad(loss, has_aux=True)(params)
            return grads, aux, carried

        return made.treatment.gradient(plain)(state.params, {**batch, "inputs": inputs}, made.key, state.step, state.carried)[0]

    alone, beside = (bits(gradient(one["inputs"])) for one in (batch, others))
    assert (alone != beside) == compose(treated).mixes


def test_every_treatment_is_among_these():
    assert {*SPECS} | OTHERS == {*FACTORIES}
