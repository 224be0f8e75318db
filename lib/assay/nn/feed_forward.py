"""The feed-forward layer: down(f(up(x))), or down(f(gate(x)) * up(x)) with a gated activation (GLU, Shazeer 2020)."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from assay.core.tree import widened
from assay.nn.product import Dense
from assay.nn.tap import tap


class Activation(NamedTuple):
    fn: Callable[[jax.Array], jax.Array]
    gated: bool = False  # True: `fn` is applied to a second matrix, `up_gate`, which multiplies the first


ACTIVATIONS: Mapping[str, Activation] = {
    "relu": Activation(jax.nn.relu),
    "gelu": Activation(jax.nn.gelu),  # Hendrycks and Gimpel 2016
    "swiglu": Activation(jax.nn.silu, gated=True),  # Shazeer 2020
}


def small_normal(scale: float) -> nn.initializers.Initializer:
    """LeCun normal initializer with its variance scaled by `scale`, for matrices that write into the residual stream."""
    return nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")


def feed_forward(
    module: nn.Module,
    x: Float[Array, "rows width"],
    features: int,
    activation: str,
    dtype: jnp.dtype,
    scale: float = 1.0,
    bias: bool = True,
) -> Float[Array, "rows width"]:
    """Applies the matrices `up`, `down` (and `up_gate`) of `module`; taps the hidden activations as `mlp`."""
    chosen = ACTIVATIONS[activation]
    hidden = Dense(features, use_bias=bias, dtype=dtype, name="up")(x)
    gate = Dense(features, use_bias=bias, dtype=dtype, name="up_gate")(x) if chosen.gated else None
    hidden = tap(module, "mlp", _in_float32(chosen.fn, hidden) if gate is None else _in_float32(chosen.fn, gate) * hidden, "bs w")
    return Dense(x.shape[1], use_bias=bias, dtype=dtype, kernel_init=small_normal(scale), name="down")(hidden)


def copy_gate(module: nn.Module, x: Float[Array, "rows width"], dtype: jnp.dtype) -> Float[Array, "rows width"]:
    """Returns the share of each feature that a block replaces: sigmoid(FFN(x)) (Csordas et al. 2021).

    It is initially small (bias -3), so that a block copies its input until it has learned to change it.
    """
    width = x.shape[1]
    hidden = jax.nn.relu(Dense(width, dtype=dtype, name="copy_up")(x))
    gate = Dense(width, dtype=dtype, bias_init=nn.initializers.constant(-3.0), name="copy_down")(hidden)
    return tap(module, "gate", jax.nn.sigmoid(gate), "bs w")


def _in_float32(fn: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Computes fn(x) in float32 if x is narrower, and recomputes it in the backward pass, so that only x is saved."""
    return fn(x) if widened(x) is x else jax.checkpoint(lambda x: fn(widened(x)).astype(x.dtype))(x)
