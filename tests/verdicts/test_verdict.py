"""Verdicts of rows: each word where it belongs, margins, Holm over a card, and how often equal models are told apart."""

import math

import numpy as np
import pytest

from assay.core.paired import agresti_min, difference_of, mean
from assay.core.stats import holm, mcnemar
from assay.diagnostics.measurement import HIGHER, LOWER, POINT, SHARE, Measurement, inapplicable, sample
from assay.verdicts.verdict import BETTER, OPEN, SAME, WORSE, Change, Pair, judge

RANDOM = np.random.default_rng(0)
RIGHT = (RANDOM.random(400) < 0.8).astype(float)
BETTER_DIRECTION = {"unit": "fraction", "better": HIGHER, "margin": POINT}


def row(values, name="score", **more):
    right = ("score",) if name == "score" and np.isin(values, (0, 1)).all() else ()
    return sample("generalisation", name, "mean", {"test/score": np.asarray(values)}, right=right, **{**BETTER_DIRECTION, **more})


def size(value, **more):
    return Measurement("cost", "parameters", value, **{"better": LOWER, "margin": SHARE, "relative": True, "exact": True, **more})


def verdict(before, after, **more):
    (found,) = judge([Pair(before.group, before.name, before, after)], **more)
    return found


def changed(values, losses=0, gains=0):
    """Right answers of which some are lost and wrong ones of which some are won."""
    values = values.copy()
    values[np.flatnonzero(values == 1)[:losses]] = 0
    values[np.flatnonzero(values == 0)[-gains or len(values) :]] = 1
    return values


def test_the_words():
    worse = verdict(row(RIGHT), row(changed(RIGHT, losses=40)))
    assert (worse.verdict, worse.difference, worse.agreement, worse.n) == (WORSE, pytest.approx(-0.1), 0.9, 400)
    assert worse.interval[0] < -0.1 < worse.interval[1] < 0 and worse.p_value == worse.adjusted == pytest.approx(2 / 2**40)
    assert verdict(row(changed(RIGHT, losses=40)), row(RIGHT)).verdict == BETTER
    assert verdict(row(RIGHT, better=LOWER), row(changed(RIGHT, losses=40), better=LOWER)).verdict == BETTER
    unsure = verdict(row(RIGHT), row(changed(RIGHT, losses=3)))
    assert (unsure.verdict, unsure.p_value) == (
        OPEN,
        0.25,
    ) and unsure.why == "p is not below 0.05, and the interval extends beyond ±1.0 points"
    same = verdict(row(RIGHT), row(RIGHT.copy()))
    assert (same.verdict, same.difference, same.p_value, same.agreement) == (SAME, 0, 1, 1)
    assert same.interval == pytest.approx(agresti_min(0, 0, 400)) and same.why == "the interval lies within ±1.0 points"


def test_equal_answers_to_few_examples_are_inconclusive():
    """With a true loss of 1.5 points, none of 194 examples shows it in one case of 19, and none of 244 in one of 40."""
    for n, words, low in ((3, OPEN, 0.392), (128, OPEN, 0.0151), (193, OPEN, 0.01005), (244, OPEN, 0.00797), (245, SAME, 0.00793)):
        found = verdict(row(RIGHT[:n]), row(RIGHT[:n]))
        assert (found.verdict, found.p_value) == (words, 1) and -found.interval[0] == pytest.approx(low, rel=5e-3)
    assert found.why == "the interval lies within ±1.0 points"
    few = verdict(row(RIGHT[:200]), row(RIGHT[:200]))
    assert few.why == "200 examples are too few to show a difference of 1.5 times ±1.0 points"
    files = {"test": np.repeat(np.arange(40), 10)}
    assert verdict(row(RIGHT), row(RIGHT), groups=files).verdict == OPEN, "forty files are forty"
    for n, group in ((3, {}), (400, files)):
        found = verdict(row(RIGHT[:n]), row(RIGHT[:n]), groups=group, one_program=True)
        assert (found.verdict, found.why) == (SAME, "the same program and the same parameters")
    loss = np.random.default_rng(0).exponential(size=500)
    nats = {"unit": "nats", "better": LOWER, "margin": 0.01}
    assert verdict(row(loss, **nats), row(loss, **nats)).verdict == OPEN, "losses up to 7 nats: one in 500 may differ by 3.5 margins"
    assert verdict(row(np.full(500, 2.0), **nats), row(np.full(500, 2.0), **nats)).verdict == OPEN, "values that do not vary have no scale"


