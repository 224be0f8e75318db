"""The state of a run: one tree, made by one pure function of a key."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree, differing, merge, partition, widened
from assay.models.model import Batch, Model
from assay.train.objective import MODEL, Objective
from assay.train.treatment import Treatment

INHERITED = "inherited"
STATE = "state"  # of a model's parameters: the part that a model updates itself in training, and no gradient moves


class TrainState(NamedTuple):
    step: jax.Array  # int32: how many steps have been taken
    params: PyTree  # trained: {"model": ..., and what the objective owns}
    frozen: PyTree  # read but not trained; `merge(params, frozen)` is what the objective sees
    opt_state: PyTree
    key: jax.Array  # never changes: streams are folded in by name and step
    carried: Mapping[str, PyTree] = {}  # what treatments keep from step to step, by name, and a model's own state: no parameters


def init_params(
    key: jax.Array, model: Model, treatment: Treatment, batch: Mapping[str, Any], started: Mapping[str, PyTree] | None = None
) -> tuple[Model, PyTree]:
    """The treated model and its parameters. `started` may hold values for a part of {"model": ...} that replace those drawn, and
    {INHERITED: ...}, all parameters of the treated model. `batch`: that of a step."""
    drawn, started = {"model": treatment.init(model.init)(rng.stream(key, "init"), treatment.one(batch))}, dict(started or {})
    inherited = started.pop(INHERITED, None)
    model, params = treatment.model(model, merge(drawn, started)["model"])
    if inherited is None:
        return model, params
    unlike = differing(params, inherited)
    if unlike:
        raise UserError(
            f"what the run inherits does not fit its model: {unlike}. Change --config.model to that of the run it goes on from."
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
    """The whole state before the first step. `model` is the untreated one, `batch` that of a step. Traceable: run it under `jit` with
    `out_shardings`."""
    treated, params = init_params(key, model, treatment, batch, started)
    params, one = {"model": params, **given}, treatment.one(batch)
    params |= objective.init(rng.stream(key, "objective"), treated, params, one)
    params, state = _apart(params)
    trained, frozen = partition(params, treatment.frozen)
    carried = {**treatment.carry(jax.eval_shape(lambda tree: tree, trained), one), **state}
    return TrainState(jnp.zeros((), jnp.int32), trained, frozen, optimizer.init(widened(trained)), key, carried)


def all_params(state: TrainState) -> dict[str, Any]:
    """Trained and frozen parameters together, and the model's own state among them."""
    return with_state(merge(state.params, state.frozen), state.carried)


def with_state(params: dict[str, Any], carried: Mapping[str, PyTree]) -> dict[str, Any]:
    """The parameters with the model's own state where the model reads it."""
    return merge(params, {"model": {STATE: carried[MODEL]}}) if MODEL in carried else params


def final_params(state: TrainState, treatment: Treatment) -> dict[str, Any]:
    """The parameters that evaluation reads."""
    return treatment.final(state, all_params(state))


def _apart(params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, PyTree]]:
    """(parameters without the model's own state, {MODEL: that} or {})."""
    model = params["model"]
    if not isinstance(model, Mapping) or STATE not in model:
        return params, {}
    return {**params, "model": {name: tree for name, tree in model.items() if name != STATE}}, {MODEL: model[STATE]}
