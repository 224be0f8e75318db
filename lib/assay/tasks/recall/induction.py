"""Induction heads (Gu and Dao, "Mamba", arXiv 2312.00752, section 4.1): a trigger occurs once among random tokens and once at the end. The
answer is the token that followed its first occurrence.

    f c T a d b c T  ->  a

The answer is read at the last trigger itself: a causal model predicts it after reading the whole input, which has exactly `length` tokens.
No token is added. The trigger is the last id, so there are `vocabulary - 1` answers.

Splits: `train`, `valid` and `iid` have the training length; `512` is length 512 (any number works), and `65-128` is a range. Splits share
the inputs of lengths with at most 2**10 inputs (up to 4 tokens, for the paper's vocabulary of 16). At longer lengths each string belongs to
one split role.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from assay.config.generated import INDUCTION
from assay.config.schema import LONGEST, require, span
from assay.core.errors import UserError, unknown
from assay.core.rng import integers
from assay.data.source import Source, generated
from assay.models.model import Vocabulary
from assay.tasks.lengths import SPLIT_KEY
from assay.tasks.prompts import prompts
from assay.tasks.sequence import answer_inside, last_token, score_tokens
from assay.tasks.task import Task

SHORTEST = 3  # trigger, answer, trigger
POWERS = tuple(2**power for power in range(6, 11))  # longer lengths can be named too
SHARED_BELOW = 10  # an eighth of 2**10 strings is enough to draw from
METRICS = ("answer_accuracy",)
DEFAULTS = INDUCTION
SPLITS = ("train", "valid", "iid", "128", "256", "512", "1024")  # and any other length
ABOUT = {"induction": "tokens with a trigger inside and at the end -> what followed it the first time"}


@dataclass(frozen=True)
class InductionConfig:
    name: str  # recall/induction
    vocabulary: int  # number of ids, including the trigger
    length: int  # tokens per training input; 256 in the paper
    seed: int  # seed of the valid and test examples: must be the same for all runs being compared

    def __post_init__(self):
        require(self.vocabulary >= 3, "task.vocabulary", self.vocabulary, "at least 3: a trigger and two other tokens")
        require(SHORTEST <= self.length <= LONGEST, "task.length", self.length, f"a number of tokens, from {SHORTEST} to {LONGEST:,}")
        require(self.seed >= 0, "task.seed", self.seed, "a non-negative integer")


def build(config: InductionConfig, seed: int) -> Task:
    """Builds the task; `seed` draws its training examples."""
    splits = ("train", "valid", "iid", *(str(length) for length in POWERS if length > config.length))
    trigger = config.vocabulary - 1

    def source(split: str) -> Source:
        lengths, role = (config.length, config.length), {"train": "train", "valid": "valid", "iid": "test"}.get(split, "")
        if not role:
            lengths, role = _named(split, splits), "test"
            split = str(lengths[0]) if lengths[0] == lengths[1] else f"{lengths[0]}-{lengths[1]}"
        make, size = partial(generate, vocabulary=config.vocabulary), partial(_log2_inputs, config.vocabulary)
        return generated(config.name, split, role, seed if role == "train" else config.seed, lengths, make, size, SHARED_BELOW)

    symbols = (*(str(token) for token in range(trigger)), "T")
    return Task(
        name=config.name,
        recalls=True,
        vocabulary=Vocabulary(config.vocabulary, trigger),
        splits=splits,
        source=source,
        encode=lambda examples, width: answer_inside(examples, width, last_token(examples)),
        width=lambda length: length,
        score=partial(score_tokens, metrics=METRICS),
        metrics=METRICS,
        chance=1.0 / trigger,
        symbols=symbols,
        asked=partial(prompts, name=config.name, symbols=symbols, room=lambda tokens: (len(tokens), 1)),
    )


def generate(keys: np.ndarray, length: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns inputs [n, length], answers [n, 1], and how many count. The first trigger is uniform over the positions with a successor."""
    rows, trigger = np.arange(len(keys)), vocabulary - 1
    inputs = integers(keys, "tokens", length, trigger).astype(np.int32)
    place = integers(keys, "place", 1, length - 2)[:, 0]
    inputs[rows, place] = inputs[:, -1] = trigger
    return inputs, inputs[rows, place + 1][:, None], np.ones(len(keys), np.int64)


# -- private --------------------------------------------------------------------------------------------------------------


def _named(split: str, splits: tuple[str, ...]) -> tuple[int, int]:
    """Parses the lengths of a split such as 512 or 65-128."""
    if not split[:1].isdigit():
        known = unknown("split", split, splits, SPLIT_KEY)
        raise UserError(f"{known} Or a length such as 512, or a range such as 65-128.")
    first, last = span(f"{split}:{split}" if split.isdecimal() else split, SPLIT_KEY)
    if first < SHORTEST:
        raise UserError(f"the split {split!r} starts below length {SHORTEST}, the shortest input. Choose another with {SPLIT_KEY}.")
    return first, last


def _log2_inputs(vocabulary: int, length: int) -> float:
    return math.log2(length - 2) + (length - 2) * math.log2(vocabulary - 1)
