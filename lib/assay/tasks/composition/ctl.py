"""Compositional table lookup: a symbol and functions given by tables, composed (Liska et al. 2018; Csordas et al., arXiv 2110.07732).

    s f1 f2 .. fk  ->  fk(.. f2(f1(s)))        `ctl/backward` has the reversed input: fk .. f2 f1 s

There are 8 symbols and 11 bijective tables, drawn by `tables_seed`; 9 are composed, and the last two only occur alone. The length is k.
Length 1 has 88 inputs, which all splits share; longer ones belong to training, valid or test by a hash. A batch has one length, so a fifth
of training on 1-5 has length 1, with all tables equally frequent. The paper instead repeats the last two 30 times, which is 1 % of its
training set; that is not necessary here.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from assay.config.generated import CTL
from assay.config.schema import require, span
from assay.core.rng import example_keys, integers
from assay.tasks.composition.csordas import TRAINED, cells
from assay.tasks.lengths import by_length
from assay.tasks.prompts import prompts
from assay.tasks.published import Published
from assay.tasks.sequence import answer_after, score_tokens, vocabulary
from assay.tasks.task import Task

DEFAULTS = CTL
SPLITS = ("train", "valid", "iid", "6-8", "9-10")  # 6-8 is the paper's validation, 9-10 its test
ABOUT = {
    "forward": "a symbol, then tables in the order of their use -> the symbol that they lead to",
    "backward": "tables, the last used first, then a symbol -> the symbol that they lead to",
}
SYMBOLS, TABLES, COMPOSED = 8, 11, 9
NAMES = tuple("01234567abcdefghijk")
SHARED_BELOW = 7  # bits: length 1 has 88 inputs, length 2 has 648


@dataclass(frozen=True)
class CTLConfig:
    name: str  # ctl/forward, ctl/backward
    lengths: str  # numbers of functions in training, FIRST:LAST, both included
    tables_seed: int  # seed of the tables: must be the same for all runs being compared
    seed: int  # seed of the valid and test examples: must be the same for all runs being compared

    def __post_init__(self):
        for name in ("tables_seed", "seed"):
            require(getattr(self, name) >= 0, f"task.{name}", getattr(self, name), "a non-negative integer")
        span(self.lengths, "config.task.lengths")


def build(config: CTLConfig, seed: int) -> Task:
    """Builds the task; `seed` draws its training examples."""
    direction = config.name.removeprefix("ctl/")
    backward = direction == "backward"
    tables = draw_tables(config.tables_seed)
    metrics = ("answer_accuracy",)
    return Task(
        name=config.name,
        vocabulary=vocabulary(SYMBOLS + TABLES, SYMBOLS),
        splits=SPLITS,
        source=by_length(
            f"ctl/{direction}/{config.tables_seed}",
            SPLITS,
            span(config.lengths, "config.task.lengths"),
            seed,
            config.seed,
            partial(compositions, tables=tables, backward=backward),
            log2_inputs,
            SHARED_BELOW,
        ),
        encode=partial(answer_after, empty=SYMBOLS + TABLES),
        width=lambda length: length + 2,  # the symbol, the functions, and the position of the answer
        score=partial(score_tokens, metrics=metrics),
        metrics=metrics,
        chance=1.0 / SYMBOLS,
        answer_to_input=SYMBOLS + TABLES + 1,
        published=published(direction) if span(config.lengths, "config.task.lengths") == TRAINED else (),
        symbols=NAMES,
        classes=tuple("01234567"),
        asked=partial(prompts, name=config.name, symbols=NAMES, room=room),
        states=None if backward else partial(values_so_far, tables=tables),
    )


def room(tokens: list[int]) -> tuple[int, int]:
    """Returns the number of functions of an input, and of tokens of its answer. Raises ValueError if there are none."""
    if len(tokens) < 2:
        raise ValueError("it has no function")
    return len(tokens) - 1, 1


def draw_tables(seed: int) -> np.ndarray:
    """Returns int64 [TABLES, SYMBOLS]: each table's value for each symbol; each row is a permutation."""
    return integers(example_keys("ctl/tables", seed, np.arange(TABLES)), "table", SYMBOLS, 2**32).argsort(axis=1, kind="stable")


def compositions(keys: np.ndarray, length: int, tables: np.ndarray, backward: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a symbol and `length` functions: input [n, length + 1], target [n, 1], counted [n]. A function's id is
    SYMBOLS + its table.
    """
    symbol = integers(keys, "symbol", 1, SYMBOLS)
    functions = integers(keys, "functions", length, COMPOSED if length > 1 else TABLES)
    tokens = np.concatenate([symbol, SYMBOLS + functions], axis=1)
    answer = values_so_far(tokens, tables)[:, -1:]
    return tokens[:, ::-1].copy() if backward else tokens, answer, np.ones(len(keys), np.int64)


def values_so_far(tokens: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Returns the value after each token of `s f1 .. fk`, with the shape of `tokens`. A symbol's value is itself, at any position."""
    values = np.array(tokens, np.int64)
    for place in range(1, tokens.shape[1]):
        function = tokens[:, place] - SYMBOLS
        values[:, place] = np.where(function >= 0, tables[np.maximum(function, 0), values[:, place - 1]], tokens[:, place])
    return values


def log2_inputs(length: int) -> float:
    """Returns log2 of the number of distinct inputs."""
    return math.log2(SYMBOLS) + (length * math.log2(COMPOSED) if length > 1 else math.log2(TABLES))


# -- published cells --------------------------------------------------------------------------------------------------------
# Mean and spread at (1-5, 9-10), for the models available here.

DATA = "single functions are 1 % of its training examples, a fifth of ours; the answer is read at the last column"
_CELLS: dict[str, dict[str, tuple[tuple[float, float | None], ...]]] = {
    "forward": {
        "LSTM": ((1.00, None), (1.00, None)),
        "Transformer": ((1.00, None), (0.13, 0.01)),
        "+ rel": ((1.00, None), (0.23, 0.05)),
        "+ rel + gate": ((1.00, None), (0.99, 0.01)),
        "+ geometric att.": ((0.96, 0.04), (0.16, 0.02)),
        "+ geom + gate": ((1.00, None), (1.00, None)),
    },
    "backward": {
        "LSTM": ((0.59, 0.03), (0.22, 0.03)),
        "Transformer": ((0.82, 0.39), (0.12, 0.01)),
        "+ rel": ((1.00, None), (0.13, 0.01)),
        "+ rel + gate": ((1.00, None), (0.19, 0.04)),
        "+ geometric att.": ((0.93, 0.06), (0.15, 0.02)),
        "+ geom + gate": ((1.00, None), (1.00, None)),
    },
}


def published(direction: str) -> tuple[Published, ...]:
    """Returns the published cells of `forward` or `backward`."""
    return cells("Table 1", ("iid", "9-10"), _CELLS[direction], DATA, {})
