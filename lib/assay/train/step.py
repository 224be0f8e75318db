"""The step, written once: a pure function of state and batch."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree, differing, merge, widened
from assay.dist.mesh import everywhere
from assay.dist.shard import on_mesh
from assay.models.model import Batch, Model
from assay.train.objective import Aux, Objective, carried_of
from assay.train.state import TrainState, with_state
from assay.train.treatment import PART, Gradient

CARRIED = "carried"  # the name under which an objective finds what is carried among its parameters
Metrics = Mapping[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
Steps = Callable[[TrainState, Batch, Any], tuple[TrainState, Metrics]]  # several steps: (state, stacked batches, how many)


def make_step(
    model: Model, objective: Objective, gradient_arrow: Callable[[Gradient], Gradient], optimizer: optax.GradientTransformation
) -> Step:
    """`(state, batch) -> (state, metrics)`. Metrics: loss, grad_norm, parameter_norm (after the update), the means of `aux.sums`."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        def loss(params: PyTree, batch: Batch, key: jax.Array, carried: PyTree) -> tuple[jax.Array, Aux]:
            read = with_state(merge(params, state.frozen), carried)
            mean, aux = objective.loss(model, {**read, CARRIED: carried} if carried else read, batch, key, state.step)
            return mean, aux._replace(sums={"loss": (mean * aux.weight, aux.weight), **aux.sums})

        def gradient(params: PyTree, batch: Batch, key: jax.Array, step: jax.Array, carried: PyTree) -> tuple[PyTree, Aux, PyTree]:
            key, rows = rng.stream(key, "step", step), {name: array for name, array in batch.items() if name != PART}
            key = rng.stream(key, PART, batch[PART][0]) if PART in batch else key
            grads, aux = jax.grad(loss, has_aux=True)(params, rows, key, carried)
            return grads, aux._replace(carried={}), {**carried, **carried_of(aux)}

        grads, aux, carried = gradient_arrow(gradient)(state.params, batch, state.key, state.step, state.carried)
        _check_carried(state.carried, carried)
        grads, before = widened(grads), widened(state.params)  # whatever dtype parameters are kept in
        updates, opt_state = optimizer.update(grads, state.opt_state, before)
        params = optax.apply_updates(state.params, updates)
        metrics = {name: total / jnp.maximum(count, 1e-9) for name, (total, count) in aux.sums.items()}
        metrics |= {"grad_norm": optax.tree.norm(grads), "parameter_norm": optax.tree.norm(widened(params))}
        return TrainState(state.step + 1, params, state.frozen, opt_state, state.key, carried), metrics

    return step


def repeat(step: Step, schedule: Callable[[Any], Any]) -> Steps:
    """`(state, batches, count)`: the step `count` times, on batches stacked along a leading axis of at least `count`.

    The count is data, so one program serves full and partial calls, and a run stopped anywhere repeats to the bit.
    Metrics come back stacked; rows from `count` on are zero.
    """

    numbered, empty = _numbered(step, schedule)

    def call(state: TrainState, batches: Batch, count: jax.Array) -> tuple[TrainState, Metrics]:
        return jax.lax.fori_loop(0, count, lambda i, carry: numbered(*carry, batches, i), (state, empty(state, batches)))

    return call


def make_call(step: Step, schedule: Callable[[Any], Any], mesh: Mesh, placed: PyTree, looped: bool) -> Steps:
    """`repeat`, compiled; it consumes the state. `placed`: the state's shardings. Not `looped`: the same, one step after another from
    outside, for what XLA computes slowly inside a loop (convolutions on a CPU: 20 times, measured)."""
    whole = everywhere(mesh)
    if looped:
        return jax.jit(on_mesh(repeat(step, schedule), mesh), donate_argnums=0, out_shardings=(placed, whole))
    numbered, empty = _numbered(step, schedule)
    start = jax.jit(on_mesh(empty, mesh), out_shardings=whole)
    one = jax.jit(on_mesh(numbered, mesh), donate_argnums=(0, 1), out_shardings=(placed, whole))

    def call(state: TrainState, batches: Batch, count: jax.Array) -> tuple[TrainState, Metrics]:
        stacked = start(state, batches)
        for i in range(int(count)):
            state, stacked = one(state, stacked, batches, np.int32(i))
        return state, stacked

    return call


# -- private --------------------------------------------------------------------------------------------------------------


def _check_carried(before: PyTree, after: PyTree) -> None:
    """Raises UserError where a step does not return what it was handed, in structure, shapes and types."""
    unlike = differing(before, after)
    if unlike:
        raise UserError(
            f"what is carried from step to step changes: {unlike}. A treatment's gradient arrow returns all that is carried, and its "
            "objective what its own carry made, in Aux.carried."
        )


def _numbered(step: Step, schedule: Callable[[Any], Any]) -> tuple[Callable[..., tuple[TrainState, Metrics]], Callable[..., Metrics]]:
    """`numbered(state, stacked, batches, i)`: the step on batch i, its metrics in row i; `empty(state, batches)`: the rows before."""

    @jax.jit  # traced once for its shapes and its use
    def one(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        after, metrics = step(state, batch)
        return after, {**metrics, "learning_rate": jnp.asarray(schedule(state.step), jnp.float32)}

    def numbered(state: TrainState, stacked: Metrics, batches: Batch, i: jax.Array) -> tuple[TrainState, Metrics]:
        batch = jax.tree.map(lambda array: jax.lax.dynamic_index_in_dim(array, i, keepdims=False), dict(batches))
        state, metrics = one(state, batch)
        return state, {name: stacked[name].at[i].set(value) for name, value in metrics.items()}

    def empty(state: TrainState, batches: Batch) -> Metrics:
        first = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape[1:], array.dtype), dict(batches))
        _, shapes = jax.eval_shape(one, state, first)
        return {name: jnp.zeros((batches["weight"].shape[0], *value.shape), value.dtype) for name, value in shapes.items()}

    return numbered, empty
