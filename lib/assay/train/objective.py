"""Training objectives. An objective owns parameters by name and returns a mean loss with its total weight, or a sum of means with one each.

Parts of a batch, clients and shards therefore combine as weighted means. A loss that adds up means over different examples (labelled ones,
all of them, their tokens) has no single weight: it lists them in `Aux.terms`, and `shares_of` weighs each part's means so that together
they are those of the whole batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from assay.core import rng
from assay.core.errors import unknown
from assay.core.tree import PyTree
from assay.models.model import Batch, Model, Output
from assay.tasks.task import Score

LEAST = 1e-9  # instead of a count of 0, by which no mean is divided
MODEL = "model"  # key under which a model's own state is carried
Term = tuple[jax.Array, jax.Array]  # (sum, count) of one mean, both scalar


class Aux(NamedTuple):
    """What a loss returns besides its value."""

    weight: jax.Array  # number of examples or tokens that the loss averages over
    sums: Mapping[str, tuple[jax.Array, jax.Array]]  # metric -> (sum, count), or arrays [terms] of both for a metric that adds up means
    output: Output | None = None  # the model's output, kept inside the step to avoid a second forward pass
    carried: Mapping[str, PyTree] = {}  # new values of parts of params["carried"], by treatment name
    terms: Sequence[Term] = ()  # means with their own counts that the loss adds up; what is left of the loss is a mean over `weight`


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


def mean_of(term: Term) -> jax.Array:
    """Returns the mean of a term, 0 if it counts nothing."""
    return term[0] / jnp.maximum(term[1], LEAST)


def terms_of(mean: jax.Array, aux: Aux, factor: float = 1.0) -> tuple[Term, ...]:
    """Returns the means that add up to `factor * mean`: those of `aux.terms`, and the rest of the loss, whose count is `aux.weight`.

    The count of the rest is above 0: it may hold a penalty, which a batch without labels has, too.
    """
    rest = mean - sum(map(mean_of, aux.terms)) if aux.terms else mean
    count = jnp.maximum(aux.weight, LEAST)
    return tuple((factor * total, of) for total, of in (*aux.terms, (rest * count, count)))


def metric_of(terms: Sequence[Term]) -> Term:
    """Returns the entry of `Aux.sums` for a metric that is the sum of these means."""
    if len(terms) == 1:
        return terms[0]
    return jnp.stack([total for total, _ in terms]), jnp.stack([count for _, count in terms])


def shares_of(counts: Float[Array, "parts terms"]) -> tuple[Float[Array, "parts terms"], Float[Array, "parts"]]:
    """Returns (shares, weights) by which the parts of a batch combine to the whole, for losses that add up means of different counts.

    Part p takes the gradient of `sum_t shares[p, t] * mean_t`. The sum of the parts' gradients, each times `weights[p]`, is then the whole
    batch's. The weights add up to 1, or to 0 if nothing counts.
    """
    of_whole = counts / jnp.maximum(counts.sum(axis=0, keepdims=True), LEAST)
    weights = of_whole.sum(axis=1) / jnp.maximum(of_whole.sum(), LEAST)
    return of_whole / jnp.maximum(weights, LEAST)[:, None], weights


def supervised(score: Score) -> Objective:
    """Returns the weighted mean of a task's per-example loss, with the task's metrics, in which each example that is asked counts once."""

    def init(key: jax.Array, model: Model, params: PyTree, batch: Batch) -> Mapping[str, PyTree]:
        del key, model, params, batch
        return {}

    def loss(model: Model, params: PyTree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
        del step
        output = model.apply(params["model"], batch, key=rng.stream(key, "model"), train=True)
        values, weights, metrics = score(output, batch)
        weight = weights.sum()
        mean = (values * weights).sum() / jnp.maximum(weight, LEAST)
        rows = batch["weight"] * batch.get("labelled", 1.0) * (weights > 0)  # evaluation has no record where nothing is asked, either
        return mean, Aux(weight, {name: ((value * rows).sum(), rows.sum()) for name, value in metrics.items()}, output)

    return Objective(init, loss)


OBJECTIVES: Mapping[str, Callable[[Score], Objective]] = {"supervised": supervised}


@dataclass(frozen=True)
class ObjectiveConfig:
    name: str  # a name in OBJECTIVES

    def __post_init__(self):
        if self.name not in OBJECTIVES:
            raise unknown("objective", self.name, OBJECTIVES, "--config.objective.name")
