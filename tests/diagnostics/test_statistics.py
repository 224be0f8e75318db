"""Statistics of columns against scikit-learn and closed forms, how often their intervals hold the truth, and bounds."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score, roc_curve

from assay.core.means import shares_interval, units_of
from assay.core.paired import mean
from assay.diagnostics.intervals import one_sided, statistic_difference, statistic_interval
from assay.diagnostics.measurement import limit, sample
from assay.diagnostics.statistics import parts_of, score_at_coverage, statistic_of
from assay.verdicts.verdict import Pair, judge

RANDOM = np.random.default_rng(0)


def told(signal, positive):
    return {"test/signal": np.asarray(signal, float), "test/positive": np.asarray(positive, float)}


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_an_auroc_with_ties_is_scikit_learns(levels):
    signal, positive = RANDOM.integers(0, levels, 300).astype(float), RANDOM.random(300) < 0.3
    signal += positive * RANDOM.integers(0, 2, 300)
    assert statistic_of("auroc")(told(signal, positive)) == pytest.approx(roc_auc_score(positive, signal), abs=1e-14)
    for at in (0.0, 0.01, 0.1, 0.5, 1.0):
        fpr, tpr, _ = roc_curve(positive, signal, drop_intermediate=False)
        assert statistic_of(f"tpr_at_fpr:{at}")(told(signal, positive)) == pytest.approx(tpr[fpr <= at + 1e-12].max())


def test_a_mean_over_tokens_has_the_intervals_of_a_ratio():
    score, tokens = RANDOM.random(60), RANDOM.integers(1, 40, 60).astype(float)
    columns = {"test/score": score, "test/tokens": tokens}
    found = statistic_interval("token_mean", columns, bounded=True)
    assert found.value == pytest.approx(np.average(score, weights=tokens))
    assert (found.low, found.high) == pytest.approx(shares_interval(units_of(score, None, tokens)))
    files = np.arange(60) % 8
    grouped = statistic_interval("token_mean", columns, {"test": files}, bounded=True)
    assert (grouped.low, grouped.high) == pytest.approx(shares_interval(units_of(score, files, tokens)))
    alike = {"test/score": score, "test/tokens": np.full(60, 7.0)}
    assert statistic_interval("token_mean", alike).value == pytest.approx(score.mean())
    row = sample("generalisation", "score", "token_mean", columns, unit="fraction")
    assert row.interval == pytest.approx((found.low, found.high)) and not row.caution and row.n == 60


def test_a_difference_over_tokens_flips_examples_or_files():
    score, tokens = RANDOM.random(60) / 2, RANDOM.integers(1, 40, 60).astype(float)
    before = {"test/score": score, "test/tokens": tokens}
    after = {"test/score": score + 0.1 * RANDOM.random(60), "test/tokens": tokens}
    for groups in ({}, {"test": np.arange(60) % 15}):
        found = statistic_difference("token_mean", after, before, groups, bounded=True)
        assert found.value == pytest.approx(np.average(after["test/score"] - score, weights=tokens))
        assert found.low < found.value < found.high and (groups or found.low > 0) and found.p_value < 0.01
        none = statistic_difference("token_mean", before, before, groups, bounded=True)
        assert none.value == 0 and none.p_value == 1 and none.low < 0 < none.high
    gap = statistic_of("gap")({"train/score": after["test/score"], "train/tokens": tokens, **before})
    assert gap == pytest.approx(np.average(after["test/score"] - score, weights=tokens))
    rows = [sample("generalisation", "score", "token_mean", columns, unit="fraction", margin=0.01) for columns in (before, after)]
    assert judge([Pair("generalisation", "score", *rows)])[0].difference == pytest.approx(found.value)


def test_equal_means_over_tokens_have_no_interval_of_zero_width():
    columns = {"test/score": np.full(60, 2.0), "test/tokens": np.arange(1.0, 61.0)}
    found = statistic_difference("token_mean", columns, columns, bounded=False)
    assert (found.value, found.p_value) == (0, 1) and math.isnan(found.low) and math.isnan(found.high)


def test_positives_and_negatives_may_be_sets_of_their_own():
    signal, positive = np.random.default_rng(5).normal(size=100), np.arange(100) < 40
    apart = {
        "members/signal": signal[positive],
        "members/positive": np.ones(40),
        "others/signal": signal[~positive],
        "others/positive": np.zeros(60),
    }
    for name in ("auroc", "tpr_at_fpr:0.1"):
        assert statistic_of(name)(apart) == statistic_of(name)(told(signal, positive))
        found = statistic_interval(name, apart)
        assert found.low < found.value < found.high
    assert math.isnan(statistic_of("auroc")(told(signal, np.ones(100)))), "without negatives there is none"
    assert sample("privacy", "membership", "auroc", told(signal, np.ones(100))).interval is None


def test_separated_sets_and_empty_rates_have_an_interval_with_a_width():
    signal, positive = np.arange(30.0), np.arange(30) >= 15
    for name, found in ((name, statistic_interval(name, told(signal, positive))) for name in ("auroc", "tpr_at_fpr:0.1")):
        assert found.value == found.high == 1 and found.low < 0.95, name
    assert statistic_interval("tpr_at_fpr:0.1", told(-signal, positive)).high > 0.1


def groups_of(accuracies, n, random):
    group = np.repeat(np.arange(len(accuracies)), n)
    return {"test/score": (random.random(len(group)) < np.repeat(accuracies, n)).astype(float), "test/group": group.astype(float)}


@pytest.mark.parametrize("right", [np.arange(100) < 80, np.arange(100) >= 20])
def test_examples_that_tie_at_the_cut_count_in_part(right):
    """One confidence for all: the score of the kept ones is that of all, in any order."""
    right = right.astype(float)
    columns = {"test/confidence": np.full(100, 0.7), "test/score": right}
    assert statistic_of("selective_accuracy")(columns) == pytest.approx(0.8)
    sure = np.where(np.arange(100) < 40, 0.9, 0.7)  # 40 above the cut, and 40 of the 60 that tie at it
    assert score_at_coverage(sure, right, 0.8) == pytest.approx((right[:40].sum() + 40 * right[40:].mean()) / 80)
    assert score_at_coverage(np.arange(100.0), right, 0.8) == pytest.approx(right[20:].mean())


def test_the_order_of_examples_of_one_length_has_no_effect():
    """The lengths are cut into 16 parts: a cut through one length must not tell its examples apart."""
    right = np.repeat([1.0, 0.0], 64)
    for length, expected in ((np.full(128, 10.0), 11), (np.repeat([4.0, 8.0, 9.0], [40, 40, 48]), 9)):
        found = {statistic_of("half_length")({"t/length": length, "t/score": one}) for one in (right, by_length_reversed(length, right))}
        assert found == {expected}


def by_length_reversed(length, right):
    return np.concatenate([right[length == one][::-1] for one in np.unique(length)])


UNKNOWN = np.append(np.nan, np.linspace(0.1, 1.0, 29))


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("auroc", told(np.append(UNKNOWN, np.zeros(30)), np.repeat([1, 0], 30))),
        ("auroc", told(np.append(np.ones(30), UNKNOWN), np.repeat([1, 0], 30))),
        ("tpr_at_fpr:0.1", told(np.append(UNKNOWN, np.zeros(30)), np.repeat([1, 0], 30))),
        ("selective_accuracy", {"test/confidence": UNKNOWN, "test/score": np.append(0.0, np.ones(29))}),
        ("half_length", {"test/score": UNKNOWN, "test/length": np.arange(30.0)}),
        ("quantile:0.5", {"test/radius": UNKNOWN}),
        ("worst_group", {"test/score": UNKNOWN, "test/group": np.arange(30.0) // 10}),
        ("largest", {"test/norm": UNKNOWN}),
    ],
)
def test_a_value_that_is_not_a_number_is_told(name, columns):
    """Comparisons with NaN are false, so that it would count as a win, or not at all."""
    found = statistic_interval(name, columns)
    assert np.isnan(found).all()
    row = sample("generalisation", "row", name, columns)
    assert row.interval is None and row.caution.endswith("values are not finite")


def test_equal_fractions_of_the_worst_group_have_no_narrow_interval():
    columns = {"test/score": np.full(6, 0.7), "test/group": np.repeat([0.0, 1.0], 3)}
    assert statistic_interval("worst_group", columns, bounded=True)[1:] == (0, 1)


def test_the_worst_group():
    columns = {"test/score": np.array([1.0, 1, 0, 1, 0, 0]), "test/group": np.array([0.0, 0, 1, 1, 2, 2])}
    assert statistic_of("worst_group")(columns) == 0 and statistic_of("worst_group")({**columns, "test/group": np.zeros(6)}) == 0.5
    random, held = np.random.default_rng(3), 0
    for _ in range(300):
        found = statistic_interval("worst_group", groups_of([0.7] * 8, 50, random), right=("score",))
        held += found.low <= 0.7 <= found.high
    assert held / 300 >= 0.93, "eight equal groups, of which the worst is worse by chance"


def test_a_quantile():
    values = RANDOM.exponential(size=200)
    assert statistic_of("quantile:0.9")({"test/radius": values}) == pytest.approx(np.quantile(values, 0.9))
    found = statistic_interval("quantile:0.9", {"test/radius": values})
    assert found.low < found.value < found.high and found.low in values and found.high in values
    grouped = statistic_interval("quantile:0.9", {"test/radius": values}, {"test": np.arange(200) // 20})
    assert grouped.low < grouped.value < grouped.high
    assert sample("robustness", "radius", "quantile:0.99", {"test/radius": values[:20]}).interval is None, "too few for an upper end"


def test_names_of_statistics():
    assert statistic_of("mean") is mean
    for name in ("medium", "quantile", "auroc:0.5", "quantile:1.5"):
        with pytest.raises(ValueError, match=r"unknown statistic|must be in"):
            statistic_of(name)


def test_a_bound_keeps_its_finite_end():
    right = {"test/score": (np.arange(500) < 325).astype(float)}
    lower = sample("robustness", "certified_accuracy", "mean", right, right=("score",), bound="lower", unit="fraction")
    assert lower.value == 0.65 and lower.interval == (pytest.approx(0.6133, abs=1e-3), math.inf) and lower.bound == "lower"
    exact = binomtest(325, 500, alternative="greater").proportion_ci(0.95, "exact").low
    assert limit(lower) == pytest.approx(exact), "all of the error on one side, and not a half of it"
    upper = sample("privacy", "advantage", "mean", right, right=("score",), bound="upper", confidence=0.99)
    assert upper.interval[0] == -math.inf and limit(upper) == upper.interval[1] > 0.69 and upper.confidence == 0.99
    continuous = sample("robustness", "radius", "mean", {"test/radius": RANDOM.exponential(size=100)}, bound="lower")
    assert continuous.interval[0] < continuous.value and continuous.interval[1] == math.inf
    few = sample("robustness", "radius", "quantile:0.01", {"test/radius": np.arange(20.0)}, bound="lower")
    assert (few.bound, few.interval, limit(few)) == ("", None, None), "too few examples for a bound: a value is none"
    with pytest.raises(ValueError, match="'least'"):
        sample("robustness", "radius", "mean", right, bound="least")


def test_exact_bounds_hold_as_often_as_they_say():
    random, held = np.random.default_rng(5), 0
    for _ in range(2000):
        found = one_sided("mean", {"test/score": (random.random(100) < 0.97).astype(float)}, "lower", right=("score",))
        held += found.low <= 0.97
    assert held / 2000 >= 0.95


def test_the_worst_group_of_fractions_ends_in_their_range():
    columns = {"test/score": np.array([1.0, 0.4, 1.0, 0.9, 1.0, 1.0]), "test/group": np.repeat([0, 1], 3)}
    free, clipped = (statistic_interval("worst_group", columns, bounded=bounded) for bounded in (False, True))
    assert free.low < 0 and free.high > 1, "Student's interval of three values"
    assert (clipped.low, clipped.high, clipped.value) == (0.0, 1.0, free.value)


def test_parts_by_value_do_not_depend_on_the_order_of_examples():
    """A part that ends among equal values would hold whichever of them come first."""
    values = np.array([1, 1, 1, 2, 2, 2, 2, 2, 3, 9])
    for order in (np.arange(10), np.arange(10)[::-1]):
        found = [sorted(values[order][part].tolist()) for part in parts_of(values[order], 2)]
        assert found == [[1, 1, 1], [2, 2, 2, 2, 2, 3, 9]]
    assert [len(part) for part in parts_of(np.arange(12), 4)] == [3, 3, 3, 3]
    assert [part.tolist() for part in parts_of(np.array([5, 5]), 3)] == [[0, 1]]
    assert [len(part) for part in parts_of(np.array([0, 1] + [2] * 98), 8)] == [2, 98]
