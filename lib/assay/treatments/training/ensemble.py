"""A deep ensemble (Lakshminarayanan et al. 2017, arXiv 1612.01474): n members, drawn apart and trained at once on the same batches.

    p(class) = mean over members of softmax(logits_i)          --config.treatments=ensemble:members=5

Parameters gain a leading axis of members. In training each member meets the objective alone, with its own randomness and its own
optimiser (clipping too), so that it ends where it would have ended without the others; the loss and the metrics are means over members.
Treatments of the objective or the optimizer that are listed before `ensemble` act on each member; those after it on all together.
`combine=outputs` averages the outputs themselves, as for a regression. Taps have a leading axis of members.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.models.model import Batch, Decode, Model, Output
from assay.nn.tap import Taps
from assay.train.objective import Aux, Objective
from assay.train.treatment import Treatment
from assay.treatments.option import KEY, check

Init = Callable[[jax.Array, Batch], PyTree]

COMBINE: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "probabilities": lambda logits: jax.nn.logsumexp(jax.nn.log_softmax(widened(logits), axis=-1), axis=0) - jnp.log(len(logits)),
    "outputs": lambda logits: widened(logits).mean(axis=0),
}


def ensemble(members: int = 5, combine: str = "probabilities") -> Treatment:
    check(members >= 1, "ensemble", "members", members, "it is at least 1")
    check(combine in COMBINE, "ensemble", "combine", combine, f"one of {', '.join(COMBINE)}")
    return Treatment(
        init=partial(drawn_apart, members=members),
        model=partial(combined, members=members, combine=COMBINE[combine]),
        objective=partial(taught_apart, members=members, combine=combine),
        optimizer=partial(moved_apart, members=members),
        name="ensemble",
    )


def drawn_apart(init: Init, members: int) -> Init:
    """Parameters of every member under a leading axis."""
    return lambda key, batch: jax.vmap(lambda member: init(member, batch))(jax.random.split(key, members))


def combined(model: Model, params: PyTree, members: int, combine: Callable[[jax.Array], jax.Array]) -> tuple[Model, PyTree]:
    """The model that answers for all members; handed the parameters of one, it answers as that one."""
    dimensions = jax.tree.leaves(params)[0].ndim

    def each(fn: Callable[..., Any], params: PyTree, *others: PyTree) -> Any:
        return jax.vmap(fn)(params, *others)

    def one(params: PyTree) -> bool:
        return jnp.ndim(jax.tree.leaves(params)[0]) < dimensions

    def apply(params: PyTree, batch: Batch, *, key: jax.Array | None = None, **keywords: Any) -> Output:
        if one(params):
            return model.apply(params, batch, key=key, **keywords)
        if key is None:
            output = each(lambda member: model.apply(member, batch, **keywords), params)
        else:
            output = each(lambda member, key: model.apply(member, batch, key=key, **keywords), params, _keys(key, members))
        taps = output.taps.led("m") if isinstance(output.taps, Taps) else output.taps
        return output._replace(logits=jax.tree.map(combine, output.logits), taps=taps)

    decode = model.decode and _decode(model.decode, one, each, combine)
    return replace(model, apply=apply, decode=decode, settings=None, remake=None), params


def taught_apart(objective: Objective, members: int, combine: str = "outputs") -> Objective:
    """The objective for each member. The value is the mean of the members' losses, its gradient that of their sum: a member's own."""

    def init(key: jax.Array, model: Model, params: PyTree, batch: Batch) -> Mapping[str, PyTree]:
        def of(key: jax.Array, member: PyTree) -> Mapping[str, PyTree]:
            return objective.init(key, model, {**params, "model": member}, batch)

        return jax.vmap(of)(_keys(key, members), params["model"])

    def loss(model: Model, params: PyTree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
        if combine == "probabilities" and not jnp.issubdtype(batch["targets"].dtype, jnp.integer):
            raise UserError(
                f"the treatment 'ensemble' averages probabilities, but this is a regression. Write ensemble:combine=outputs. {KEY}"
            )
        owned = jax.eval_shape(lambda: init(key, model, params, batch))  # what was given is not one for each member
        axes = {name: 0 if name == "model" or name in owned else None for name in params}

        def of(key: jax.Array, member: PyTree) -> tuple[jax.Array, Aux]:
            mean, aux = objective.loss(model, member, batch, key, step)
            return mean, aux._replace(output=None)

        losses, aux = jax.vmap(of, in_axes=(0, axes))(_keys(key, members), dict(params))
        mean, total = losses.mean(), losses.sum()
        sums = jax.tree.map(lambda leaf: leaf.sum(), aux.sums)
        return total + jax.lax.stop_gradient(mean - total), Aux(aux.weight.mean(), sums)

    return Objective(init, loss)


def moved_apart(optimizer: optax.GradientTransformation, members: int) -> optax.GradientTransformation:
    """The optimizer for each member: norms, matrices and counts are those of one."""

    def init(params: PyTree) -> PyTree:
        if not all(jnp.shape(leaf)[:1] == (members,) for leaf in jax.tree.leaves(params)):
            raise UserError(
                "the treatment 'ensemble' trains a tree that is not one for each member. List ensemble after the treatments whose "
                "objective owns parameters, in --config.treatments, and freeze what is given."
            )
        return jax.vmap(optimizer.init)(params)

    def update(grads: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        return jax.vmap(optimizer.update)(grads, state, params)

    return optax.GradientTransformation(init, update)


def _decode(decode: Decode, one: Callable[[PyTree], bool], each: Callable[..., Any], combine: Callable[[jax.Array], jax.Array]) -> Decode:
    """A cache for each member; all read the same tokens."""

    def init_cache(params: PyTree, batch: Batch, max_length: int) -> PyTree:
        if one(params):
            return decode.init_cache(params, batch, max_length)
        return each(lambda member: decode.init_cache(member, batch, max_length), params)

    def extend(params: PyTree, cache: PyTree, tokens: jax.Array) -> tuple[jax.Array, PyTree]:
        if one(params):
            return decode.extend(params, cache, tokens)
        logits, cache = each(lambda member, cache: decode.extend(member, cache, tokens), params, cache)
        return combine(logits), cache

    return Decode(init_cache, extend)


def _keys(key: jax.Array, members: int) -> jax.Array:
    return jax.vmap(lambda i: rng.stream(key, "member", i))(jnp.arange(members))
