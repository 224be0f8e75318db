"""Multi-query associative recall, MQAR (Arora et al., "Zoology", ICLR 2024, arXiv 2312.04927): key-value pairs, then each key once more at
some position. The answer, read at the repeated key itself, is its value.

    k3 v7  k1 v2  |  _ _ k1 _ k3 _ _ _        answers: 2 at k1, 7 at k3 (the classes are the values)

Keys are distinct within an example, and so are values. A key repeats after g pairs of tokens, g = x - 1 drawn without replacement by p(x) ~
x^(a - 1), a = 0.01: most keys soon, some late. The paper has vocabularies of 8,192 and trains on each (length, pairs) of GRID separately.
Its results are a figure, so no published number stands beside ours. Splits: `train`, `valid` and `iid` have the training length and pairs;
`256x16` is length 256 with 16 pairs (any LENGTHxPAIRS works). No string is in two roles if there are more than 2**10 strings, which only
toy settings lack.
"""

import math
import re
from dataclasses import dataclass
from functools import partial

import numpy as np

from assay.config.generated import MQAR
from assay.config.schema import LONGEST, require
from assay.core.errors import UserError, unknown
from assay.core.rng import integers
from assay.data.source import Examples, Source, generated
from assay.models.model import Vocabulary
from assay.tasks.lengths import SPLIT_KEY
from assay.tasks.prompts import prompts
from assay.tasks.sequence import answer_inside, score_tokens
from assay.tasks.task import Task

A = 0.01  # exponent of the power law for the gaps of repeated keys
GRID = ((64, 4), (128, 8), (256, 16), (512, 64))  # the paper's lengths and numbers of pairs
NOTHING = 0  # id of the filler between repeated keys, and of padding
SHARED_BELOW = 10  # an eighth of 2**10 strings is enough to draw from
METRICS = ("token_accuracy", "exact_match")
DEFAULTS = MQAR
SPLITS = ("train", "valid", "iid", "128x8", "256x16", "512x64")
ABOUT = {"mqar": "pairs of key and value, then keys -> the value of each key"}


@dataclass(frozen=True)
class MQARConfig:
    name: str  # recall/mqar
    vocabulary: int  # number of input ids: 0 for the filler, keys, and values in the upper half
    pairs: int  # number of key-value pairs, in training
    length: int  # tokens per training input; at least four per pair
    seed: int  # seed of the valid and test examples: must be the same for all runs being compared

    def __post_init__(self):
        fits = f"from 4 * config.task.pairs to {LONGEST:,}"
        require(self.pairs >= 1, "task.pairs", self.pairs, "it must be at least 1")
        require(4 * self.pairs <= self.length <= LONGEST, "task.length", self.length, f"a number of tokens, {fits}")
        least = smallest_vocabulary(self.pairs)
        require(self.vocabulary >= least, "task.vocabulary", self.vocabulary, f"at least {least}, for distinct keys and values")
        require(self.seed >= 0, "task.seed", self.seed, "a non-negative integer")


def build(config: MQARConfig, seed: int) -> Task:
    """Builds the task; `seed` draws its training examples."""
    first_value, longer = config.vocabulary // 2, [(length, pairs) for length, pairs in GRID if length > config.length]
    tests = tuple(f"{length}x{pairs}" for length, pairs in longer if smallest_vocabulary(pairs) <= config.vocabulary)
    splits = ("train", "valid", "iid", *tests)

    def source(split: str) -> Source:
        length, pairs, role = config.length, config.pairs, {"train": "train", "valid": "valid", "iid": "test"}.get(split, "")
        if not role:
            length, pairs = _named(split, config.vocabulary, splits)
            split, role = f"{length}x{pairs}", "test"
        make, size = partial(generate, pairs=pairs, vocabulary=config.vocabulary), partial(_log2_inputs, pairs, config.vocabulary)
        drawn = seed if role == "train" else config.seed
        return generated(config.name, split, role, drawn, (length, length), make, size, SHARED_BELOW)

    symbols = ("_", *(f"k{key}" for key in range(1, first_value)), *(f"v{i}" for i in range(config.vocabulary - first_value)))
    return Task(
        name=config.name,
        recalls=True,
        vocabulary=Vocabulary(config.vocabulary, config.vocabulary - first_value),
        splits=splits,
        source=source,
        encode=lambda examples, width: answer_inside(examples, width, queries(examples)),
        width=lambda length: length,
        score=partial(score_tokens, metrics=METRICS),
        metrics=METRICS,
        chance=1.0 / (config.vocabulary - first_value),
        symbols=symbols,
        asked=partial(prompts, name=config.name, symbols=symbols, room=partial(room, first_value=first_value)),
        classes=tuple(f"v{i}" for i in range(config.vocabulary - first_value)),
    )


