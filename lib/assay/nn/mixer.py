"""Token mixers of a block, by name: attention, or a recurrent layer that replaces it in some blocks of a hybrid model.

A recurrent layer carries a state from token to token, which attention of fixed depth cannot (Merrill and Sabharwal 2023, arXiv 2207.00729).
A mixer is called like attention: `(x, index, valid, cache, places) -> (mixed, cache)` on (batch * seq, width) activations. The cache of a
recurrent mixer is its state, whose size does not grow.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from assay.nn.feed_forward import small_normal
from assay.nn.product import Dense
from assay.nn.recurrent import CELLS, Bidirectional, Layer, Size, empty
from assay.nn.tap import tap

ATTENTION, LOCAL = "attention", "local"  # softmax attention to all tokens, and to the last few
BOTH = {"bilstm": "lstm"}  # bidirectional pairs of a cell, for encoders
MIXERS = (ATTENTION, LOCAL, *CELLS, *BOTH)


class RecurrentMixer(nn.Module):
    """A cell of `nn.recurrent.CELLS` over the tokens in order, and a matrix into the residual stream.

    A name in `BOTH` adds a second cell that reads from the last valid token to the first.
    """

    cell: str  # a name in CELLS or BOTH
    size: Size
    dtype: jnp.dtype = jnp.float32
    scale: float = 1.0  # factor of the initial variance of the output matrix

    @nn.compact
    def __call__(
        self, x: Float[Array, "rows width"], index: Int[Array, " seq"], valid: Any = None, cache: Any = None, places: Any = None
    ) -> tuple[Float[Array, "rows width"], Any]:
        """Applies the mixer. Padding is on the right, so one direction can ignore `valid`; positions enter only through the order of
        tokens."""
        (rows, width), seq = x.shape, len(index)
        steps = jnp.swapaxes(x.reshape(-1, seq, width), 0, 1)
        if self.cell in BOTH:
            hidden, state = Bidirectional(BOTH[self.cell], self.size, self.dtype, name="layer")(steps, jnp.sum(valid, axis=1)), None
        else:
            state = empty(self.cell, self.size, rows // seq, seq, self.dtype) if cache is None else cache
            hidden, state = Layer(self.cell, self.size, self.dtype, name="layer")(steps, state)
        hidden = jnp.swapaxes(hidden, 0, 1).reshape(rows, hidden.shape[-1])
        mixed = Dense(width, use_bias=False, dtype=self.dtype, kernel_init=small_normal(self.scale), name="out")(hidden)
        return tap(self, "out", mixed, "bs w"), state
