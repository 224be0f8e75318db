"""Paired differences and intervals against scipy, exact enumeration, hand-computed values, and how often they cover the truth."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm, permutation_test
from scipy.stats import bootstrap as scipy_bootstrap

from assay.core.paired import agresti_min, difference_of, flip_test, interval_of, mean, sign_test
from assay.core.stats import wilson

SCORE = ("score",)


def of(values):
    return {"test/score": np.asarray(values, np.float64)}


def pair(both, only_first, only_second, neither):
    """Two models' right answers from the cells of their table."""
    cells = [(1, 1)] * both + [(1, 0)] * only_first + [(0, 1)] * only_second + [(0, 0)] * neither
    return of([one for one, _ in cells]), of([other for _, other in cells])


def spread(columns):
    (values,) = columns.values()
    return float(values.std())


def gap(columns):
    return float(columns["train/score"].mean() - columns["test/score"].mean())


def test_the_known_warning():
    """970 and 982 of 1,000 right, 3 and 15 of them by one model only: the test that ignores the pairs sees nothing."""
    first, second = pair(967, 3, 15, 15)
    assert (first["test/score"].sum(), second["test/score"].sum()) == (970, 982)
    pooled = (970 + 982) / 2000
    z = (0.970 - 0.982) / math.sqrt(2 * pooled * (1 - pooled) / 1000)
    assert 2 * norm.cdf(z) == pytest.approx(0.080, abs=5e-4)
    found = difference_of(mean, first, second, right=SCORE)
    assert found.p_value == pytest.approx(0.0075, abs=5e-5) == pytest.approx(binomtest(3, 18).pvalue, abs=5e-5)
    assert found.value == pytest.approx(-0.012) and found.low < found.value < found.high < 0


def test_agresti_and_mins_interval_is_walds_of_a_table_with_a_half_more_in_each_cell():
    for both, b, c, neither in ((967, 3, 15, 15), (5, 0, 0, 5), (0, 4, 0, 0), (2, 1, 3, 2)):
        cells, signs = np.array([both, b, c, neither]) + 0.5, np.array([0, 1, -1, 0])
        share = cells / cells.sum()
        centre = share @ signs
        half = 1.959963984540054 * math.sqrt((share @ signs**2 - centre**2) / cells.sum())
        expected = max(-1, centre - half), min(1, centre + half)
        assert agresti_min(b, c, both + b + c + neither) == pytest.approx(expected)
        found = difference_of(mean, *pair(both, b, c, neither), right=SCORE)
        assert (found.low, found.high) == pytest.approx(expected) and found.value == pytest.approx((b - c) / (both + b + c + neither))
    assert agresti_min(3, 15, 1000) == pytest.approx((-0.020470, -0.003482), abs=1e-6)  # (-12 -+ 1.96 sqrt(19 - 144 / 1002)) / 1002


def test_all_flips_of_few_units():
    random = np.random.default_rng(0)
    for n in (1, 2, 5, 12):
        delta = random.normal(0.5, 1, n)
        sums = [abs(np.dot(signs, delta)) for signs in itertools.product((-1, 1), repeat=n)]
        expected = np.mean([one >= abs(delta.sum()) - 1e-12 for one in sums])
        assert flip_test(delta) == pytest.approx(expected)
        if n > 1:
            scipys = permutation_test(
                (delta, np.zeros(n)), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf, vectorized=False
            )
            assert flip_test(delta) == pytest.approx(scipys.pvalue)
    assert flip_test(np.zeros(3)) == 1 and flip_test(np.array([0.0, 2.0, 0.0])) == 1 and flip_test(np.ones(5)) == 2 / 32
    assert flip_test(np.full(12, 0.1)) == 2 / 4096, "sums that differ in their last bits are equal"
    assert flip_test(np.concatenate([np.full(12, 0.1), np.zeros(50)])) == 2 / 4096, "what is alike in both needs no flip"


def test_random_flips_of_many_units():
    delta = np.random.default_rng(1).normal(0.35, 1, 14)
    every = np.array(list(itertools.product((-1.0, 1.0), repeat=14))) @ delta
    exact = np.mean(np.abs(every) >= abs(delta.sum()) - 1e-12)
    assert 0.01 < exact < 0.5 and flip_test(delta, flips=40_000) == pytest.approx(exact, abs=0.01)
    assert flip_test(delta) == flip_test(delta) != flip_test(delta, seed=1)
    assert flip_test(np.ones(30), flips=999) == 1 / 1000, "the observed signs are one of the flips: p is never 0"


