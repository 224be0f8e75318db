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
from assay.train.objective import Objective
from assay.train.treatment import Treatment

INHERITED = "inherited"


class TrainState(NamedTuple):
    step: jax.Array  # int32: how many steps have been taken
    params: PyTree  # trained: {"model": ..., and what the objective owns}
    frozen: PyTree  # read but not trained; `merge(params, frozen)` is what the objective sees
    opt_state: PyTree
    key: jax.Array  # never changes: streams are folded in by name and step


def init_params(
    key: jax.Array, model: Model, treatment: Treatment, batch: Mapping[str, Any], started: Mapping[str, PyTree] | None = None
) -> tuple[Model, PyTree]:
    """The treated model and its parameters. `started` may hold values for a part of {"model": ...} that replace those drawn, and
    {INHERITED: ...}, all parameters of the treated model."""
    drawn, started = {"model": treatment.init(model.init)(rng.stream(key, "init"), batch)}, dict(started or {})
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
    """The whole state before the first step. `model` is the untreated one. Traceable: run it under `jit` with `out_shardings`."""
    treated, params = init_params(key, model, treatment, batch, started)
    params = {"model": params, **given}
    params |= objective.init(rng.stream(key, "objective"), treated, params, batch)
    trained, frozen = partition(params, treatment.frozen)
    return TrainState(jnp.zeros((), jnp.int32), trained, frozen, optimizer.init(widened(trained)), key)


def all_params(state: TrainState) -> dict[str, Any]:
    """Trained and frozen parameters together."""
    return merge(state.params, state.frozen)


def final_params(state: TrainState, treatment: Treatment) -> dict[str, Any]:
    """The parameters that evaluation reads."""
    return treatment.final(state, all_params(state))
