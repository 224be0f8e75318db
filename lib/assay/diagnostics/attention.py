"""Attention maps of a run: one example, every layer and head, read through the model's taps."""

import re
from collections.abc import Mapping

import jax
import numpy as np

from assay.core.tree import PyTree
from assay.data.loader import encoded
from assay.diagnostics.measurement import Attention
from assay.infer.decode import free_running
from assay.models.model import Model
from assay.tasks.task import Task

LENGTH = 10  # maximum number of input tokens that stays readable on a page


def picture(model: Model, params: PyTree, task: Task) -> Attention | None:
    """Returns the weights on the longest example of at most LENGTH input tokens; None without such an example or without attention.

    If the task is decoded freely, the tokens read are those that the model wrote.
    """
    source = task.source(task.shown)
    indices = source.indices(1)
    lengths = source.length_of(indices)
    if lengths.min() > LENGTH or task.vocabulary.inputs == 0:
        return None
    length = int(lengths[lengths <= LENGTH].max())
    _, batch = encoded(source, indices[lengths == length][:1], task.encode, task.width(length))
    first_output, written = task.answer_to_input, "decoder_inputs" if "decoder_inputs" in batch else "inputs"

    @jax.jit
    def read(params: PyTree, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        tokens = batch[written]
        if task.free_running:
            answers = free_running(model, params, batch, first_output, task.free_running).logits.argmax(axis=-1)
            tokens = jax.numpy.where(batch["given"] > 0, tokens, jax.numpy.roll(answers, 1, axis=1) + first_output)
        taps = model.apply(params, {**batch, written: tokens}).taps
        square = tokens.shape[1:] * 2  # self-attention over the written sequence
        return tokens, {path: value for path, value in taps.items() if _is_shown(path) and value.shape[2:] == square}

    tokens, weights = read(params, batch)
    if not weights:
        return None
    layers = sorted(weights, key=lambda path: [int(number) for number in re.findall(r"\d+", path)])
    names = [_name(int(token), task) for token in np.asarray(tokens)[0]]
    legend = "s0, s1, ...: states written by the model; " if task.free_running and not task.classes else ""
    legend += "_: the empty token." if "_" in names else ""
    caption = f"{task.name}, one example of {length} tokens of the split {task.shown}. Rows attend to columns. {legend}".strip()
    return Attention(np.stack([np.asarray(weights[path])[0] for path in layers]), names, caption)


def _is_shown(path: str) -> bool:
    return path.endswith(("attention/weights", "local/weights")) and not path.startswith("encoder/")


def _name(token: int, task: Task) -> str:
    answer = token - task.answer_to_input
    if task.classes and task.free_running and answer >= 0:
        return str(task.classes[answer]) if answer < len(task.classes) else "_"
    if task.vocabulary.pooled or (not task.free_running and not task.answer_to_input):
        return task.symbols[token] if token < len(task.symbols) else str(token)
    if answer >= 0:
        return f"s{answer}"
    return "_" if answer == -1 else task.symbols[token] if token < len(task.symbols) else str(token)
