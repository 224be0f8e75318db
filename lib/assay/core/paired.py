"""Intervals for one model's statistics and paired differences of two models, for any statistic of per-example columns.

    interval_of(mean, {"test/score": right}, right=("score",))
    difference_of(gap, {"train/score": ..., "test/score": ...}, {...}, groups={"test": files})

A column is named SET/WHAT. Examples of one set are resampled together, and sets independently. `groups` maps a set to its resampling units,
such as the file that each passage comes from. `right` names, by WHAT, the columns that hold right (1) or wrong (0) answers, and `bounded`
says that the values of a mean lie in [0, 1]; the kind of interval and test follows from them, never from values that happen to be 0 and 1.
Resampling uses a generator created from `seed`, so the same columns give the same bits.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from assay.core.means import LEAST, LEAST_GROUPS, difference_interval, mean_interval, shares_interval, units_of
from assay.core.stats import CHUNK, Difference, Interval, Z, discordant, mcnemar, normal, percentiles, wilson

FEW = 12  # up to this many units, all 4096 combinations of flips are tried
NEAR = 1e-9  # relative tolerance: the same numbers summed in another order

Columns = Mapping[str, np.ndarray]  # SET/WHAT -> [examples of the set]
Statistic = Callable[[Columns], float]
ByRow = Callable[[Columns], np.ndarray]  # columns of resamples, [resamples, examples] each -> the statistic of each
Together = Sequence[Any] | np.ndarray | None  # the resampling group of each example of a set; None: single examples


_BY_ROW: dict[Statistic, ByRow] = {}


def by_row(many: ByRow) -> Callable[[Statistic], Statistic]:
    """Declares the function that computes a statistic of many resamples at once, a hundred times as fast as one by one."""

    def declare(statistic: Statistic) -> Statistic:
        _BY_ROW[statistic] = many
        return statistic

    return declare


@by_row(lambda columns: next(iter(columns.values())).mean(axis=-1))
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
    bounded: bool = False,
    confidence: float = 0.95,
) -> Interval:
    """Returns the statistic with its interval.

    The ungrouped mean of a `right` column has Wilson's interval, other means those of core/means.py, any other statistic bootstrap
    percentiles. The ends are NaN if the statistic or that of any resample is not finite, for fewer than LEAST examples of a set or
    LEAST_GROUPS groups (but for Wilson's interval), and where all resamples are equal. Raises ValueError for empty columns, if lengths
    differ within a set, and for a `right` column with values other than 0 and 1.
    """
    _check(columns, right)
    value = float(statistic(columns))
    if statistic is mean:
        ((key, values),) = columns.items()
        group = groups.get(_set(key))
        if _is_right(key, right) and group is None:
            return Interval(value, *wilson(value, len(values), Z if confidence == 0.95 else normal(confidence)))
        if not np.isfinite(values).all():
            return Interval(value, math.nan, math.nan)
        units = units_of(values, group)
        if bounded or _is_right(key, right):
            return Interval(value, *shares_interval(units, confidence))
        return Interval(value, *mean_interval(units, confidence, seed, resamples))
    units_by_set, generator = _units(columns, groups), np.random.default_rng(seed)
    if _few(units_by_set, groups):
        return Interval(value, math.nan, math.nan)
    parts = [_of_each(statistic, drawn) for drawn in _resampled([columns], units_by_set, generator, resamples)]
    return Interval(value, *spread_out(percentiles(np.concatenate(parts), confidence)))


def difference_of(
    statistic: Statistic,
    first: Columns,
    second: Columns,
    groups: Mapping[str, Together] = {},
    seed: int = 0,
    resamples: int = 2000,
    flips: int = 10_000,
    right: Sequence[str] = (),
    bounded: bool = False,
) -> Difference:
    """Returns statistic(first) - statistic(second) on the same examples, with its 95 % interval and the two-sided p-value of no difference.

    The ungrouped mean of a `right` column uses McNemar's exact test and the interval of Agresti and Min (Statistics in Medicine 2005):
    Wald's interval after adding 1/2 to each cell of the 2 x 2 table. Any other mean uses sign flips of the units (examples or groups)
    and `difference_interval`. All flips are tried if at most 12 units differ, otherwise `flips` random ones (Good 2005). Any other
    statistic swaps the two models at random, unit by unit, `resamples` times; its interval is the bootstrap's, with the same examples
    drawn for both. These tests ask whether it matters which of the two models answered an example. The ends are NaN as in `interval_of`.
    Raises ValueError if the examples are not the same.
    """
    _check(first, right)
    _check(second, right)
    if {key: len(values) for key, values in first.items()} != {key: len(values) for key, values in second.items()}:
        raise ValueError(f"a paired difference needs the same columns twice, got {sorted(first)} and {sorted(second)}, or other lengths")
    value = float(statistic(first)) - float(statistic(second))
    if not math.isfinite(value):
        return Difference(value, math.nan, math.nan, 1.0)
    if statistic is not mean:
        p_value = swap_test(statistic, first, second, groups, seed, resamples)
        drawn = resampled_differences(statistic, first, second, groups, seed, resamples)
        return Difference(value, *ends_of(drawn, first, groups), p_value)
    ((key, own),) = first.items()
    other, group = second[key], groups.get(_set(key))
    if group is None and _is_right(key, right):
        only_first, only_second = discordant(own, other)
        return Difference(value, *agresti_min(only_first, only_second, len(own)), mcnemar(only_first, only_second))
    delta = np.asarray(own, np.float64) - other
    found, fractions = units_of(delta, group), bounded or _is_right(key, right)
    ends = spread_out(difference_interval(found, 1.0 if fractions else float(np.abs(delta).max())))
    return Difference(value, *(_possible(ends) if fractions else ends), flip_test(found.total, seed, flips))


def swap_test(
    statistic: Statistic,
    first: Columns,
    second: Columns,
    groups: Mapping[str, Together] = {},
    seed: int = 0,
    resamples: int = 2000,
    observed: float | None = None,
) -> float:
    """Returns the two-sided p-value of a difference of statistics when the two models are swapped at random, unit by unit.

    `observed`: the difference to compare with, if not that of the columns.
    """
    units, generator, as_far = _units(first, groups), np.random.default_rng(seed), 0
    value = float(statistic(first)) - float(statistic(second)) if observed is None else observed
    for swap in _swaps(units, generator, resamples):
        one = {key: np.where(swap[_set(key)], second[key], values) for key, values in first.items()}
        other = {key: np.where(swap[_set(key)], values, second[key]) for key, values in first.items()}
        change = np.abs(_of_each(statistic, one) - _of_each(statistic, other))
        as_far += int((~(change < abs(value) * (1 - NEAR))).sum())  # a result that is not finite counts as extreme
    return (1 + as_far) / (1 + resamples)


def resampled_differences(
    statistic: Statistic, first: Columns, second: Columns, groups: Mapping[str, Together] = {}, seed: int = 0, resamples: int = 2000
) -> Float[np.ndarray, "resamples"]:
    """Returns differences of a statistic on resamples of the units, with the same examples drawn for both models."""
    units, generator = _units(first, groups), np.random.default_rng([seed, 1])  # other draws than those of the swaps
    both = iter(_resampled([first, second], units, generator, resamples))
    return np.concatenate([_of_each(statistic, one) - _of_each(statistic, other) for one, other in zip(both, both, strict=True)])


def ends_of(drawn: Float[np.ndarray, "resamples"], columns: Columns, groups: Mapping[str, Together] = {}) -> tuple[float, float]:
    """Returns the 95 % percentile interval of resampled differences; NaN for too few units, and where all are equal."""
    return (math.nan, math.nan) if _few(_units(columns, groups), groups) else spread_out(percentiles(drawn))


def spread_out(ends: tuple[float, float]) -> tuple[float, float]:
    """Returns NaN for an interval without width, which equal resamples give: they show nothing about other examples."""
    return ends if ends[0] < ends[1] else (math.nan, math.nan)


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


def _swaps(
    units: Mapping[str, _Units], generator: np.random.Generator, times: int
) -> Iterator[dict[str, Bool[np.ndarray, "some examples"]]]:
    """Yields which examples to swap, `times` rows in all."""
    rows = _at_a_time(units)
    for start in range(0, times, rows):
        many = min(rows, times - start)
        yield {name: generator.integers(0, 2, (many, len(unit.sizes)), dtype=bool)[:, unit.number] for name, unit in units.items()}


def _resampled(
    models: Sequence[Columns], units: Mapping[str, _Units], generator: np.random.Generator, times: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yields resamples, [some, examples] of each column, `times` rows in all; for several models, each part model by model."""
    whole = all(len(unit.sizes) == len(unit.number) for unit in units.values())
    rows = _at_a_time(units) if whole else 1  # resamples of groups have different numbers of examples
    for start in range(0, times, rows):
        if whole:
            drawn = {
                name: generator.integers(0, len(unit.sizes), (min(rows, times - start), len(unit.sizes))) for name, unit in units.items()
            }
        else:
            drawn = {name: chosen[None] for name, chosen in _drawn(units, generator).items()}
        for columns in models:
            yield {key: values[drawn[_set(key)]] for key, values in columns.items()}


def _at_a_time(units: Mapping[str, _Units]) -> int:
    return max(1, CHUNK // sum(len(unit.number) for unit in units.values()))


def _of_each(statistic: Statistic, columns: Columns) -> np.ndarray:
    """Returns the statistic of each row, [rows]."""
    if statistic in _BY_ROW:
        return _BY_ROW[statistic](columns)
    rows = len(next(iter(columns.values())))
    return np.array([float(statistic({key: values[i] for key, values in columns.items()})) for i in range(rows)])


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


def _few(units: Mapping[str, _Units], groups: Mapping[str, Together]) -> bool:
    """Returns True if a set has too few units for an interval."""
    return any(len(unit.sizes) < (LEAST if groups.get(name) is None else LEAST_GROUPS) for name, unit in units.items())


def _possible(ends: tuple[float, float]) -> tuple[float, float]:
    """Clips the interval of a difference of two fractions to its range; NaN stays."""
    return float(np.clip(ends[0], -1.0, 1.0)), float(np.clip(ends[1], -1.0, 1.0))


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
