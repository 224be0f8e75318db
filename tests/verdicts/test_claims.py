"""Claims of treatments, from predictions that are made up: shares, paired points and ratios that can be counted by hand."""

import json
import re

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.verdicts.claims import change, effect, line, recovered, runs, times
from assay.verdicts.comparison import compare, runs_of


def write(folder, right: list[list[int]], groups: bool = False) -> None:
    """Runs of as many seeds as lists, each with who is right."""
    for seed, answers in enumerate(right):
        path = folder / f"seed_{seed}"
        (path / "predictions").mkdir(parents=True)
        records = [
            {"id": i, "input": i, "target": 0, "scores": {"accuracy": float(value)}, **({"group": str(i // 2)} if groups else {})}
            for i, value in enumerate(answers)
        ]
        (path / "predictions" / "test.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        (path / "results.json").write_text("{}")


def write_scores(folder, values, **others) -> None:
    """A run of each seed whose examples have these values of one metric, by name, and `others`, such as tokens."""
    ((metric, seeds),) = values.items()
    for seed, each in enumerate(seeds):
        path = folder / f"seed_{seed}"
        (path / "predictions").mkdir(parents=True)
        every = [{metric: float(value), **{name: float(of[i]) for name, of in others.items()}} for i, value in enumerate(each)]
        records = [{"id": i, "input": i, "target": 0, "length": 1, "scores": scores} for i, scores in enumerate(every)]
        (path / "predictions" / "test.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        config = {"seed": seed, "experiment": "e", "composition": {}, "task": {}, "model": {}, "treatments": []}
        (path / "config.json").write_text(json.dumps(config))
        (path / "results.json").write_text("{}")


@pytest.mark.parametrize("groups", [False, True])
def test_the_share_that_is_recovered(tmp_path, groups):
    n = 40
    write(tmp_path / "teacher", [[1] * n] * 3, groups)
    write(tmp_path / "alone", [[1] * 20 + [0] * 20] * 3, groups)
    write(tmp_path / "distilled", [[1] * 30 + [0] * 10, [1] * 34 + [0] * 6, [1] * 32 + [0] * 8], groups)
    found = recovered(tmp_path / "teacher", tmp_path / "alone", tmp_path / "distilled")
    np.testing.assert_allclose(found["value"], (0.8 - 0.5) / (1.0 - 0.5))
    assert (found["n"], found["seeds"], found["alone"], found["distilled"]) == (n, 3, 0.5, pytest.approx(0.8))
    low, high = found["interval"]
    assert low < found["value"] < high and high - low > 0.3, "three seeds that differ by 4 of 40 answers leave much open"
    write(tmp_path / "one", [[1] * 30 + [0] * 10], groups)
    single = recovered(tmp_path / "teacher", tmp_path / "alone", tmp_path / "one")
    assert single["seeds"] == 1 and 0.1 < single["interval"][0] < 0.5 < single["interval"][1] < 0.9


@pytest.mark.parametrize(
    ("teacher", "alone", "why"),
    [
        ([[1, 0] * 20], [[1, 0] * 20], "the teacher is not better than the student alone"),
        ([[1, 0] * 20], [[1] * 40], r"the teacher is not better than the student alone \(accuracy: -0.5\)"),
        ([[1] * 22 + [0] * 18], [[1] * 20 + [0] * 20], "the teacher is not shown to be better than the student alone .*interval -0.0"),
        ([[1] * 40] * 2, [[1] * 30 + [0] * 10] * 2, "the teacher is not shown to be better"),  # two seeds leave it open
    ],
)
def test_without_a_gap_no_share_is_recovered(tmp_path, teacher, alone, why):
    write(tmp_path / "teacher", teacher)
    write(tmp_path / "alone", alone)
    write(tmp_path / "distilled", [[1, 1, 1, 0] * 10] * len(teacher))
    found = recovered(tmp_path / "teacher", tmp_path / "alone", tmp_path / "distilled")
    assert found["value"] is found["interval"] is None and re.match(why, found["why"])
    assert (found["n"], found["seeds"], found["distilled"]) == (40, len(teacher), 0.75)


@pytest.mark.parametrize("better", [0.2, 0.8])
def test_the_better_of_two_errors_is_the_lower(tmp_path, better):
    noise = np.random.default_rng(0).normal(0, 0.01, 40)
    for name, error in (("teacher", better), ("alone", 0.5), ("distilled", 0.35)):
        write_scores(tmp_path / name, {"mse": [error + noise * (name == "teacher")]})
    found = recovered(tmp_path / "teacher", tmp_path / "alone", tmp_path / "distilled")
    assert found["value"] is None if better > 0.5 else found["value"] == pytest.approx(0.5, abs=0.01)


def test_a_mean_over_tokens_weighs_by_them_as_a_comparison_does(tmp_path):
    """Long passages gain and short ones lose: more examples lose, and more tokens gain."""
    tokens = np.repeat([100, 2], [10, 90])
    long = tokens == 100
    for name, scores in (("before", (0.5, 0.9)), ("after", (0.6, 0.8)), ("teacher", (0.9, 0.95))):
        each = np.where(long, *scores) + np.random.default_rng(1).uniform(-0.02, 0.02, 100)
        write_scores(tmp_path / name, {"token_accuracy": [each, each - 0.01, each + 0.01]}, tokens=tokens)
    found = change(tmp_path / "before", tmp_path / "after")
    (same,) = (one for one in compare(runs_of([tmp_path]), "before", "test") if one.name == "after")
    assert found["value"] == pytest.approx(100 * same.difference.value) and found["value"] > 6
    assert found["interval"] == pytest.approx([100 * same.difference.low, 100 * same.difference.high])
    assert found["before"] == pytest.approx(100 * same.baseline_value) and found["each"] == pytest.approx([100 * one for one in same.each])
    share = recovered(tmp_path / "teacher", tmp_path / "before", tmp_path / "after")
    assert 0.1 < share["value"] < 0.3 and share["alone"] == pytest.approx(same.baseline_value)


def test_examples_that_differ_are_refused(tmp_path):
    write(tmp_path / "before", [[1, 0] * 20])
    write(tmp_path / "after", [[1, 0] * 21])
    with pytest.raises(UserError, match=r"after/seed_0' and .*before/seed_0' \(seed 0\) were not evaluated on the same examples"):
        change(tmp_path / "before", tmp_path / "after")


def test_points_are_paired_by_example_and_seed(tmp_path):
    write(tmp_path / "before", [[1, 1, 0, 0] * 25, [1, 1, 1, 0] * 25])
    write(tmp_path / "after", [[1, 0, 0, 0] * 25, [1, 1, 1, 0] * 25])
    found = change(tmp_path / "before", tmp_path / "after")
    np.testing.assert_allclose([found["value"], *found["each"], found["before"]], [-12.5, -25.0, 0.0, 62.5])
    assert found["interval"][0] < -12.5 < 0 < found["interval"][1], "one of two seeds lost nothing"
    write(tmp_path / "alike", [[1, 0, 0, 0] * 25, [1, 1, 0, 0] * 25, [1, 0, 0, 0] * 25])
    write(tmp_path / "full", [[1, 1, 0, 0] * 25, [1, 1, 1, 0] * 25, [1, 1, 0, 0] * 25])
    assert change(tmp_path / "full", tmp_path / "alike")["interval"][1] < 0
    write(tmp_path / "later", [])
    (tmp_path / "later").mkdir()
    with pytest.raises(UserError, match="no finished run"):
        change(tmp_path / "full", tmp_path / "later")


def test_the_effect_is_the_difference_from_the_controls(tmp_path):
    """Training longer gained 25 points, the treatment none of them."""
    write(tmp_path / "before", [[1, 0, 0, 0] * 25] * 2)
    write(tmp_path / "after", [[1, 1, 0, 0] * 25] * 2)
    for seed in (0, 1):
        path = tmp_path / "after" / f"seed_{seed}"
        write(path / "stages" / "moved", [[1, 1, 0, 0] * 25])
        (path / "stages" / "moved" / "seed_0").rename(path / "stages" / "1_control")
        before = {"workdir": str(tmp_path / "before" / f"seed_{seed}")}
        rows = [before, {"updates": 10, "control": {"workdir": "stages/1_control"}}]
        (path / "stages.json").write_text(json.dumps({"rows": rows}))
    assert change(tmp_path / "before", tmp_path / "after")["value"] == 25
    found = effect(tmp_path / "after")
    assert found["value"] == 0 and found["before"] == 50 and found["seeds"] == 2
    (path / "stages.json").write_text(json.dumps({"rows": [before, {"updates": 10, "control": None}]}))
    with pytest.raises(UserError, match=r"seed_1 has no control.*--control=False"):
        effect(tmp_path / "after")


def test_ratios_are_those_of_the_last_stage(tmp_path):
    for seed, size in enumerate((100, 80)):
        path = tmp_path / f"seed_{seed}"
        path.mkdir()
        rows = [
            {"cost": {"bytes_on_disk": 400}, "speed": {"throughput_ratio": 1.0, "latency_ratio": 1.0}},
            {"cost": {"bytes_on_disk": 200}, "speed": {"throughput_ratio": 1.5, "latency_ratio": 1.2}},
            {"cost": {"bytes_on_disk": size}, "speed": {"throughput_ratio": 3.0 + seed, "latency_ratio": 0.5}},
        ]
        (path / "stages.json").write_text(json.dumps({"rows": rows}))
    assert times(tmp_path, "smaller")["each"] == [4.0, 5.0] and times(tmp_path, "smaller")["value"] == 4.5
    assert times(tmp_path, "fast")["range"] == [3.0, 4.0] and times(tmp_path, "quick")["value"] == 0.5
    assert times(tmp_path, "fast", 1)["value"] == 1.5


def test_a_ratio_of_times_names_its_machine_and_is_none_if_disturbed(tmp_path):
    reason = "disturbed: other processes used 0.8 cores"
    for seed, (processor, ratio, disturbed) in enumerate((("EPYC", 3.0, ""), ("Xeon", None, reason))):
        path = tmp_path / f"seed_{seed}"
        path.mkdir()
        pace = {"throughput_ratio": ratio, "latency_ratio": ratio, "timing": {"disturbed": disturbed}}
        told = {"rows": [{"cost": {"bytes_on_disk": 400}, "speed": pace}], "environment": {"processor": processor}}
        (path / "stages.json").write_text(json.dumps(told))
    found = times(tmp_path, "fast")
    assert found["value"] is found["range"] is None and found["each"] == [3.0, None] and found["disturbed"] == [f"seed_1: {reason}"]
    assert found["machines"] == ["EPYC", "Xeon"]
    assert times(tmp_path, "smaller") == {"value": 1.0, "each": [1.0, 1.0], "range": [1.0, 1.0], "seeds": 2}, "a size has no machine"


def test_what_was_not_run_is_told(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        runs(tmp_path)


def test_a_claim_without_a_value_is_printed_with_its_reason(tmp_path):
    for name in ("teacher", "alone", "distilled"):
        write(tmp_path / name, [[1, 0] * 20])
    share = recovered(tmp_path / "teacher", tmp_path / "alone", tmp_path / "distilled")
    assert re.search(
        r"share recovered +no value  bar 0.5  the teacher is not better",
        line({"claim": "share recovered", "bar": 0.5, "held": None, **share}),
    )
    assert line({"claim": "x", "bar": 0.5, "held": True, "value": 0.6}).endswith("0.600  bar 0.5  holds")
