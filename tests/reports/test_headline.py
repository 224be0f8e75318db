"""The first sentences of a card follow its numbers: each verdict, sign, unit and direction."""

import pytest

from assay.core.number import MINUS
from assay.reports.headline import headline


def row(
    group, name, before, now, verdict, unit="fraction", better="higher", relative=False, control=None, how="answer_accuracy on 512 examples"
):
    difference = None if before is None else (now / before - 1 if relative else now - before)
    ends = None if difference is None else [difference - 0.05, difference + 0.05]
    after = {"value": now, "verdict": verdict, "difference": difference, "interval": ends, "relative": relative}
    after["control"] = None if control is None else {"value": control}
    return {"group": group, "name": name, "unit": unit, "better": better, "how": how, "before": {"value": before}, "after": {"x": after}}


def said(*rows):
    return headline({"rows": rows}, "x")


@pytest.mark.parametrize(
    ("now", "verdict", "words"),
    [
        (1.0, "better", "Answer accuracy 56.2 % → 100 % (+43.8 points, sure, 95 % +38.8 to +48.8 points)."),
        (0.5, "worse", "Answer accuracy 56.2 % → 50.0 % (-6.2 points, sure, 95 % -11.2 to -1.2 points)."),
        (0.57, "inconclusive", "Answer accuracy 56.2 % → 57.0 % (+0.8 points, inconclusive, 95 % -4.2 to +5.8 points)."),
        (0.562, "no difference", "Answer accuracy 56.2 % → 56.2 % (0 points, no difference, 95 % -5.0 to +5.0 points)."),
    ],
)
def test_the_score_comes_first_with_how_sure_it_is(now, verdict, words):
    found = said(row("generalisation", "score", 0.562, now, verdict))
    assert found.replace(MINUS, "-") == words


def test_the_control_stands_beside_it():
    found = said(row("generalisation", "score", 0.5, 0.9, "better", control=0.8))
    assert "80.0 % with as many updates without the treatment" in found


def test_what_changed_beyond_the_training_distribution_is_named():
    inside, outside = (
        row("reasoning", name, 0.9, now, verdict)
        for name, now, verdict in (("in_distribution", 0.9, "no difference"), ("out_of_distribution", 1.0, "better"))
    )
    assert said(inside, outside).startswith("Answer accuracy beyond the training distribution 90.0 %")
    same = row("reasoning", "out_of_distribution", 0.9, 0.9, "no difference")
    assert said(row("generalisation", "score", 0.9, 0.95, "better"), same).startswith("Answer accuracy 90.0 % → 95.0 %")


@pytest.mark.parametrize(
    ("name", "before", "now", "better", "verdict", "words"),
    [
        ("flops", 1e6, 2.2e6, "lower", "worse", "Price: 2.2 times the operations."),
        ("batched_examples_per_second", 100.0, 41.0, "higher", "worse", "Price: 59 % fewer examples a second."),
        ("batched_examples_per_second", 100.0, 410.0, "higher", "better", "Gain: 4.1 times the examples a second."),
        ("bytes_on_disk", 4e6, 1e6, "lower", "better", "Gain: a quarter of the bytes on disk."),
        ("parameters", 100.0, 50.0, "lower", "better", "Gain: half of the parameters."),
        ("latency_p50", 0.01, 0.007, "lower", "better", "Gain: 30 % less time for an answer."),
        ("peak_memory", 1e6, 1.3e6, "lower", "worse", "Price: 30 % more memory."),
        ("flops", 1e6, 2.2e6, "lower", "inconclusive", ""),
    ],
)
def test_prices_and_gains_follow_direction_and_size(name, before, now, better, verdict, words):
    unit = {"flops": "operations", "bytes_on_disk": "bytes", "peak_memory": "bytes", "latency_p50": "seconds"}.get(name, "")
    group = "speed" if name in ("batched_examples_per_second", "latency_p50") else "cost"
    score = row("generalisation", "score", 0.5, 0.5, "no difference")
    assert said(score, row(group, name, before, now, verdict, unit, better, relative=True)).partition("). ")[2] == words


def test_a_card_without_a_score_has_no_sentence():
    assert said(row("generalisation", "score", None, None, "")) == ""
    assert said(row("generalisation", "score", 3200.0, 3100.0, "inconclusive", "", "lower", how="mse on 99 examples")).startswith(
        "Mse 3,200 → 3,100"
    )
