"""Matrices as whole numbers and scales, by qwix, and models that read them.

W ~ scale * q,  scale = max |W| / (2^(bits - 1) - 1/2)      over the numbers that share a scale

`quantized` stores the rounded numbers; `rounded` keeps the parameters and computes with their rounded values, for training. The factory of
the treatment is in quantize.py; what needs data (static scales, GPTQ, AWQ) is in calibrate.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.models.model import Model
from assay.treatments.compression.record import QVALUE, chosen, inapplicable, multiplies, parameters, reading, record, rewritten
from assay.treatments.option import KEY

FORMS: Mapping[str, Any] = {"int8": jnp.int8, "int4": jnp.int4, "nf4": "nf4", "fp8": jnp.float8_e4m3fn}
WHOLE = ("int8", "int4")  # forms whose numbers are evenly spaced, so that products of whole numbers are possible
ACTIVATIONS = ("none", "dynamic", "static")
METHODS = ("round", "gptq", "awq")
PATHS = r"/(kernel|recurrent|write|embedding)(/factor_[ab])?$"
STORED = r"/(qvalue|qscale|qscale_nf4|qchannel|qinput)$"  # what records hold; gradients do not reach it
TABLES = ("embedding", "positions")  # their rows are looked up: a row has a scale of its own

Record = dict[str, Any]


@dataclass(frozen=True)
class Spec:
    """How matrices are quantised."""

    form: str  # a name in FORMS
    block: int  # numbers of what is summed over that share a scale; 0: all
    activations: str  # a name in ACTIVATIONS: what is known beforehand of a dense layer's inputs, or whether they stay as they are
    method: str  # a name in METHODS


def quantized(model: Model, params: PyTree, spec: Spec, paths: str = PATHS) -> tuple[Model, PyTree]:
    """The model that reads quantised parameters, and these, rounded to the nearest. Raises UserError where it does not apply."""
    at = fitting(model, params, spec, paths)

    def change(path: str, node: Any) -> Any:
        if path not in at:
            return node
        extra = {}
        if spec.method == "awq" and multiplies(model, path, node):
            extra["qchannel"] = jnp.ones((node.shape[0], 1), jnp.float32)
        if spec.activations == "static" and multiplies(model, path, node):
            extra["qinput"] = jnp.ones((1, 1), jnp.float32)  # until examples have been read
        return quantized_array(node, path, spec) | extra

    def read(params: PyTree) -> PyTree:
        return rewritten(params, lambda path, node: _read(model, path, node, spec) if record(node, (QVALUE,)) else node)

    return reading(model, read, "quantize"), rewritten(params, change)


def rounded(model: Model, params: PyTree, spec: Spec, paths: str = PATHS) -> tuple[Model, PyTree]:
    """The model that computes with what its parameters are rounded to; gradients pass the rounding by (Bengio et al. 2013)."""
    at = fitting(model, params, spec, paths)

    def change(path: str, node: Any) -> Any:
        if path not in at:
            return node
        kernel = straight_through(node, dequantized(quantized_array(node, path, spec)))
        return Rounded(kernel) if spec.activations != "none" and multiplies(model, path, node) else kernel

    return reading(model, lambda params: rewritten(params, change), "quantize"), params


def fitting(model: Model, params: PyTree, spec: Spec, paths: str) -> frozenset[str]:
    """The paths of the matrices that will be quantised. Raises UserError where the model is none for it."""
    reason = applies(model, spec.form, spec.activations, spec.method)
    if reason:
        raise inapplicable("quantize", model, reason)
    at = frozenset(chosen("quantize", params, paths))
    for path, node in parameters(params):
        if record(node, (QVALUE,)):
            raise UserError(f"the model is quantised already: {path}. Name 'quantize' once. {KEY}")
        if record(node):
            raise UserError(f"{path} is adapted: quantize stands before lora, or after merge. {KEY}")
    dense = [path for path, node in parameters(params) if path in at and multiplies(model, path, node)]
    if not dense and (spec.activations != "none" or spec.method != "round"):
        raise inapplicable("quantize", model, f"with activations={spec.activations},method={spec.method} reads the inputs of dense layers")
    return at


def applies(model: Model, form: str = "int8", activations: str = "none", method: str = "round") -> str:
    """Why a form does not fit the model; "" where it does. Convolutions, recurrent matrices and embeddings have whole numbers as weights
    only: what they multiply stays as it is."""
    if model.fit is not None:
        return "has no matrices to round: the model is fitted by counting"
    if (activations != "none" or method != "round") and not type(model.module).__module__.startswith("assay."):
        return f"with activations={activations},method={method} needs the dense layers of this library"
    if form not in WHOLE and (activations != "none" or method != "round"):
        return f"multiplies whole numbers, and {form} is none"
    return ""


def quantized_array(array: Float[Array, "..."], path: str, spec: Spec) -> Record:
    """{"qvalue", "qscale"}: `qscale` has as many axes as the array, and a size that divides its own along each. For nf4 `qscale_nf4`, and
    `qvalue` is the place of the value among the sixteen, turned so that 0 is 0 and in -8 to 7: checkpoints have int4, and no uint4."""
    name, axis = path.rsplit("/", 1)[-1], array.ndim - 1
    table = name in TABLES
    summed = axis if table else axis - 1  # the last of the axes that are summed over
    tiles = {summed: spec.block} if spec.block and array.shape[summed] % spec.block == 0 else {}
    own = tuple(i for i in range(array.ndim) if i != summed) if tiles or table else (axis,)  # the axes that have scales of their own
    found = library().quantize(widened(array), FORMS[spec.form], channelwise_axes=own, tiled_axes=tiles)
    if spec.form == "nf4":
        return {"qvalue": ((found.qvalue.astype(jnp.int8) + 1) % 16 - 8).astype(jnp.int4), "qscale_nf4": found.scale}
    return {"qvalue": found.qvalue, "qscale": found.scale}


def dequantized(stored: Mapping[str, Any]) -> Float[Array, "..."]:
    """The matrix that a record stands for, in the type of its scales."""
    matrix = library().dequantize(_as_qwix(stored))
    return matrix / stored["qchannel"] if "qchannel" in stored else matrix


def straight_through(value: Float[Array, "*shape"], replaced: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`replaced`, with the gradient of `value`."""
    return (value + jax.lax.stop_gradient(replaced.astype(value.dtype) - value)).astype(value.dtype)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Quantized:
    """The kernel of a dense layer that multiplies whole numbers. Its inputs are rounded to 8 bits: one scale a row, or `qinput` for all."""

    stored: Mapping[str, Any]

    def product(self, x: Shaped[Array, "rows width"]) -> Float[Array, "rows features"]:
        return _whole_product(dict(self.stored), widened(x))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rounded:
    """A kernel in training whose inputs are rounded to 8 bits, one scale a row."""

    kernel: Float[Array, "width features"]

    def product(self, x: Shaped[Array, "rows width"]) -> Float[Array, "rows features"]:
        wide = widened(x)
        near = library().dequantize(library().quantize(wide, jnp.int8, channelwise_axes=(0,)))
        return straight_through(wide, near) @ widened(self.kernel)


