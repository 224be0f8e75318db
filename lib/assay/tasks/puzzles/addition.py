"""Addition, written out digit by digit: `a + b =`, then the digits of the sum, which the model writes itself (Lee et al., "Teaching
Arithmetic to Small Transformers", 2023, arXiv 2307.03381; their results are curves, so that no number stands beside ours).

    4 7 + 8 5 _  ->  1 3 2        `_` is EMPTY, which is the `=`; the highest digit first, and last with --config.treatments=reverse

The length is the number of digits; both operands have as many. Padded, each digit is any of 0-9, and the sum has one digit more, zeros in
front included. Else there are no zeros in front, and END follows the sum. Length 1 has 100 inputs, which all splits share; longer inputs
belong to training, valid or test by a hash. Positions for `couple` are those of Cho et al. 2024 (arXiv 2405.20671), for padded sums only:
where the answer has no fixed length, its first position would tell it.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from assay.config.generated import ADDITION
from assay.config.schema import require, span
from assay.core.rng import integers
from assay.data.source import Examples, Source
from assay.tasks.lengths import by_length
from assay.tasks.sequence import prompted, score_tokens, vocabulary
from assay.tasks.task import Task

PLUS, INPUTS = 10, 11  # after the digits
END = 10  # the class that ends a sum without zeros in front
SHARED_BELOW = 7  # bits: length 1 has 100 inputs, length 2 has 8,100 or 10,000
SCORES = ("exact_match", "token_accuracy")
DEFAULTS = ADDITION
SPLITS = ("train", "valid", "iid", "9-16", "16-16", "20-20")
ABOUT = {"addition": "two numbers, highest digits first -> the digits of their sum"}


@dataclass(frozen=True)
class AdditionConfig:
    name: str  # addition
    lengths: str  # digits of the operands in training, FIRST:LAST, both included
    pad: bool  # whether numbers have zeros in front, up to the length, and sums up to one digit more
    balanced: bool  # whether in training each number of carries is as likely as the others; tests draw digits evenly
    seed: int  # of the valid and test examples: the same for all runs that are to be compared

    def __post_init__(self):
        require(self.seed >= 0, "task.seed", self.seed, "a non-negative integer")
        span(self.lengths, "config.task.lengths")


def build(config: AdditionConfig, seed: int) -> Task:
    """The task, its training examples drawn with `seed`."""
    outputs = 10 if config.pad else 11
    lengths = span(config.lengths, "config.task.lengths")
    prefix = f"addition/{'padded' if config.pad else 'natural'}"

    def source(split: str) -> Source:
        make = partial(sums, pad=config.pad, balanced=config.balanced and split == "train")
        size = partial(log2_inputs, pad=config.pad)
        return by_length(prefix, SPLITS, lengths, seed, config.seed, make, size, SHARED_BELOW)(split)

    return Task(
        name=config.name,
        vocabulary=vocabulary(INPUTS, outputs),
        splits=SPLITS,
        source=source,
        encode=partial(prompted, empty=INPUTS),
        width=lambda length: 3 * length + (2 if config.pad else 3),
        score=partial(score_tokens, metrics=SCORES),
        metrics=(*SCORES, "forced_token_accuracy"),
        chance=1.0 / outputs,
        free_running=1,
        answer_to_input=INPUTS + 1,
        symbols=tuple("0123456789+"),
        classes=(*"0123456789", "END")[:outputs],
        couples=coupled_places if config.pad else None,
    )


def sums(keys: np.ndarray, length: int, pad: bool, balanced: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input [n, 2 length + 1], the digits of the sum, and how many of them count, END included."""
    first, second = (balanced_operands if balanced else even_operands)(keys, length, pad)
    total, carry = np.zeros((len(keys), length + 1), np.int64), np.zeros(len(keys), np.int64)
    for place in reversed(range(length)):
        carry, total[:, place + 1] = np.divmod(first[:, place] + second[:, place] + carry, 10)
    total[:, 0] = carry
    inputs = np.concatenate([first, np.full((len(keys), 1), PLUS), second], axis=1)
    if pad:
        return inputs, total, np.full(len(keys), length + 1)
    longer = np.pad(total, ((0, 0), (0, 1)), constant_values=END)
    shorter = np.pad(longer[:, 1:], ((0, 0), (0, 1)))
    return inputs, np.where(carry[:, None] > 0, longer, shorter), length + 1 + carry


