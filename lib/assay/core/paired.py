"""Intervals for one model's statistics and paired differences of two models, for any statistic of per-example columns.

    interval_of(mean, {"test/score": right}, right=("score",))
    difference_of(gap, {"train/score": ..., "test/score": ...}, {...}, groups={"test": files})

A column is named SET/WHAT. Examples of one set are resampled together, and sets independently. `groups` maps a set to its resampling units,
such as the file that each passage comes from. `right` names, by WHAT, the columns that hold right (1) or wrong (0) answers; the kind of
interval and test follows from it, never from values that happen to be 0 and 1. Resampling uses a generator created from `seed`, so the same
columns give the same bits.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from assay.core.stats import CHUNK, Difference, Interval, Z, discordant, mcnemar, normal, paired_bootstrap, percentiles, wilson

FEW = 12  # up to this many units, all 4096 combinations of flips are tried
NEAR = 1e-9  # relative tolerance: the same numbers summed in another order

Columns = Mapping[str, np.ndarray]  # SET/WHAT -> [examples of the set]
Statistic = Callable[[Columns], float]
Together = Sequence[Any] | np.ndarray | None  # the resampling group of each example of a set; None: single examples


def mean(columns: Columns) -> float:
    """Returns the mean of the only column."""
    (values,) = columns.values()
    return float(values.mean())


def interval_of(
    statistic: Statistic,
    columns: Columns,
    groups: Mapping[str, Together] = {},
    seed: int = 0,
    resamples: int = 1000,
    right: Sequence[str] = (),
    confidence: float = 0.95,
) -> Interval:
    """Returns the statistic with its interval: Wilson's for the ungrouped mean of a `right` column, otherwise bootstrap percentiles.

    The ends are NaN if the statistic or that of any resample is not finite, and for a mean of equal values, which resampling cannot vary.
    Raises ValueError for empty columns, if lengths differ within a set, and for a `right` column with values other than 0 and 1.
    """
    _check(columns, right)
    value = float(statistic(columns))
    if statistic is mean:
        ((key, values),) = columns.items()
        group = groups.get(_set(key))
        if _is_right(key, right) and group is None:
            return Interval(value, *wilson(value, len(values), Z if confidence == 0.95 else normal(confidence)))
        if not np.isfinite(values).all() or np.ptp(values) == 0:
            return Interval(value, math.nan, math.nan)
        found = paired_bootstrap(values, np.zeros(len(values)), group, seed, resamples, confidence)
        return Interval(value, found.low, found.high)
    units, generator = _units(columns, groups), np.random.default_rng(seed)
    drawn = [statistic(_taken(columns, _drawn(units, generator))) for _ in range(resamples)]
    return Interval(value, *percentiles(drawn, confidence))


def difference_of(
    statistic: Statistic,
    first: Columns,
    second: Columns,
    groups: Mapping[str, Together] = {},
    seed: int = 0,
    resamples: int = 2000,
    flips: int = 10_000,
    right: Sequence[str] = (),
) -> Difference:
    """Returns statistic(first) - statistic(second) on the same examples, with its 95 % interval and the two-sided p-value of no difference.

    The ungrouped mean of a `right` column uses McNemar's exact test and the interval of Agresti and Min (Statistics in Medicine 2005):
    Wald's interval after adding 1/2 to each cell of the 2 x 2 table. Any other mean uses sign flips of the units (examples or groups)
    and the paired bootstrap. All flips are tried if at most 12 units differ, otherwise `flips` random ones (Good 2005). Any other
    statistic swaps the two models at random, unit by unit, `resamples` times; its interval is the bootstrap's, with the same examples
    drawn for both. These tests ask whether it matters which of the two models answered an example. Raises ValueError if the examples
    are not the same.
    """
    _check(first, right)
    _check(second, right)
    if {key: len(values) for key, values in first.items()} != {key: len(values) for key, values in second.items()}:
        raise ValueError(f"a paired difference needs the same columns twice, got {sorted(first)} and {sorted(second)}, or other lengths")
    value = float(statistic(first)) - float(statistic(second))
    if not math.isfinite(value):
        return Difference(value, math.nan, math.nan, 1.0)
    if statistic is not mean:
        return _swapped(statistic, first, second, value, _units(first, groups), seed, resamples)
    ((key, own),) = first.items()
    other, group = second[key], groups.get(_set(key))
    if group is None and _is_right(key, right):
        only_first, only_second = discordant(own, other)
        return Difference(value, *agresti_min(only_first, only_second, len(own)), mcnemar(only_first, only_second))
    found = paired_bootstrap(own, other, group, seed, resamples)
    (unit,) = _units(first, groups).values()
    delta = np.bincount(unit.number, weights=np.asarray(own, np.float64) - other)
    return Difference(value, found.low, found.high, flip_test(delta, seed, flips))


def agresti_min(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """Returns the 95 % interval of a difference of two shares of the same n examples, from the counts that only one of the
    two has right.
    """
    total, less, more = n + 2, only_first + only_second + 1, only_first - only_second
    half = Z * math.sqrt(less - more * more / total) / total
    return max(-1.0, more / total - half), min(1.0, more / total + half)


def flip_test(delta: Float[np.ndarray, "units"], seed: int = 0, flips: int = 10_000) -> float:
    """Returns the two-sided p-value of a sum whose terms are equally likely to have the opposite sign: Fisher's randomisation test of
    paired differences.

    All signs are tried if at most 12 terms are non-zero, otherwise `flips` random ones; the observed signs count as one of them.
    """
    delta = delta[delta != 0]
    observed = abs(float(delta.sum())) * (1 - NEAR)
    if len(delta) <= FEW:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(delta))))
        return float(np.mean(np.abs(signs @ delta) >= observed)) if len(delta) else 1.0
    generator, as_far = np.random.default_rng(seed), 0
    size = max(1, CHUNK // len(delta))
    for start in range(0, flips, size):
        heads = generator.integers(0, 2, (min(size, flips - start), len(delta)), dtype=np.int8)
        as_far += int((np.abs(2.0 * (heads @ delta) - delta.sum()) >= observed).sum())
    return (1 + as_far) / (1 + flips)


def sign_test(ratios: Sequence[float] | Float[np.ndarray, "turns"]) -> float:
    """Returns the exact two-sided p-value that ratios are equally likely to be above 1 as below. Ties at 1 are split evenly; an odd one is
    dropped.
    """
    values = np.asarray(ratios, np.float64)
    tied = int((values == 1).sum()) // 2
    return mcnemar(int((values > 1).sum()) + tied, int((values < 1).sum()) + tied)  # under the null hypothesis, counts of n fair coins


# -- private --------------------------------------------------------------------------------------------------------------


class _Units(NamedTuple):
    """The resampling units of a set: single examples or groups."""

    number: Int[np.ndarray, "examples"]  # the unit of each example
    order: Int[np.ndarray, "examples"]  # examples, unit by unit
    starts: Int[np.ndarray, "units"]  # start of each unit in `order`
    sizes: Int[np.ndarray, "units"]


def _swapped(
    statistic: Statistic, first: Columns, second: Columns, value: float, units: Mapping[str, _Units], seed: int, resamples: int
) -> Difference:
    generator, as_far, drawn = np.random.default_rng(seed), 0, []
    for swap in _swaps(units, generator, resamples):
        one = {key: np.where(swap[_set(key)], second[key], values) for key, values in first.items()}
        other = {key: np.where(swap[_set(key)], values, second[key]) for key, values in first.items()}
        change = abs(float(statistic(one)) - float(statistic(other)))
        as_far += not change < abs(value) * (1 - NEAR)  # a result that is not finite counts as extreme
    for _ in range(resamples):
        rows = _drawn(units, generator)
        drawn.append(float(statistic(_taken(first, rows))) - float(statistic(_taken(second, rows))))
    return Difference(value, *percentiles(drawn), (1 + as_far) / (1 + resamples))


def _swaps(units: Mapping[str, _Units], generator: np.random.Generator, times: int) -> Iterator[dict[str, Bool[np.ndarray, "examples"]]]:
    for _ in range(times):
        yield {name: generator.integers(0, 2, len(unit.sizes), dtype=bool)[unit.number] for name, unit in units.items()}


def _units(columns: Columns, groups: Mapping[str, Together]) -> dict[str, _Units]:
    """Returns the units of each set, sorted by name, so that the order of columns does not affect the draws."""
    found = {}
    for name, n in sorted({_set(key): len(values) for key, values in columns.items()}.items()):
        group = groups.get(name)
        number = np.arange(n) if group is None else np.unique(np.asarray(group), return_inverse=True)[1]
        if number.shape != (n,):
            raise ValueError(f"groups of {name!r} name one group for each of {n} examples, got shape {number.shape}")
        sizes = np.bincount(number)
        found[name] = _Units(number, np.argsort(number, kind="stable"), np.cumsum(sizes) - sizes, sizes)
    return found


def _drawn(units: Mapping[str, _Units], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Draws as many units as each set has, with replacement, and returns their rows."""
    rows = {}
    for name, (_, order, starts, sizes) in units.items():
        chosen = generator.integers(0, len(sizes), len(sizes))
        ends = np.cumsum(sizes[chosen])
        rows[name] = order[np.arange(ends[-1]) + np.repeat(starts[chosen] - ends + sizes[chosen], sizes[chosen])]
    return rows


def _taken(columns: Columns, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: values[rows[_set(key)]] for key, values in columns.items()}


def _set(key: str) -> str:
    return key.rpartition("/")[0]


def _is_right(key: str, right: Sequence[str]) -> bool:
    return key.rpartition("/")[2] in right


def _check(columns: Columns, right: Sequence[str]) -> None:
    lengths: dict[str, set[int]] = {}
    for key, values in columns.items():
        lengths.setdefault(_set(key), set()).add(len(values))
    if not lengths or any(len(found) > 1 or 0 in found for found in lengths.values()):
        raise ValueError(
            f"the columns of one set must have the same non-zero length, got { {key: len(of) for key, of in columns.items()} }"
        )
    for key, values in columns.items():
        if _is_right(key, right) and not np.isin(values, (0.0, 1.0)).all():
            raise ValueError(f"{key!r} is declared right (1) or wrong (0) but has other values")
