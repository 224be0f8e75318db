"""Normalisations by name, and where a block has them. None keeps statistics of a batch: models have parameters and nothing else."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax

NORMS: Mapping[str, Callable[..., nn.Module]] = {
    "layernorm": nn.LayerNorm,  # Ba et al. 2016
    "rmsnorm": nn.RMSNorm,  # Zhang and Sennrich 2019
}


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
