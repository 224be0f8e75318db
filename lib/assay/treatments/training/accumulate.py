"""Gradient accumulation: a batch passes through the model in sequential parts, so only one part's activations are in memory.

The result is the gradient of the whole batch: the parts combine as means, weighted by their number of tokens or examples. Where the loss
adds up means over different examples, as with distillation of partly labelled ones, each mean has its own weight; the counts of all parts
are then taken first, which costs no forward pass, since they do not depend on what the model answers.

    --config.treatments=accumulate:parts=4
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.models.model import Batch
from assay.train.objective import LEAST, Aux, shares_of
from assay.train.treatment import PART, SHARES, Gradient, Treatment
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
        split, numbers = jax.tree.map(partial(_split, parts=parts), dict(batch)), jnp.arange(parts)

        @partial(jax.jit, inline=True)  # traced once for all of its uses
        def of(i: jax.Array, part: Batch, carried: PyTree, params: PyTree, key: jax.Array, step: jax.Array) -> tuple[PyTree, Aux, PyTree]:
            grads, aux, carried = gradient(params, {**part, PART: jnp.full(part["weight"].shape[:1], i)}, key, step, carried)
            return grads, aux._replace(output=None), carried

        def counts(part: tuple[jax.Array, Batch]) -> jax.Array:
            return jnp.stack([count for _, count in of(*part, carried, params, key, step)[1].terms])

        weights, first = None, jax.tree.map(lambda array: array[0], split)
        if jax.eval_shape(of, numbers[0], first, carried, params, key, step)[1].terms:
            shares, weights = shares_of(jax.lax.map(counts, (numbers, split)))
            rows = jnp.ones((*split["weight"].shape[:2], 1))
            split[SHARES] = rows * shares[:, None, :] * split.get(SHARES, 1.0)

        def add(so_far: tuple[tuple[PyTree, Aux], PyTree], part: tuple[jax.Array, Batch]) -> tuple[tuple[tuple[PyTree, Aux], PyTree], None]:
            found, carried = weighted(*part, so_far[1])  # carried state passes through the parts in order
            return (jax.tree.map(jnp.add, so_far[0], found), carried), None

        def weighted(i: jax.Array, part: Batch, carried: PyTree) -> tuple[tuple[PyTree, Aux], PyTree]:
            grads, aux, carried = of(i, part, carried, params, key, step)
            weight = jnp.maximum(aux.weight, LEAST / parts) if weights is None else weights[i]  # a part without labels may have a penalty
            return (jax.tree.map(lambda leaf: leaf * weight, grads), aux), carried

        one, _ = jax.eval_shape(weighted, numbers[0], jax.tree.map(lambda array: array[0], split), carried)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), one)
        ((grads, aux), carried), _ = jax.lax.scan(add, (nothing, carried), (numbers, split))
        if weights is None:
            grads = jax.tree.map(lambda leaf: leaf / jnp.maximum(aux.weight, LEAST), grads)
        return grads, aux, carried

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
