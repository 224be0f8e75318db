"""Cached decoding under `scan`.

`free_running`: the model reads `batch["inputs"]` from left to right, and where `batch["given"]` is 0 it reads its own last answer instead.
An encoder-decoder reads `batch["inputs"]` as a whole first, and then `batch["decoder_inputs"]` in this way. The logits come back in the
places where `apply` would put them, so the task's score is the same for both.
"""

import jax
import jax.numpy as jnp

from assay.core.tree import PyTree
from assay.models.model import Batch, Model, Output


def free_running(model: Model, params: PyTree, batch: Batch, answer_to_input: int, stride: int = 1) -> Output:
    """Greedy decoding of every token that is not given. `answer_to_input`: input id of output class 0.

    `stride` tokens are read at a time; only the first of them may be not given, and the answer is the last one's. What stands in the tokens
    where `given` is 0 is never read. Raises ValueError for a model that cannot decode or a width that the stride does not divide.
    """
    if model.decode is None:
        raise ValueError("this model has no cached decoding")
    written = "decoder_inputs" if "decoder_inputs" in batch else "inputs"
    rows, width = batch[written].shape
    if width % stride:
        raise ValueError(f"a width of {width} tokens is not a multiple of the stride, {stride}")
    extend = model.decode.extend
    tokens, given = (jnp.swapaxes(batch[name].reshape(rows, width // stride, stride), 0, 1) for name in (written, "given"))

    def step(carry, now):
        cache, answer = carry
        token, known = now
        logits, cache = extend(params, cache, jnp.where(known > 0, token, answer[:, None] + answer_to_input))
        return (cache, logits[:, -1].argmax(axis=-1).astype(token.dtype)), logits

    start = (model.decode.init_cache(params, batch, width), jnp.zeros(rows, tokens.dtype))
    _, logits = jax.lax.scan(step, start, (tokens, given))  # [chunks, batch, stride, outputs]
    return Output(jnp.swapaxes(logits, 0, 1).reshape(rows, width, -1), {})
