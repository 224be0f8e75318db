"""Normalization layers by name, and their placement in a block. None keeps batch statistics: models have parameters only."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from assay.core.tree import widened


class NoNorm(nn.Module):
    """The identity with the interface of a norm, for models without norms, such as those of Nanda et al. 2023."""

    dtype: jnp.dtype = jnp.float32
    use_fast_variance: bool = True

    def __call__(self, x: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
        return x.astype(self.dtype)


NORMS: Mapping[str, Callable[..., nn.Module]] = {
    "layernorm": nn.LayerNorm,  # Ba et al. 2016
    "rmsnorm": nn.RMSNorm,  # Zhang and Sennrich 2019
    "none": NoNorm,
}

VARIANCES: Mapping[str, bool] = {  # how a layer norm computes the variance -> True if in one pass
    "fast": True,  # mean(x^2) - mean(x)^2, which cancels if the mean is large relative to the deviation
    "two_pass": False,  # mean((x - mean(x))^2)
}


class GroupNorm(nn.Module):
    """GroupNorm (Wu and He 2018) over images, with the parameters of Linen's and, except for rounding, its values.

    Pixels are averaged per channel first, then the few channels of a group. XLA:CPU averages over both at once far more slowly (a sixth of
    a ResNet's step).
    """

    groups: int  # must divide the number of channels
    dtype: jnp.dtype = jnp.float32
    scale_init: nn.initializers.Initializer = nn.initializers.ones_init()
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        channels, wide = x.shape[-1], widened(x)
        scale = self.param("scale", self.scale_init, (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        mean, square = (self.of_groups(part.mean(axis=(1, 2))) for part in (wide, wide * wide))
        factor = scale[None] * jax.lax.rsqrt(jnp.maximum(square - mean * mean, 0.0) + self.epsilon)  # [batch, channels]
        return (wide * factor[:, None, None] + (bias[None] - mean * factor)[:, None, None]).astype(self.dtype)

    def of_groups(self, values: Float[Array, "batch channels"]) -> Float[Array, "batch channels"]:
        """Returns the mean over each group, repeated for each of its channels."""
        grouped = values.reshape(len(values), self.groups, -1).mean(axis=-1)
        return jnp.repeat(grouped, values.shape[-1] // self.groups, axis=-1)


class Place(NamedTuple):
    """The placement of a norm: a sublayer f of a block computes x -> leave(norm, x + f(enter(norm, x)))."""

    enter: Callable[[nn.Module, jax.Array], jax.Array]
    leave: Callable[[nn.Module, jax.Array], jax.Array]
    last: bool  # True if the stack ends with its own norm


def _normalise(norm: nn.Module, x: jax.Array) -> jax.Array:
    return norm(x)


def _keep(norm: nn.Module, x: jax.Array) -> jax.Array:
    return x


PLACES: Mapping[str, Place] = {
    "pre": Place(enter=_normalise, leave=_keep, last=True),  # Xiong et al. 2020
    "post": Place(enter=_keep, leave=_normalise, last=False),  # Vaswani et al. 2017
}
