"""Normalisations by name. None keeps statistics of a batch: models have parameters and nothing else."""

from collections.abc import Callable, Mapping

import flax.linen as nn

NORMS: Mapping[str, Callable[..., nn.Module]] = {
    "layernorm": nn.LayerNorm,  # Ba et al. 2016
    "rmsnorm": nn.RMSNorm,  # Zhang and Sennrich 2019
}
