"""Cached decoding under one scan.

`free_running`: the model reads `batch["inputs"]` token by token, and where `batch["given"]` is 0 it reads its own last answer instead.
The logits come back in the places where `apply` would put them, so the task's score is the same for both.
"""

import jax
import jax.numpy as jnp

from assay.core.tree import PyTree
from assay.models.model import Batch, Model, Output


def free_running(model: Model, params: PyTree, batch: Batch, answer_to_input: int) -> Output:
    """Greedy decoding of every token that is not given. `answer_to_input`: input id of output class 0.

    One token a step; what stands in `inputs` where `given` is 0 is never read. Raises ValueError for a model that cannot decode.
    """
    if model.decode is None:
        raise ValueError("this model has no cached decoding")
    extend = model.decode.extend
    tokens, given = batch["inputs"].T, batch["given"].T  # [seq, batch]
    seq, rows = tokens.shape
    cache = model.decode.init_cache(rows, seq)

    def step(carry, now):
        cache, answer = carry
        token, known = now
        logits, cache = extend(params, cache, jnp.where(known > 0, token, answer + answer_to_input)[:, None])
        logits = logits[:, 0]
        return (cache, logits.argmax(axis=-1).astype(tokens.dtype)), logits

    _, logits = jax.lax.scan(step, (cache, jnp.zeros(rows, tokens.dtype)), (tokens, given))
    return Output(jnp.swapaxes(logits, 0, 1), {})
