"""Logs gradient norms per block, as the metrics `gradient/block_0`, `gradient/block_1`, ...

A norm that shrinks from the last block to the first indicates vanishing gradients (Hochreiter 1991; Glorot and Bengio 2010). Training
itself is unchanged.

    --config.treatments=gradients
"""

import re

import jax
import jax.numpy as jnp

from assay.core.tree import PyTree, path_string, widened
from assay.models.model import Batch
from assay.train.objective import Aux
from assay.train.treatment import Gradient, Treatment

BLOCK = re.compile(r"(?:^|/)((?:encoder/|decoder/)?block_\d+)/")


def gradients() -> Treatment:
    """Returns the treatment that logs gradient norms per block. It has no options."""
    return Treatment(gradient=watched, name="gradients")


def watched(gradient: Gradient) -> Gradient:
    """Returns the unchanged gradient and adds its norm per block to the metrics."""

    def with_norms(params: PyTree, batch: Batch, key: jax.Array, step: jax.Array, carried: PyTree) -> tuple[PyTree, Aux, PyTree]:
        grads, aux, carried = gradient(params, batch, key, step, carried)
        squares: dict[str, jax.Array] = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
            block = BLOCK.search(path_string(path))
            if block:
                squares[block[1]] = squares.get(block[1], jnp.zeros(())) + jnp.sum(jnp.square(widened(leaf)))
        norms = {f"gradient/{name}": (jnp.sqrt(square), jnp.ones(())) for name, square in squares.items()}
        return grads, aux._replace(sums={**aux.sums, **norms}), carried

    return with_norms
