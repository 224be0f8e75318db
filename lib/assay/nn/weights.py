"""Functions from attention logits to attention weights, by name.

softmax    exp(s_ij) / sum_k exp(s_ik), over the visible keys
geometric  attention to the nearest matching key (Csordas et al. 2021, arXiv 2110.07732). Each key matches independently with probability
           sigmoid(s_ij), and the first match on a walk away from the query gets the attention. Of two keys at equal distance, the walk
           meets the left one last. Weights sum to at most one, and the query's own token has weight zero.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

NEVER = -1e30  # the logit of a masked key

Weigh = Callable[..., jax.Array]  # (logits, allowed, query_index, key_index) -> weights, all in float32


def softmax(
    logits: Float[Array, "batch heads query key"],
    allowed: Bool[Array, "#batch 1 #query key"] | None,
    query_index: Int[Array, " query"] | None = None,
    key_index: Int[Array, " key"] | None = None,
) -> Float[Array, "batch heads query key"]:
    """Softmax over the visible keys. A query without visible keys attends uniformly, which keeps padded rows finite."""
    del query_index, key_index
    return jax.nn.softmax(logits if allowed is None else jnp.where(allowed, logits, NEVER), axis=-1)


def geometric(
    logits: Float[Array, "batch heads query key"],
    allowed: Bool[Array, "#batch 1 #query key"] | None,
    query_index: Int[Array, " query"],
    key_index: Int[Array, " key"],
) -> Float[Array, "batch heads query key"]:
    """weight_ij = sigmoid(s_ij) * product over the keys k met before j of (1 - sigmoid(s_ik)). Key indices must be consecutive.

    The keys met before j form a contiguous span around the query, so the product is a difference of cumulative sums of logarithms.
    """
    own = query_index[:, None] == key_index[None, :]
    seen = ~own[None, None] if allowed is None else allowed & ~own[None, None]
    missed = jnp.where(seen, -jax.nn.softplus(logits), 0.0)  # log(1 - sigmoid(s))
    before = jnp.pad(jnp.cumsum(missed, axis=-1), [(0, 0)] * 3 + [(1, 0)])  # [..., m]: the sum over keys 0 ... m - 1
    query, key = (query_index - key_index[0])[:, None], jnp.arange(len(key_index))[None, :]
    right = key > query
    first = jnp.where(right, 2 * query - key + 1, key + 1)  # start (included) and end (excluded) of the span, as positions among the keys
    last = jnp.where(right, key, 2 * query - key + 1)
    first, last = (jnp.broadcast_to(jnp.clip(end, 0, len(key_index))[None, None], logits.shape) for end in (first, last))
    span = jnp.take_along_axis(before, last, axis=-1) - jnp.take_along_axis(before, first, axis=-1)
    return jnp.where(seen, jnp.exp(-jax.nn.softplus(-logits) + span), 0.0)


WEIGHTS: Mapping[str, Weigh] = {"softmax": softmax, "geometric": geometric}
