"""Functions: `apply(params, inputs)` in JAX, and NumPy functions that only answer (scikit-learn, PyTorch, an API).

What a NumPy function returns is taken as probabilities if all of it lies in [0, 1] and, for classes, adds up to 1; otherwise as logits.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.models.brought.call import Layout, Reading, as_logits, forms, read, said
from assay.models.brought.library import Library, Ran
from assay.models.brought.parts import INSIDE, Parts, divide
from assay.models.model import STATE, Batch, Model, Output

ANSWERS = "from_predict gives answers, no gradients"  # why a row does not apply
TINY = 1e-12  # least probability, so that its logarithm is finite
ROUNDING = 1e-3  # by which probabilities may miss a sum of 1
HINT = (
    "apply(params, batch) must be a JAX function of batch['inputs'] that returns logits, or (logits, taps by name); "
    "or pass call=lambda model, inputs, train: model(inputs), where model has the parameters bound."
)
LIBRARIES = {"flax.linen": "from_linen", "flax.nnx": "from_nnx", "equinox": "from_equinox", "haiku": "from_haiku", "keras": "from_keras"}


def library(apply: Callable[..., Any], params: PyTree, layout: Layout, reading: Reading, batches: bool) -> Library:
    """Returns a JAX function with its parameters. `batches`: whether it is first tried as apply(params, batch)."""
    del reading
    parts = _parts(params)

    def run(params: PyTree, use: Callable[[Any], Any], key: Any, train: bool) -> Ran:
        del key, train
        return Ran(use(partial(apply, parts.tree(params))), {})

    known = forms(layout, getattr(apply, "plain", apply), skip=1, batches=batches)  # of a Model's apply, what it says itself
    return Library("apply", parts.params, run, [form._replace(shown=f"(params, {form.shown[1:]}") for form in known], hint=HINT, named=True)


def made_by(value: Any) -> str:
    """Returns the name of the function of `assay` that takes such a value: "from_nnx" for an NNX model; "" for a plain function."""
    for kind in type(value).__mro__:
        for package, name in LIBRARIES.items():
            if f"{kind.__module__}.".startswith(f"{package}."):
                return name
    return ""


def answering(function: Callable[..., Any], layout: Layout, batch: Batch, where: str, reading: Reading, several: str) -> Model:
    """Returns the Model of a NumPy function: answers from the host, without gradients.

    Args:
        batch: examples on which the function is tried.
        several: "labels" if an example has several labels, "numbers" for a regression, "" for classes.

    Raises UserError if the function fails, or does not return one row per example.
    """

    def call(batch: Mapping[str, Any]) -> np.ndarray:
        inputs = layout.inputs({name: np.asarray(array) for name, array in batch.items()})  # type: ignore[misc]  # of the host
        if reading.call is not None:
            found = reading.call(function, inputs, False)
        else:
            found = function(*inputs) if layout.kind == "tuple" else function(inputs)
        return np.asarray(read(found, reading.output, "function")[0], np.float32)

    try:
        tried = call(batch)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"function fails on {where}: {said(error)}. It must take NumPy arrays and return one row per example.") from error
    rows = len(batch["inputs"])
    if tried.shape[:1] != (rows,):
        raise UserError(f"function returns shape {list(tried.shape)} for {where}: return one row per example.")
    if tried.ndim == 1 and several != "numbers":
        raise UserError(f"function returns one value per example for {where}: return probabilities or logits, as predict_proba does.")
    inside = several != "numbers" and bool((tried >= 0).all() and (tried <= 1).all())
    summed = bool(np.abs(tried.sum(axis=-1) - 1).max() < ROUNDING) if inside else False
    probabilities = inside and (summed or several == "labels")

    def answers(batch: Batch) -> jax.Array:
        used = {name: array for name, array in batch.items() if name == "inputs" or name.startswith("inputs/")}
        shape = jax.ShapeDtypeStruct((len(batch["inputs"]), *tried.shape[1:]), jnp.float32)
        found = _without_gradient(call, shape)(used)
        if not probabilities:
            return as_logits(found)
        likely = jnp.log(jnp.clip(found, TINY, 1.0))
        return likely - jnp.log(jnp.clip(1 - found, TINY, 1.0)) if several == "labels" else likely

    def init(key: jax.Array, batch: Batch) -> PyTree:
        del key, batch
        return {}

    def apply(params: PyTree, batch: Batch, *, key: Any = None, train: bool = False, edits: Any = None) -> Output:
        del params, key, edits
        if train:
            raise UserError(f"{ANSWERS}, so this model cannot be trained. Bring it by another function, such as assay.from_function.")
        return Output(answers(batch), {})

    return Model(init, apply, opaque=ANSWERS)


# -- private --------------------------------------------------------------------------------------------------------------


def _parts(params: PyTree) -> Parts:
    """Divides the parameters of a function; whatever stands beside {"params": ...} is state, as is the "state" of an Assay Model."""
    if isinstance(params, Mapping) and INSIDE in params and len(params) > 1:
        return divide(params[INSIDE], state={name: tree for name, tree in params.items() if name != INSIDE})
    if isinstance(params, Mapping) and isinstance(params.get(STATE), Mapping):
        return Parts(dict(params), lambda tree: tree)
    return divide(params)


def _without_gradient(call: Callable[..., np.ndarray], shape: Any) -> Callable[..., jax.Array]:
    """Returns a function that asks the host; its derivative is an error that says why there is none."""

    @jax.custom_jvp
    def ask(batch: Mapping[str, jax.Array]) -> jax.Array:
        if any(isinstance(array, jax.core.Tracer) for array in batch.values()):
            return jax.pure_callback(call, shape, batch)
        return jnp.asarray(call(batch))

    @ask.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        del primals, tangents
        raise UserError(f"{ANSWERS}. Bring the model by another function, such as assay.from_function.")

    return ask