def generate(keys: np.ndarray, length: int, pairs: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns inputs [n, length], values [n, pairs] in the order in which their keys repeat, and how many count."""
    first_value, space = vocabulary // 2, (length - 2 * pairs) // 2
    key = 1 + _distinct(keys, "key", pairs, first_value - 1)
    value = _distinct(keys, "value", pairs, vocabulary - first_value)
    # The smallest exponential draws at these rates, in ascending order, are a draw without replacement by these weights.
    uniform = (integers(keys, "gap", space, 1 << 32) + 0.5) / (1 << 32)
    gap = np.argsort(-np.log(uniform) / np.arange(1, space + 1) ** (A - 1.0), axis=1, kind="stable")[:, :pairs]
    inputs = np.full((len(keys), length), NOTHING, np.int32)
    inputs[:, 0 : 2 * pairs : 2] = key
    inputs[:, 1 : 2 * pairs : 2] = first_value + value
    np.put_along_axis(inputs, 2 * pairs + 2 * gap, key, axis=1)
    target = np.take_along_axis(value, np.argsort(gap, axis=1), axis=1)
    return inputs, target.astype(np.int32), np.full(len(keys), pairs, np.int64)


def room(tokens: list[int], first_value: int) -> tuple[int, int]:
    """Returns the tokens of an input, and of its answer. Raises ValueError if it does not ask for each of its pairs once."""
    pairs = next((i for i in range(0, len(tokens) - 1, 2) if not NOTHING < tokens[i] < first_value <= tokens[i + 1]), len(tokens)) // 2
    asked = [token for token in tokens[2 * pairs :] if token != NOTHING]
    if sorted(asked) != sorted(tokens[: 2 * pairs : 2]):
        raise ValueError("it begins with pairs of a key and its value, such as k1 v2, and then has each key once, among _")
    return len(tokens), pairs


def queries(examples: Examples) -> np.ndarray:
    """Returns the positions of repeated keys as a mask [n, longest]: tokens after the pairs that are not filler."""
    return (np.arange(examples.input.shape[1])[None, :] >= 2 * examples.target_length[:, None]) & (examples.input != NOTHING)


def smallest_vocabulary(pairs: int) -> int:
    """Returns the smallest vocabulary whose lower half, without 0, has `pairs` keys."""
    return 2 * (pairs + 1)


# -- private --------------------------------------------------------------------------------------------------------------


def _distinct(keys: np.ndarray, slot: str, count: int, span: int) -> np.ndarray:
    """Draws `count` distinct integers in [0, span) for each key, in random order: the first steps of a Fisher-Yates shuffle."""
    words = integers(keys, slot, count, 1 << 32)
    pool, rows = np.tile(np.arange(span, dtype=np.int32), (len(keys), 1)), np.arange(len(keys))
    for i in range(count):
        other = i + ((words[:, i] * (span - i)) >> 32)
        pool[rows, i], pool[rows, other] = pool[rows, other], pool[rows, i]
    return pool[:, :count]


def _named(split: str, vocabulary: int, splits: tuple[str, ...]) -> tuple[int, int]:
    """Parses length and pairs of a split such as 256x16."""
    found = re.fullmatch(r"(\d+)x(\d+)", split)
    if not found:
        known = unknown("split", split, splits, SPLIT_KEY)
        raise UserError(f"{known} Or LENGTHxPAIRS, such as 256x16; a length alone or a range is not a split.")
    length, pairs = int(found[1]), int(found[2])
    if not 4 <= 4 * pairs <= length <= LONGEST or smallest_vocabulary(pairs) > vocabulary:
        raise UserError(
            f"the split {split!r} is not possible: there is at least one pair, and {pairs} need {4 * pairs:,} to {LONGEST:,} tokens and a "
            f"config.task.vocabulary of at least {smallest_vocabulary(pairs):,} (it is {vocabulary:,}). Choose another with {SPLIT_KEY}."
        )
    return length, pairs


def _log2_inputs(pairs: int, vocabulary: int, length: int) -> float:
    spans = (vocabulary // 2 - 1, vocabulary - vocabulary // 2, (length - 2 * pairs) // 2)  # keys, values, gaps: ordered choices
    return sum(math.lgamma(span + 1) - math.lgamma(span - pairs + 1) for span in spans) / math.log(2)
