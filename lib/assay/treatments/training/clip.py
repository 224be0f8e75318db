"""Gradient clipping (Pascanu et al. 2013, arXiv 1211.5063): a gradient longer than `norm` keeps its direction and gets that length.

    gradient * min(1, norm / |gradient|),   |.| over all trained parameters together          --config.treatments=clip:norm=1.0

A gradient that is no longer stays as it is, to the bit. `optimizer.clip_norm` does the same after all treatments of the gradient; this one
can be done to a run that was trained without. List it after `accumulate`, whose parts it would clip one by one otherwise. The metric
`grad_norm` is the clipped gradient's, `unclipped_norm` that of the gradient before.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from assay.core.tree import PyTree, widened
from assay.models.model import Batch
from assay.train.objective import Aux
from assay.train.treatment import Gradient, Treatment
from assay.treatments.option import check


def clip(norm: float = 1.0) -> Treatment:
    check(0 < norm < float("inf"), "clip", "norm", norm, "a finite length above 0")
    return Treatment(gradient=partial(clipped, norm=norm), name="clip")


def clipped(gradient: Gradient, norm: float) -> Gradient:
    """The gradient, no longer than `norm`. One that is not finite stays so, and ends the run."""

    def bounded(params: PyTree, batch: Batch, key: jax.Array, step: jax.Array, carried: PyTree) -> tuple[PyTree, Aux, PyTree]:
        grads, aux, carried = gradient(params, batch, key, step, carried)
        length = optax.tree.norm(widened(grads))
        grads = jax.tree.map(lambda leaf: jnp.where(length > norm, leaf * (norm / length).astype(leaf.dtype), leaf), grads)
        return grads, aux._replace(sums={**aux.sums, "unclipped_norm": (length, jnp.ones(()))}), carried

    return bounded
