"""Equations modulo a prime, a share of which is for training: the data of grokking (Power et al. 2022, arXiv 2201.02177).

    x o y _  ->  c        one token each; `_` is EMPTY, the `=`: the answer is read at its position, and nothing else is predicted

In grokking a model has memorized its training equations long before it generalizes to the others. add, subtract and multiply have all
modulus^2 equations; divide (x / y = c where x = c * y) has those with y > 0. A hash of x, y and `split_seed` selects the training
equations. A tenth of the others is `valid`, for validation and learning curves; the rest is `test`. No equation is in two splits. The
published results are curves, so no published number stands beside ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from assay.config.generated import MODULAR
from assay.config.schema import require
from assay.core.rng import example_keys
from assay.data.source import Examples, Source, in_memory
from assay.tasks.prompts import prompts
from assay.tasks.sequence import answer_after, score_tokens, vocabulary
from assay.tasks.task import Task, find_split

INPUT = 3  # tokens: x, the operation, y
VALID_SHARE = 0.1  # share of the equations that are not for training
METRICS = ("answer_accuracy",)
DEFAULTS = MODULAR
SPLITS = ("train", "valid", "test")


class Operation(NamedTuple):
    symbol: str
    equation: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # two numbers a, b -> x and c of `x o b = c`, not reduced
    zero: bool = True  # whether the second operand can be 0


OPERATIONS: Mapping[str, Operation] = {
    "add": Operation("+", lambda a, b: (a, a + b)),
    "subtract": Operation("-", lambda a, b: (a, a - b)),
    "multiply": Operation("*", lambda a, b: (a, a * b)),
    "divide": Operation("/", lambda a, b: (a * b, a), zero=False),
}
ABOUT = {name: f"x {operation.symbol} y -> the result modulo a prime" for name, operation in OPERATIONS.items()}


@dataclass(frozen=True)
class ModularConfig:
    name: str  # modular/add, modular/subtract, modular/multiply, modular/divide
    modulus: int  # a prime; numbers are 0 ... modulus - 1
    share: float  # share of the equations used for training
    split_seed: int  # seed of the training split: must be the same for all runs being compared

    def __post_init__(self):
        require(5 <= self.modulus <= 1009 and _is_prime(self.modulus), "task.modulus", self.modulus, "a prime from 5 to 1009")
        require(0.0 < self.share < 1.0, "task.share", self.share, "a share in (0, 1)")
        require(self.split_seed >= 0, "task.split_seed", self.split_seed, "a non-negative integer")
        some = min(sizes(self.modulus * (self.modulus - 1), self.share)) > 0
        require(some, "task.share", self.share, "one that leaves equations for each of train, valid and test")


def build(config: ModularConfig, seed: int) -> Task:
    """Builds the task. Its splits do not depend on the run's seed."""
    del seed
    name, modulus = config.name.removeprefix("modular/"), config.modulus
    parts = split(equations(name, modulus), config.share, config.split_seed)
    sources = {part: partial(_source, part, rows, modulus) for part, rows in parts.items()}
    numbers, inputs = tuple(map(str, range(modulus))), modulus + 1
    symbols = (*numbers, OPERATIONS[name].symbol)
    return Task(
        name=config.name,
        vocabulary=vocabulary(inputs, modulus),
        splits=tuple(sources),
        source=lambda part: find_split(sources, part)(),
        encode=partial(answer_after, empty=inputs),
        width=lambda length: length + 1,
        score=partial(score_tokens, metrics=METRICS),
        metrics=METRICS,
        chance=1.0 / modulus,
        shown="test",
        answer_to_input=inputs + 1,
        symbols=symbols,
        classes=numbers,
        asked=partial(prompts, name=config.name, symbols=symbols, room=room),
    )


def room(tokens: list[int]) -> tuple[int, int]:
    """Returns the tokens of a question, and of its answer. Raises ValueError if it is not one."""
    if len(tokens) != 3:
        raise ValueError("a question has three tokens: a number, the operation, a number")
    return 3, 1


def equations(name: str, modulus: int) -> np.ndarray:
    """Returns every x, y, c with x o y = c, int64 [modulus * ys, 3], sorted by x and then y."""
    operation = OPERATIONS[name]
    a, b = (part.reshape(-1) for part in np.meshgrid(np.arange(modulus), np.arange(0 if operation.zero else 1, modulus), indexing="ij"))
    x, c = operation.equation(a, b)
    found = np.stack([x % modulus, b, c % modulus], axis=1)
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def split(rows: np.ndarray, share: float, seed: int) -> dict[str, np.ndarray]:
    """Splits the rows x, y, c in the order of a hash of x and y: the first `share` is train, a tenth of the rest valid, the others test."""
    pair = rows[:, 0] << 32 | rows[:, 1]
    order = np.argsort(example_keys("modular/split", seed, pair), kind="stable")
    train, valid, _ = np.cumsum(sizes(len(rows), share))
    return {"train": rows[np.sort(order[:train])], "valid": rows[np.sort(order[train:valid])], "test": rows[np.sort(order[valid:])]}


def sizes(count: int, share: float) -> tuple[int, int, int]:
    """Returns how many of `count` equations are for train, valid and test."""
    train = round(share * count)
    valid = round(VALID_SHARE * (count - train))
    return train, valid, count - train - valid


# -- private --------------------------------------------------------------------------------------------------------------


def _source(name: str, rows: np.ndarray, modulus: int) -> Source:
    inputs = np.stack([rows[:, 0], np.full(len(rows), modulus), rows[:, 1]], axis=1).astype(np.int32)
    ones = np.ones(len(rows), np.int64)
    return in_memory(name, Examples(np.arange(len(rows)), INPUT * ones, inputs, INPUT * ones, rows[:, 2:].astype(np.int32), ones, ones))


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, int(number**0.5) + 1))
