"""Keras 3 with the JAX backend: `model.stateless_call(trainable, non_trainable, inputs, training=...)`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.models.brought.call import Form, Layout, Reading
from assay.models.brought.library import Library, Ran
from assay.models.brought.parts import Names, nested, value_at
from assay.models.model import STATE


def library(model: Any, layout: Layout, reading: Reading) -> Library:
    """Returns a built Keras model with the variables that it holds. Raises UserError for another backend, or a model without variables."""
    del reading
    if not hasattr(model, "stateless_call"):
        raise UserError(f"from_keras takes a Keras 3 model, not {type(model).__name__}.")
    if not getattr(model, "built", True) or not model.variables:
        raise UserError("the Keras model has no variables yet: train it, load its weights, or call it once.")
    learned, kept = (_named(group) for group in (model.trainable_variables, model.non_trainable_variables))
    other = next((value for value in [*learned.values(), *kept.values()] if not isinstance(value, jax.Array)), None)
    if other is not None:
        raise UserError(
            f"the Keras model's variables are {type(other).__module__.partition('.')[0]} arrays: set KERAS_BACKEND=jax before Keras is "
            "imported, and load the model again."
        )

    def run(params: PyTree, use: Callable[[Any], Any], key: Any, train: bool) -> Ran:
        del key  # Keras keeps its random seeds among the variables that are not trained
        found: dict[str, Any] = {}
        trained, held = ([value_at(tree, names) for names in group] for tree, group in ((params, learned), (params.get(STATE, {}), kept)))

        def call(*arguments: Any, **keywords: Any) -> Any:
            result, after = model.stateless_call(trained, held, *arguments, **{"training": train, **keywords})
            found.update(nested(dict(zip(kept, after, strict=True))))
            return result

        return Ran(use(call), found if train else {})

    params = {**nested(learned), STATE: nested(kept)} if kept else nested(learned)
    ways: list[tuple[str, Callable]] = [("inputs", lambda inputs: (list(inputs),) if layout.kind == "tuple" else (inputs,))]
    if layout.kind == "tuple":
        ways.append(("*inputs", lambda inputs: inputs))
    known = [Form(f"({shown}, training=train)", _using(way)) for shown, way in ways]
    return Library("model", params, run, known)


# -- private --------------------------------------------------------------------------------------------------------------


def _using(way: Callable) -> Callable:
    return lambda model, inputs, batch, train, key: model(*way(inputs))


def _named(variables: Sequence[Any]) -> dict[Names, Any]:
    """Returns the values of variables by path; a path that occurs twice gets a number."""
    found: dict[Names, Any] = {}
    for variable in variables:
        names = tuple(variable.path.split("/"))
        while names in found:
            names = (*names[:-1], f"{names[-1]}_again")
        found[names] = variable.value
    return found
