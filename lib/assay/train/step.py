"""The step, written once: a pure function of state and batch."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from assay.core import rng
from assay.core.tree import PyTree, merge, widened
from assay.models.model import Batch, Model
from assay.train.objective import Aux, Objective
from assay.train.state import TrainState
from assay.train.treatment import Gradient

Metrics = Mapping[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_step(
    model: Model, objective: Objective, gradient_arrow: Callable[[Gradient], Gradient], optimizer: optax.GradientTransformation
) -> Step:
    """`(state, batch) -> (state, metrics)`. Metrics: loss, grad_norm, parameter_norm (after the update), the means of `aux.sums`."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        def loss(params: PyTree, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
            mean, aux = objective.loss(model, merge(params, state.frozen), batch, key, state.step)
            return mean, aux._replace(sums={"loss": (mean * aux.weight, aux.weight), **aux.sums})

        def gradient(params: PyTree, batch: Batch, key: jax.Array) -> tuple[PyTree, Aux]:
            grads, aux = jax.grad(loss, has_aux=True)(params, batch, key)
            return grads, aux

        grads, aux = gradient_arrow(gradient)(state.params, batch, rng.stream(state.key, "step", state.step))
        grads, before = widened(grads), widened(state.params)  # whatever dtype parameters are kept in
        updates, opt_state = optimizer.update(grads, state.opt_state, before)
        params = optax.apply_updates(state.params, updates)
        metrics = {name: total / jnp.maximum(count, 1e-9) for name, (total, count) in aux.sums.items()}
        metrics |= {"grad_norm": optax.tree.norm(grads), "parameter_norm": optax.tree.norm(widened(params))}
        return TrainState(state.step + 1, params, state.frozen, opt_state, state.key), metrics

    return step


def repeat(step: Step, schedule: Callable[[Any], Any]) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """`(state, batches, count)`: the step `count` times, on batches stacked along a leading axis of at least `count`.

    The count is data, so one program serves full and partial calls, and a run stopped anywhere repeats to the bit.
    Metrics come back stacked; rows from `count` on are zero.
    """

    def call(state: TrainState, batches: Batch, count: jax.Array) -> tuple[TrainState, Metrics]:
        @jax.jit  # traced once for its shapes and its use
        def one(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            after, metrics = step(state, batch)
            return after, {**metrics, "learning_rate": jnp.asarray(schedule(state.step), jnp.float32)}

        def body(i: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, stacked = carry
            batch = jax.tree.map(lambda array: jax.lax.dynamic_index_in_dim(array, i, keepdims=False), batches)
            state, metrics = one(state, batch)
            return state, {name: stacked[name].at[i].set(value) for name, value in metrics.items()}

        first = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape[1:], array.dtype), dict(batches))
        _, shapes = jax.eval_shape(one, state, first)
        block = batches["weight"].shape[0]
        stacked = {name: jnp.zeros((block, *value.shape), value.dtype) for name, value in shapes.items()}
        return jax.lax.fori_loop(0, count, body, (state, stacked))

    return call
