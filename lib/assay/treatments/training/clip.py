"""Gradient clipping by global norm (Pascanu et al. 2013, arXiv 1211.5063): scales down gradients whose norm exceeds `norm`.

    gradient * min(1, norm / |gradient|),   |.| over all trained parameters together          --config.treatments=clip:norm=1.0

Gradients within the limit are unchanged, bit for bit. `optimizer.clip_norm` clips after all gradient treatments; this treatment can also
be applied to a run that was trained without clipping. List it after `accumulate`; otherwise it clips each part separately. The metric
`grad_norm` is the norm after clipping, and `unclipped_norm` the norm before.
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
    """Returns the gradient-clipping treatment.

    Args:
        norm: maximum global gradient norm; finite and above 0.
    """
    check(0 < norm < float("inf"), "clip", "norm", norm, "a finite length above 0")
    return Treatment(gradient=partial(clipped, norm=norm), name="clip")


def clipped(gradient: Gradient, norm: float) -> Gradient:
    """Limits the gradient's global norm to `norm`. A non-finite gradient stays non-finite and ends the run."""

    def bounded(params: PyTree, batch: Batch, key: jax.Array, step: jax.Array, carried: PyTree) -> tuple[PyTree, Aux, PyTree]:
        grads, aux, carried = gradient(params, batch, key, step, carried)
        length = optax.tree.norm(widened(grads))
        grads = jax.tree.map(lambda leaf: jnp.where(length > norm, leaf * (norm / length).astype(leaf.dtype), leaf), grads)
        return grads, aux._replace(sums={**aux.sums, "unclipped_norm": (length, jnp.ones(()))}), carried

    return bounded
