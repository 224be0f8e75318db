"""Addition, digit by digit: `a + b =`, then the digits of the sum, which the model generates.

    4 7 + 8 5 _  ->  1 3 2        `_` is EMPTY, the `=`; the highest digit comes first, or last with --config.treatments=reverse

Source: Lee et al., "Teaching Arithmetic to Small Transformers", 2023, arXiv 2307.03381. Their results are curves, so no published number
stands beside ours.

The length is the number of digits of both operands. With padding, each digit is any of 0-9, and the sum has one digit more, including
leading zeros. Otherwise there are no leading zeros, and END follows the sum. Length 1 has 100 inputs, which all splits share; longer inputs
belong to training, valid or test by a hash. The positions for `couple` are those of Cho et al. 2024 (arXiv 2405.20671), for padded sums
only: if the answer's length varies, its first position would reveal it.
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
from assay.tasks.prompts import prompts
from assay.tasks.sequence import prompted, score_tokens, vocabulary
from assay.tasks.task import Task

SYMBOLS = tuple("0123456789+")
PLUS, INPUTS = 10, 11  # after the digits
END = 10  # class that ends a sum without leading zeros
SHARED_BELOW = 7  # bits: length 1 has 100 inputs, length 2 has 8,100 or 10,000
SCORES = ("exact_match", "token_accuracy")
DEFAULTS = ADDITION
SPLITS = ("train", "valid", "iid", "9-16", "16-16", "20-20")
ABOUT = {"addition": "two numbers, highest digits first -> the digits of their sum"}


@dataclass(frozen=True)
class AdditionConfig:
    name: str  # addition
    lengths: str  # digits of the operands in training, FIRST:LAST, both included
    pad: bool  # whether numbers have leading zeros up to the length, and sums up to one digit more
    balanced: bool  # whether training draws each number of carries equally often; tests draw digits uniformly
    seed: int  # seed of the valid and test examples: must be the same for all runs being compared

    def __post_init__(self):
        require(self.seed >= 0, "task.seed", self.seed, "a non-negative integer")
        span(self.lengths, "config.task.lengths")


def build(config: AdditionConfig, seed: int) -> Task:
    """Builds the task; `seed` draws its training examples."""
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
        symbols=SYMBOLS,
        classes=(*"0123456789", "END")[:outputs],
        couples=coupled_places if config.pad else None,
        asked=partial(prompts, name=config.name, symbols=SYMBOLS, room=partial(room, pad=config.pad)),
    )


def room(tokens: list[int], pad: bool) -> tuple[int, int]:
    """Returns the digits of the longer number of an input, and the tokens of its answer. Raises ValueError if it is not a sum of two."""
    digits = "".join(SYMBOLS[token] for token in tokens).split("+")
    if len(digits) != 2 or not all(digits):
        raise ValueError("it is not a sum of two numbers, such as 12+34")
    length = max(map(len, digits))
    if pad and len(digits[0]) != len(digits[1]):
        raise ValueError(f"both numbers have the same number of digits, such as {digits[0].zfill(length)}+{digits[1].zfill(length)}")
    return length, length + (1 if pad else 2)


def sums(keys: np.ndarray, length: int, pad: bool, balanced: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns inputs [n, 2 length + 1], the digits of the sum, and how many of them count, including END."""
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
    """Draws two numbers [n, length], highest digit first, uniformly over pairs."""
    digits = integers(keys, "digits", 2 * length, 10).reshape(-1, 2, length)
    if _leads(length, pad):
        digits[:, :, 0] = 1 + integers(keys, "leading", 2, 9)
    return digits[:, 0], digits[:, 1]


def balanced_operands(keys: np.ndarray, length: int, pad: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draws two numbers [n, length] whose sum has a uniform number of carries, 0 ... length.

    Lee et al. balance digits and carries; lengths are already uniform here. Positions of the carries are uniform among all choices of that
    number. Each pair of digits is uniform among those that carry, or do not, given the carry from the position below.
    """
    rank = integers(keys, "which", length, 2**32).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    carries = (rank < integers(keys, "carries", 1, length + 1)).astype(np.int64)  # highest position first
    given = np.pad(carries[:, 1:], ((0, 0), (0, 1)))
    digits = np.empty((len(keys), length, 2), np.int64)
    for place in range(length):
        least = int(place == 0 and _leads(length, pad))
        count = _COUNTS[least, given[:, place], carries[:, place]]
        number = integers(keys, f"pair {length - place}", 1, count)[:, 0]
        digits[:, place] = _PAIRS[least, given[:, place], carries[:, place], number]
    return digits[:, :, 0], digits[:, :, 1]


def log2_inputs(length: int, pad: bool) -> float:
    """Returns log2 of the number of pairs of operands."""
    leading = 9 if _leads(length, pad) else 10
    return 2 * (math.log2(leading) + (length - 1) * math.log2(10))


def coupled_places(examples: Examples, width: int) -> np.ndarray:
    """Returns positions, int32 [n, width], shared by the digits of one place, as in Cho et al. 2024.

    Digits of an operand have 2 ... length + 1 from left to right; `+` and `=` have length + 2. The digits of the sum, one more, have 1 ...
    length + 1.
    """
    length = (examples.input_length[:, None] - 1) // 2
    at = np.arange(width)[None, :]
    asked = at % (length + 1) + 2  # operand and sign, twice
    answer = at - 2 * length - 1  # 1 at the first digit of the sum
    return np.where(answer <= 0, asked, np.where(answer <= length + 1, answer, 0)).astype(np.int32)


# -- private --------------------------------------------------------------------------------------------------------------


def _leads(length: int, pad: bool) -> bool:
    """Returns True if the highest digit cannot be 0. The number 0 itself has one digit."""
    return length > 1 and not pad


def _pairs() -> tuple[np.ndarray, np.ndarray]:
    """Returns pairs of digits [least digit 0 or 1, carry in, carry out, number, 2], and how many there are."""
    pairs, counts = np.zeros((2, 2, 2, 100, 2), np.int64), np.zeros((2, 2, 2), np.int64)
    for least, given, carries in np.ndindex(2, 2, 2):
        found = [(a, b) for a in range(least, 10) for b in range(least, 10) if (a + b + given >= 10) == bool(carries)]
        pairs[least, given, carries, : len(found)] = found
        counts[least, given, carries] = len(found)
    return pairs, counts


_PAIRS, _COUNTS = _pairs()
