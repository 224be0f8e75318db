"""Intervals and paired tests against closed forms, scipy, known values, and how often they cover the truth."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from assay.core.means import spread, units_of
from assay.core.stats import (
    at_least,
    auroc_interval,
    bootstrap,
    discordant,
    holm,
    mcnemar,
    over_seeds,
    quantile_interval,
    wilson,
)


def test_wilson_known_values():
    assert wilson(1.0, 10) == pytest.approx((0.72247, 1.0), abs=1e-5)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert wilson(0.5, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)


def test_wilson_solves_its_equation():
    """Both ends are where the mean lies z standard errors away."""
    z = 1.959963984540054
    for mean, n in ((0.3, 7), (0.97, 1000), (0.51, 3680)):
        for end in wilson(mean, n):
            assert abs(mean - end) == pytest.approx(z * np.sqrt(end * (1 - end) / n), rel=1e-9)


def test_wilson_needs_an_example():
    with pytest.raises(ValueError, match="n=0"):
        wilson(0.5, 0)


def test_over_seeds_uses_students_t():
    values = [0.4, 0.5, 0.6]  # mean 0.5, standard deviation 0.1, t(2) = 4.302653
    assert over_seeds(values) == pytest.approx((0.5 - 4.302653 * 0.1 / np.sqrt(3), 0.5 + 4.302653 * 0.1 / np.sqrt(3)), abs=1e-6)
    assert over_seeds([0.7]) is None
    assert over_seeds([0.9, 1.0])[1] == 1.0


def test_over_seeds_is_clipped_to_what_the_metric_can_be():
    assert over_seeds([20.0, 30.0], bounds=(0.0, np.inf)) == pytest.approx((0.0, 25 + 12.706205 * 5), abs=1e-4)


@pytest.mark.parametrize("pair", [(0, 1), (1, 9), (5, 5), (10, 30), (31, 30), (3000, 3100), (0, 2000)])
def test_mcnemar_is_the_exact_binomial_test(pair):
    b, c = pair
    assert mcnemar(b, c) == mcnemar(c, b) == pytest.approx(binomtest(b, b + c).pvalue, rel=1e-9)
    if b != c:
        assert mcnemar(b, c, mid_p=True) == pytest.approx(binomtest(b, b + c).pvalue - binom.pmf(b, b + c, 0.5), rel=1e-6, abs=1e-300)
    else:
        assert mcnemar(b, c, mid_p=True) == pytest.approx(1 - binom.pmf(b, b + c, 0.5) / 2)


def test_mcnemar_by_hand():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 4) == pytest.approx(2 * (1 + 5) / 32)
    assert mcnemar(1, 4, mid_p=True) == pytest.approx(2 * (1 + 5) / 32 - 5 / 32)
    assert discordant([1, 1, 0, 0, 1], [0, 0, 1, 0, 1]) == (2, 1)
    with pytest.raises(ValueError, match="right"):
        discordant([0.5], [1.0])
    with pytest.raises(ValueError, match="must not be negative"):
        mcnemar(-1, 2)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]).tolist() == []
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([np.nan])


def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order():
    random = np.random.default_rng(0)
    for count in (1, 2, 7, 40):
        values = random.random(count) ** 3
        adjusted = holm(values)
        assert (adjusted >= values).all() and (adjusted <= np.minimum(1, values * count) + 1e-15).all()
        assert (np.diff(adjusted[np.argsort(values)]) >= 0).all()
        order = random.permutation(count)
        assert (holm(values[order]) == adjusted[order]).all()
        # Holm's procedure by its definition: reject upwards until the first that is not below level / (m - i)
        ranked = np.sort(values)
        rejected = np.cumprod(ranked <= 0.05 / np.arange(count, 0, -1)).sum()
        assert (adjusted <= 0.05).sum() == rejected


def test_equal_files_resample_as_one_example_each():
    """Ten copies of an example are one example: by file the interval is that of the files, by passage it is too narrow."""
    of_file = np.random.default_rng(0).normal(size=50)
    passages, files = np.repeat(of_file, 10), np.repeat([f"{i}.py" for i in range(50)], 10)
    by_file = bootstrap(np.mean, passages, groups=files, resamples=4000)
    alone = bootstrap(np.mean, of_file, resamples=4000)
    by_passage = bootstrap(np.mean, passages, resamples=4000)
    width = alone.high - alone.low
    assert by_file.high - by_file.low == pytest.approx(width, rel=0.1)
    assert by_passage.high - by_passage.low == pytest.approx(width / np.sqrt(10), rel=0.1)
    order = np.random.default_rng(1).permutation(500)
    mixed = bootstrap(np.mean, passages[order], groups=files[order], resamples=4000)
    assert mixed == pytest.approx(by_file, abs=1e-12)


def test_groups_weigh_by_their_examples():
    found = bootstrap(np.mean, np.array([1.0, 0.0, 0.0, 0.0]), groups=["a", "b", "b", "b"])
    assert found == (0.25, 0.0, 1.0)


def test_bootstraps_are_functions_of_their_seed():
    first = np.random.default_rng(0).normal(size=30)
    assert bootstrap(np.mean, first, seed=3) == bootstrap(np.mean, first, seed=3) != bootstrap(np.mean, first, seed=4)


def test_bootstrap_of_any_statistic():
    """The median of 400 normal values has a standard error of sqrt(pi / 2) / 20; rows of several arrays stay together."""
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap(np.median, values)
    assert found.value == np.median(values)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(np.pi / 2) / 20, rel=0.25)
    assert bootstrap(lambda x, y: float(np.abs(x - y).max()), values, values.copy(), resamples=20) == (0, 0, 0)


def test_a_group_enters_whole():
    random = np.random.default_rng(0)
    groups = random.integers(0, 40, 300)
    values = random.normal(size=300) + random.normal(size=40)[groups]
    found = bootstrap(np.mean, values, groups=groups, resamples=4000)
    error, _ = spread(units_of(values, groups))
    assert found[1:] == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error)
    sizes = set()
    bootstrap(lambda rows: float(sizes.add(len(rows)) or 0), np.arange(6), groups=[0, 0, 0, 0, 1, 1], resamples=50)
    assert sizes == {4, 6, 8}


def test_what_cannot_be_done_is_named():
    with pytest.raises(ValueError, match="same examples"):
        discordant([1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="at least one"):
        discordant([], [])
    with pytest.raises(ValueError, match="finite"):
        discordant([np.nan], [0.0])
    with pytest.raises(ValueError, match=r"right \(1\) or wrong \(0\)"):
        discordant([0.5], [0.0])
    with pytest.raises(ValueError, match="one group for each"):
        bootstrap(np.mean, np.ones(2), groups=["a"])
    with pytest.raises(ValueError, match="one group for each"):
        units_of([1.0, 2.0], groups=["a"])
    with pytest.raises(ValueError, match="confidence"):
        bootstrap(np.mean, np.ones(3), confidence=95)
    with pytest.raises(ValueError, match="same non-zero length"):
        bootstrap(np.mean)


def test_the_exact_bound_of_a_share():
    for hits, n in ((0, 10), (1, 10), (45, 50), (10, 10)):
        scipys = binomtest(hits, n, alternative="greater").proportion_ci(0.95, "exact").low
        assert at_least(hits, n) == pytest.approx(scipys, abs=1e-12)
    assert at_least(20, 20) == pytest.approx(0.05 ** (1 / 20)) and at_least(0, 5) == 0
    with pytest.raises(ValueError, match="6 of 5"):
        at_least(6, 5)


def test_the_interval_of_a_quantile_is_of_order_statistics():
    assert quantile_interval(np.arange(1.0, 11), 0.5) == (2, 9), "of ten values: 1 - 2 * 11 / 1024 = 0.979"
    assert quantile_interval(np.arange(3.0), 0.5) == (-math.inf, math.inf) and quantile_interval(np.arange(20.0), 0.99)[1] == math.inf
    random = np.random.default_rng(0)
    draws = [quantile_interval(random.exponential(size=60), 0.9) for _ in range(1000)]
    assert 0.94 <= np.mean([low <= math.log(10) <= high for low, high in draws]) <= 0.99


@pytest.mark.parametrize(("apart", "positives", "negatives"), [(0.0, 20, 40), (1.0, 20, 40), (2.5, 15, 15)])
def test_the_interval_of_an_auroc_covers_it(apart, positives, negatives):
    random = np.random.default_rng(1)
    truth, held = float(norm.cdf(apart / math.sqrt(2))), 0
    for _ in range(400):
        higher, lower = random.normal(apart, 1, positives), random.normal(size=negatives)
        low, high = auroc_interval(float(np.mean(higher[:, None] > lower[None, :])), positives, negatives)
        held += low <= truth <= high
    assert 0.92 <= held / 400 <= 0.99
    assert auroc_interval(1.0, 20, 20)[0] < 0.95 and auroc_interval(1.0, 20, 20)[1] == 1, "separated sets are no proof"
