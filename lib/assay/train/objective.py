"""Training objectives. An objective owns parameters by name and returns a mean loss with its total weight. Accumulated batches, clients and
shards therefore combine as weighted means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from assay.core import rng
from assay.core.errors import unknown
from assay.core.tree import PyTree
from assay.models.model import Batch, Model, Output
from assay.tasks.task import Score

MODEL = "model"  # key under which a model's own state is carried


class Aux(NamedTuple):
    """What a loss returns besides its value."""

    weight: jax.Array  # number of examples or tokens that the loss averages over
    sums: Mapping[str, tuple[jax.Array, jax.Array]]  # metric -> (sum, count)
    output: Output | None = None  # the model's output, kept inside the step to avoid a second forward pass
    carried: Mapping[str, PyTree] = {}  # new values of parts of params["carried"], by treatment name


@jax.tree_util.register_static
@dataclass(frozen=True)
class Objective:
    """Training objective: `init` creates its own parameters, `loss` returns the mean loss and an Aux."""

    init: Callable[[jax.Array, Model, PyTree, Batch], Mapping[str, PyTree]]  # parameters it owns, by new names; usually {}
    loss: Callable[[Model, PyTree, Batch, jax.Array, jax.Array], tuple[jax.Array, Aux]]  # (model, params, batch, key, step) -> (mean, aux)
    # `loss` reads carried state, if any, from params["carried"] and returns changed parts in aux.carried


def carried_of(aux: Aux) -> Mapping[str, PyTree]:
    """Returns the state an objective hands to the next step: `aux.carried`, and the model's new state if it has one."""
    state = {} if aux.output is None else aux.output.state
    return {**aux.carried, MODEL: state} if state else aux.carried


def supervised(score: Score) -> Objective:
    """Returns the weighted mean of a task's per-example loss, with the task's metrics."""

    def init(key: jax.Array, model: Model, params: PyTree, batch: Batch) -> Mapping[str, PyTree]:
        del key, model, params, batch
        return {}

    def loss(model: Model, params: PyTree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
        del step
        output = model.apply(params["model"], batch, key=rng.stream(key, "model"), train=True)
        values, weights, metrics = score(output, batch)
        weight = weights.sum()
        mean = (values * weights).sum() / jnp.maximum(weight, 1e-9)
        rows = batch["weight"] * batch.get("labelled", 1.0)
        return mean, Aux(weight, {name: ((value * rows).sum(), rows.sum()) for name, value in metrics.items()}, output)

    return Objective(init, loss)


OBJECTIVES: Mapping[str, Callable[[Score], Objective]] = {"supervised": supervised}


@dataclass(frozen=True)
class ObjectiveConfig:
    name: str  # a name in OBJECTIVES

    def __post_init__(self):
        if self.name not in OBJECTIVES:
            raise unknown("objective", self.name, OBJECTIVES, "--config.objective.name")
