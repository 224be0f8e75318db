"""The range of a task's inputs, and the one conversion between distances in units of that range and in the numbers a model reads.

    bounds = task.bounds                        # Bounds(-1.0, 1.0, "black to white") for images
    radius = bounds.to_inputs(0.3)              # the 0.3 of papers, whose pixels lie in [0, 1], is 0.6 here
    bounds.clip(inputs + radius * jnp.sign(gradient))

Every eps, sigma and radius that a config, a row or a page names is in units of [0, 1]; only this file knows the scale of the inputs.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Bounds(NamedTuple):
    """The least and the greatest input. `unit` says what a distance of 1 is. Inputs without a range have infinite bounds, and a distance of
    1 is then 1 in the numbers that the model reads."""

    low: float
    high: float
    unit: str

    @property
    def scale(self) -> float:
        """The distance in inputs that a distance of 1 is."""
        return self.high - self.low if math.isfinite(self.high - self.low) else 1.0

    def to_inputs(self, distance: Any) -> Any:
        """An eps, sigma or radius in units of [0, 1], in the numbers that the model reads."""
        return distance * self.scale

    def from_inputs(self, distance: Any) -> Any:
        """A distance between inputs as the model reads them, in units of [0, 1]."""
        return distance / self.scale

    def clip(self, inputs: jax.Array | np.ndarray) -> jax.Array:
        """Inputs within the bounds, of any shape."""
        return jnp.clip(inputs, self.low, self.high)