def test_means_of_scores_that_are_no_zeros_and_ones():
    random = np.random.default_rng(2)
    first, second = random.exponential(1.0, 200), random.exponential(1.4, 200)
    found = difference_of(mean, of(first), of(second))
    assert found.p_value == flip_test(first - second)
    scipys = scipy_bootstrap((first - second,), np.mean, method="percentile", n_resamples=5000, random_state=np.random.default_rng(0))
    assert (found.low, found.high) == pytest.approx(tuple(scipys.confidence_interval), abs=0.03)
    other = difference_of(mean, of(second), of(first))
    assert (other.value, other.low, other.high) == pytest.approx((-found.value, -found.high, -found.low), abs=0.02)


def test_whole_groups_flip_together():
    random = np.random.default_rng(3)
    groups = np.repeat(["a", "b", "c", "d", "e", "f"], 10)
    first = of((random.random(60) < 0.8).astype(float))
    second = of(np.where(groups < "e", 0.0, first["test/score"]))  # four files of ten lost, all in one direction
    found = difference_of(mean, first, second, {"test": groups})
    assert found.p_value == 2 / 16, "the two files that are alike count for nothing, so that four coins are left"
    assert all(difference_of(mean, first, second, groups, right=SCORE).p_value < 1e-8 for groups in ({}, {"test": None}))
    assert interval_of(mean, first, {"test": groups}) != interval_of(mean, first)
    with pytest.raises(ValueError, match="one group for each of 60"):
        difference_of(spread, first, second, {"test": groups[1:]})


def test_models_swap_places_in_any_other_statistic():
    random = np.random.default_rng(4)
    first, second = random.normal(0, 1, 9), random.normal(0, 1.8, 9)

    def change(x, y):
        return np.std(x) - np.std(y)

    scipys = permutation_test((first, second), change, permutation_type="samples", n_resamples=np.inf, vectorized=False)
    found = difference_of(spread, of(first), of(second), resamples=20_000)
    assert found.value == pytest.approx(change(first, second)) and 0.02 < scipys.pvalue < 0.9
    assert found.p_value == pytest.approx(scipys.pvalue, abs=0.015)
    same = difference_of(spread, of(first), of(first))
    assert (same.value, same.p_value) == (0, 1) and math.isnan(same.low), "equal models in all resamples show nothing about other examples"


def test_the_same_examples_are_drawn_for_both():
    """A model that is off by a constant differs by a constant in every resample."""
    train, test = np.random.default_rng(5).random((2, 40))
    first = {"train/score": train, "test/score": test}
    second = {"test/score": test - 0.25, "train/score": train}
    found = difference_of(gap, first, second)
    assert found[:3] == pytest.approx((-0.25,) * 3) and found.p_value == 1 / 2001
    assert difference_of(gap, dict(reversed(first.items())), second) == found, "the order of columns changes nothing"


def test_sets_are_drawn_independently():
    random = np.random.default_rng(6)
    train, test = random.normal(0, 1, 300), random.normal(0, 2, 200)
    found = interval_of(gap, {"train/score": train, "test/score": test}, resamples=4000)
    expected = math.sqrt(train.var() / 300 + test.var() / 200)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(expected, rel=0.05)
    groups = np.arange(200) // 10
    means = test.reshape(20, 10).mean(axis=1)
    found = interval_of(gap, {"train/score": train, "test/score": test}, {"test": groups}, resamples=4000)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(math.sqrt(train.var() / 300 + means.var() / 20), rel=0.05)


def test_intervals_of_one_model():
    right = np.array([1.0] * 45 + [0.0] * 5)
    assert interval_of(mean, of(right), right=SCORE) == (0.9, *wilson(0.9, 50))
    values = np.random.default_rng(7).gamma(2.0, size=150)
    found = interval_of(spread, of(values), resamples=4000)
    scipys = scipy_bootstrap((values,), np.std, method="percentile", n_resamples=4000, random_state=np.random.default_rng(0))
    assert (found.low, found.high) == pytest.approx(tuple(scipys.confidence_interval), abs=0.03)
    found = interval_of(mean, of(values), resamples=4000)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(values.std() / math.sqrt(150), rel=0.05)


def coverage(draw, truth, draws=1000):
    """The share of intervals that the truth lies in."""
    random = np.random.default_rng(8)
    return np.mean([low <= truth <= high for low, high in (draw(random)[1:3] for _ in range(draws))])


