"""Quantized matrices, stored as integers and scales with qwix, and models that read them.

W ~ scale * q,  scale = max |W| / (2^(bits - 1) - 1/2)      over the weights that share a scale

`quantized` stores the rounded values. `rounded` keeps the parameters and computes with their rounded values, for training. The treatment
factory is in quantize.py, and calibration from data (static scales, GPTQ, AWQ) in calibrate.py.
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
WHOLE = ("int8", "int4")  # forms with evenly spaced values, which support integer matrix products
ACTIVATIONS = ("none", "dynamic", "static")
METHODS = ("round", "gptq", "awq")
PATHS = r"/(kernel|recurrent|write|embedding)(/factor_[ab])?$"
STORED = r"/(qvalue|qscale|qscale_nf4|qchannel|qinput)$"  # arrays stored in records; they receive no gradients
TABLES = ("embedding", "positions")  # lookup tables: each row has its own scale

Record = dict[str, Any]


@dataclass(frozen=True)
class Spec:
    """Settings of the quantization of matrices."""

    form: str  # a name in FORMS
    block: int  # number of weights along the contracted axis that share a scale; 0: all
    activations: str  # a name in ACTIVATIONS: how the scales of a dense layer's inputs are computed; none: not quantized
    method: str  # a name in METHODS


def quantized(model: Model, params: PyTree, spec: Spec, paths: str = PATHS) -> tuple[Model, PyTree]:
    """Returns a model that reads quantized parameters, and these, rounded to nearest. Raises UserError if it does not apply."""
    at = fitting(model, params, spec, paths)

    def change(path: str, node: Any) -> Any:
        if path not in at:
            return node
        extra = {}
        if spec.method == "awq" and multiplies(model, path, node):
            extra["qchannel"] = jnp.ones((node.shape[0], 1), jnp.float32)
        if spec.activations == "static" and multiplies(model, path, node):
            extra["qinput"] = jnp.ones((1, 1), jnp.float32)  # placeholder until calibration
        return quantized_array(node, path, spec) | extra

    def read(params: PyTree) -> PyTree:
        return rewritten(params, lambda path, node: _read(model, path, node, spec) if record(node, (QVALUE,)) else node)

    return reading(model, read, "quantize"), rewritten(params, change)


def rounded(model: Model, params: PyTree, spec: Spec, paths: str = PATHS) -> tuple[Model, PyTree]:
    """Returns a model that computes with rounded parameters; gradients pass straight through the rounding (Bengio et al. 2013)."""
    at = fitting(model, params, spec, paths)

    def change(path: str, node: Any) -> Any:
        if path not in at:
            return node
        kernel = straight_through(node, dequantized(quantized_array(node, path, spec)))
        return Rounded(kernel) if spec.activations != "none" and multiplies(model, path, node) else kernel

    return reading(model, lambda params: rewritten(params, change), "quantize"), params


def fitting(model: Model, params: PyTree, spec: Spec, paths: str) -> frozenset[str]:
    """Returns the paths of the matrices to quantize. Raises UserError if quantization does not apply to the model."""
    reason = applies(model, spec.form, spec.activations, spec.method)
    if reason:
        raise inapplicable("quantize", model, reason)
    at = frozenset(chosen("quantize", params, paths))
    for path, node in parameters(params):
        if record(node, (QVALUE,)):
            raise UserError(f"the model is already quantized: {path}. List 'quantize' only once. {KEY}")
        if record(node):
            raise UserError(f"{path} is adapted by lora: list quantize before lora, or after merge. {KEY}")
    dense = [path for path, node in parameters(params) if path in at and multiplies(model, path, node)]
    if not dense and (spec.activations != "none" or spec.method != "round"):
        raise inapplicable(
            "quantize", model, f"with activations={spec.activations},method={spec.method} requires the inputs of dense layers"
        )
    return at


def applies(model: Model, form: str = "int8", activations: str = "none", method: str = "round") -> str:
    """Returns why a form does not apply to the model, or "" if it does.

    In convolutions, recurrent matrices and embeddings only the weights are quantized, never the inputs.
    """
    if model.fit is not None:
        return "has no matrices to round: the model is fitted by counting"
    if (activations != "none" or method != "round") and not type(model.module).__module__.startswith("assay."):
        return f"with activations={activations},method={method} requires the dense layers of this library"
    if form not in WHOLE and (activations != "none" or method != "round"):
        return f"requires an integer format, not {form}"
    return ""


def quantized_array(array: Float[Array, "..."], path: str, spec: Spec) -> Record:
    """Returns the record {"qvalue", "qscale"} of an array.

    `qscale` has as many axes as the array, and its size along each axis divides the array's. For nf4, the scale is named `qscale_nf4`, and
    `qvalue` is the index among the sixteen values. It is rotated into the range -8 to 7 with 0 as 0, because checkpoints support int4, but
    not uint4.
    """
    name, axis = path.rsplit("/", 1)[-1], array.ndim - 1
    table = name in TABLES
    summed = axis if table else axis - 1  # the last contracted axis
    tiles = {summed: spec.block} if spec.block and array.shape[summed] % spec.block == 0 else {}
    own = tuple(i for i in range(array.ndim) if i != summed) if tiles or table else (axis,)  # axes with separate scales
    found = library().quantize(widened(array), FORMS[spec.form], channelwise_axes=own, tiled_axes=tiles)
    if spec.form == "nf4":
        return {"qvalue": ((found.qvalue.astype(jnp.int8) + 1) % 16 - 8).astype(jnp.int4), "qscale_nf4": found.scale}
    return {"qvalue": found.qvalue, "qscale": found.scale}


def dequantized(stored: Mapping[str, Any]) -> Float[Array, "..."]:
    """Returns the matrix that a record represents, in the dtype of its scales."""
    matrix = library().dequantize(_as_qwix(stored))
    return matrix / stored["qchannel"] if "qchannel" in stored else matrix


def straight_through(value: Float[Array, "*shape"], replaced: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns `replaced`, with the gradient of `value`."""
    return (value + jax.lax.stop_gradient(replaced.astype(value.dtype) - value)).astype(value.dtype)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Quantized:
    """Dense-layer kernel with an integer product. Its inputs are rounded to 8 bits, with one scale per row, or `qinput` for all rows."""

    stored: Mapping[str, Any]

    def product(self, x: Shaped[Array, "rows width"]) -> Float[Array, "rows features"]:
        """Multiplies quantized inputs by the quantized kernel."""
        return _whole_product(dict(self.stored), widened(x))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rounded:
    """Dense-layer kernel in training whose inputs are rounded to 8 bits, with one scale per row."""

    kernel: Float[Array, "width features"]

    def product(self, x: Shaped[Array, "rows width"]) -> Float[Array, "rows features"]:
        """Multiplies rounded inputs by the kernel, with straight-through gradients."""
        wide = widened(x)
        near = library().dequantize(library().quantize(wide, jnp.int8, channelwise_axes=(0,)))
        return straight_through(wide, near) @ widened(self.kernel)


def library() -> Any:
    """Returns the module qwix. Raises UserError if it is not installed."""
    try:
        import qwix
    except ImportError:
        raise UserError("the treatment 'quantize' requires qwix: pip install \"assay[compress]\".") from None
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
    return None, grads @ dequantized(stored).T  # straight-through gradient; stored arrays are not trained


_whole_product.defvjp(_forward, _backward)
