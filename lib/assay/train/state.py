"""Training state: one tree, created by one pure function of a key."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree, differing, merge, partition, widened
from assay.models.model import STATE, Batch, Model
from assay.train.objective import MODEL, Objective
from assay.train.treatment import Treatment

INHERITED = "inherited"


class TrainState(NamedTuple):
    """State of training; a checkpoint stores it."""

    step: jax.Array  # int32: number of steps taken
    params: PyTree  # trained: {"model": ..., and parameters of the objective}
    frozen: PyTree  # read but not trained; the objective sees `merge(params, frozen)`
    opt_state: PyTree
    key: jax.Array  # constant: random streams are folded in by name and step
    carried: Mapping[str, PyTree] = {}  # treatment state by name, and the model's own state; neither counts as parameters


def init_params(
    key: jax.Array, model: Model, treatment: Treatment, batch: Mapping[str, Any], started: Mapping[str, PyTree] | None = None
) -> tuple[Model, PyTree]:
    """Returns the treated model and its parameters.

    Args:
        batch: the batch of a step.
        started: values for a part of {"model": ...} that replace the initial ones, and {INHERITED: ...}, all parameters of the treated
            model.
    """
    drawn, started = {"model": treatment.init(model.init)(rng.stream(key, "init"), treatment.one(batch))}, dict(started or {})
    inherited = started.pop(INHERITED, None)
    model, params = treatment.model(model, merge(drawn, started)["model"])
    if inherited is None:
        return model, params
    if isinstance(inherited, Mapping):  # what is fitted after training is neutral in it
        neutral = {name: jnp.full_like(inherited[name], one.neutral) for name, one in treatment.fitted.items() if name in inherited}
        inherited = {**inherited, **neutral}
    unlike = differing(params, inherited)
    if unlike:
        raise UserError(
            f"the inherited parameters do not fit the model: {unlike}. Set --config.model to the model of the run they come from."
        )
    return model, inherited


def init_state(
    key: jax.Array,
    given: Mapping[str, PyTree],
    model: Model,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    treatment: Treatment,
    batch: Batch,
    started: Mapping[str, PyTree] | None = None,
) -> TrainState:
    """Returns the whole state before the first step. `model` is the untreated model, `batch` the batch of a step.

    The function is traceable: run it under `jit` with `out_shardings`.
    """
    treated, params = init_params(key, model, treatment, batch, started)
    params, one = {"model": params, **given}, treatment.one(batch)
    params |= objective.init(rng.stream(key, "objective"), treated, params, one)
    params, state = _apart(params)
    trained, frozen = partition(params, treatment.frozen)
    carried = {**treatment.carry(jax.eval_shape(lambda tree: tree, trained), one), **state}
    return TrainState(jnp.zeros((), jnp.int32), trained, frozen, optimizer.init(widened(trained)), key, carried)


def all_params(state: TrainState) -> dict[str, Any]:
    """Returns trained and frozen parameters together, with the model's own state."""
    return with_state(merge(state.params, state.frozen), state.carried)


def with_state(params: dict[str, Any], carried: Mapping[str, PyTree]) -> dict[str, Any]:
    """Returns the parameters with the model's own state inserted where the model reads it."""
    return merge(params, {"model": {STATE: carried[MODEL]}}) if MODEL in carried else params


def final_params(state: TrainState, treatment: Treatment) -> dict[str, Any]:
    """Returns the parameters used in evaluation."""
    return treatment.final(state, all_params(state))


def _apart(params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, PyTree]]:
    """Splits parameters into (parameters without the model's own state, {MODEL: state} or {})."""
    model = params["model"]
    if not isinstance(model, Mapping) or STATE not in model:
        return params, {}
    return {**params, "model": {name: tree for name, tree in model.items() if name != STATE}}, {MODEL: model[STATE]}