def test_rows_of_the_same_answers_count_once():
    """The score is tested alone; the other rows share what it leaves."""
    after = changed(RIGHT, losses=6)
    score, within = row(RIGHT, fact="answers"), row(after, fact="answers")
    baseline = [row(values - 0.1, "score", fact="answers") for values in (RIGHT, after)]
    other = [row(values, fact="others") for values in (RIGHT, changed(RIGHT, losses=8))]
    pairs = [
        Pair("reasoning", "in_distribution", score, within),
        Pair("generalisation", "score", score, within),
        Pair("reasoning", "above_baseline", *baseline),
        Pair("generalisation", "elsewhere", *other),
    ]
    found = {one.name: one for one in judge(pairs)}
    assert found["score"].p_value == found["score"].adjusted == pytest.approx(2 / 2**6) and found["score"].verdict == WORSE
    for name in ("in_distribution", "above_baseline"):
        assert found[name].repeats == "generalisation/score" and found[name].adjusted == found["score"].adjusted
        assert found[name].verdict == WORSE
    assert found["elsewhere"].adjusted == pytest.approx(2 / 2**8), "all of the level is left, since the score is worse"
    pairs[1] = Pair("generalisation", "score", row(RIGHT), row(changed(RIGHT, losses=3)))
    found = {one.name: one for one in judge(pairs)}
    assert found["score"].verdict == OPEN and found["in_distribution"].repeats == ""
    assert found["elsewhere"].adjusted == pytest.approx(2 / 2**8 * 2 / 0.3), "of two facts, at three tenths of the level"
    assert judge(pairs[3:])[0].adjusted == pytest.approx(2 / 2**8), "without a score there is nothing to leave"


@pytest.mark.parametrize(("losses", "gains"), [(5, 0), (6, 0), (8, 1), (9, 2), (13, 4), (20, 8)])
def test_the_score_is_tested_alone_by_mcnemar(losses, gains):
    found = verdict(row(RIGHT), row(changed(RIGHT, losses, gains)))
    assert found.p_value == pytest.approx(mcnemar(losses, gains))
    assert found.adjusted == pytest.approx(max(mcnemar(losses, gains), mcnemar(losses, gains, mid_p=True) / 0.7))
    assert (found.adjusted < 0.05) == (mcnemar(losses, gains) < 0.05)


def test_two_calibrated_models_are_not_told_apart_by_their_accuracy():
    """An error is biased upward, the more so the lower the accuracy is: swaps would call one of them better in 28 to 40 % of cards."""
    random, told = np.random.default_rng(0), 0
    for _ in range(40):
        rows = []
        for accuracy in (0.85, 0.95):
            sure = random.beta(20 * accuracy, 20 * (1 - accuracy), 512)
            pair = {"test/confidence": sure, "test/score": (random.random(512) < sure).astype(float)}
            rows.append(
                sample("calibration", "e", "calibration_error", pair, right=("score",), unit="fraction", better=LOWER, margin=POINT)
            )
        told += verdict(*rows, resamples=100).verdict in (BETTER, WORSE)
    assert told <= 4
    sharp = dict(rows[0].columns) | {"test/confidence": np.full(512, 0.999)}
    over = sample("calibration", "e", "calibration_error", sharp, right=("score",), unit="fraction", better=LOWER, margin=POINT)
    assert verdict(rows[0], over, resamples=200).verdict == WORSE


def test_a_half_length_that_moves_is_seen():
    """From 6 to 161 tokens: swaps of single answers mix both models at every length, and find p = .12."""
    length = np.repeat(np.arange(1, 161), 4).astype(float)
    random = np.random.default_rng(0)
    rows = []
    for half in (6, 200):
        right = (random.random(len(length)) < np.where(length < half, 0.97, 0.02)).astype(float)
        rows.append(sample("r", "h", "half_length", {"test/length": length, "test/score": right}, unit="tokens", better=HIGHER))
    found = verdict(*rows, resamples=300)
    assert found.verdict == BETTER and found.interval[0] > 100
    assert verdict(rows[1], rows[1]._replace(columns={**rows[1].columns}), resamples=300).verdict == OPEN


