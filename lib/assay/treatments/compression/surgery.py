"""Structured pruning by surgery: removes whole heads, units, channels or layers from a model and its parameters.

    smaller, fewer = cut(model, params, "heads", 0.5)             # removes the half of each block's heads with the smallest weights
    fewer = masked(model, params, "heads", 0.5)                   # the same outputs from the full model: those parts have no effect

Parts are kept by importance: the L2 norm of their weights, or given `scores`. One example is the first-order Taylor score (Molchanov et al.
2017, arXiv 1611.06440; for heads, Michel et al. 2019, arXiv 1905.10650). The number of parts depends on shapes only and is equal in all
blocks, so everything runs under `jit` and `eval_shape`. treatments/compression/parts.py defines which parts each family has.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from assay.core import rng
from assay.core.errors import Inapplicable, UserError, unknown
from assay.core.tree import PyTree, by_path, widened
from assay.models.model import Batch, Model
from assay.treatments.compression.parts import PARTS, WAYS, Group, Piece, Stack, Way
from assay.treatments.option import KEY

Scores = Mapping[str, Array]  # group name -> [parts]: a higher score means more important
Sums = Callable[[PyTree], dict[str, Array]]  # a tree shaped as the parameters -> its sum over each part, by group
Loss = Callable[[PyTree, Batch], Array]  # (params, batch) -> scalar


class Evidence(NamedTuple):
    """Inputs of a scorer in addition to the parameters."""

    loss: Loss | None = None
    batches: Iterable[Batch] = ()
    key: Array | None = None


Scorer = Callable[[Sums, PyTree, Evidence], dict[str, Array]]


def applies(model: Model, part: str) -> str:
    """Returns why parts of this kind (one of PARTS) cannot be cut from the model, as "does not apply: ...", or "" if they can."""
    reason = _refused(model, part)
    return f"does not apply: {reason}" if reason else ""


def cut(model: Model, params: PyTree, part: str, share: float, scores: Scores | None = None) -> tuple[Model, PyTree]:
    """Returns the smaller model and its parameters, without the least important parts of each group.

    Raises UserError if the part does not apply to the model, or if the share removes no part or all parts.

    Args:
        model: the model.
        params: its parameters.
        part: kind of part, one of PARTS.
        share: fraction of the parts of each group to remove, in (0, 1).
        scores: importance of each part by group; default: magnitude.
    """
    way, flat, groups = _opened(model, params, part)
    kept = {group.name: _kept(group, part, share) for group in groups}
    stay = _stay(groups, kept, importance(model, params, part) if scores is None else scores)
    for (path, axis), alive in _alive(groups, stay).items():
        size = flat[path].shape[axis] - sum(
            int((piece.owner == 0).sum()) * (group.parts - kept[group.name])
            for group in groups
            for piece in group.pieces
            if (piece.path, piece.axis) == (path, axis)
        )
        flat[path] = jnp.take(flat[path], jnp.nonzero(alive, size=size)[0], axis=axis)
    assert model.remake is not None
    smaller = model.remake(way.settings(model.settings, tuple(kept.values())))
    return smaller, _closed(flat, way.stacks(model), kept)


def masked(model: Model, params: PyTree, part: str, share: float, scores: Scores | None = None) -> PyTree:
    """Returns the full model's parameters with the parts that `cut` would remove made ineffective.

    Their parameters are zero, close a gate, or form the identity in layers without a residual branch. Arguments and errors are those of
    `cut`.
    """
    way, flat, groups = _opened(model, params, part)
    stay = _stay(
        groups,
        {group.name: _kept(group, part, share) for group in groups},
        importance(model, params, part) if scores is None else scores,
    )
    for group in groups:
        for piece in group.pieces:
            leaf = flat[piece.path]
            alive = _slices(piece.owner, stay[group.name])
            alive = alive.reshape([-1 if axis == piece.axis else 1 for axis in range(leaf.ndim)])
            flat[piece.path] = jnp.where(alive, leaf, jnp.asarray(piece.neutral, leaf.dtype))
    return _closed(flat, way.stacks(model), {group.name: group.parts for group in groups})


# -- importance -----------------------------------------------------------------------------------------------------------


def importance(
    model: Model,
    params: PyTree,
    part: str,
    score: str = "magnitude",
    evidence: Evidence = Evidence(),  # noqa: B008
) -> dict[str, Array]:
    """Returns the scores of each group by name, [parts] in float32. `score` is a name in SCORERS.

    Raises UserError for an unknown score, or if the part does not apply to the model.
    """
    if score not in SCORERS:
        raise unknown("score", score, SCORERS, "--config.treatments")
    way, _, groups = _opened(model, params, part)

    def sums(tree: PyTree) -> dict[str, Array]:
        flat = _viewed(widened(tree), way.stacks(model))
        return {group.name: _sums(group, flat) for group in groups}

    return SCORERS[score](sums, params, evidence)


def taylor_scores(model: Model, params: PyTree, part: str, loss: Loss, batches: Iterable[Batch]) -> dict[str, Array]:
    """Returns first-order Taylor scores; see `taylor`."""
    return importance(model, params, part, "taylor", Evidence(loss, batches))


def magnitude(sums: Sums, params: PyTree, evidence: Evidence) -> dict[str, Array]:
    """Returns the L2 norm of all weights of each part."""
    del evidence
    return jax.tree.map(jnp.sqrt, sums(jax.tree.map(jnp.square, widened(params))))


def taylor(sums: Sums, params: PyTree, evidence: Evidence) -> dict[str, Array]:
    """Returns |sum over a part of w dL/dw|, the first-order loss change on removal, averaged over the batches."""
    loss, total, count = evidence.loss, None, 0
    if loss is None:
        raise ValueError("the score 'taylor' needs a loss")

    @jax.jit
    def change(params: PyTree, batch: Batch) -> dict[str, Array]:
        grads = jax.grad(loss)(params, batch)
        return jax.tree.map(jnp.abs, sums(jax.tree.map(jnp.multiply, widened(params), widened(grads))))

    for batch in evidence.batches:
        found, count = change(params, batch), count + 1
        total = found if total is None else jax.tree.map(jnp.add, total, found)
    if total is None:
        raise UserError(f"the score 'taylor' needs at least one batch of examples, but there is none. {KEY}")
    return jax.tree.map(lambda leaf: leaf / count, total)


def random(sums: Sums, params: PyTree, evidence: Evidence) -> dict[str, Array]:
    """Returns random scores drawn from the key, as a control."""
    key = evidence.key
    if key is None:
        raise ValueError("the score 'random' needs a key")
    return {name: jax.random.uniform(rng.stream(key, name), leaf.shape) for name, leaf in jax.eval_shape(sums, params).items()}


SCORERS: Mapping[str, Scorer] = {"magnitude": magnitude, "taylor": taylor, "random": random}


# -- private --------------------------------------------------------------------------------------------------------------


def _refused(model: Model, part: str) -> str:
    if part not in PARTS:
        raise unknown("part", part, PARTS, "--config.treatments")
    if model.settings is None or model.remake is None:
        after = "as after quantize or lora, which come after prune"
        return f"the parameters are no longer those of a family, {after}; or never were, as those of a model made elsewhere"
    if type(model.settings) not in WAYS:
        return f"treatments/compression/parts.py does not know {type(model.settings).__name__}"
    return WAYS[type(model.settings)][part].refused(model)


def _opened(model: Model, params: PyTree, part: str) -> tuple[Way, dict[str, Array], tuple[Group, ...]]:
    """Returns the way to cut the part, the parameters by path, and the groups. Raises UserError if the part does not apply."""
    reason = _refused(model, part)
    if not reason and any(jnp.ndim(leaf) != 1 for path, leaf in by_path(params).items() if path.endswith("/bias")):
        reason = "the parameters have a member axis, as those of an ensemble, which comes after prune"
    if reason:
        raise Inapplicable(f"does not apply: {reason}. {KEY}")
    way = WAYS[type(model.settings)][part]
    flat = _viewed(params, way.stacks(model))
    return way, flat, way.groups(model, {path: leaf.shape for path, leaf in flat.items()})


def _kept(group: Group, part: str, share: float) -> int:
    """Returns the number of kept parts of a group, without the fixed ones: all but share * parts, rounded half up."""
    parts, what = group.parts + group.fixed, group.what or part
    if not 0 <= share < 1:
        raise UserError(f"share={share} is not a share of the {parts} {what} of {group.name}: it must lie in [0, 1). {KEY}")
    removed = math.floor(share * parts + 0.5)
    if not 0 < removed < parts:
        allowed = f"{1 / parts:.3g} removes one" if parts > 1 else "at least one stays"
        raise UserError(f"share={share} removes {'all' if removed else 'none'} of the {parts} {what} of {group.name}: {allowed}. {KEY}")
    return group.parts - removed


def _stay(groups: tuple[Group, ...], kept: Mapping[str, int], scores: Scores) -> dict[str, Bool[Array, " parts"]]:
    """Returns a mask of the kept parts: the most important ones; of equal scores, the first."""
    for group in groups:
        if scores[group.name].shape != (group.parts,):
            raise ValueError(f"scores of {group.name} have shape {scores[group.name].shape}, but there are {group.parts} parts")
    order = {group.name: jnp.argsort(scores[group.name], descending=True, stable=True)[: kept[group.name]] for group in groups}
    return {group.name: jnp.zeros(group.parts, bool).at[order[group.name]].set(True) for group in groups}


def _slices(owner: np.ndarray, stay: Bool[Array, " parts"]) -> Bool[Array, " length"]:
    """Returns a mask of the kept slices of an axis."""
    return jnp.append(stay, True)[owner]  # slices of no part have owner -1, the last entry


def _alive(groups: tuple[Group, ...], stay: Mapping[str, Array]) -> dict[tuple[str, int], Bool[Array, " length"]]:
    """Returns masks of the kept slices by path and axis. Groups may share an axis, as two directions do, or a parameter."""
    found: dict[tuple[str, int], Array] = {}
    for group in groups:
        for piece in group.pieces:
            place, alive = (piece.path, piece.axis), _slices(piece.owner, stay[group.name])
            found[place] = found[place] & alive if place in found else alive
    return found


def _sums(group: Group, flat: Mapping[str, Array]) -> Float[Array, " parts"]:
    """Returns the sum over each part; an entry whose row and column both belong to the part counts once."""
    total, seen = jnp.zeros(group.parts), dict[str, Piece]()
    for piece in group.pieces:
        leaf = jnp.moveaxis(flat[piece.path], piece.axis, 0).reshape(len(piece.owner), -1)
        if piece.path in seen:  # a matrix
            leaf = jnp.where(piece.owner[:, None] == seen[piece.path].owner[None, :], 0.0, leaf)
        by_slice = leaf.sum(axis=1)
        total = total + jnp.zeros(group.parts + 1).at[piece.owner].add(by_slice)[:-1]  # owner -1 is the last entry
        seen[piece.path] = piece
    return total


# -- layers as an axis ----------------------------------------------------------------------------------------------------


def _viewed(params: PyTree, stacks: tuple[Stack, ...]) -> dict[str, Array]:
    """Returns the parameters by path; those of a stack's blocks are stacked along a first axis of parts."""
    flat = by_path(params)
    for stack in stacks:
        for number in range(stack.period if stack.parts else 0):
            blocks = [f"{stack.half}block_{stack.first + part * stack.period + number}/" for part in range(stack.parts)]
            for name in [path.removeprefix(blocks[0]) for path in flat if path.startswith(blocks[0])]:
                flat[f"{stack.name}/{number}/{name}"] = jnp.stack([flat.pop(block + name) for block in blocks])
    return flat


def _closed(flat: Mapping[str, Array], stacks: tuple[Stack, ...], kept: Mapping[str, int]) -> dict[str, Any]:
    """Returns nested dicts with the remaining blocks renumbered."""

    def counted(half: str, number: int) -> int:
        before = (stack for stack in stacks if stack.half == half and stack.first < number)
        return number - sum((stack.parts - kept[stack.name]) * stack.period for stack in before)

    whole: dict[str, Array] = {}
    for path, leaf in flat.items():
        stack = next((stack for stack in stacks if path.startswith(f"{stack.name}/")), None)
        block = re.fullmatch(r"(encoder/|decoder/|)block_(\d+)/(.*)", path)
        if stack is not None:
            number, _, name = path.removeprefix(f"{stack.name}/").partition("/")
            first = counted(stack.half, stack.first) + int(number)
            whole |= {f"{stack.half}block_{first + part * stack.period}/{name}": leaf[part] for part in range(len(leaf))}
        elif block is not None:
            whole[f"{block[1]}block_{counted(block[1], int(block[2]))}/{block[3]}"] = leaf
        else:
            whole[path] = leaf
    nested: dict[str, Any] = {}
    for path, leaf in whole.items():
        *parents, name = path.split("/")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return nested
