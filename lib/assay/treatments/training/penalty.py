"""L1 and L2 regularization: adds a penalty on the model's parameters to the loss.

    l1: weight * sum |w|             --config.treatments=l1:weight=1e-4,paths=kernel$
    l2: weight / 2 * sum w^2         --config.treatments=l2:weight=1e-3

The sums run over the parameters whose path matches the regex. With adaptive optimizers, L2 regularization differs from weight decay
(Loshchilov and Hutter 2019, arXiv 1711.05101); `optimizer.weight_decay` is decoupled. The metric `loss` is the minimized value, penalty
included. The metric `l1` or `l2` is the penalty, and their difference is comparable with an unpenalized run.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.core.tree import paths as paths_of
from assay.models.model import Batch, Model
from assay.train.objective import Aux, Objective
from assay.train.treatment import Treatment
from assay.treatments.option import KEY, check, pattern

MATRICES = "(^|/)(kernel|weight|w)$"  # kernels, under the names of Flax and Keras, of Equinox, and of Haiku


def l1(weight: float = 1e-4, paths: str = MATRICES) -> Treatment:
    """Returns L1 regularization, which drives most weights towards zero (Tibshirani 1996).

    Args:
        weight: factor of the penalty; at least 0.
        paths: regex of the penalized parameter paths.
    """
    return _penalty("l1", weight, paths, lambda values: jnp.abs(values).sum())


def l2(weight: float = 1e-4, paths: str = MATRICES) -> Treatment:
    """Returns L2 regularization, which keeps weights small.

    Args:
        weight: factor of the penalty; at least 0.
        paths: regex of the penalized parameter paths.
    """
    return _penalty("l2", weight, paths, lambda values: jnp.square(values).sum() / 2)


def penalised(objective: Objective, name: str, norm: Callable[[jax.Array], jax.Array], weight: float, paths: str) -> Objective:
    """Adds `weight` times the sum of `norm` over the model parameters whose path matches the regex.

    Raises UserError if no parameter path matches.
    """
    found = pattern(name, "paths", paths)

    def loss(model: Model, params: PyTree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
        mean, aux = objective.loss(model, params, batch, key, step)
        named = {"model": params["model"]}
        chosen = [leaf for path, leaf in zip(paths_of(named), jax.tree.leaves(named), strict=True) if paths and found.search(path)]
        if not chosen:
            some = ", ".join(paths_of(named)[:5])
            raise UserError(f"the treatment {name!r} has paths={paths}, which matches no parameter path. Some paths: {some}. {KEY}")
        penalty = weight * sum(norm(widened(leaf)) for leaf in chosen)
        before = aux.sums[name][0] if name in aux.sums else 0.0  # the same treatment on other paths
        return mean + penalty, aux._replace(sums={**aux.sums, name: (before + penalty * aux.weight, aux.weight)})

    return replace(objective, loss=loss)


def _penalty(name: str, weight: float, paths: str, norm: Callable[[jax.Array], jax.Array]) -> Treatment:
    check(weight >= 0, name, "weight", weight, "it must be at least 0")
    pattern(name, "paths", paths)
    return Treatment(objective=partial(penalised, name=name, norm=norm, weight=weight, paths=paths), name=name)
