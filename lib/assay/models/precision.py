"""The precision policy of a model: dtypes of parameters, activations and logits.

    params    dtype of parameters in the state and in checkpoints, and of gradients. Optimizers still work in float32 (train/step.py)
    compute   dtype of activations and matrix products; passed to the model family when the model is built
    output    dtype of logits; bfloat16 halves their memory if there are many classes

Scores cast logits to float32 before any logarithm or mean. The policy follows Micikevicius et al. 2018 (arXiv 1710.03740), without loss
scaling, which the range of bfloat16 makes unnecessary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp

from assay.config.schema import require
from assay.core.errors import unknown
from assay.core.tree import PyTree, floats_as, widened
from assay.models.model import STATE, Batch, Decode, Model, Output

DTYPES: Mapping[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}


@dataclass(frozen=True)
class PrecisionConfig:
    params: str  # dtype of parameters; in bfloat16, updates below 1/256 of a parameter are lost
    compute: str  # dtype of activations and matrix products
    output: str  # dtype of logits; the loss remains float32

    def __post_init__(self):
        for field in fields(self):
            if getattr(self, field.name) not in DTYPES:
                raise unknown("precision", getattr(self, field.name), DTYPES, f"--config.precision.{field.name}")
            wide = getattr(self, field.name) == "float64" and not jax.config.read("jax_enable_x64")
            require(not wide, f"precision.{field.name}", "float64", "float64 requires JAX_ENABLE_X64=1 in the environment")


def with_precision(model: Model, config: PrecisionConfig) -> Model:
    """Returns the model with its parameters and logits in the dtypes that `config` names.

    A model with float32 parameters and logits, or one that is fitted by counting, is returned unchanged.
    """
    if model.fit is not None:
        return model
    return _with_output(_with_params(model, DTYPES[config.params]), DTYPES[config.output])


# -- private --------------------------------------------------------------------------------------------------------------


def _with_params(model: Model, dtype: Any) -> Model:
    """Stores parameters in `dtype`; the model receives them in float32, which represents every number of a narrower type.

    Batch statistics stay in float32: a running average of narrower numbers stops moving.
    """
    if dtype == jnp.float32:
        return model
    decode = model.decode

    def init(key: jax.Array, batch: Batch) -> PyTree:
        made = model.init(key, batch)
        return {**floats_as(dtype, made), STATE: made[STATE]} if STATE in made else floats_as(dtype, made)

    def apply(params: PyTree, batch: Batch, **keywords: Any) -> Output:
        return model.apply(widened(params), batch, **keywords)

    if decode is None:
        return replace(model, init=init, apply=apply)
    start, extend = decode.init_cache, decode.extend
    cached = Decode(
        lambda params, batch, max_length: start(widened(params), batch, max_length),
        lambda params, cache, tokens: extend(widened(params), cache, tokens),
    )
    return replace(model, init=init, apply=apply, decode=cached)


def _with_output(model: Model, dtype: Any) -> Model:
    if dtype == jnp.float32:
        return model
    decode = model.decode

    def apply(params: PyTree, batch: Batch, **keywords: Any) -> Output:
        output = model.apply(params, batch, **keywords)
        return output._replace(logits=floats_as(dtype, output.logits))

    if decode is None:
        return replace(model, apply=apply)
    step = decode.extend

    def extend(params: PyTree, cache: PyTree, tokens: jax.Array) -> tuple[jax.Array, PyTree]:
        logits, cache = step(params, cache, tokens)
        return logits.astype(dtype), cache

    return replace(model, apply=apply, decode=replace(decode, extend=extend))
