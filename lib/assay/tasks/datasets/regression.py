"""Regression: numbers from numbers. `diabetes`: scikit-learn's 442 patients, ten measurements -> the disease's progression a year later.

The split is fixed: patients are ordered by one counter-based key each; the first 111 are `test`, the next 67 `valid`, the other 264 `train`
(25, 15 and 60 per cent). Models read and predict standardized numbers (mean and deviation of the training split); targets, predictions and
rows are in the data's own units.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.rng import example_keys
from assay.core.tree import widened
from assay.data.source import Examples, Source, in_memory
from assay.models.model import Batch, Output, Vocabulary
from assay.tasks.bounds import Bounds
from assay.tasks.evidence import of_numbers
from assay.tasks.task import Task, find_split

METRICS = ("r2", "mse", "mae")
TEST_SHARE, VALID_SHARE = 0.25, 0.15  # shares of all examples
SPLITS = ("train", "valid", "test")
BOUNDS = Bounds(-math.inf, math.inf, "a standard deviation of the feature over the training split")


@dataclass(frozen=True)
class RegressionConfig:
    name: str  # a name in TABLES


class Table(NamedTuple):
    inputs: np.ndarray  # float64 [n, features]
    targets: np.ndarray  # float64 [n, outputs]


class Scale(NamedTuple):
    """Standardisation of numbers: (x - mean) / deviation, column by column."""

    mean: np.ndarray
    deviation: np.ndarray

    def to(self, values: np.ndarray) -> np.ndarray:
        return ((values - self.mean) / self.deviation).astype(np.float32)

    def back(self, values: np.ndarray) -> np.ndarray:
        return values * self.deviation + self.mean


def diabetes() -> Table:
    """Loads Efron et al. 2004 ("Least angle regression"): age, sex, body mass index, blood pressure, six blood serum measurements."""
    from sklearn.datasets import load_diabetes  # slow to import

    inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    return Table(inputs, targets[:, None])


TABLES: Mapping[str, Callable[[], Table]] = {"diabetes": diabetes}


def build(config: RegressionConfig, seed: int) -> Task:
    """Builds the task. Its splits do not depend on the run's seed."""
    del seed
    table = TABLES[config.name]()
    parts = split(config.name, len(table.targets))
    read, answered = (standard(columns[parts["train"]]) for columns in table)

    @cache
    def source(name: str) -> Source:
        return _source(name, Table(*(columns[find_split(parts, name)] for columns in table)))

    def plain(values: np.ndarray) -> Any:
        numbers = np.asarray(answered.back(values), np.float64).tolist()
        return numbers[0] if len(numbers) == 1 else numbers

    return Task(
        name=config.name,
        vocabulary=Vocabulary(0, table.targets.shape[1], pooled=True),
        splits=SPLITS,
        source=source,
        encode=partial(encode, read=read, answered=answered),
        width=lambda length: length,
        score=partial(score_numbers, scale=answered.deviation),
        metrics=METRICS,
        chance=0.0,
        units={"mse": "", "mae": ""},
        answer=lambda logits: logits,
        read=lambda answer, batch: plain(answer),
        shown="test",
        bounds=BOUNDS,
        evidence=of_numbers,
    )


def split(name: str, size: int) -> dict[str, np.ndarray]:
    """Returns the indices of each split's examples, among `size`."""
    order = np.argsort(example_keys(f"{name}/split", 0, np.arange(size)), kind="stable")
    test, valid = (math.ceil(share * size) for share in (TEST_SHARE, VALID_SHARE))
    return {"train": np.sort(order[test + valid :]), "valid": np.sort(order[test : test + valid]), "test": np.sort(order[:test])}


def standard(values: np.ndarray) -> Scale:
    """Returns the scale of these rows; a constant column is only centred."""
    varies = np.ptp(values, axis=0) > 0  # rounding gives equal numbers a deviation above 0
    return Scale(values.mean(axis=0), np.where(varies, values.std(axis=0), 1.0))


def encode(examples: Examples, width: int, read: Scale, answered: Scale) -> dict[str, np.ndarray]:
    """Returns inputs float32 [n, features] and targets float32 [n, outputs], standardized; weight."""
    del width
    weight = np.ones(len(examples.id), np.float32)
    return {"inputs": read.to(examples.input), "targets": answered.to(examples.target), "weight": weight}


def score_numbers(output: Output, batch: Batch, scale: np.ndarray | float = 1.0) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
    """Computes the squared error of each example, averaged over its outputs. Logits and `batch["targets"]`: float [batch, outputs].

    `mse`, `mae`: squared and absolute error after multiplying by `scale`, which gives the data's own units.
    """
    error = widened(output.logits) - batch["targets"]
    own = error * jnp.broadcast_to(jnp.asarray(scale, jnp.float32), error.shape)
    return jnp.square(error).mean(axis=1), batch["weight"], {"mse": jnp.square(own).mean(axis=1), "mae": jnp.abs(own).mean(axis=1)}


# -- private --------------------------------------------------------------------------------------------------------------


def _source(name: str, table: Table) -> Source:
    def describe(examples: Examples, i: int) -> dict[str, Any]:
        target = examples.target[i].tolist()
        return {"input": examples.input[i].tolist(), "target": target[0] if len(target) == 1 else target}

    n = len(table.targets)
    ones = np.ones(n, np.int64)
    return in_memory(name, Examples(np.arange(n), ones, table.inputs, ones, table.targets, ones, ones), describe)
