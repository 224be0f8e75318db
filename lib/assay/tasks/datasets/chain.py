"""Synthetic text of any size from a rule, for speed measurements and planning: `synthetic/lm` has no files, any vocabulary and any window.

Each token follows from the previous one: x' = (5 x + 3) mod vocabulary with probability 0.9, otherwise any token. A model that has learned
the rule has a loss of `floor(vocabulary)` nats; uniform guessing has log(vocabulary).
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from assay.config.generated import CHAIN
from assay.config.schema import LONGEST, require
from assay.core.rng import integers
from assay.data.source import Source, generated
from assay.models.model import Vocabulary
from assay.tasks.datasets.language import encode, score_language
from assay.tasks.task import Task, find_split

FOLLOWS, OF = 9, 10  # a token follows the rule in FOLLOWS of OF cases
DEFAULTS = CHAIN
SPLITS = ("train", "valid", "test")
ABOUT = {"lm": "tokens, most of which follow from the one before -> the next token"}


@dataclass(frozen=True)
class ChainConfig:
    name: str  # synthetic/lm
    vocabulary: int  # number of ids
    window: int  # tokens per input
    seed: int  # seed of the valid and test examples: must be the same for all runs being compared

    def __post_init__(self):
        require(self.vocabulary >= 2, "task.vocabulary", self.vocabulary, "it must be at least 2")
        require(1 <= self.window <= LONGEST, "task.window", self.window, f"a number of tokens, from 1 to {LONGEST:,}")
        require(self.seed >= 0, "task.seed", self.seed, "a non-negative integer")


def build(config: ChainConfig, seed: int) -> Task:
    """Builds the task; `seed` draws its training examples."""
    roles = {"train": "train", "valid": "valid", "test": "test"}

    def source(split: str) -> Source:
        role = find_split(roles, split)
        drawn, lengths = seed if role == "train" else config.seed, (config.window, config.window)
        make = partial(generate, vocabulary=config.vocabulary)
        return generated(config.name, split, role, drawn, lengths, make, lambda length: length * math.log2(config.vocabulary))

    return Task(
        name=config.name,
        vocabulary=Vocabulary(config.vocabulary, config.vocabulary),
        splits=SPLITS,
        source=source,
        encode=encode,
        width=lambda length: length,
        score=score_language,
        metrics=("nll", "token_accuracy", "perplexity"),
        chance=1.0 / config.vocabulary,
        units={"nll": "nats"},
        shown="test",
    )


def generate(keys: np.ndarray, length: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns inputs and the tokens that follow them, [n, length] each; all count."""
    tokens = integers(keys, "tokens", length + 1, vocabulary)
    follows = integers(keys, "follows", length + 1, OF) < FOLLOWS
    for i in range(1, length + 1):
        tokens[:, i] = np.where(follows[:, i], follow(tokens[:, i - 1], vocabulary), tokens[:, i])
    return tokens[:, :-1].astype(np.int32), tokens[:, 1:].astype(np.int32), np.full(len(keys), length)


def follow(token: np.ndarray, vocabulary: int) -> np.ndarray:
    """Returns the token that the rule assigns to the next position."""
    return (5 * token + 3) % vocabulary


def floor(vocabulary: int) -> float:
    """Returns the entropy of a token given the previous one, in nats."""
    other = (1 - FOLLOWS / OF) / vocabulary
    return -(FOLLOWS / OF + other) * math.log(FOLLOWS / OF + other) - (vocabulary - 1) * other * math.log(other)
