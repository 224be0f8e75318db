"""Another learning rate for some parameters: what the optimiser moves is multiplied where a parameter's path holds a regex.

--config.treatments=rate:paths=^model/embed,times=0.1
"""

from functools import partial

import jax
import optax

from assay.core.errors import UserError
from assay.core.tree import PyTree, select
from assay.core.tree import paths as paths_of
from assay.train.treatment import Treatment
from assay.treatments.option import KEY, check, pattern


def rate(paths: str = "/embed/", times: float = 1.0) -> Treatment:
    check(times >= 0, "rate", "times", times, "it is at least 0")
    pattern("rate", "paths", paths)
    return Treatment(optimizer=partial(scaled, paths=paths, times=times), name="rate")


def scaled(optimizer: optax.GradientTransformation, paths: str, times: float) -> optax.GradientTransformation:
    """The optimizer, whose updates (weight decay included) are multiplied on some paths."""

    def init(params: PyTree) -> PyTree:
        if not any(jax.tree.leaves(select(params, paths))):
            some = ", ".join(paths_of(params)[:5])
            raise UserError(f"the treatment 'rate' has paths={paths}, which no trained parameter's path holds. Some paths: {some}. {KEY}")
        return optimizer.init(params)

    def update(grads: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        updates, state = optimizer.update(grads, state, params)
        return jax.tree.map(lambda leaf, chosen: leaf * times if chosen else leaf, updates, select(updates, paths)), state

    return optax.GradientTransformation(init, update)