def test_an_interval_within_the_margin_is_no_difference_even_where_p_is_small():
    values = (np.random.default_rng(1).random(20_000) < 0.9).astype(float)
    found = verdict(row(values), row(changed(values, losses=40)))
    assert found.p_value < 1e-9 and -0.01 < found.interval[0] < found.interval[1] < 0
    assert (found.verdict, found.why) == (SAME, "the interval lies within ±1.0 points")
    assert verdict(row(values, margin=0.001), row(changed(values, losses=40))).verdict == WORSE, "the margin of the row before counts"
    relative = {"unit": "", "better": LOWER, "margin": 0.05, "relative": True}
    loss = np.random.default_rng(2).random(300) + 10
    assert verdict(row(loss, **relative), row(loss + 0.4, **relative)).verdict == SAME, "0.4 is less than 5 % of 10.5"
    assert verdict(row(loss, **relative), row(loss + 0.6, **relative)).verdict == WORSE


def test_a_row_without_a_better_direction_is_neither():
    found = verdict(row(RIGHT, better=""), row(changed(RIGHT, losses=40), better=""))
    assert (found.verdict, found.adjusted < 1e-9) == (OPEN, True) and "neither direction" in found.why
    assert verdict(row(RIGHT, better=""), row(RIGHT, better="")).verdict == SAME
    assert verdict(size(100, better=""), size(200, better="")).verdict == OPEN


def test_numbers_without_a_sample_are_exact():
    assert [verdict(size(1000), size(after)).verdict for after in (1000, 1050, 950, 1051, 949)] == [SAME, SAME, SAME, WORSE, BETTER]
    found = verdict(size(1000), size(500))
    assert (found.difference, found.p_value, found.adjusted, found.interval) == (-500, 0, 0, None)
    assert verdict(size(1000), size(1000)).p_value is None
    assert verdict(size(0.0), size(0.0)).verdict == SAME and verdict(size(math.nan), size(math.nan)).verdict == SAME
    assert verdict(size(math.nan), size(1.0)).verdict == OPEN and verdict(size(math.inf), size(1.0)).why == "some values are not finite"


def test_two_models_with_the_same_values_that_are_not_finite_are_not_equal():
    broken = row(np.append(np.random.default_rng(0).random(50), math.nan), unit="nats")
    found = verdict(broken, broken)
    assert (found.verdict, found.difference, found.why) == (OPEN, None, "some values are not finite")


def test_holm_is_over_all_rows_that_have_a_p_value():
    losses = (40, 12, 7, 0)
    pairs = [Pair("g", str(n), row(RIGHT), row(changed(RIGHT, losses=n))) for n in losses]
    pairs += [Pair("cost", "parameters", size(10), size(5)), Pair("g", "gone", row(RIGHT), inapplicable("g", "gone", "no such split"))]
    found = judge(pairs)
    raw = [2 / 2**40, 2 / 2**12, 2 / 2**7, 1.0]
    assert [one.p_value for one in found[:4]] == pytest.approx(raw)
    assert [one.adjusted for one in found[:4]] == pytest.approx([8 / 2**40, 6 / 2**12, 4 / 2**7, 1.0])
    assert [one.adjusted for one in found[:4]] == pytest.approx(holm(raw).tolist())
    assert [one.verdict for one in found] == [WORSE, WORSE, WORSE, SAME, BETTER, OPEN]
    more = judge([*pairs, *(Pair("g", f"same {i}", row(RIGHT), row(RIGHT)) for i in range(4))])
    assert more[2].verdict == OPEN and more[2].adjusted == pytest.approx(12 / 2**7)


def test_what_cannot_be_paired_is_inconclusive():
    other = inapplicable("generalisation", "score", "does not apply: no split.")
    for before, after, why in (
        (row(RIGHT), other, "only before: no split"),
        (other, row(RIGHT), "only after: no split"),
        (row(RIGHT), row(RIGHT)._replace(value=None), "only before: no value"),
        (row(RIGHT), row(RIGHT[1:]), "measured on different examples than before"),
        (row(RIGHT), sample("g", "n", "mean", {"valid/score": RIGHT}, **BETTER_DIRECTION), "measured on different examples than before"),
        (row(RIGHT), row(RIGHT, unit="nats"), "measured with different methods before and after"),
        (size(3, exact=False), size(4, exact=False), "no examples to pair"),
    ):
        found = verdict(before, after)
        assert (found.verdict, found.why, found.p_value) == (OPEN, why, None)
    neither = verdict(other, other)
    assert (neither.verdict, neither.why) == ("", "does not apply: no split.")
    infinite = verdict(row([1.0, 2.0, math.inf]), row([1.0, 2.0, 3.0]))
    assert (infinite.verdict, infinite.difference, infinite.interval) == (OPEN, None, None)


