"""Pruning masks: select which weights are zero, and keep them zero during training. A mask alone gives no speed-up.

Scores determine which weights are kept, highest first:

    magnitude  |w|                                   (Han et al. 2015, arXiv 1506.02626)
    movement   -sum over steps of w dL/dw            (Sanh et al. 2020, arXiv 2005.07683; pruned weights stay pruned)
    snip       |w dL/dw| of the first batch          (Lee et al. 2019, arXiv 1810.02340)
    random     a random number per weight, as a control

Gradual pruning (Zhu and Gupta 2017, arXiv 1710.01878): after t of T steps the sparsity is s (1 - (1 - t / T)^3), and from T on it is s.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree, map_with_path, merge, partition, paths, widened
from assay.models.model import Model

SCORES = ("magnitude", "movement", "snip", "random")
LEARNED = ("movement", "snip")  # need gradients, so there is no mask before the first step
EVERY = 10  # steps between mask updates while sparsity grows


class Pruning(NamedTuple):
    """Settings of a pruning mask."""

    sparsity: float  # final fraction of zeros among the chosen weights
    score: str  # a name in SCORES
    together: bool  # True: ranks the weights of all arrays together; False: prunes the same fraction of each array
    kept: int  # N of an N:M pattern along the inputs of a unit, instead of a sparsity; 0: no pattern
    group: int  # M of an N:M pattern
    ramp: int  # steps over which sparsity grows; 0: prune at once
    paths: str  # regex of the pruned parameter paths

    @property
    def at_once(self) -> bool:
        """True if the initial parameters are already pruned."""
        return not self.ramp and self.score not in LEARNED


class MaskState(NamedTuple):
    """State of the masked optimizer."""

    inner: PyTree
    steps: jax.Array  # int32
    mask: PyTree  # bool, shaped as the chosen arrays
    moved: PyTree  # float32, shaped as the chosen arrays: accumulated movement; {} for other scores


def pruned(model: Model, params: PyTree, how: Pruning) -> tuple[Model, PyTree]:
    """Returns the model and its parameters, pruned by magnitude or at random. Shapes are unchanged.

    Parameters are returned unchanged if the mask is computed during training. Raises UserError if no parameter path matches.
    """
    weights = _some({"model": params}, how.paths)
    if not how.at_once:
        return model, params
    mask = at_once(weights, how)
    return model, merge({"model": params}, applied(mask, weights))["model"]


def at_once(weights: PyTree, how: Pruning) -> PyTree:
    """Returns the mask that prunes weights by magnitude or at random. Weights that it has pruned have the same mask, up to weights that
    are zero in any case: a weight of zero need not be a pruned one.
    """
    return highest(scores(weights, weights, {}, how), how, jnp.float32(how.sparsity))


def keeping(optimizer: optax.GradientTransformation, how: Pruning) -> optax.GradientTransformation:
    """Wraps the optimizer so that pruned weights are exactly zero after each step, regardless of momentum or weight decay."""

    def init(params: PyTree) -> MaskState:
        weights = chosen(params, how.paths)
        mask = at_once(weights, how) if how.at_once else jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), weights)
        moved = jax.tree.map(jnp.zeros_like, widened(weights)) if how.score == "movement" else {}
        return MaskState(optimizer.init(params), jnp.zeros((), jnp.int32), mask, moved)

    def update(grads: PyTree, state: MaskState, params: PyTree) -> tuple[PyTree, MaskState]:
        updates, inner = optimizer.update(grads, state.inner, params)
        weights, slopes = chosen(params, how.paths), chosen(grads, how.paths)
        steps, mask, moved = state.steps + 1, state.mask, state.moved
        if how.score == "movement":
            moved = jax.tree.map(lambda so_far, weight, slope: so_far - weight * slope, moved, weights, slopes)
        if not how.at_once:

            def renewed() -> PyTree:
                after = jax.tree.map(lambda weight, step: weight + step, weights, chosen(updates, how.paths))
                found = scores(after if how.score == "magnitude" else weights, slopes, moved, how)
                lowest = jax.tree.map(lambda keep, score: jnp.where(keep, score, -jnp.inf), mask, found)  # what is pruned stays so
                return highest(lowest, how, sparsity_after(steps, how))

            due = (steps >= how.ramp) & (state.steps < max(how.ramp, 1)) | (steps < how.ramp) & (steps % EVERY == 0)
            mask = jax.lax.cond(due, renewed, lambda: state.mask)
        kept = jax.tree.map(lambda keep, weight, step: jnp.where(keep, step, -weight), mask, weights, chosen(updates, how.paths))
        return merge(updates, kept), MaskState(inner, steps, mask, moved)

    return optax.GradientTransformation(init, update)


def sparsity_after(steps: jax.Array, how: Pruning) -> jax.Array:
    """Returns the fraction of zeros after the given number of steps."""
    left = 1.0 - jnp.clip(steps / max(how.ramp, 1), 0.0, 1.0)
    return how.sparsity * (1.0 - left**3) if how.ramp else jnp.float32(how.sparsity)


def chosen(params: PyTree, regex: str) -> dict[str, Any]:
    """Returns the arrays of {"model": ...} whose path matches the regex, as nested dicts; {} if the model is not trained."""
    return partition({"model": params["model"]}, regex)[1] if "model" in params else {}


def within(params: PyTree, mask: PyTree) -> PyTree:
    """Returns the parameters that a mask covers."""
    return {name: within(params[name], part) if isinstance(part, dict) else params[name] for name, part in mask.items()}


def scores(weights: PyTree, slopes: PyTree, moved: PyTree, how: Pruning) -> PyTree:
    """Returns a float32 score for each chosen weight.

    Args:
        weights: the chosen weights.
        slopes: gradients of the loss for them.
        moved: accumulated movement; {} for other scores.
        how: settings of the mask.
    """
    if how.score == "magnitude":
        return jax.tree.map(jnp.abs, widened(weights))
    if how.score == "movement":
        return moved
    if how.score == "snip":
        return jax.tree.map(lambda weight, slope: jnp.abs(weight * slope), widened(weights), widened(slopes))
    return map_with_path(lambda path, leaf: jax.random.uniform(rng.stream(jax.random.key(0), path), leaf.shape), weights)


def highest(score: PyTree, how: Pruning, sparsity: jax.Array) -> PyTree:
    """Returns a mask that is True for the kept weights.

    Keeps an N:M pattern, or all but the round(sparsity * n) lowest scores, ranked over all arrays together or per array.
    """
    leaves, shape = jax.tree.flatten(score)
    if not leaves:
        return score
    if how.kept:
        return jax.tree.map(partial(grouped, kept=how.kept, group=how.group), score)
    if not how.together:
        return jax.tree.map(lambda leaf: ranked(leaf.ravel(), sparsity).reshape(leaf.shape), score)
    every, start, found = ranked(jnp.concatenate([leaf.ravel() for leaf in leaves]), sparsity), 0, []
    for leaf in leaves:
        found.append(every[start : start + leaf.size].reshape(leaf.shape))
        start += leaf.size
    return jax.tree.unflatten(shape, found)


def ranked(score: jax.Array, sparsity: jax.Array) -> jax.Array:
    """Returns [n] bool, False for the round(sparsity * n) lowest scores; of equal scores, the first are pruned."""
    rank = jnp.zeros(score.size, jnp.int32).at[jnp.argsort(score)].set(jnp.arange(score.size, dtype=jnp.int32))
    return rank >= jnp.round(sparsity * score.size).astype(jnp.int32)


def grouped(score: jax.Array, kept: int, group: int) -> jax.Array:
    """Returns the mask of N:M sparsity (Mishra et al. 2021, arXiv 2104.08378).

    Keeps the `kept` highest scores of each `group` consecutive inputs of a unit. Inputs are all axes but the last. The remainder at the end
    forms a smaller group.
    """
    flat = score.reshape(-1, score.shape[-1])
    rows = len(flat)
    padded = jnp.pad(flat, ((0, -rows % group), (0, 0)), constant_values=-jnp.inf).reshape(-1, group, flat.shape[1])
    rank = jnp.argsort(jnp.argsort(-padded, axis=1), axis=1)
    return (rank < kept).reshape(-1, flat.shape[1])[:rows].reshape(score.shape)


def applied(mask: PyTree, weights: PyTree) -> PyTree:
    """Sets weights to zero where the mask is False."""
    return jax.tree.map(lambda keep, leaf: jnp.where(keep, leaf, jnp.zeros((), leaf.dtype)), mask, weights)


def masks_of(opt_state: PyTree) -> list[PyTree]:
    """Returns the masks of an optimizer state, however it is wrapped, the outermost first."""
    found = [leaf for leaf in jax.tree.leaves(opt_state, is_leaf=_is_masked) if _is_masked(leaf)]
    return [mask for one in found for mask in (one.mask, *masks_of(one.inner))]


# -- private --------------------------------------------------------------------------------------------------------------


def _is_masked(leaf: Any) -> bool:
    return isinstance(leaf, MaskState)


def _some(params: PyTree, regex: str) -> dict[str, Any]:
    """Returns `chosen`. Raises UserError if it is empty."""
    found = chosen(params, regex)
    if not found:
        some = ", ".join(path for path in paths({"model": params["model"]}) if path.endswith("kernel")) or "none ends in kernel"
        raise UserError(
            f"the treatment 'prune' has paths={regex}, which matches no parameter path. Some paths: {some[:300]}. "
            "Change it in --config.treatments."
        )
    return found
