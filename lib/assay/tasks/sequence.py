"""Shared parts of token tasks: the layouts of an example, and the score of answers read at positions.

Answer after (Deletang et al. 2023): the input, then one "empty" token per output, where the outputs are read; nothing is fed back.
Running state: each input token follows the previous state and is answered with the next state; at test time these states are the model's
own.
Answer inside: targets are aligned with tokens of the input itself, and are read where the model has just seen them.
Prompted: the input, EMPTY, then the answer. The model generates it at test time, each token after reading the previous one.
Translation: a source, and a target that the model generates at test time; the decoder reads BEGIN (the id after the output classes), then
the shifted target.

Input token ids are the task's input ids, then EMPTY, then one id per output class, so that any output can be read as input.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.tree import widened
from assay.data.source import Examples
from assay.models.model import Batch, Output, Vocabulary
from assay.tasks.task import is_likeliest


def vocabulary(inputs: int, outputs: int) -> Vocabulary:
    """Builds the vocabulary: input ids, EMPTY, and outputs that can be read as input."""
    return Vocabulary(inputs + 1 + outputs, outputs)


def answer_after(examples: Examples, width: int, empty: int) -> dict[str, np.ndarray]:
    """Returns arrays [n, width]: inputs, targets, mask (1 where a target counts); [n]: length (tokens that are not padding), weight."""
    n = len(examples.id)
    at = np.arange(width)[None, :]
    start = examples.input_length[:, None]
    inputs = np.full((n, width), empty, np.int32)
    inside = np.arange(examples.input.shape[1])[None, :] < start
    rows, columns = np.nonzero(inside)
    inputs[rows, columns] = examples.input[rows, columns]
    targets = np.zeros((n, width), np.int32)
    rows, columns = np.nonzero(np.arange(examples.target.shape[1])[None, :] < examples.target_length[:, None])
    targets[rows, columns + examples.input_length[rows]] = examples.target[rows, columns]
    mask = (at >= start) & (at < start + examples.target_length[:, None])
    return {
        "inputs": inputs,
        "targets": targets,
        "mask": mask.astype(np.float32),
        "length": (examples.input_length + examples.slots).astype(np.int32),
        "weight": np.ones(n, np.float32),
    }


def answer_inside(examples: Examples, width: int, asked: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the arrays of `answer_after`, but with the targets aligned with tokens of the input itself, which the model has just read.

    `asked` [n, longest] marks these tokens; they take the counted targets from left to right. Padding is id 0.
    """
    n, longest = examples.input.shape
    inputs, targets, mask = np.zeros((n, width), np.int32), np.zeros((n, width), np.int32), np.zeros((n, width), np.float32)
    inputs[:, :longest] = examples.input
    mask[:, :longest] = asked
    targets[mask > 0] = examples.target[np.arange(examples.target.shape[1])[None, :] < examples.target_length[:, None]]
    length = examples.input_length.astype(np.int32)
    return {"inputs": inputs, "targets": targets, "mask": mask, "length": length, "weight": np.ones(n, np.float32)}


def last_token(examples: Examples) -> np.ndarray:
    """Returns the position of the last token of each input, as a mask [n, longest]."""
    return np.arange(examples.input.shape[1])[None, :] == examples.input_length[:, None] - 1


def running_state(examples: Examples, width: int, empty: int) -> dict[str, np.ndarray]:
    """Interleaves previous states and input tokens; the target of each input token is the state after it.

    The state before the first token is EMPTY. `given` is 1 except at the other states.
    """
    n, longest = examples.input.shape
    inside = np.arange(longest)[None, :] < examples.input_length[:, None]
    inputs = np.full((n, width), empty, np.int32)
    targets, mask, given = np.zeros((n, width), np.int32), np.zeros((n, width), np.float32), np.zeros((n, width), np.int32)
    inputs[:, 2 : 2 * longest : 2] = np.where(inside, examples.target + empty + 1, empty)[:, :-1]
    inputs[:, 1 : 2 * longest : 2] = np.where(inside, examples.input, empty)
    targets[:, 1 : 2 * longest : 2] = np.where(inside, examples.target, 0)
    mask[:, 1 : 2 * longest : 2] = inside
    given[:, 0] = given[:, 1::2] = 1
    length = (2 * examples.input_length).astype(np.int32)
    return {"inputs": inputs, "targets": targets, "mask": mask, "given": given, "length": length, "weight": np.ones(n, np.float32)}


def prompted(examples: Examples, width: int, empty: int) -> dict[str, np.ndarray]:
    """Returns the arrays of `answer_after`, with the previous answers in the slots after the first: a causal model continues the prompt.

    `given` is 1 up to and including the first EMPTY, and 0 at the tokens of the answer, which the model generates at test time.
    """
    arrays = answer_after(examples, width, empty)
    at, start = np.arange(width)[None, :], examples.input_length[:, None]
    written = (at > start) & (at < start + examples.target_length[:, None])
    before = np.concatenate([np.zeros((len(start), 1), np.int32), arrays["targets"][:, :-1]], axis=1)
    inputs = np.where(written, before + empty + 1, arrays["inputs"]).astype(np.int32)
    return arrays | {"inputs": inputs, "given": (at <= start).astype(np.int32)}


def translation(examples: Examples, width: int, begin: int, source_width: int) -> dict[str, np.ndarray]:
    """Returns inputs [n, source_width] and length of the source; decoder_inputs, targets, mask, given [n, width] of the target.

    `given` is 1 at BEGIN alone. Targets end with the task's own end token, so an exact match includes stopping in time.
    """
    n = len(examples.id)
    inputs = np.zeros((n, source_width), np.int32)
    inputs[:, : examples.input.shape[1]] = examples.input[:, :source_width]
    targets = np.zeros((n, width), np.int32)
    shown = min(width, examples.target.shape[1])
    targets[:, :shown] = examples.target[:, :shown]
    mask = (np.arange(width)[None, :] < examples.target_length[:, None]).astype(np.float32)
    decoder_inputs = np.concatenate([np.full((n, 1), begin, np.int32), targets[:, :-1]], axis=1)
    given = np.zeros((n, width), np.int32)
    given[:, 0] = 1
    arrays = {"inputs": inputs, "length": examples.input_length.astype(np.int32), "decoder_inputs": decoder_inputs}
    return arrays | {"targets": targets, "mask": mask, "given": given, "weight": np.ones(n, np.float32)}


def score_tokens(output: Output, batch: Batch, metrics: tuple[str, ...]) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
    """Computes the mean cross-entropy of the counted tokens of each example, weighted by their number.

    `token_accuracy`: share of counted tokens that are correct; `exact_match`: whether all are; `answer_accuracy`: whether the last one is.
    """
    mask, targets = batch["mask"], batch["targets"]
    count = jnp.maximum(mask.sum(axis=1), 1.0)
    log_probability = jax.nn.log_softmax(widened(output.logits), axis=-1)
    nll = -jnp.take_along_axis(log_probability, targets[..., None], axis=-1)[..., 0]
    right = is_likeliest(output.logits, targets) * mask
    last = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    every = {
        "token_accuracy": right.sum(axis=1) / count,
        "exact_match": (right.sum(axis=1) == mask.sum(axis=1)).astype(jnp.float32),
        "answer_accuracy": jnp.take_along_axis(right, last[:, None], axis=1)[:, 0],
    }
    return (nll * mask).sum(axis=1) / count, mask.sum(axis=1) * batch["weight"], {name: every[name] for name in metrics}