def correlated(random, n=300):
    """Right answers of two models of accuracy 0.9, alike in most examples."""
    hard = random.random(n)
    return tuple(of(np.where(random.random(n) < 0.5, hard, random.random(n)) < 0.9) for _ in range(2))


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda random: interval_of(mean, of(random.random(200) < 0.9), right=SCORE), 0.9),
        (lambda random: interval_of(mean, of(random.exponential(size=100)), resamples=400), 1.0),
        (lambda random: interval_of(gap, {"train/score": random.random(30), "test/score": random.random(60)}, resamples=100), 0.0),
        (lambda random: difference_of(mean, *correlated(random), right=SCORE), 0.0),
        (lambda random: difference_of(mean, of(random.exponential(size=100)), of(random.normal(size=100)), flips=20), 1.0),
    ],
    ids=["right or wrong", "continuous", "two sets", "pairs of right or wrong", "pairs of continuous"],
)
def test_intervals_cover_the_truth(draw, truth):
    assert 0.90 <= coverage(draw, truth) <= 0.98


def test_of_equal_models_one_in_twenty_differs():
    random = np.random.default_rng(9)
    p_values = [difference_of(mean, of(x), of(y), flips=200).p_value for x, y in random.exponential(size=(1000, 2, 40))]
    assert 0.03 <= np.mean(np.array(p_values) < 0.05) <= 0.07
    p_values = [difference_of(spread, of(x), of(y), resamples=40).p_value for x, y in random.exponential(size=(500, 2, 40))]
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.08


def test_sign_test():
    assert sign_test([1.1] * 9 + [0.9]) == pytest.approx(binomtest(1, 10).pvalue)
    assert sign_test([0.9] * 25) == pytest.approx(2 / 2**25) and sign_test([]) == sign_test([1.0]) == sign_test([2.0]) == 1
    assert sign_test([1.0, 1.0, 1.2, 1.3]) == sign_test([0.5, 1.1, 1.2, 1.3]), "two that are tied are one above and one below"
    assert sign_test([1.0, 1.2, 1.3]) == sign_test([1.2, 1.3]), "an odd one is left out"


def test_what_is_no_number_has_no_interval():
    first, second = of([1.0, math.inf, 0.2]), of([1.0, 2.0, 0.2])
    found = difference_of(mean, first, second)
    assert found.value == math.inf and math.isnan(found.low) and found.p_value == 1
    one = interval_of(mean, first)
    assert one.value == math.inf and math.isnan(one.low) and math.isnan(one.high)


def test_columns_that_are_not_the_same_examples():
    with pytest.raises(ValueError, match="the same columns twice"):
        difference_of(mean, of([1.0, 0.0]), of([1.0]))
    with pytest.raises(ValueError, match="the same columns twice"):
        difference_of(mean, of([1.0]), {"valid/score": np.ones(1)})
    with pytest.raises(ValueError, match="same non-zero length"):
        interval_of(gap, {"test/score": np.ones(3), "test/confidence": np.ones(2)})
    with pytest.raises(ValueError, match="non-zero length"):
        interval_of(mean, of([]))


def test_the_kind_follows_from_what_a_column_is_and_not_from_its_values():
    loss = {"test/loss": np.zeros(40)}
    found = interval_of(mean, loss, right=SCORE)
    assert found.value == 0 and math.isnan(found.low) and math.isnan(found.high), "a loss of 0 nats is not bounded by 0.088 nats"
    ones, zeros = {"test/loss": np.ones(40)}, {"test/loss": np.where(np.arange(40) < 3, 1.0, 0.0)}
    found = difference_of(mean, ones, zeros, right=SCORE)
    assert found.p_value == flip_test(ones["test/loss"] - zeros["test/loss"]) and (found.low, found.high) != agresti_min(37, 0, 40)
    right = of(np.ones(40))
    assert interval_of(mean, right, right=SCORE) == (1, *wilson(1, 40)) and math.isnan(interval_of(mean, right).low)
    for made in (
        lambda: interval_of(mean, of([0.5, 1.0]), right=SCORE),
        lambda: difference_of(mean, right, of(np.full(40, 0.5)), right=SCORE),
    ):
        with pytest.raises(ValueError, match="other values"):
            made()


def test_a_wider_interval_of_more_confidence():
    values = of(np.random.default_rng(11).exponential(size=80))
    for statistic in (mean, spread):
        ends = [interval_of(statistic, values, confidence=confidence) for confidence in (0.8, 0.95, 0.99)]
        assert ends[2].low < ends[1].low < ends[0].low < ends[0].high < ends[1].high < ends[2].high
    right = of(np.arange(80) < 60)
    assert interval_of(mean, right, right=SCORE, confidence=0.99)[1:] == pytest.approx(wilson(0.75, 80, 2.5758293))


def test_a_difference_of_fractions_ends_in_its_range():
    nearly = [of(np.r_[np.full(20, 0.99), 0.4]), of(np.zeros(21))]
    assert difference_of(mean, *nearly, bounded=True).high == 1.0
    assert difference_of(mean, *nearly[::-1], bounded=True).low == -1.0
    assert difference_of(mean, *nearly).high > 1.0, "of values without bounds"
