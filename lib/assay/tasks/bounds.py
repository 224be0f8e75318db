"""Input range of a task, and the conversion between distances in units of that range and distances in model inputs.

    bounds = task.bounds                        # Bounds(-1.0, 1.0, "black to white") for images
    radius = bounds.to_inputs(0.3)              # 0.3 in papers with pixels in [0, 1] is 0.6 here
    bounds.clip(inputs + radius * jnp.sign(gradient))

Every eps, sigma and radius in a config, a row or a page is in units of [0, 1]. Only this file knows the scale of the inputs.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Bounds(NamedTuple):
    """Least and greatest input. `unit` describes a distance of 1. Inputs without a range have infinite bounds; a distance of 1 then equals
    1 in model inputs."""

    low: float
    high: float
    unit: str

    @property
    def scale(self) -> float:
        """Returns the distance in model inputs that corresponds to a distance of 1."""
        return self.high - self.low if math.isfinite(self.high - self.low) else 1.0

    def to_inputs(self, distance: Any) -> Any:
        """Converts an eps, sigma or radius from units of [0, 1] to model inputs."""
        return distance * self.scale

    def from_inputs(self, distance: Any) -> Any:
        """Converts a distance between model inputs to units of [0, 1]."""
        return distance / self.scale

    def clip(self, inputs: jax.Array | np.ndarray) -> jax.Array:
        """Clips inputs of any shape to the bounds."""
        return jnp.clip(inputs, self.low, self.high)
