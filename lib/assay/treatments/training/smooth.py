"""Label smoothing (Szegedy et al. 2016, arXiv 1512.00567): the target is (1 - share) of the true class and `share` spread over all.

    loss = (1 - share) * cross-entropy + share * mean over classes of -log p(class)          --config.treatments=smooth:share=0.1

It reads the answer that the loss was computed from, so there is no second forward pass. For classifiers: logits [batch, seq, classes]
with batch["mask"], or [batch, classes]. The metric `cross_entropy` is the loss before smoothing.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.models.model import Batch, Model
from assay.train.objective import Aux, Objective
from assay.train.treatment import Treatment
from assay.treatments.option import KEY, check


def smooth(share: float = 0.1) -> Treatment:
    check(0 <= share < 1, "smooth", "share", share, "a share in [0, 1)")
    return Treatment(objective=partial(smoothed, share=share), name="smooth")


def smoothed(objective: Objective, share: float) -> Objective:
    """The objective against smoothed labels. The terms are means over the same tokens or examples."""

    def loss(model: Model, params: PyTree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
        mean, aux = objective.loss(model, params, batch, key, step)
        logits = None if aux.output is None else aux.output.logits
        if not jnp.issubdtype(batch["targets"].dtype, jnp.integer):
            raise UserError(f"the treatment 'smooth' spreads a target over classes, but this is a regression. {KEY}")
        if not isinstance(logits, jax.Array) or logits.ndim not in (2, 3):
            raise UserError(
                "the treatment 'smooth' reads logits [batch, classes] or [batch, seq, classes], and what stands before it in "
                f"--config.treatments hands on {'none' if logits is None else 'others'}. List it before ensemble. {KEY}"
            )
        weights = batch["weight"] if logits.ndim == 2 else batch["mask"] * batch["weight"][:, None]
        everywhere = -jax.nn.log_softmax(widened(logits), axis=-1).mean(axis=-1)
        uniform = (everywhere * weights).sum() / jnp.maximum(weights.sum(), 1e-9)
        sums = {**aux.sums, "cross_entropy": (mean * aux.weight, aux.weight)}
        return (1 - share) * mean + share * uniform, aux._replace(sums=sums)

    return replace(objective, loss=loss)
