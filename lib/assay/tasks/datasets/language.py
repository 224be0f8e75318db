"""Language modelling on the text of Python's standard library: `stdlib/lm` predicts the next token, `stdlib/mlm` masked tokens.

Training reads one stream of files cut into windows. valid and test have windows that never cross files. With `context`, a window starts
with that many tokens that the previous one has scored; they are read but not scored again. Every token of a file is scored once, so bits
per byte refer to the whole text. Intervals resample files.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from assay.config.schema import require
from assay.core.rng import example_keys
from assay.core.tree import widened
from assay.data import language, tfds
from assay.data.augment_text import alphabet_of
from assay.data.source import Examples, Source, in_memory
from assay.data.tokenizers import Tokenizer, symbols, tokenizer
from assay.models.model import Batch, Output, Vocabulary
from assay.tasks.task import Task, find_split, is_likeliest

SPLITS = ("train", "valid", "test")
LOSSLESS = ("bytes", "characters", "bpe")  # tokenizers whose tokens preserve every byte of the text


@dataclass(frozen=True)
class LanguageConfig:
    name: str  # stdlib/lm
    tokenizer: str  # bytes, characters, words, wordpiece, bpe
    tokenizer_size: int  # maximum vocabulary size, learned from the training texts
    window: int  # tokens per window
    context: int  # tokens at the start of each valid or test window that the previous window has already scored
    bytes: int  # bytes of the training text to read, from its start; 0: all

    def __post_init__(self):
        require(self.tokenizer_size >= 1, "task.tokenizer_size", self.tokenizer_size, "it must be at least 1")
        require(self.window >= 2, "task.window", self.window, "it must be at least 2")
        require(0 <= self.context < self.window, "task.context", self.context, f"at least 0 and below the window, {self.window}")
        require(self.bytes >= 0, "task.bytes", self.bytes, "a number of bytes, or 0 for all")


@dataclass(frozen=True)
class MaskedConfig(LanguageConfig):
    share: float  # fraction of tokens to predict; 0.15 in BERT

    def __post_init__(self):
        super().__post_init__()
        require(0.0 < self.share <= 1.0, "task.share", self.share, "above 0 and at most 1")


def build(config: LanguageConfig, seed: int) -> Task:
    """Builds the task of causal next-token prediction."""
    del seed
    tokens, sources = _text(config)
    figures = ("perplexity", "token_accuracy", "nll")
    metrics = ("bits_per_byte", *figures) if tokens.name in LOSSLESS else figures
    return replace(_task(config, tokens, sources, encode, metrics), recalls=True)


def build_masked(config: MaskedConfig, seed: int) -> Task:
    """Builds the task of predicting masked tokens.

    Training masks different tokens in each epoch; valid and test always mask the same ones, whatever the run's seed.
    """
    del seed
    tokens, sources = _text(config)
    ordinary = tokens.ordinary()

    def hidden(examples: Examples, width: int) -> dict[str, np.ndarray]:
        batch = encode(examples, width)
        keys = example_keys("stdlib/mlm", 0, examples.id)
        inputs, asked = language.masked(batch["targets"], batch["length"], keys, ordinary, tokens.mask, config.share)
        return {**batch, "inputs": inputs, "mask": asked}

    return _task(config, tokens, sources, hidden, ("token_accuracy", "perplexity", "nll"))


def score_language(output: Output, batch: Batch) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
    """Computes the mean cross-entropy of the counted tokens of each window in nats, weighted by their number (`tokens`)."""
    mask, targets = batch["mask"], batch["targets"]
    tokens = mask.sum(axis=1)
    log_probability = jax.nn.log_softmax(widened(output.logits), axis=-1)
    nll = -jnp.take_along_axis(log_probability, targets[..., None], axis=-1)[..., 0]
    mean = (nll * mask).sum(axis=1) / jnp.maximum(tokens, 1.0)
    right = (is_likeliest(output.logits, targets) * mask).sum(axis=1) / jnp.maximum(tokens, 1.0)
    return mean, tokens * batch["weight"], {"nll": mean, "token_accuracy": right, "tokens": tokens}


def encode(examples: Examples, width: int) -> dict[str, np.ndarray]:
    """Returns inputs, targets, mask [n, width]: the last `target_length` tokens of a window count."""
    n, shown, place = len(examples.id), min(width, examples.input.shape[1]), np.arange(width)[None, :]
    inputs, targets = np.zeros((n, width), np.int32), np.zeros((n, width), np.int32)
    inputs[:, :shown], targets[:, :shown] = examples.input[:, :shown], examples.target[:, :shown]
    length = examples.input_length[:, None]
    mask = (place < length) & (place >= length - examples.target_length[:, None])
    return {
        "inputs": inputs,
        "length": examples.input_length.astype(np.int32),
        "targets": targets,
        "mask": mask.astype(np.float32),
        "weight": np.ones(n, np.float32),
    }


# -- private --------------------------------------------------------------------------------------------------------------


def _text(config: LanguageConfig) -> tuple[Tokenizer, Mapping[str, Callable[[], Source]]]:
    @cache
    def documents(split: str) -> Mapping[str, Any]:
        columns = tfds.load_split("stdlib_text/lm", split, label=tfds.NO_LABEL, also=("file",))
        if split == "train" and config.bytes:
            ends = np.cumsum([len(text.encode("utf-8", "surrogatepass")) for text in columns["text"]])
            kept = int(np.searchsorted(ends, config.bytes)) + 1
            return {name: values[:kept] for name, values in columns.items()}
        return columns

    tokens = tokenizer(config.tokenizer, documents("train")["text"], config.tokenizer_size)

    @cache
    def source(split: str) -> Source:
        columns = documents(split)
        ids = [tokens.encode(text) for text in columns["text"]]
        if split == "train":
            rows = language.packed(ids, config.window, tokens.separator, tokens.pad)
        else:
            rows = language.windows(ids, config.window, config.context, tokens.separator, tokens.pad)
        return _source(split, rows, tokens, [columns["file"][i] for i in rows.document])

    return tokens, {split: partial(source, split) for split in SPLITS}


def _source(split: str, rows: language.Windows, tokens: Tokenizer, files: Sequence[str]) -> Source:
    batch = language.next_tokens(rows)
    length, fresh = rows.length.astype(np.int64), (rows.length - rows.fresh).astype(np.int64)
    examples = Examples(np.arange(len(length)), length, batch["inputs"], length, batch["targets"], fresh, fresh)

    def describe(examples: Examples, i: int) -> dict[str, Any]:
        end = int(examples.input_length[i])
        asked = examples.target[i, end - int(examples.target_length[i]) : end].tolist()
        return {
            "input": tokens.decode(examples.input[i, :end].tolist()),
            "target": tokens.decode(asked),
            "bytes": tokens.count_bytes(asked),
        }

    return in_memory(split, examples, describe, files)


def _task(
    config: LanguageConfig,
    tokens: Tokenizer,
    sources: Mapping[str, Callable[[], Source]],
    encode: Callable[[Examples, int], Mapping[str, np.ndarray]],
    metrics: tuple[str, ...],
) -> Task:
    return Task(
        name=config.name,
        vocabulary=Vocabulary(tokens.size, tokens.size),
        splits=SPLITS,
        source=lambda split: find_split(sources, split)(),
        encode=encode,
        width=lambda length: length,
        score=score_language,
        metrics=metrics,
        chance=1.0 / tokens.size,
        units={"nll": "nats"},
        read=lambda answers, batch: tokens.decode(answers[batch["mask"] > 0].tolist()),
        shown="test",
        symbols=symbols(tokens),
        alphabet=alphabet_of(tokens),
    )
