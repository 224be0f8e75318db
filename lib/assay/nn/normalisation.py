"""Normalisations by name, and where a block has them. None keeps statistics of a batch: models have parameters and nothing else."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from assay.core.tree import widened


class NoNorm(nn.Module):
    """The identity, called as a norm is: for models that have none, such as those of Nanda et al. 2023."""

    dtype: jnp.dtype = jnp.float32
    use_fast_variance: bool = True

    def __call__(self, x: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
        return x.astype(self.dtype)


NORMS: Mapping[str, Callable[..., nn.Module]] = {
    "layernorm": nn.LayerNorm,  # Ba et al. 2016
    "rmsnorm": nn.RMSNorm,  # Zhang and Sennrich 2019
    "none": NoNorm,
}

VARIANCES: Mapping[str, bool] = {  # how a layer norm computes a variance -> whether in one pass
    "fast": True,  # mean(x^2) - mean(x)^2, which cancels where the mean is large against the deviation
    "two_pass": False,  # mean((x - mean(x))^2)
}


class GroupNorm(nn.Module):
    """Wu and He 2018, over pictures; Linen's parameters and, but for rounding, its values. Pixels are summed first, channel by channel, and
    then the few channels of a group: XLA:CPU sums over both at once far more slowly (a sixth of a ResNet's step)."""

    groups: int  # divides the channels
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
        """The mean over each group, for each of its channels."""
        grouped = values.reshape(len(values), self.groups, -1).mean(axis=-1)
        return jnp.repeat(grouped, values.shape[-1] // self.groups, axis=-1)


class Place(NamedTuple):
    """A half f of a block, with its norm, is x -> leave(norm, x + f(enter(norm, x)))."""

    enter: Callable[[nn.Module, jax.Array], jax.Array]
    leave: Callable[[nn.Module, jax.Array], jax.Array]
    last: bool  # whether the stack ends with a norm of its own


def _normalise(norm: nn.Module, x: jax.Array) -> jax.Array:
    return norm(x)


def _keep(norm: nn.Module, x: jax.Array) -> jax.Array:
    return x


PLACES: Mapping[str, Place] = {
    "pre": Place(enter=_normalise, leave=_keep, last=True),  # Xiong et al. 2020
    "post": Place(enter=_keep, leave=_normalise, last=False),  # Vaswani et al. 2017
}
