"""Deep ensemble (Lakshminarayanan et al. 2017, arXiv 1612.01474): n independently initialized members, trained on the same batches.

    p(class) = mean over members of softmax(logits_i)          --config.treatments=ensemble:members=5

Parameters gain a leading member axis. Each member has its own loss, randomness and optimizer state, clipping included. It thus ends where
it would have ended without the others. The loss and the metrics are means over members. Objective and optimizer treatments listed before
`ensemble` act on each member, those listed after it on all members together. `combine=outputs` averages the outputs themselves, as in
regression. Taps have a leading member axis.
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
from assay.train.objective import MODEL, Aux, Objective, carried_of
from assay.train.treatment import Treatment
from assay.treatments.option import KEY, check

Init = Callable[[jax.Array, Batch], PyTree]

COMBINE: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "probabilities": lambda logits: jax.nn.logsumexp(jax.nn.log_softmax(widened(logits), axis=-1), axis=0) - jnp.log(len(logits)),
    "outputs": lambda logits: widened(logits).mean(axis=0),
}


def ensemble(members: int = 5, combine: str = "probabilities") -> Treatment:
    """Returns the deep-ensemble treatment.

    Args:
        members: number of members; at least 1.
        combine: what is averaged, `probabilities` (classification) or `outputs` (regression).
    """
    check(members >= 1, "ensemble", "members", members, "it must be at least 1")
    check(combine in COMBINE, "ensemble", "combine", combine, f"it must be one of {', '.join(COMBINE)}")
    return Treatment(
        init=partial(drawn_apart, members=members),
        model=partial(combined, members=members, combine=COMBINE[combine]),
        objective=partial(taught_apart, members=members, combine=combine),
        optimizer=partial(moved_apart, members=members),
        name="ensemble",
    )


def drawn_apart(init: Init, members: int) -> Init:
    """Returns an initializer that draws each member's parameters, stacked along a leading axis."""
    return lambda key, batch: jax.vmap(lambda member: init(member, batch))(jax.random.split(key, members))


def combined(model: Model, params: PyTree, members: int, combine: Callable[[jax.Array], jax.Array]) -> tuple[Model, PyTree]:
    """Returns a model that combines all members. Given the parameters of one member, it answers as that member."""
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
    """Returns the objective applied to each member.

    The value is the mean of the members' losses. The gradient is that of their sum, so each member receives its own gradient.
    """

    def init(key: jax.Array, model: Model, params: PyTree, batch: Batch) -> Mapping[str, PyTree]:
        def of(key: jax.Array, member: PyTree) -> Mapping[str, PyTree]:
            return objective.init(key, model, {**params, "model": member}, batch)

        return jax.vmap(of)(_keys(key, members), params["model"])

    def loss(model: Model, params: PyTree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
        if combine == "probabilities" and not jnp.issubdtype(batch["targets"].dtype, jnp.integer):
            raise UserError(
                f"the treatment 'ensemble' averages probabilities, but this is a regression. Write ensemble:combine=outputs. {KEY}"
            )
        owned = jax.eval_shape(lambda: init(key, model, params, batch))  # given trees have no member axis
        axes = {name: 0 if name == "model" or name in owned else None for name in params}

        def of(key: jax.Array, member: PyTree) -> tuple[jax.Array, Aux]:
            mean, aux = objective.loss(model, member, batch, key, step)
            changed = carried_of(aux)
            if others := sorted(set(changed) - {MODEL}):
                raise UserError(
                    f"the treatment 'ensemble' trains each member alone, and {others[0]!r} is carried once for all. Leave one out. {KEY}"
                )
            return mean, aux._replace(output=None, carried=changed)

        losses, aux = jax.vmap(of, in_axes=(0, axes))(_keys(key, members), dict(params))
        sums = jax.tree.map(lambda leaf: leaf.sum(axis=0), aux.sums)
        terms = [(_mean_with_gradients_of_sum(totals), counts.mean()) for totals, counts in aux.terms]
        return _mean_with_gradients_of_sum(losses), Aux(aux.weight.mean(), sums, carried=aux.carried, terms=terms)

    return Objective(init, loss)


def moved_apart(optimizer: optax.GradientTransformation, members: int) -> optax.GradientTransformation:
    """Returns the optimizer applied to each member, so that norms, matrices and counts are per member."""

    def init(params: PyTree) -> PyTree:
        if not all(jnp.shape(leaf)[:1] == (members,) for leaf in jax.tree.leaves(params)):
            raise UserError(
                "the treatment 'ensemble' found a trained parameter without a member axis. List ensemble after the treatments whose "
                "objective owns parameters, in --config.treatments, and freeze given trees."
            )
        return jax.vmap(optimizer.init)(params)

    def update(grads: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        return jax.vmap(optimizer.update)(grads, state, params)

    return optax.GradientTransformation(init, update)


def _decode(decode: Decode, one: Callable[[PyTree], bool], each: Callable[..., Any], combine: Callable[[jax.Array], jax.Array]) -> Decode:
    """Returns decoding with one cache per member; all members read the same tokens."""

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


def _mean_with_gradients_of_sum(values: jax.Array) -> jax.Array:
    """Returns the mean over members, with each member's own gradient."""
    total = values.sum()
    return total + jax.lax.stop_gradient(values.mean() - total)


def _keys(key: jax.Array, members: int) -> jax.Array:
    return jax.vmap(lambda i: rng.stream(key, "member", i))(jnp.arange(members))
