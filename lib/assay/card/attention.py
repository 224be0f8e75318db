"""The attention picture of a run: one example, every layer and head, read through the model's taps."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from assay.card.report import Attention
from assay.core.tree import PyTree
from assay.infer.decode import free_running
from assay.models.model import Model
from assay.tasks.task import Task

LENGTH = 10  # tokens of input that still read well on a page


def picture(model: Model, params: PyTree, task: Task) -> Attention | None:
    """The weights of the longest iid example of at most LENGTH input tokens; None for a model without attention.

    Where the task is decoded freely, the tokens that the model reads are those that it wrote.
    """
    source = task.source("iid")
    length = min(LENGTH, source.lengths[1])
    batch = task.encode(source.fetch(source.index_of(np.zeros(1), length)), task.width(length))
    first_output = task.vocabulary.inputs - task.vocabulary.outputs

    @jax.jit
    def read(params: PyTree, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        tokens = batch["inputs"]
        if task.free_running:
            answers = free_running(model, params, batch, first_output, task.free_running).logits.argmax(axis=-1)
            written = jax.numpy.roll(answers, 1, axis=1) + first_output
            tokens = jax.numpy.where(batch["given"] > 0, tokens, written)
        taps = model.apply(params, {**batch, "inputs": tokens}).taps
        return tokens, {path: value for path, value in taps.items() if path.endswith("attention/weights")}

    tokens, weights = read(params, batch)
    if not weights:
        return None
    layers = sorted(weights, key=lambda path: int(path.split("/")[0].removeprefix("block_")))
    names = [_name(int(token), first_output - 1, task.symbols) for token in np.asarray(tokens)[0]]
    legend = "s0, s1, ...: states that the model wrote; " if task.free_running else ""
    caption = f"{task.name}, one test example of {length} input tokens. Rows attend to columns. {legend}_: the empty token."
    return Attention(np.stack([np.asarray(weights[path])[0] for path in layers]), names, caption)


def _name(token: int, empty: int, symbols: Sequence[str]) -> str:
    if token == empty:
        return "_"
    if token > empty:
        return f"s{token - empty - 1}"
    return symbols[token] if token < len(symbols) else str(token)
