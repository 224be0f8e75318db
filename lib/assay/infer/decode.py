"""Cached decoding under `scan`.

`free_running`: the model reads `batch["inputs"]` from left to right, and its own last answer wherever `batch["given"]` is 0. An
encoder-decoder first reads all of `batch["inputs"]`, and then `batch["decoder_inputs"]` in this way. The logits are returned at the
positions where `apply` would put them, so the same score applies to both.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from assay.core.tree import PyTree
from assay.models.model import Batch, Model, Output


class Written(NamedTuple):
    """The output of a decoded model."""

    logits: jax.Array  # [batch, seq, outputs]
    answers: jax.Array  # [batch, seq]: the class chosen at each position, which the model reads next


def free_running(model: Model, params: PyTree, batch: Batch, answer_to_input: int, stride: int = 1) -> Output:
    """Decodes greedily every token that is not given. `answer_to_input` is the input id of output class 0.

    The model reads `stride` tokens at a time. Only the first of them may be not given, and the answer is read at the last one. Token values
    where `given` is 0 are ignored. Raises ValueError if the model cannot decode, or if the stride does not divide the width.
    """
    return Output(written(model, params, batch, answer_to_input, stride).logits, {})


def written(
    model: Model,
    params: PyTree,
    batch: Batch,
    answer_to_input: int,
    stride: int = 1,
    keys: jax.Array | None = None,
    temperature: float = 1.0,
) -> Written:
    """Decodes like `free_running` and also returns the chosen classes.

    A class is the most likely one, or is sampled from softmax(logits / temperature) if `keys` are given. There is one key per example, so
    that samples do not depend on the batch.
    """
    if model.decode is None:
        raise ValueError("this model does not support cached decoding")
    while hasattr(model.apply, "open"):  # parameters stored as records are opened once, and not at each token
        model, params = model.apply.open(params)
    assert model.decode is not None
    name = "decoder_inputs" if "decoder_inputs" in batch else "inputs"
    rows, width = batch[name].shape
    if width % stride:
        raise ValueError(f"a width of {width} tokens is not a multiple of the stride, {stride}")
    extend = model.decode.extend
    tokens, given = (jnp.swapaxes(batch[part].reshape(rows, width // stride, stride), 0, 1) for part in (name, "given"))

    def choose(logits: jax.Array, place: jax.Array) -> jax.Array:
        if keys is None:
            return logits.argmax(axis=-1).astype(tokens.dtype)
        drawn = jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, place), row))(keys, logits[:, -1] / temperature)
        return logits.argmax(axis=-1).at[:, -1].set(drawn).astype(tokens.dtype)

    def step(carry, now):
        cache, answer = carry
        token, known, place = now
        logits, cache = extend(params, cache, jnp.where(known > 0, token, answer[:, None] + answer_to_input))
        chosen = choose(logits, place)
        return (cache, chosen[:, -1]), (logits, chosen)

    start = (model.decode.init_cache(params, batch, width), jnp.zeros(rows, tokens.dtype))
    _, (logits, chosen) = jax.lax.scan(step, start, (tokens, given, jnp.arange(len(tokens))))  # [chunks, batch, stride, ...]
    return Written(jnp.swapaxes(logits, 0, 1).reshape(rows, width, -1), jnp.swapaxes(chosen, 0, 1).reshape(rows, width))
