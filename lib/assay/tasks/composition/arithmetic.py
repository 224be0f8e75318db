"""Simple arithmetic: nested `(a op b)` modulo 10, by depth of nesting (Csordas et al. 2021, arXiv 2110.07732).

Operands are digits; operators are + and *. The length is the depth K, the largest number of operators on a path down; inputs have at most
50 tokens. At each operator of the main chain, a fair coin chooses the side that continues the chain. Every other argument is an operator
with probability 0.2 (the paper's, in training) above depth K, and otherwise a digit.

An expression must need depth K: it is drawn again if its answer is the same for all results of the chain's innermost operator, as after a
factor 0, or 2 and 5. Depth 1 has 200 inputs, which all splits share; deeper ones belong to training, valid or test by a hash.
"""

import functools
import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from assay.config.generated import ARITHMETIC
from assay.config.schema import require, span
from assay.core.rng import integers
from assay.data.source import Source
from assay.tasks.composition.csordas import TRAINED, cells
from assay.tasks.composition.trees import Level, filled, first_accepted, grow, until_closing, write
from assay.tasks.lengths import by_length
from assay.tasks.prompts import prompts
from assay.tasks.sequence import answer_after, score_tokens, vocabulary
from assay.tasks.task import Task

DEFAULTS = ARITHMETIC
SPLITS = ("train", "valid", "iid", "6-6", "7-8")  # 6-6 is the paper's validation, 7-8 its test
ABOUT = {"nested": "nested sums and products of digits -> the value modulo 10"}
DIGITS, OPEN, CLOSE, PLUS, TIMES = 10, 10, 11, 12, 13
SYMBOLS = (*"0123456789()+*",)
LONGEST = 50  # tokens
DEEPEST = (LONGEST - 1) // 4  # an operator adds four tokens
NEST = 20  # per cent: how often an argument off the chain is an operator
SHARED_BELOW = 8  # bits: depth 1 has 200 inputs, depth 2 has tens of thousands


@dataclass(frozen=True)
class ArithmeticConfig:
    name: str  # arithmetic/nested
    lengths: str  # training depths, FIRST:LAST, both included
    seed: int  # seed of the valid and test examples: must be the same for all runs being compared

    def __post_init__(self):
        require(self.seed >= 0, "task.seed", self.seed, "a non-negative integer")
        _, last = span(self.lengths, "config.task.lengths")
        require(last <= DEEPEST, "task.lengths", self.lengths, f"{LONGEST} tokens allow depths up to {DEEPEST}")


def build(config: ArithmeticConfig, seed: int) -> Task:
    """Builds the task; `seed` draws its training examples."""
    lengths = span(config.lengths, "config.task.lengths")
    split = by_length("arithmetic/nested", SPLITS, lengths, seed, config.seed, expressions, log2_inputs, SHARED_BELOW, DEEPEST)

    def source(name: str) -> Source:
        return until_closing(split(name), CLOSE)

    metrics = ("answer_accuracy",)
    return Task(
        name=config.name,
        vocabulary=vocabulary(len(SYMBOLS), DIGITS),
        splits=SPLITS,
        source=source,
        encode=partial(answer_after, empty=len(SYMBOLS)),
        width=lambda depth: most_tokens(depth) + 1,
        score=partial(score_tokens, metrics=metrics),
        metrics=metrics,
        chance=1.0 / DIGITS,
        answer_to_input=len(SYMBOLS) + 1,
        published=PUBLISHED if lengths == TRAINED else (),
        symbols=SYMBOLS,
        classes=SYMBOLS[:DIGITS],
        asked=partial(prompts, name=config.name, symbols=SYMBOLS, room=room, most=most_tokens(DEEPEST)),
    )


def expressions(keys: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns expressions of exactly `depth`: input [n, most_tokens(depth)], target [n, 1], counted [n]."""
    draw = partial(draw_arguments, deepest=depth)

    def accept(keys: np.ndarray) -> np.ndarray:
        levels, short = grow(keys, draw, LONGEST, infix=True)
        good = np.zeros(len(keys), bool)
        good[short] = evaluate(levels)[1] > 0
        return good

    levels, _ = grow(first_accepted(keys, accept), draw, LONGEST, infix=True)
    value, _ = evaluate(levels)
    tokens = write(levels, len(keys), most_tokens(depth), np.full(2, OPEN), CLOSE, between=np.array([PLUS, TIMES]))
    return tokens, value[:, None], np.ones(len(keys), np.int64)


def draw_arguments(
    keys: np.ndarray, marked: np.ndarray, depth: int, deepest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draws arguments (a `Draw`); marked operators are the main chain, which goes down to depth `deepest`."""
    operator, side = integers(keys, "operator", 2, 2).T
    marks = marked[:, None] & (side[:, None] == np.arange(2)) & (depth < deepest)
    nested = marks | ((integers(keys, "nested", 2, 100) < NEST) & (depth < deepest))
    return operator, np.ones_like(nested), integers(keys, "digits", 2, DIGITS), nested, marks


def evaluate(levels: list[Level]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the value of each tree, and the factor that multiplies the result of its chain's innermost operator, both modulo 10."""
    below = factor = np.zeros(0, np.int64)
    for level in reversed(levels):
        values = filled(level.digits, level, below)
        factors = filled(np.ones_like(values), level, factor)
        product = level.operator == 1
        below = np.where(product, values.prod(axis=1), values.sum(axis=1)) % 10
        through = np.where(level.marks, factors, np.where(product[:, None], values, 1)).prod(axis=1) % 10
        factor = np.where(level.marks.any(axis=1), through, 1)
    return below, factor


def room(tokens: list[int]) -> tuple[int, int]:
    """Returns the least depth whose expressions can have as many tokens, and the number of tokens of the answer."""
    return next(depth for depth in range(DEEPEST + 1) if most_tokens(depth) >= len(tokens)), 1


def most_tokens(depth: int) -> int:
    """Returns the tokens of the longest expression of a depth."""
    return 1 + 4 * min(2**depth - 1, DEEPEST)


def log2_inputs(depth: int) -> float:
    """Returns log2 of the number of trees of exactly this depth, an upper bound: fewer are short enough and need it."""
    return math.log2(_trees(depth) - _trees(depth - 1))


@functools.cache
def _trees(deepest: int) -> int:
    return DIGITS + 2 * _trees(deepest - 1) ** 2 if deepest else DIGITS


# -- published cells --------------------------------------------------------------------------------------------------------

DATA = "its expressions are as deep as written, ours also need that depth"
_CELLS = {  # at 1-5, 7-8
    "LSTM": ((0.99, None), (0.74, None)),
    "Transformer": ((0.98, None), (0.47, None)),
    "+ rel": ((1.00, None), (0.77, None)),
    "+ geom + gate": ((1.00, None), (0.98, None)),
}
PUBLISHED = cells("Table 2", ("iid", "7-8"), _CELLS, DATA, {"train.steps": (200_000,)})
