"""Label smoothing (Szegedy et al. 2016, arXiv 1512.00567): the target mixes the true class with a uniform distribution.

    loss = (1 - share) * cross-entropy + share * mean over classes of -log p(class)          --config.treatments=smooth:share=0.1

It reuses the logits that the loss was computed from, so it needs no second forward pass. It applies to classifiers: logits
[batch, seq, classes] with batch["mask"], or [batch, classes]. The metric `cross_entropy` is the loss before smoothing.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.models.model import Batch, Model
from assay.train.objective import Aux, Objective, mean_of, metric_of, terms_of
from assay.train.treatment import Treatment
from assay.treatments.option import KEY, check


def smooth(share: float = 0.1) -> Treatment:
    """Returns the label-smoothing treatment.

    Args:
        share: probability mass spread uniformly over all classes, in [0, 1).
    """
    check(0 <= share < 1, "smooth", "share", share, "it must lie in [0, 1)")
    return Treatment(objective=partial(smoothed, share=share), name="smooth")


def smoothed(objective: Objective, share: float) -> Objective:
    """Returns the objective with smoothed labels. The uniform part is a mean over the tokens or examples that have a label.

    Raises UserError for regression, and if no logits reach this treatment.
    """

    def loss(model: Model, params: PyTree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
        mean, aux = objective.loss(model, params, batch, key, step)
        logits = None if aux.output is None else aux.output.logits
        if not jnp.issubdtype(batch["targets"].dtype, jnp.integer):
            raise UserError(f"the treatment 'smooth' needs class labels, but this task is a regression. {KEY}")
        if not isinstance(logits, jax.Array) or logits.ndim not in (2, 3):
            raise UserError(
                "the treatment 'smooth' reads logits [batch, classes] or [batch, seq, classes], but the treatments before it in "
                f"--config.treatments return {'none' if logits is None else 'others'}. List it before ensemble. {KEY}"
            )
        rows = batch["weight"] * batch.get("labelled", 1.0)  # an example without a label has none to smooth
        weights = rows if logits.ndim == 2 else batch["mask"] * rows[:, None]
        everywhere = -jax.nn.log_softmax(widened(logits), axis=-1).mean(axis=-1)
        uniform = share * (everywhere * weights).sum(), weights.sum()
        sums = {**aux.sums, "cross_entropy": metric_of(terms_of(mean, aux))}
        return (1 - share) * mean + mean_of(uniform), aux._replace(sums=sums, terms=(*terms_of(mean, aux, 1 - share), uniform))

    return replace(objective, loss=loss)