def test_times_are_compared_by_their_turns_alone():
    time = {"unit": "seconds", "better": LOWER, "margin": SHARE, "relative": True, "timing": True}
    before, after = (Measurement("speed", "latency_p50", value, **time) for value in (0.010, 0.002))
    assert verdict(before, after).why == "measured once for each model, not in turns" and verdict(before, after).verdict == OPEN
    assert verdict(before, after, untimed="no checkpoint").why == "no checkpoint"
    one = verdict(before, after, one_program=True)
    assert (one.verdict, one.why) == (SAME, "the same program and the same parameters")
    for change, expected in (
        (Change(-0.8, (-0.82, -0.79), 1e-6, 25), BETTER),
        (Change(0.3, (0.2, 0.4), 1e-6, 25), WORSE),
        (Change(0.01, (-0.02, 0.04), 0.6, 25), SAME),
        (Change(0.01, (0.005, 0.04), 1e-6, 25), SAME),
        (Change(0.01, (-0.02, 0.06), 0.6, 25), OPEN),
        (Change(-0.5, None, 0.25, 3), OPEN),
    ):
        found = verdict(before, after, changes={"latency_p50": change})
        assert (found.verdict, found.relative, found.difference, found.n) == (expected, True, change.value, change.turns)


def test_groups_and_the_statistic_are_those_of_the_row():
    groups = np.repeat(np.arange(40), 10)
    after = changed(RIGHT, losses=40)
    found = verdict(row(RIGHT), row(after), groups={"test": groups})
    assert found[4:7] == (lambda d: (d.value, (d.low, d.high), d.p_value))(
        difference_of(mean, {"test/score": after}, {"test/score": RIGHT}, {"test": groups})
    )
    train = np.ones(300)
    gaps = [
        sample("generalisation", "gap", "gap", {"train/score": train, "test/score": test}, right=("score",), better=LOWER, margin=POINT)
        for test in (RIGHT, changed(RIGHT, gains=60))
    ]
    found = verdict(*gaps)
    assert (found.verdict, found.difference) == (BETTER, pytest.approx(-0.15)) and found.agreement == pytest.approx(640 / 700)


def test_a_model_against_itself_does_not_differ_in_any_row():
    rows = [
        row(RIGHT),
        row(np.array([1.0, math.inf])),
        size(12345),
        Measurement("generalisation", "slope", -0.1, interval=(-0.2, 0.0), n=10),
        Measurement("speed", "latency_p50", 0.1, timing=True),
    ]
    found = judge([Pair(one.group, one.name, one, one) for one in rows], one_program=True)
    assert [one.verdict for one in found] == [SAME] * len(rows)


def test_of_equal_models_hardly_any_card_tells_them_apart():
    """1,000 cards of 20 rows, both models drawn from one distribution: at most 5 %, and what chance adds, hold a better or worse."""
    random, told, smallest = np.random.default_rng(3), 0, []
    for _ in range(1000):
        right = (random.random((10, 2, 200)) < 0.9).astype(float)
        losses = random.exponential(size=(10, 2, 25))
        scores = [("mean", pair, BETTER_DIRECTION) for pair in right] + [
            ("mean", pair, {"unit": "nats", "better": LOWER}) for pair in losses
        ]
        pairs = [
            Pair("g", str(i), *(Measurement("g", str(i), 0.0, n=1, statistic=name, columns={"test/x": one}, **more) for one in pair))
            for i, (name, pair, more) in enumerate(scores)
        ]
        found = judge(pairs, resamples=20, flips=999)
        told += any(one.verdict in (BETTER, WORSE) for one in found)
        smallest.append(min(one.p_value for one in found))
    assert told / 1000 <= 0.065
    assert told > 0 and np.mean(np.array(smallest) < 0.05) > 0.3, "without the correction every third card would"
