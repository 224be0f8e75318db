"""Learning-rate multiplier: multiplies the optimizer's updates of the parameters whose path matches a regex.

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
    """Returns the learning-rate-multiplier treatment.

    Args:
        paths: regex of the parameter paths.
        times: factor of their updates; at least 0.
    """
    check(times >= 0, "rate", "times", times, "it must be at least 0")
    pattern("rate", "paths", paths)
    return Treatment(optimizer=partial(scaled, paths=paths, times=times), name="rate")


def scaled(optimizer: optax.GradientTransformation, paths: str, times: float) -> optax.GradientTransformation:
    """Multiplies the optimizer's updates, weight decay included, on the matching paths. Raises UserError if no path matches."""

    def init(params: PyTree) -> PyTree:
        if not any(jax.tree.leaves(select(params, paths))):
            some = ", ".join(paths_of(params)[:5])
            raise UserError(f"the treatment 'rate' has paths={paths}, which matches no trained parameter. Some paths: {some}. {KEY}")
        return optimizer.init(params)

    def update(grads: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        updates, state = optimizer.update(grads, state, params)
        return jax.tree.map(lambda leaf, chosen: leaf * times if chosen else leaf, updates, select(updates, paths)), state

    return optax.GradientTransformation(init, update)
