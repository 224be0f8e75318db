"""Intervals of means: their coverage for few, skewed, bounded and grouped values, and what they say where they cannot cover."""

import itertools
import math

import numpy as np
import pytest

from assay.core.means import (
    LEAST,
    LEAST_GROUPS,
    Units,
    caution,
    difference_interval,
    mean_interval,
    ratio_units,
    shares_interval,
    spread,
    units_of,
)
from assay.core.stats import wilson


def covered(draw, true, interval, trials=200):
    """Returns how often the interval of a drawn sample holds the true mean."""
    random, hits = np.random.default_rng(0), 0
    for _ in range(trials):
        low, high = interval(units_of(*draw(random)))
        hits += low <= true <= high
    return hits / trials


def in_groups(random, groups=20):
    """Right and wrong answers in groups of unequal size, each with a rate of its own; .9 on average."""
    number = np.repeat(np.arange(groups), random.integers(1, 30, groups))
    return (random.random(len(number)) < random.beta(1.8, 0.2, groups)[number]).astype(float), number


@pytest.mark.parametrize(
    ("draw", "true", "interval"),
    [
        (lambda random: (np.where(random.random(20) < 0.9, 1.0, random.random(20)),), 0.95, shares_interval),
        (lambda random: (random.uniform(0.45, 0.55, 20),), 0.5, shares_interval),
        (in_groups, 0.9, shares_interval),
        (lambda random: (random.normal(1.0, 1.0, 10),), 1.0, mean_interval),
        (lambda random: (random.lognormal(0, 1.5, 200),), math.exp(1.125), lambda units: mean_interval(units, resamples=300)),
        (
            lambda random: (np.where(random.random(200) < 0.05, random.exponential(3.0, 200), random.exponential(0.02, 200)),),
            0.05 * 3 + 0.95 * 0.02,
            lambda units: mean_interval(units, resamples=300),
        ),
    ],
    ids=["mostly 1, n 20", "narrow, n 20", "20 groups", "normal, n 10", "lognormal, n 200", "losses of which 5 % are large, n 200"],
)
def test_intervals_cover_nine_in_ten_at_least(draw, true, interval):
    """The percentile bootstrap covers such losses in 83 % of cases at n = 100, and a mean of five normal values in 82 %."""
    assert covered(draw, true, interval) >= 0.9


def test_a_share_of_right_answers_has_wilsons_interval_but_for_students_quantile():
    right = np.repeat([1.0, 0.0], [180, 20])
    assert shares_interval(units_of(right)) == pytest.approx(wilson(0.9, 200), abs=2e-3)
    alike = shares_interval(units_of(np.ones(200)))
    assert alike == pytest.approx(wilson(1.0, 200), abs=2e-3) and alike[0] < 1, "answers that are all right leave room for wrong ones"
    files = np.repeat(np.arange(10), 20)
    assert shares_interval(units_of(np.ones(200), files))[0] < 0.75, "ten files count as ten, however long they are"


def test_a_mean_is_a_ratio_of_sums():
    values, weights = np.array([1.0, 2.0, 4.0, 3.0] * 5), np.array([1.0, 3.0, 2.0, 2.0] * 5)
    units = units_of(values, weights=weights)
    assert units.total.sum() / units.size.sum() == pytest.approx(np.average(values, weights=weights))
    both = ratio_units(values, weights, groups=[0, 0, 1, 1] * 5)
    assert both.grouped and both.total.tolist() == [15.0, 35.0] and both.size.tolist() == [20.0, 20.0]
    error, freedom = spread(units_of(values))
    assert error == pytest.approx(np.std(values, ddof=1) / math.sqrt(20)) and freedom == 19
    _, fewer = spread(Units(np.ones(4), np.array([100.0, 1, 1, 1]), True))
    assert fewer < 0.1, "one large group and three small ones are hardly more than one"


def test_a_difference_has_room_for_examples_that_were_not_seen():
    """Agresti and Min's interval for none of n: 1.96 / (n + 2)."""
    low, high = difference_interval(units_of(np.zeros(128)), largest=1.0)
    assert -low == high == pytest.approx(1.96 / 130, rel=0.02)
    delta = np.random.default_rng(0).normal(0.3, 1.0, 400)
    low, high = difference_interval(units_of(delta), largest=0.0)
    assert (low + high) / 2 == pytest.approx(delta.mean()) and high - low == pytest.approx(2 * 1.966 * delta.std(ddof=1) / 20, rel=1e-3)


def test_resampling_is_a_function_of_its_seed_and_chunks_only_bound_the_memory(monkeypatch):
    units = units_of(np.random.default_rng(0).exponential(size=100))
    whole = mean_interval(units)
    assert mean_interval(units) == whole != mean_interval(units, seed=1)
    monkeypatch.setattr("assay.core.means.CHUNK", 1)
    assert mean_interval(units) == whole


def test_few_values_have_no_interval_and_say_so():
    for interval in (shares_interval, mean_interval, lambda units: difference_interval(units, 1.0)):
        assert np.isnan(interval(units_of(np.linspace(0, 1, LEAST - 1)))).all()
        assert np.isnan(interval(units_of(np.linspace(0, 1, 40), np.arange(40) % (LEAST_GROUPS - 1)))).all()
        assert np.isfinite(interval(units_of(np.linspace(0, 1, LEAST)))).all()
    assert np.isnan(mean_interval(units_of(np.ones(50)))).all(), "equal values show no spread"
    for value, n in itertools.product((0.1, 0.7, 1 / 3, 5.3), (10, 12, 20, 30, 200)):  # whose mean may differ from them by rounding
        groups, weights = np.arange(n) // 2, np.arange(1.0, n + 1)
        for units in (units_of(np.full(n, value)), units_of(np.full(n, value), groups), units_of(np.full(n, value), weights=weights)):
            assert spread(units)[0] == 0 and np.isnan(mean_interval(units)).all()
    low, _ = mean_interval(units_of(np.append(np.full(29, 0.1), 5.0)))
    assert math.isnan(low) or low > -100, "a third of the resamples have equal values, and so no standard error"
    said = [caution(units_of(np.random.default_rng(0).normal(size=n)), bounded) for n, bounded in ((9, True), (10, True), (20, True))]
    assert said == ["too few examples for an interval: 9", "10 examples: the interval may be too narrow", ""]
    assert caution(units_of(np.random.default_rng(0).normal(size=199)), bounded=False) == "199 examples: the interval may be too narrow"
    assert caution(units_of(np.arange(40.0), np.arange(40) % 4), bounded=True) == "too few groups for an interval: 4"
    heavy = np.append(np.full(299, 0.01), 500.0)
    assert caution(units_of(heavy), bounded=False) == "a few examples determine the mean: the interval may be too narrow"
    assert caution(units_of(np.random.default_rng(0).normal(size=300)), bounded=False) == ""
