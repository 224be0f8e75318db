"""Evaluation with averaged parameters (Polyak and Juditsky 1992), as an exponential moving average over the steps:

    average_t = sum_i decay^(t - i) params_i / sum_i decay^(t - i),   i = 1 .. t

so the first steps are not drawn towards the initial parameters, and a run without steps answers with those. Training itself is
untouched; evaluation, predictions and a loaded run have the average. List it last: it averages what the optimisers before it reach.

    --config.treatments=average:decay=0.999
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from assay.core.tree import PyTree, merge, widened
from assay.train.treatment import Treatment
from assay.treatments.option import check


class AverageState(NamedTuple):
    inner: PyTree
    steps: jax.Array  # int32: steps that the average is over
    average: PyTree  # float32


def average(decay: float = 0.999) -> Treatment:
    check(0 < decay < 1, "average", "decay", decay, "it lies between 0 and 1, both excluded")
    return Treatment(optimizer=partial(averaging, decay=decay), final=final, name="average")


def averaging(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """The optimizer, with the average of its parameters in its state."""

    def init(params: PyTree) -> AverageState:
        return AverageState(optimizer.init(params), jnp.zeros((), jnp.int32), widened(params))

    def update(grads: PyTree, state: AverageState, params: PyTree) -> tuple[PyTree, AverageState]:
        updates, inner = optimizer.update(grads, state.inner, params)
        steps = state.steps + 1
        total = -jnp.expm1(steps * math.log(decay))  # 1 - decay^steps without cancellation
        share = (1 - decay) / total  # of the newest parameters; all at the first step
        after = optax.apply_updates(params, updates)
        mean = jax.tree.map(lambda old, new: old + share * (widened(new) - old), state.average, after)
        return updates, AverageState(inner, steps, mean)

    return optax.GradientTransformation(init, update)


def final(state: Any, params: PyTree) -> PyTree:
    """The parameters that evaluation reads: the average of the trained ones, and the frozen ones as they are. What is exactly zero was
    pruned on the way, and stays zero."""
    mean = optax.tree.get(state.opt_state, "average")
    return merge(params, jax.tree.map(lambda new, old: jnp.where(old == 0, 0, new).astype(old.dtype), mean, state.params))
