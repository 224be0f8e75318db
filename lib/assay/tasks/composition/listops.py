"""ListOps: `[MAX 2 [MIN 4 7 ] 0 ]`, minimum, maximum, median (rounded down), sum modulo 10 of digits (Nangia and Bowman 2018).

`listops/depth` (Csordas et al. 2021, arXiv 2110.07732): the length is the depth K that the answer needs. An operator selects its result:
the first smallest or largest argument, the middle one or two, or all arguments of a sum. K is the length of the longest chain of
selections, and changing the result of its innermost operator must change the answer. Trees have 2-5 arguments, each an operator with
probability 0.3 above depth max(K, the last in training), given that they need K and have at most 50 tokens (4,000-8,000 per second on one
core). No two splits share a string.

`listops/lra` (Tay et al. 2021, Long Range Arena): 2-10 arguments, probability 0.25, operators at depths 1-9, 501-1,999 tokens, 96,000
training examples, each generated on request (1,000-2,000 per second). All have one nominal length, the longest.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from assay.config.generated import LISTOPS, LISTOPS_LRA
from assay.config.schema import require, span
from assay.core.rng import integers
from assay.data.source import Source, finite, generated
from assay.tasks.composition.csordas import TRAINED, cells
from assay.tasks.composition.trees import Draw, Level, filled, first_accepted, grow, until_closing, write
from assay.tasks.lengths import by_length
from assay.tasks.prompts import prompts
from assay.tasks.published import PLAIN, TRANSFORMERS, Protocol, Published
from assay.tasks.sequence import answer_after, score_tokens, vocabulary
from assay.tasks.task import Task, find_split

DEFAULTS = LISTOPS
LRA_DEFAULTS = LISTOPS_LRA
SPLITS = ("train", "valid", "iid", "6-6", "7-8")  # splits of listops/depth; 6-6 is the paper's validation, 7-8 its test
LRA_SPLITS = ("train", "valid", "test")
ABOUT = {
    "depth": "nested MIN, MAX, MED, SM of digits -> the value; by the depth that it needs",
    "lra": "the same in 501-1,999 tokens -> the value",
}
DIGITS, CLOSE = 10, 14
MIN, MAX, MED, SUM = range(4)
OPENING = np.arange(10, 14)  # tokens of the operators
SYMBOLS = (*"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]")
SHORT = 50  # maximum number of tokens of listops/depth
DEEPEST = 10  # deepest level generated: in 50 tokens, the next one is found once in a million trees
LRA_AT_ONCE = 64  # number of long trees tried together


@dataclass(frozen=True)
class DepthConfig:
    name: str  # listops/depth
    lengths: str  # training depths, FIRST:LAST, both included
    seed: int  # seed of the valid and test examples: must be the same for all runs being compared

    def __post_init__(self):
        require(self.seed >= 0, "task.seed", self.seed, "a non-negative integer")
        _, last = span(self.lengths, "config.task.lengths")
        require(last <= DEEPEST, "task.lengths", self.lengths, f"depths up to {DEEPEST} are supported")


@dataclass(frozen=True)
class LRAConfig:
    name: str  # listops/lra
    tokens: str  # tokens per input, FIRST:LAST, both included
    train_examples: int
    test_examples: int  # examples of valid, and of test
    seed: int  # seed of all examples: they do not depend on the run's own seed

    def __post_init__(self):
        for name in ("train_examples", "test_examples"):
            require(getattr(self, name) >= 1, f"task.{name}", getattr(self, name), "it must be at least 1")
        require(self.seed >= 0, "task.seed", self.seed, "a non-negative integer")
        first, last = span(self.tokens, "config.task.tokens")
        allowed = "FIRST at most 2000 and LAST at least FIRST + 8, since other lengths are found too rarely"
        require(first <= 2000 and last >= first + 8, "task.tokens", self.tokens, allowed)


def build_depth(config: DepthConfig, seed: int) -> Task:
    """Builds the task; `seed` draws its training examples."""
    lengths = span(config.lengths, "config.task.lengths")
    make = partial(needing, trained=lengths[1])
    split = by_length("listops/depth", SPLITS, lengths, seed, config.seed, make, lambda depth: math.inf, longest=DEEPEST)
    return _task(
        config.name, SPLITS, lambda name: until_closing(split(name), CLOSE), SHORT, DEPTH_PUBLISHED if lengths == TRAINED else (), "iid"
    )


def build_lra(config: LRAConfig, seed: int) -> Task:
    """Builds the task. Its splits do not depend on the run's seed."""
    del seed
    first, last = span(config.tokens, "config.task.tokens")
    published = LRA_PUBLISHED if config.tokens == LRA_DEFAULTS["tokens"] else ()
    sizes = {"train": config.train_examples, "valid": config.test_examples, "test": config.test_examples}

    def make(keys: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return as_long_as(keys, first, length)

    def split(name: str, size: int) -> Source:
        endless = generated("listops/lra", name, name, config.seed, (last, last), make, lambda length: math.inf)
        return finite(until_closing(endless, CLOSE), size)

    sources = {name: partial(split, name, size) for name, size in sizes.items()}
    return _task(config.name, LRA_SPLITS, lambda name: find_split(sources, name)(), last, published, "test")


def needing(keys: np.ndarray, depth: int, trained: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns expressions whose answers need exactly `depth`: input [n, SHORT], target [n, 1], counted [n]."""
    draw = partial(draw_arguments, most=5, nest=300, deepest=max(depth, trained))

    def accept(keys: np.ndarray) -> np.ndarray:
        levels, short = grow(keys, draw, SHORT, reach=depth)
        given = evaluate(levels)
        found = np.zeros(len(keys), bool)
        deep = np.flatnonzero(given.depth == depth)
        found[short[deep]] = depends(levels, given, deep)
        return found

    return _made(first_accepted(keys, accept), draw, SHORT)


def as_long_as(keys: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns expressions of `first` to `last` tokens: input [n, last], target [n, 1], counted [n]."""
    draw = partial(draw_arguments, most=10, nest=250, deepest=9)

    def accept(keys: np.ndarray) -> np.ndarray:
        levels, short = grow(keys, draw, last)
        tokens = 1 + sum(np.bincount(level.row, level.inside.sum(axis=1) + 1, len(keys)) for level in levels)
        return (tokens >= first) & np.isin(np.arange(len(keys)), short)

    return _made(first_accepted(keys, accept, LRA_AT_ONCE), draw, last)


def draw_arguments(
    keys: np.ndarray, marked: np.ndarray, depth: int, most: int, nest: int, deepest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draws 2 to `most` arguments (a `Draw`), each an operator in `nest` of 1,000 cases above depth `deepest`. It marks none."""
    del marked
    drawn = integers(keys, "operator and arguments", most + 1, 1000 * 4 * (most - 1))
    operator, more = np.divmod(drawn[:, 0] // 1000, most - 1)
    drawn = drawn[:, 1:] % 1000  # the non-operator range leaves equally many numbers to each digit
    inside = np.arange(most)[None, :] < 2 + more[:, None]
    nested = inside & (drawn < nest) & (depth < deepest)
    return operator, inside, drawn % DIGITS, nested, np.zeros_like(nested)


class Evaluation(NamedTuple):
    """Results of the trees, from the leaves up."""

    value: np.ndarray  # value of each tree
    depth: np.ndarray  # depth of each tree: 1 + the deepest selected argument
    values: list[np.ndarray]  # for each level: its arguments as digits, [m, most]
    depths: list[np.ndarray]  # for each level: the depths of its arguments, 0 for digits
    chosen: list[np.ndarray]  # for each level: which arguments are selected


def evaluate(levels: list[Level]) -> Evaluation:
    """Evaluates every operator of every tree."""
    values, depths, choices = [], [], []
    value = depth = np.zeros(0, np.int64)
    for level in reversed(levels):
        values.append(filled(level.digits, level, value))
        depths.append(filled(np.zeros_like(level.digits), level, depth))
        value, chosen = apply(level.operator, values[-1], level.inside)
        choices.append(chosen)
        depth = 1 + np.where(chosen, depths[-1], 0).max(axis=1, initial=0)
    return Evaluation(value, depth, values[::-1], depths[::-1], choices[::-1])


def apply(operator: np.ndarray, values: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the results of operators [m] on digits [m, most], and which of the digits they select."""
    most, count = values.shape[1], inside.sum(axis=1)
    ascending = np.argsort(np.where(inside, values, DIGITS), axis=1, kind="stable")
    largest = np.where(inside, values, -1).argmax(axis=1)
    rows = np.arange(len(operator))
    first = np.where(operator == MED, ascending[rows, (count - 1) // 2], np.where(operator == MAX, largest, ascending[:, 0]))
    second = np.where(operator == MED, ascending[rows, count // 2], first)
    total, middle = np.where(inside, values, 0).sum(axis=1) % DIGITS, (values[rows, first] + values[rows, second]) // 2
    places = np.arange(most)[None, :]
    chosen = np.where((operator == SUM)[:, None], inside, (places == first[:, None]) | (places == second[:, None]))
    return np.where(operator == SUM, total, middle), chosen


def depends(levels: list[Level], given: Evaluation, trees: np.ndarray) -> np.ndarray:
    """Returns a bool for each of `trees`: whether changing the innermost operator's result in some full chain of selections changes the
    answer.
    """
    found = np.zeros(len(trees), bool)
    at, tree = trees, np.arange(len(trees))  # a level's operators that are in chains, and the trees that they belong to
    answers = np.tile(np.arange(DIGITS), (len(trees), 1))  # their results -> the answer
    for level, values, depths, chosen in zip(levels, given.values, given.depths, given.chosen, strict=True):
        within = np.where(chosen[at], depths[at], 0)
        deepest = within.max(axis=1, keepdims=True, initial=0)
        innermost = (deepest == 0)[:, 0]
        found[tree[innermost & (answers.min(axis=1) < answers.max(axis=1))]] = True

        node, place = np.nonzero((within == deepest) & (deepest > 0))
        parent = at[node]
        tried = np.repeat(values[parent], DIGITS, axis=0)
        tried[np.arange(len(tried)), np.repeat(place, DIGITS)] = np.tile(np.arange(DIGITS), len(node))
        results, _ = apply(np.repeat(level.operator[parent], DIGITS), tried, np.repeat(level.inside[parent], DIGITS, axis=0))
        answers, tree = np.take_along_axis(answers[node], results.reshape(-1, DIGITS), axis=1), tree[node]
        at = (np.cumsum(level.nested).reshape(level.nested.shape) - 1)[parent, place]  # positions in the level below
    return found


# -- private --------------------------------------------------------------------------------------------------------------


def _made(keys: np.ndarray, draw: Draw, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    levels, _ = grow(keys, draw, width)
    return write(levels, len(keys), width, OPENING, CLOSE), evaluate(levels).value[:, None], np.ones(len(keys), np.int64)


def _task(
    name: str, splits: tuple[str, ...], source: Callable[[str], Source], longest: int, published: tuple[Published, ...], shown: str
) -> Task:
    metrics = ("answer_accuracy",)
    return Task(
        name=name,
        vocabulary=vocabulary(len(SYMBOLS), DIGITS),
        splits=splits,
        source=source,
        encode=partial(answer_after, empty=len(SYMBOLS)),
        width=lambda length: longest + 1,
        score=partial(score_tokens, metrics=metrics),
        metrics=metrics,
        chance=1.0 / DIGITS,
        shown=shown,
        answer_to_input=len(SYMBOLS) + 1,
        published=published,
        symbols=SYMBOLS,
        classes=SYMBOLS[:DIGITS],
        asked=partial(prompts, name=name, symbols=SYMBOLS, room=lambda tokens: (1, 1), most=longest),
    )


DEPTH_DATA = "1,000,000 training examples, ours unlimited"
_DEPTH_CELLS = {  # at 1-5, 7-8
    "LSTM": ((0.99, None), (0.71, None)),
    "Transformer": ((0.98, None), (0.74, None)),
    "+ rel": ((0.98, None), (0.79, None)),
    "+ geom + gate": ((1.00, None), (0.99, None)),
}
DEPTH_PUBLISHED = cells("Table 3", ("iid", "7-8"), _DEPTH_CELLS, DEPTH_DATA, {})
LRA_PAPER = "Long Range Arena repository (Tay et al. 2021), ListOps, Transformer"
LRA_PROTOCOL = Protocol(
    "Transformer encoder",
    "500-2000 tokens",
    data="another draw of the examples",
    stated={
        "model.name": ("encoder",),
        "model.depth": (4,),
        "model.width": (512,),
        "model.heads": (8,),
        "model.mlp": (1024,),
        "optimizer.learning_rate": (0.05,),
        "optimizer.weight_decay": (0.1,),
        "train.steps": (5000,),
        "train.batch_size": (32,),
    },
)
LRA_NEEDS = {"task.tokens": (LRA_DEFAULTS["tokens"],), **PLAIN}
LRA_PUBLISHED = (
    Published(TRANSFORMERS, "test", "answer_accuracy", 0.3637, None, "mean", LRA_PAPER, "V", needs=LRA_NEEDS, protocol=LRA_PROTOCOL),
)
