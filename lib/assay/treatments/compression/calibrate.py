"""Calibration: quantization that depends on the inputs x of each dense layer. Examples are fed to the model as in training.

    static     input scale = max |x| / 127, on the split `valid`
    gptq       rounds W one input at a time; later inputs compensate for the error in x W (Frantar et al. 2023, arXiv 2210.17323)
    awq        gives inputs with large mean magnitude finer scales, W_i s_i with x_i / s_i (Lin et al. 2024, arXiv 2306.00978), with qwix

GPTQ and AWQ read training examples. The split `test` is never read. Matrices outside dense layers are rounded to nearest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from assay.core.tree import PyTree, widened
from assay.models.model import Model
from assay.nn.product import product
from assay.tasks.task import Task
from assay.treatments.compression.batches import batches
from assay.treatments.compression.record import inapplicable, multiplies, rewritten
from assay.treatments.compression.rounding import FORMS, Record, Spec, fitting, library, quantized, quantized_array

DAMPING = 0.01  # GPTQ: fraction of the mean diagonal of x'x that is added to the diagonal
STEP = 127.0  # largest quantized input

Statistics = Mapping[str, Mapping[str, jax.Array]]  # path of a kernel -> "largest" [], "gram" [n, n], "mean" [n]


def calibrated(model: Model, params: PyTree, task: Task, spec: Spec, paths: str, examples: int) -> PyTree:
    """Returns calibrated parameters, with the shapes that `quantized` returns. Raises UserError if the model is not supported."""
    at = fitting(model, params, spec, paths)
    static = statistics(model, params, at, batches(task, "valid", examples), ()) if spec.activations == "static" else {}
    wanted = {"gptq": ("gram",), "awq": ("mean",)}.get(spec.method, ())
    inputs = statistics(model, params, at, batches(task, "train", examples), wanted) if wanted else {}

    def change(path: str, node: Any) -> Any:
        if path not in at:
            return node
        seen, found = inputs.get(path), None
        if seen is not None:
            found = gptq(node, seen["gram"], spec) if spec.method == "gptq" else awq(node, seen["mean"], spec)
        stored = quantized_array(node, path, spec) if found is None else found
        if path in static:
            stored["qinput"] = jnp.maximum(static[path]["largest"] / STEP, jnp.finfo(jnp.float32).tiny).reshape(1, 1)
        return stored

    shapes = jax.eval_shape(lambda params: quantized(model, params, spec, paths)[1], params)
    return _completed(rewritten(params, change), shapes)


def statistics(
    model: Model, params: PyTree, at: frozenset[str], read: Iterator[Mapping[str, np.ndarray]], wanted: tuple[str, ...] = ("gram", "mean")
) -> Statistics:
    """Returns input statistics of each dense layer whose kernel is in `at`.

    These are the largest magnitude and, if in `wanted`, the sums over batches of the Gram matrix x'x and of the mean magnitude per input.
    """
    model = _unrolled(model)

    @jax.jit
    def one(params: PyTree, batch: Mapping[str, jax.Array]) -> dict[str, dict[str, jax.Array]]:
        found: dict[str, dict[str, jax.Array]] = {}

        def seen(path: str, x: jax.Array) -> None:
            size = jnp.abs(x)
            of = {"largest": size.max(), "gram": x.T @ x, "mean": size.mean(axis=0)}
            found[path] = _joined(found.get(path), {name: of[name] for name in ("largest", *wanted)})

        def watch(path: str, node: Any) -> Any:
            return Watched(node, path, seen) if path in at and multiplies(model, path, node) else node

        model.apply(rewritten(params, watch), batch)
        return found

    whole: dict[str, dict[str, jax.Array]] = {}
    for batch in read:
        for path, new in one(params, batch).items():
            whole[path] = _joined(whole.get(path), new)
    return whole


@partial(jax.jit, static_argnames=("spec",))
def gptq(kernel: Float[Array, "inputs outputs"], gram: Float[Array, "inputs inputs"], spec: Spec) -> Record:
    """Returns the record of a kernel that approximately preserves products with inputs of this Gram matrix.

    It follows the paper without the lazy blocks of columns, which only change the order of the sums. The implementation in qwix unrolls its
    loop, which took 25 s to compile for 256 inputs, and keeps the scales of a block's initial weights (measured).
    """
    inputs, wide = kernel.shape[0], widened(kernel)
    unread = jnp.diag(gram) == 0
    wide = jnp.where(unread[:, None], 0.0, wide)
    gram = gram + jnp.diag(jnp.where(unread, 1.0, 0.0) + DAMPING * jnp.diag(gram).mean())
    inverse = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(gram), True), jnp.eye(inputs, dtype=wide.dtype))
    upper = jnp.linalg.cholesky(inverse).T
    block = spec.block if spec.block and inputs % spec.block == 0 else inputs
    steps = _round(wide, spec, block)[1]

    def scales(i: jax.Array, wide: jax.Array, steps: jax.Array) -> jax.Array:
        """Updates the scales of the block that starts at input i, from its current weights."""
        _, new = _round(jax.lax.dynamic_slice_in_dim(wide, i, block, axis=0), spec, block)
        return jax.lax.dynamic_update_slice_in_dim(steps, new, i // block, axis=0)

    def one(i: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        wide, whole, steps = carry
        steps = jax.lax.cond(i % block == 0, scales, lambda i, wide, steps: steps, i, wide, steps)
        step, row = steps[i // block], wide[i]
        q = jnp.round(row / step).astype(FORMS[spec.form])
        error = (row - q.astype(row.dtype) * step) / upper[i, i]
        later = jnp.where(jnp.arange(inputs) > i, upper[i], 0.0)
        return wide - later[:, None] * error[None, :], whole.at[i].set(q), steps

    whole = jnp.zeros(wide.shape, FORMS[spec.form])
    _, whole, steps = jax.lax.fori_loop(0, inputs, one, (wide, whole, steps))
    return {"qvalue": whole, "qscale": steps}


def awq(kernel: Float[Array, "inputs outputs"], mean: Float[Array, " inputs"], spec: Spec) -> Record:
    """Returns the record of a kernel whose inputs have mean magnitudes `mean`. `qchannel` [inputs, 1] are the factors of its rows."""
    library()
    from qwix.contrib import awq_core

    tiles = {1: spec.block} if spec.block and kernel.shape[0] % spec.block == 0 else {}
    how = awq_core.qarray.HowToQuantize(qtype=FORMS[spec.form], channelwise_axes=(0,), tiled_axes=tiles)
    found, channel = awq_core.quantize_weight(widened(kernel).T, mean, how)
    return {"qvalue": found.qvalue.T, "qscale": found.scale.T, "qchannel": channel.T}


@partial(jax.tree_util.register_dataclass, data_fields=["kernel"], meta_fields=["path", "seen"])
@dataclass(frozen=True)
class Watched:
    """Kernel that passes its inputs to a callback."""

    kernel: Float[Array, "width features"]
    path: str
    seen: Any = field(compare=False)  # callback (path, x) -> None, called while the model is traced

    def product(self, x: Shaped[Array, "rows width"]) -> Float[Array, "rows features"]:
        """Multiplies inputs by the kernel, and passes them to `seen`."""
        self.seen(self.path, widened(x))
        return widened(product("ab", x, self.kernel.astype(x.dtype)))


# -- private --------------------------------------------------------------------------------------------------------------


def _round(wide: jax.Array, spec: Spec, block: int) -> tuple[jax.Array, jax.Array]:
    found = quantized_array(wide, "kernel", replace(spec, block=block if block < wide.shape[0] else 0))
    return found["qvalue"], found["qscale"]


def _joined(first: Mapping[str, jax.Array] | None, second: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    if first is None:
        return dict(second)
    return {name: (jnp.maximum if name == "largest" else jnp.add)(first[name], value) for name, value in second.items()}


def _completed(stored: PyTree, shapes: PyTree) -> PyTree:
    """Fills in ones for layers that were not called, whose input statistics are unknown."""
    if isinstance(shapes, Mapping):
        return {name: _completed(stored.get(name), shape) for name, shape in shapes.items()}
    return jnp.ones(shapes.shape, shapes.dtype) if stored is None else stored


def _unrolled(model: Model) -> Model:
    """Returns the model without the scan over blocks, because values traced inside a scan cannot be read outside."""
    config = getattr(model.module, "config", None)
    if not getattr(config, "scan", False):
        return model
    if model.remake is None:
        raise inapplicable("quantize", model, "does not support model.scan=True; --config.model.scan=false has the same parameters")
    return model.remake(replace(model.settings, scan=False))
