"""The precision of a model: the dtypes in which parameters are kept, activations computed and logits handed on.

    params    what the state and a checkpoint hold; gradients have it too. An optimiser works in float32 all the same (train/step.py)
    compute   activations and matrix products; the families take it when they are built
    output    logits; half the memory where there are many classes

Scores cast logits to float32 before they take a logarithm or a mean, whatever they were handed. The policy is that of Micikevicius et al.
2018 (arXiv 1710.03740) without loss scaling, which bfloat16's range makes unnecessary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp

from assay.config.schema import require
from assay.core.errors import unknown
from assay.core.tree import PyTree, floats_as, widened
from assay.models.model import Batch, Decode, Model, Output

DTYPES: Mapping[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}


@dataclass(frozen=True)
class PrecisionConfig:
    params: str  # dtype of parameters; in bfloat16 an update below 1/256 of a parameter is lost
    compute: str  # dtype of activations and matrix products
    output: str  # dtype of logits; the loss stays float32

    def __post_init__(self):
        for field in fields(self):
            if getattr(self, field.name) not in DTYPES:
                raise unknown("precision", getattr(self, field.name), DTYPES, f"--config.precision.{field.name}")
            wide = getattr(self, field.name) == "float64" and not jax.config.read("jax_enable_x64")
            require(not wide, f"precision.{field.name}", "float64", "JAX has it where the environment sets JAX_ENABLE_X64=1")


def with_precision(model: Model, config: PrecisionConfig) -> Model:
    """The model with its parameters and logits in the dtypes that `config` names.

    Parameters in float32 and logits in float32 leave it untouched, and so does a model that is fitted by counting.
    """
    if model.fit is not None:
        return model
    return _with_output(_with_params(model, DTYPES[config.params]), DTYPES[config.output])


# -- private --------------------------------------------------------------------------------------------------------------


def _with_params(model: Model, dtype: Any) -> Model:
    """Kept in `dtype`; the model sees them in float32, which holds every number of a smaller type."""
    if dtype == jnp.float32:
        return model
    decode = model.decode

    def init(key: jax.Array, batch: Batch) -> PyTree:
        return floats_as(dtype, model.init(key, batch))

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