def even_operands(keys: np.ndarray, length: int, pad: bool) -> tuple[np.ndarray, np.ndarray]:
    """Two numbers [n, length], highest digit first, each pair of them as likely as the others."""
    digits = integers(keys, "digits", 2 * length, 10).reshape(-1, 2, length)
    if _leads(length, pad):
        digits[:, :, 0] = 1 + integers(keys, "leading", 2, 9)
    return digits[:, 0], digits[:, 1]


def balanced_operands(keys: np.ndarray, length: int, pad: bool) -> tuple[np.ndarray, np.ndarray]:
    """Two numbers [n, length] whose sum has 0 ... length carries, each number of them as likely as the others.

    Lee et al. balance digits and carries. Lengths are drawn evenly anyhow. Of the places that carry, each choice of that many is as likely
    as the others, and so is each pair of digits that carries, or does not, upon the carry of the place below.
    """
    rank = integers(keys, "which", length, 2**32).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    carries = (rank < integers(keys, "carries", 1, length + 1)).astype(np.int64)  # the highest place first
    given = np.pad(carries[:, 1:], ((0, 0), (0, 1)))
    digits = np.empty((len(keys), length, 2), np.int64)
    for place in range(length):
        least = int(place == 0 and _leads(length, pad))
        count = _COUNTS[least, given[:, place], carries[:, place]]
        number = integers(keys, f"pair {length - place}", 1, count)[:, 0]
        digits[:, place] = _PAIRS[least, given[:, place], carries[:, place], number]
    return digits[:, :, 0], digits[:, :, 1]


def log2_inputs(length: int, pad: bool) -> float:
    """log2 of the number of pairs of operands."""
    leading = 9 if _leads(length, pad) else 10
    return 2 * (math.log2(leading) + (length - 1) * math.log2(10))


def coupled_places(examples: Examples, width: int) -> np.ndarray:
    """int32 [n, width]: one position for the digits of one place, as in Cho et al. 2024: the digits of an operand have 2 ... length + 1,
    from left to right, `+` and `=` length + 2, and the digits of the sum, one more, 1 ... length + 1."""
    length = (examples.input_length[:, None] - 1) // 2
    at = np.arange(width)[None, :]
    asked = at % (length + 1) + 2  # operand and sign, twice
    answer = at - 2 * length - 1  # 1 at the first digit of the sum
    return np.where(answer <= 0, asked, np.where(answer <= length + 1, answer, 0)).astype(np.int32)


# -- private --------------------------------------------------------------------------------------------------------------


def _leads(length: int, pad: bool) -> bool:
    """Whether the highest digit cannot be 0. The number 0 itself has one digit."""
    return length > 1 and not pad


def _pairs() -> tuple[np.ndarray, np.ndarray]:
    """Pairs of digits [least digit 0 or 1, carry that they get, carry that they give, number, 2], and how many there are."""
    pairs, counts = np.zeros((2, 2, 2, 100, 2), np.int64), np.zeros((2, 2, 2), np.int64)
    for least, given, carries in np.ndindex(2, 2, 2):
        found = [(a, b) for a in range(least, 10) for b in range(least, 10) if (a + b + given >= 10) == bool(carries)]
        pairs[least, given, carries, : len(found)] = found
        counts[least, given, carries] = len(found)
    return pairs, counts


_PAIRS, _COUNTS = _pairs()
