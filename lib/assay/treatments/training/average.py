"""Evaluation with averaged parameters (Polyak and Juditsky 1992): an exponential moving average over the steps.

    average_t = sum_i decay^(t - i) params_i / sum_i decay^(t - i),   i = 1 .. t

The normalization removes the bias towards the initial parameters; a run of zero steps answers with those. Training itself is unchanged.
Evaluation, predictions and a loaded run use the average. List it last, because it averages the result of the optimizers listed before it.

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
from assay.treatments.compression.mask import applied, masks_of, within
from assay.treatments.option import check


class AverageState(NamedTuple):
    """State of the averaging optimizer."""

    inner: PyTree
    steps: jax.Array  # int32: steps that the average is over
    average: PyTree  # float32


def average(decay: float = 0.999) -> Treatment:
    """Returns the parameter-averaging treatment.

    Args:
        decay: decay of the moving average per step, in (0, 1).
    """
    check(0 < decay < 1, "average", "decay", decay, "it lies between 0 and 1, both excluded")
    return Treatment(optimizer=partial(averaging, decay=decay), final=final, name="average")


def averaging(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Wraps the optimizer so that its state contains the parameter average."""

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
    """Returns the parameters for evaluation: the average of the trained ones and the unchanged frozen ones.

    What a pruning mask has set to zero stays zero, whatever it was before.
    """
    mean = jax.tree.map(lambda new, old: new.astype(old.dtype), optax.tree.get(state.opt_state, "average"), state.params)
    for mask in masks_of(state.opt_state):
        mean = merge(mean, applied(mask, within(mean, mask)))
    return merge(params, mean)
