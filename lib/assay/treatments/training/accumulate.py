"""Gradient accumulation: a batch passes through the model in sequential parts, so only one part's activations are in memory.

The result is the gradient of the whole batch: the parts combine as means, weighted by their number of tokens or examples.

    --config.treatments=accumulate:parts=4
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.models.model import Batch
from assay.train.objective import Aux
from assay.train.treatment import PART, Gradient, Treatment
from assay.treatments.option import check


def accumulate(parts: int = 2) -> Treatment:
    """Returns the gradient-accumulation treatment.

    Args:
        parts: number of equal parts of a batch; at least 1.
    """
    check(parts >= 1, "accumulate", "parts", parts, "it is at least 1")
    return Treatment(gradient=partial(accumulated, parts=parts), name="accumulate")


def accumulated(gradient: Gradient, parts: int) -> Gradient:
    """Computes a batch's gradient from `parts` equal parts under one scan. Each part has its own random key."""

    def joined(params: PyTree, batch: Batch, key: jax.Array, step: jax.Array, carried: PyTree) -> tuple[PyTree, Aux, PyTree]:
        split = jax.tree.map(partial(_split, parts=parts), dict(batch))

        def add(so_far: tuple[tuple[PyTree, Aux], PyTree], part: tuple[jax.Array, Batch]) -> tuple[tuple[tuple[PyTree, Aux], PyTree], None]:
            found, carried = weighted(*part, so_far[1])  # carried state passes through the parts in order
            return (jax.tree.map(jnp.add, so_far[0], found), carried), None

        def weighted(i: jax.Array, part: Batch, carried: PyTree) -> tuple[tuple[PyTree, Aux], PyTree]:
            numbered = {**part, PART: jnp.full(part["weight"].shape[:1], i)}
            grads, aux, carried = gradient(params, numbered, key, step, carried)
            return (jax.tree.map(lambda leaf: leaf * aux.weight, grads), aux._replace(output=None)), carried

        one, _ = jax.eval_shape(weighted, jnp.int32(0), jax.tree.map(lambda array: array[0], split), carried)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), one)
        ((grads, aux), carried), _ = jax.lax.scan(add, (nothing, carried), (jnp.arange(parts), split))
        return jax.tree.map(lambda leaf: leaf / jnp.maximum(aux.weight, 1e-9), grads), aux, carried

    return joined


def _split(array: Any, parts: int) -> Any:
    """[batch, ...] -> [parts, batch / parts, ...]. Rows are dealt out in turn, so that each device keeps a share of every part."""
    rows = array.shape[0]
    if rows % parts:
        raise UserError(
            f"a batch of {rows} examples does not divide into {parts} equal parts. "
            "Change accumulate:parts in --config.treatments, or --config.train.batch_size."
        )
    return jnp.swapaxes(jnp.reshape(array, (rows // parts, parts, *array.shape[1:])), 0, 1)