def library() -> Any:
    """qwix. Raises UserError where it is not installed."""
    try:
        import qwix
    except ImportError:
        raise UserError("the treatment 'quantize' needs qwix: pip install \"assay[compress]\".") from None
    return qwix


# -- private --------------------------------------------------------------------------------------------------------------


def _read(model: Model, path: str, stored: Mapping[str, Any], spec: Spec) -> Any:
    whole = spec.activations != "none" and multiplies(model, path, stored)
    return Quantized(stored) if whole else dequantized(stored)


def _as_qwix(stored: Mapping[str, Any]) -> Any:
    qvalue = stored[QVALUE]
    if "qscale_nf4" in stored:
        return library().QArray(((qvalue.astype(jnp.int8) + 7) % 16).astype(jnp.uint4), stored["qscale_nf4"], None, "nf4")
    return library().QArray(qvalue, stored["qscale"], None, qvalue.dtype)


@jax.custom_vjp
def _whole_product(stored: Record, x: jax.Array) -> jax.Array:
    x = x / stored["qchannel"].T if "qchannel" in stored else x
    if "qinput" in stored:
        rounded = jnp.clip(jnp.round(x / stored["qinput"]), -127, 127).astype(jnp.int8)
        rows = library().QArray(rounded, stored["qinput"], None, jnp.int8)
    else:
        rows = library().quantize(x, jnp.int8, channelwise_axes=(0,))
    return library().dot_general(rows, _as_qwix(stored), (((1,), (0,)), ((), ())))


def _forward(stored: Record, x: jax.Array) -> tuple[jax.Array, Record]:
    return _whole_product(stored, x), stored


def _backward(stored: Record, grads: jax.Array) -> tuple[None, jax.Array]:
    return None, grads @ dequantized(stored).T  # as if nothing had been rounded; what is stored is not trained


_whole_product.defvjp(_forward, _backward)
