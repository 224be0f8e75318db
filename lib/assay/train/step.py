"""The training step, a pure function of state and batch."""

import operator
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
from assay.train.objective import MODEL, Aux, Objective, carried_of, mean_of, metric_of, terms_of
from assay.train.state import TrainState, with_state
from assay.train.treatment import PART, SHARES, Gradient

CARRIED = "carried"  # key under which an objective finds the carried state among its parameters
Metrics = Mapping[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
Steps = Callable[[TrainState, Batch, Any], tuple[TrainState, Metrics]]  # several steps: (state, stacked batches, count)


def make_step(
    model: Model, objective: Objective, gradient_arrow: Callable[[Gradient], Gradient], optimizer: optax.GradientTransformation
) -> Step:
    """Returns `(state, batch) -> (state, metrics)`.

    Metrics: loss, grad_norm, parameter_norm (after the update), and the means of `aux.sums`.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        def loss(params: PyTree, batch: Batch, key: jax.Array, carried: PyTree, shares: jax.Array | None) -> tuple[jax.Array, Aux]:
            read = with_state(merge(params, state.frozen), carried)
            mean, aux = objective.loss(model, {**read, CARRIED: carried} if carried else read, batch, key, state.step)
            terms = terms_of(mean, aux)
            if shares is not None:
                mean = sum(share * mean_of(term) for share, term in zip(shares, terms, strict=True))
            return mean, aux._replace(sums={"loss": metric_of(terms), **aux.sums}, terms=terms if aux.terms else ())

        def gradient(params: PyTree, batch: Batch, key: jax.Array, step: jax.Array, carried: PyTree) -> tuple[PyTree, Aux, PyTree]:
            key, rows = rng.stream(key, "step", step), {name: array for name, array in batch.items() if name not in (PART, SHARES)}
            key = rng.stream(key, PART, batch[PART][0]) if PART in batch else key
            grads, aux = jax.grad(loss, has_aux=True)(params, rows, key, carried, batch[SHARES][0] if SHARES in batch else None)
            found = carried_of(aux)
            if MODEL in carried and MODEL not in found:
                raise UserError(
                    "the model keeps batch statistics, which this objective would not update. Its loss must return the model's output in "
                    "Aux.output, or the statistics in Aux.carried."
                )
            return grads, aux._replace(carried={}), {**carried, **found}

        grads, aux, carried = gradient_arrow(gradient)(state.params, batch, state.key, state.step, state.carried)
        _check_carried(state.carried, carried)
        if MODEL in carried and all(map(operator.is_, jax.tree.leaves(carried[MODEL]), jax.tree.leaves(state.carried[MODEL]))):
            raise UserError(
                "the model keeps batch statistics, which a treatment does not hand on: its gradient function must return the carried state "
                "that the gradient inside it returns. Remove it from --config.treatments, or choose a model without batch statistics."
            )
        grads, before = widened(grads), widened(state.params)  # parameters may be stored in a narrower dtype
        updates, opt_state = optimizer.update(grads, state.opt_state, before)
        params = optax.apply_updates(state.params, updates)
        metrics = {name: mean_of(term).sum() for name, term in aux.sums.items()}
        metrics |= {"grad_norm": optax.tree.norm(grads), "parameter_norm": optax.tree.norm(widened(params))}
        return TrainState(state.step + 1, params, state.frozen, opt_state, state.key, carried), metrics

    return step


def repeat(step: Step, schedule: Callable[[Any], Any]) -> Steps:
    """Returns `(state, batches, count)`, which takes `count` steps on batches stacked along a leading axis of at least `count`.

    The count is data, so one program serves full and partial calls, and a run interrupted at any step reproduces bit for bit.
    Metrics come back stacked; rows from `count` on are zero.
    """

    numbered, empty = _numbered(step, schedule)

    def call(state: TrainState, batches: Batch, count: jax.Array) -> tuple[TrainState, Metrics]:
        return jax.lax.fori_loop(0, count, lambda i, carry: numbered(*carry, batches, i), (state, empty(state, batches)))

    return call


def make_call(step: Step, schedule: Callable[[Any], Any], mesh: Mesh, placed: PyTree, looped: bool) -> Steps:
    """Compiles `repeat`; the compiled call donates the state. `placed` holds the state's shardings.

    With `looped=False` the steps are dispatched one by one. XLA computes some operations slowly inside a loop (convolutions on a CPU:
    20 times slower, measured).
    """
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
    """Raises UserError if a step changes the structure, shapes or dtypes of the carried state."""
    unlike = differing(before, after)
    if unlike:
        raise UserError(
            f"the state carried from step to step changes: {unlike}. The gradient function of a treatment must return all carried state, "
            "and its objective must return in Aux.carried what its own carry function created."
        )


def _numbered(step: Step, schedule: Callable[[Any], Any]) -> tuple[Callable[..., tuple[TrainState, Metrics]], Callable[..., Metrics]]:
    """Returns `numbered(state, stacked, batches, i)`, which steps on batch i and writes row i, and `empty(state, batches)`, zero rows."""

    @jax.jit  # one trace serves both eval_shape and the step
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
