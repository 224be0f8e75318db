"""Equations modulo a prime, of which a share is for training: the data of grokking (Power et al. 2022, arXiv 2201.02177), where a model
knows its training equations by heart long before it answers the others.

    x o y _  ->  c        one token each; `_` is EMPTY, which is the `=`: the answer is read at its place, and nothing else is asked

add, subtract and multiply have all modulus^2 equations, divide (x / y = c where x = c * y) those with y > 0. A hash of x, y and
`split_seed` says which are for training. A tenth of the others are `valid`, for choices and for curves, the rest `test`; so no equation
is in two splits. What is published are curves, so that no number stands beside ours.
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
from assay.tasks.sequence import answer_after, score_tokens, vocabulary
from assay.tasks.task import Task, find_split

INPUT = 3  # tokens: x, the operation, y
VALID_SHARE = 0.1  # of the equations that are not for training
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
    modulus: int  # numbers are 0 ... modulus - 1; a prime
    share: float  # of the equations, for training
    split_seed: int  # of the choice of the equations for training: the same for all runs that are to be compared

    def __post_init__(self):
        require(5 <= self.modulus <= 1009 and _is_prime(self.modulus), "task.modulus", self.modulus, "a prime from 5 to 1009")
        require(0.0 < self.share < 1.0, "task.share", self.share, "a share in (0, 1)")
        require(self.split_seed >= 0, "task.split_seed", self.split_seed, "a non-negative integer")
        some = min(sizes(self.modulus * (self.modulus - 1), self.share)) > 0
        require(some, "task.share", self.share, "one that leaves equations for each of train, valid and test")


def build(config: ModularConfig, seed: int) -> Task:
    """The task. Its splits do not depend on the run's seed."""
    del seed
    name, modulus = config.name.removeprefix("modular/"), config.modulus
    parts = split(equations(name, modulus), config.share, config.split_seed)
    sources = {part: partial(_source, part, rows, modulus) for part, rows in parts.items()}
    numbers, inputs = tuple(map(str, range(modulus))), modulus + 1
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
        symbols=(*numbers, OPERATIONS[name].symbol),
        classes=numbers,
    )


def equations(name: str, modulus: int) -> np.ndarray:
    """Every x, y, c with x o y = c, int64 [modulus * ys, 3], by x and then y."""
    operation = OPERATIONS[name]
    a, b = (part.reshape(-1) for part in np.meshgrid(np.arange(modulus), np.arange(0 if operation.zero else 1, modulus), indexing="ij"))
    x, c = operation.equation(a, b)
    found = np.stack([x % modulus, b, c % modulus], axis=1)
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def split(rows: np.ndarray, share: float, seed: int) -> dict[str, np.ndarray]:
    """The rows x, y, c for train, valid and test: in the order of a hash of x and y the first `share`, a tenth of the others, the rest."""
    pair = rows[:, 0] << 32 | rows[:, 1]
    order = np.argsort(example_keys("modular/split", seed, pair), kind="stable")
    train, valid, _ = np.cumsum(sizes(len(rows), share))
    return {"train": rows[np.sort(order[:train])], "valid": rows[np.sort(order[train:valid])], "test": rows[np.sort(order[valid:])]}


def sizes(count: int, share: float) -> tuple[int, int, int]:
    """How many of so many equations are for train, valid and test."""
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
