"""Rules on rows made by hand: which fires, what it predicts, what the order is by, and what a run has already."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from assay.diagnostics.measurement import Measurement, sample
from assay.reports.diagnosis import told_of
from assay.treatments.pipeline.load import treatments
from assay.treatments.table import FACTORIES
from assay.verdicts import recommend
from assay.verdicts.recommend import suggest
from assay.verdicts.rules import rule
from assay.verdicts.rules.remedies import ABOUT, about
from assay.verdicts.rules.rule import Facts
from assay.verdicts.rules.table import RULES

ROOT = Path(__file__).resolve().parents[2]
CNN = {"name": "cnn", "filters": [32, 64], "dense": 512}
LSTM = {"name": "lstm", "width": 64}
OPTIMIZER = {"name": "adam", "schedule": "cosine", "clip_norm": 1.0, "learning_rate": 0.002}
IMAGES = Facts("images", CNN, OPTIMIZER, side=8, outputs=10)
TOKENS = Facts("tokens", LSTM, OPTIMIZER, lengths=(1, 40))
TEXT = Facts("text", LSTM, OPTIMIZER)
HEALTHY = {"generalisation/score": 0.97, "generalisation/train_test_gap": 0.02, "calibration/calibration_error": 0.02}
UNITS = {"cost/parameters": "", "cost/bytes_on_disk": "bytes", "calibration/nll": "nats", "optimisation health/largest_gradient": "times"}


def rows(values: dict[str, float], **changes: float) -> list[Measurement]:
    """Of names group/name; a gap has an interval half of it wide."""
    made = []
    for name, value in {**values, **changes}.items():
        group, _, row = name.partition("/")
        interval = (value / 2, 1.5 * value) if row == "train_test_gap" else None
        made.append(Measurement(group, row, value, unit=UNITS.get(name, "fraction"), interval=interval))
    return made


def first(values: dict[str, float], facts: Facts) -> dict:
    return suggest(rows(values), facts)[0]


def test_nothing_is_wrong():
    for facts in (IMAGES, TOKENS, TEXT):
        assert suggest(rows(HEALTHY), facts) == [] and suggest([], facts) == []


def test_an_over_fitted_model():
    values = HEALTHY | {"generalisation/score": 0.75, "generalisation/train_test_gap": 0.25}
    found = suggest(rows(values), IMAGES)
    assert [one["treatment"].partition(":")[0] for one in found] == ["augment", "l2", "smooth", "average"]
    assert [one["number"] for one in found] == [1, 2, 3, 4]
    assert found[0] == {
        "number": 1,
        "treatment": "augment:images=shift:1+rotate:12",
        "rule": "over-fitting: the training score is 25.0 percentage points above the held-out score",
        "row": "generalisation/train_test_gap",
        "expects": "lower",
        "effect": 0.0125,
        "unit": "fraction",
        "does": "It trains on changed copies of the examples, drawn again in each pass.",
        "source": "Shorten and Khoshgoftaar 2019",
        "moved": "accuracy on 200 labelled digits by +3.3 points",
    }
    staged = suggest(rows(values), IMAGES._replace(updates=300))
    assert staged[0]["treatment"] == "augment:images=shift:1+rotate:12,rate=0.002,steps=1200", "what was learnt by heart takes time"
    assert staged[1]["treatment"] == "l2:weight=1e-3", "the stage's own"
    assert first(values, TEXT)["treatment"] == "augment:text=dropout:0.1"
    assert first(values, TOKENS)["treatment"] == "recombine"
    assert first(values, IMAGES._replace(kind="numbers"))["treatment"] == "l2:weight=1e-3"
    assert first(values, IMAGES._replace(side=32))["treatment"] == "augment:images=shift:2+rotate:12"


def test_what_a_run_has_is_not_suggested():
    values = HEALTHY | {"generalisation/train_test_gap": 0.25}
    has = IMAGES._replace(treatments=("augment:images=shift:2+rotate:5", "l2:weight=1e-5"))
    assert first(values, has)["treatment"] == "smooth:share=0.1"
    half = IMAGES._replace(treatments=("augment:images=crop:2+rotate:5",))
    assert first(values, half)["treatment"] == "augment:images=crop:2+rotate:5+shift:1", "a second augment would replace the first"
    assert suggest(rows(values), IMAGES._replace(treatments=("augment:images=shift+rotate", "l2", "smooth", "average"))) == []


def test_a_gap_that_may_be_chance_is_none():
    gap = Measurement("generalisation", "train_test_gap", 0.09, unit="fraction", interval=(-0.01, 0.2))
    assert suggest([*rows({"generalisation/score": 0.6}), gap], IMAGES) == []
    squared = Measurement("generalisation", "train_test_gap", -200.0, unit="", interval=(-300.0, -100.0))
    assert suggest([*rows({"generalisation/score": 3000.0}), squared], IMAGES._replace(kind="numbers")) == [], "an error is no score"


def falling(fall: float) -> Measurement:
    return Measurement("generalisation", "learning_curve_slope", -fall, unit="nats", interval=(-1.2 * fall, -0.8 * fall))


def test_what_has_not_learned_is_told_first_and_alone():
    """An untrained model also has a gap and wrong confidences; none of them means anything."""
    values = {"generalisation/score": 0.11, "generalisation/above_baseline": 0.01, "generalisation/train_test_gap": 0.02}
    values |= {"calibration/calibration_error": 0.3, "generalisation/corruption: blur": 0.0}
    facts = IMAGES._replace(updates=100, loss=2.29, split="valid")
    level = Measurement("generalisation", "learning_curve_slope", -0.001, unit="nats", interval=(-0.1, 0.1))
    found = suggest([*rows(values), level], facts)
    assert {one["rule"].partition(":")[0] for one in found} == {"not learnt"} and found[0]["row"] == "generalisation/score"
    assert [one["treatment"] for one in found] == [
        "longer:steps=400,rate=0.02",
        "longer:steps=400",
        "larger:times=2",
        "longer:steps=400,rate=0.0002",
    ]
    still = suggest([*rows(values), falling(0.2)], facts)
    assert still[0]["treatment"] == "longer:steps=400", "the loss still falls"
    assert suggest(rows(values), facts._replace(updates=3, epoch=45))[0]["treatment"] == "longer:steps=450", "it has hardly begun"
    assert not any("larger" in one["treatment"] for one in suggest(rows(values), facts._replace(updates=3, epoch=45)))
    away = suggest([*rows(values), level], facts._replace(loss=9.0))
    assert away[0]["treatment"] == "longer:steps=400,rate=0.0002", "the loss is above that of guessing"
    treatments([one["treatment"].partition(":")[0] for one in found[:1]])
    memorized = suggest(rows(values | {"generalisation/train_test_gap": 0.8}), facts)
    assert memorized[0]["rule"].startswith("over-fitting"), "it has learned its training examples"
    loose = facts._replace(optimizer={**OPTIMIZER, "clip_norm": 0.0})
    spiked = suggest(rows(values | {"optimisation health/largest_gradient": 90.0}), loose)
    assert spiked[0]["treatment"] == "clip:norm=1.0" and {one["rule"].partition(":")[0] for one in spiked} == {
        "exploding gradients",
        "not learnt",
    }


def test_an_error_and_hard_data_have_learned_what_there_is():
    def error(score: float, above: float, ends: tuple[float, float]) -> list[Measurement]:
        made = [Measurement("generalisation", "score", score, unit="", n=100, interval=(0.9 * score, 1.1 * score))]
        return [*made, Measurement("generalisation", "above_baseline", above, unit="", interval=ends)]

    numbers = IMAGES._replace(kind="numbers", split="valid", updates=50)
    (told, *_) = suggest(error(79.0, 1.0, (-7.0, 9.0)), numbers)
    assert told["rule"].startswith("not learnt: ") and told["rule"].endswith("(100 examples of valid)") and told["expects"] == "lower"
    assert suggest(error(60.0, 20.0, (10.0, 30.0)), numbers) == []
    assert suggest(error(75.0, 5.0, (1.0, 9.0)), numbers) == [], "little, but certainly"
    assert suggest(error(79.0, 1.0, (0.5, 1.5)), numbers)[0]["rule"].startswith("not learnt"), "certain, but next to nothing"


def test_training_that_ended_early():
    values = {"generalisation/score": 0.6, "generalisation/above_baseline": 0.5, "generalisation/train_test_gap": 0.03}
    facts = IMAGES._replace(updates=60, loss=1.2)
    found = suggest([*rows(values), falling(0.4)], facts)
    assert [one["treatment"] for one in found] == ["longer:steps=240", "larger:times=2"] and "under-trained" in found[0]["rule"]
    assert suggest([*rows(values), falling(0.05)], facts) == [], "the loss has levelled off"
    assert suggest([*rows(HEALTHY | {"generalisation/above_baseline": 0.87}), falling(0.4)], facts._replace(loss=0.1)) == []


def test_few_examples_that_cannot_tell():
    gap = Measurement("generalisation", "train_test_gap", 0.13, unit="fraction", interval=(-0.01, 0.3))
    few = [Measurement("generalisation", "score", 0.87, unit="fraction", n=27), gap]
    above = Measurement("generalisation", "above_baseline", 0.37, unit="fraction", interval=(0.2, 0.5))
    found = suggest([*few, above], TEXT)
    assert "27 held-out examples are too few to be sure, and --config.task.folds=5" in found[0]["rule"]
    many = [few[0]._replace(n=400), gap, above]
    assert suggest(many, TEXT) == [], "then it may be chance"
    poor = few[0]._replace(value=0.5)
    assert suggest([poor, gap, above._replace(value=0.05, interval=(0.01, 0.1))], TEXT) == [], "it is not memorized"


def test_a_spurious_colour():
    values = HEALTHY | {"generalisation/corruption: colour": 0.47, "generalisation/corruption: blur": 0.9}
    found = first(values, IMAGES)
    assert found["treatment"] == "augment:images=colour:1" and found["row"] == "generalisation/corruption: colour"
    assert (found["expects"], found["effect"]) == ("higher", 0.15)
    assert suggest(rows(values | {"generalisation/corruption: colour": 0.9}), IMAGES) == []


def test_a_drop_that_may_be_chance_is_none():
    def of(n: int) -> list[Measurement]:
        clean, grey = np.arange(n) < 0.5 * n, np.arange(n) < 0.25 * n
        made = [
            sample("generalisation", name, "mean", {"valid/score": values}, unit="fraction")
            for name, values in (("score", clean), ("corruption: colour", grey), ("corruption: blur", grey))
        ]
        return [*made, Measurement("generalisation", "above_baseline", 0.4, unit="fraction", interval=(0.2, 0.6))]

    assert suggest(of(20), IMAGES) == []
    assert {one["rule"].partition(":")[0] for one in suggest(of(400), IMAGES)} >= {"spurious colour"}


def test_the_worst_corruption_is_named():
    images = HEALTHY | {f"generalisation/corruption: {name}": 0.97 - lost for name, lost in (("blur", 0.3), ("shift", 0.5))}
    assert first(images, IMAGES)["treatment"] == "augment:images=shift:2"
    assert first(images | {"generalisation/corruption: gaussian_noise": 0.3}, IMAGES)["treatment"] == "augment:images=noise:0.3"
    texts = HEALTHY | {"generalisation/corruption: drop": 0.6, "generalisation/corruption: replace": 0.5}
    assert first(texts, TEXT)["treatment"] == "augment:text=noise:0.1"


def test_longer_inputs():
    values = {"reasoning/in_distribution": 1.0, "reasoning/above_baseline": 0.5, "reasoning/out_of_distribution": 0.52} | HEALTHY
    found = suggest(rows(values), TOKENS._replace(states=True))
    assert [one["treatment"] for one in found] == ["scratchpad", "supervise", "curriculum:examples=20000"]
    assert found[0]["row"] == "reasoning/out_of_distribution" and found[0]["effect"] == pytest.approx(0.048)
    assert suggest(rows(values), TOKENS._replace(states=True, updates=300))[0]["treatment"] == "scratchpad:rate=0.002,steps=600"
    sums = TOKENS._replace(places=9, steps=True, lengths=(3, 8))
    assert [one["treatment"].partition(":")[0] for one in suggest(rows(values), sums)][:2] == ["couple", "reverse"]
    copies = suggest(rows(values), TOKENS._replace(places=40, farthest=500))
    assert copies[0]["treatment"] == "couple:span=504", "positions of all evaluated lengths are trained"
    assert suggest(rows(values | {"reasoning/out_of_distribution": 0.95}), TOKENS) == []
    guess = suggest(rows(values | {"reasoning/in_distribution": 0.51, "reasoning/above_baseline": 0.01}), TOKENS._replace(states=True))
    assert guess[0]["rule"].startswith("not learnt") and guess[0]["row"] == "reasoning/in_distribution"


def test_a_needlessly_wide_model():
    values = HEALTHY | {"cost/parameters": 200_000, "optimisation health/effective_rank": 32.0, "optimisation health/dead_units": 0.1}
    found = suggest(rows(values), IMAGES)
    assert [one["treatment"] for one in found] == ["prune:channels=0.5", "distill:student=small"]
    assert found[0]["row"] == "cost/parameters" and 0 < found[0]["effect"] < 100_000
    assert first(values | {"optimisation health/effective_rank": 10.0}, TOKENS)["treatment"] == "prune:units=0.5"
    assert suggest(rows(values | {"optimisation health/effective_rank": 200.0}), IMAGES) == []
    assert suggest(rows(values | {"generalisation/score": 0.7}), IMAGES) == [], "there is a score to win first"
    silent = first(values | {"optimisation health/effective_rank": 200.0, "optimisation health/dead_units": 0.5}, IMAGES)
    assert "50 % of the hidden units are dead" in silent["rule"]


def test_exploding_gradients():
    loose = IMAGES._replace(optimizer={**OPTIMIZER, "clip_norm": 0.0})
    values = {"generalisation/score": 0.4, "generalisation/train_test_gap": 0.01, "optimisation health/largest_gradient": 90.0}
    found = first(values, loose)
    assert found["treatment"] == "clip:norm=1.0" and found["row"] == "generalisation/score" and found["expects"] == "higher"
    assert suggest(rows(values), IMAGES) == [], "it is clipped"
    assert suggest(rows(values | {"generalisation/score": 0.97}), loose) == [], "training came to its end"
    away = values | {"optimisation health/largest_gradient": 4.0, "optimisation health/gradient_norm": 6.0, "calibration/nll": 12.3}
    assert suggest(rows(away), loose) == []
    found = first(away, loose._replace(loss=11.0))
    assert found["treatment"] == "clip:norm=1.0" and found["row"] == "calibration/nll" and found["effect"] == pytest.approx(3.0, abs=0.01)
    assert suggest(rows(away), loose._replace(loss=2.3)) == [], "an even guess of ten classes has as much"


def test_vanishing_gradients():
    values = {"generalisation/score": 0.2, "generalisation/train_test_gap": 0.0, "optimisation health/gradient_balance": -3.5}
    assert first(values, TOKENS)["treatment"] == "prune:layers=0.5"
    assert suggest(rows(values | {"optimisation health/gradient_balance": -0.6}), TOKENS) == []
    assert suggest(rows(values | {"optimisation health/dead_units": 0.97}), TOKENS) == [], "dead units do not come back"


def test_confidence_that_is_not_earned():
    def row(confidence: float) -> Measurement:
        columns = {"valid/confidence": np.full(100, confidence), "valid/score": np.r_[np.ones(70), np.zeros(30)]}
        return Measurement("calibration", "calibration_error", abs(confidence - 0.7), unit="fraction", columns=columns)

    one, two = suggest([row(0.95)], TEXT)
    assert (one["treatment"], one["effect"], two["treatment"], two["effect"]) == ("calibrate", 0.0625, "smooth:share=0.1", 0.025)
    (only,) = suggest([row(0.45)], TEXT)
    assert only["treatment"] == "calibrate", "smoothing makes what is too cautious worse"
    has = TEXT._replace(treatments=("calibrate",))
    assert [each["treatment"] for each in suggest([row(0.95)], has)] == ["smooth:share=0.1"] and suggest([row(0.45)], has) == []
    assert suggest([row(0.74)], TEXT) == []


def test_size_and_a_noisy_end():
    assert first(HEALTHY | {"cost/bytes_on_disk": 4e6}, TEXT) | {"rule": ""} == {
        "number": 1,
        "treatment": "quantize:int8",
        "rule": "",
        "row": "cost/bytes_on_disk",
        "expects": "lower",
        "effect": 2e6,
        "unit": "bytes",
        **about("quantize")._asdict(),
    }
    slope = Measurement("generalisation", "learning_curve_slope", 0.0, unit="nats", interval=(-0.3, 0.3))
    unsteady = [slope, *rows(HEALTHY | {"calibration/nll": 0.2})]
    assert suggest(unsteady, TEXT) == []
    (found,) = suggest(unsteady, TEXT._replace(optimizer={**OPTIMIZER, "schedule": "constant"}))
    assert found["treatment"] == "average:decay=0.99"


def test_the_order_is_by_what_is_at_stake():
    """Not by the rule: of the same two faults the larger one comes first."""
    colour, fitted = "generalisation/corruption: colour", "generalisation/train_test_gap"
    for lost, gap, wanted in ((0.5, 0.2, "spurious colour"), (0.2, 0.5, "over-fitting")):
        values = {"generalisation/score": 0.8, colour: 0.8 - lost, fitted: gap}
        assert first(values, IMAGES)["rule"].startswith(wanted)


def test_rows_that_do_not_apply_are_not_read():
    made = [row._replace(applies=False) for row in rows({"generalisation/train_test_gap": 0.5})]
    missing = [row._replace(value=None) for row in rows({"generalisation/train_test_gap": 0.5})]
    assert suggest(made, IMAGES) == suggest(missing, IMAGES) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_suggest_nothing(value):
    """No comparison with NaN holds, also not that a problem is too small to mention."""
    assert suggest(rows(dict.fromkeys(HEALTHY, value)), IMAGES) == []


def test_what_is_suggested_can_be_parsed_and_written():
    """Of all rules that can fire together."""
    bad = {
        "generalisation/score": 0.5,
        "generalisation/train_test_gap": 0.3,
        "generalisation/corruption: colour": 0.1,
        "generalisation/corruption: blur": 0.1,
        "reasoning/in_distribution": 0.5,
        "reasoning/above_baseline": 0.3,
        "reasoning/out_of_distribution": 0.1,
        "optimisation health/largest_gradient": 100.0,
        "optimisation health/gradient_balance": -4.0,
        "calibration/calibration_error": 0.3,
        "cost/bytes_on_disk": 5e6,
    }
    facts = IMAGES._replace(optimizer={**OPTIMIZER, "clip_norm": 0.0}, states=True, lengths=(1, 9))
    found = suggest(rows(bad), facts)
    rules = {one["rule"].partition(":")[0] for one in found}
    assert "smooth:share=0.1" in [one["treatment"] for one in found], "once, by the rule that has more at stake"
    assert rules == set(RULES) - {"needlessly wide", "not learnt", "under-trained", "noisy end"}
    assert json.loads(json.dumps(found)) == found and len({one["treatment"] for one in found}) == len(found)
    for one in found:
        if not one["treatment"].startswith(("distill", "prune")):
            treatments([one["treatment"]])


def test_late_losses_are_read_without_penalties(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert recommend.late_loss(path) == 0.0
    lines = [{"step": i, "loss": 9.0} for i in range(6)] + [{"step": 7, "loss": 3.0, "l2": 1.0}, {"step": 8, "loss": 2.0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 8, "valid_accuracy": 0.5}\n{"step": 9, "lo')
    assert recommend.late_loss(path) == 2.0


def test_every_remedy_says_what_it_does():
    """Whatever a rule can suggest has a sentence and a source."""
    text = "".join(path.read_text() for path in Path(rule.__file__).parent.glob("*.py") if path.name != "remedies.py")
    named = {found.partition(":")[0] for found in re.findall(r'Remedy\(f?"([a-z_]+)', text)} | {
        "augment",
        "larger",
        "longer",
        "scratchpad",
        "curriculum",
    }
    assert named <= set(ABOUT) and set(ABOUT) <= set(FACTORIES)
    assert all(one.does.startswith("It ") and one.does.endswith(".") and one.source for one in ABOUT.values())


def test_a_suggestion_says_what_it_costs():
    said = {"does": "It trains on.", "source": "Me 1999", "updates": 1200, "seconds": 90.0}
    assert told_of(said) == "It trains on (Me 1999). It takes 1,200 updates, about 90.0 s at the run's pace, and as many for its control."
    assert told_of({**said, "treatment": "longer:steps=1200"}).endswith("at the run's pace."), "it has no control"
    assert told_of({**said, "updates": 0}) == "It trains on (Me 1999). It takes no training."
    assert told_of({**said, "seconds": 0.0}).endswith("It takes 1,200 updates.") and told_of({"treatment": "mine"}) == ""


def test_the_pace_is_that_of_the_log(tmp_path):
    lines = [{"step": step, "elapsed_seconds": 5 + step / 20} for step in (10, 20, 50)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{broken")
    assert recommend.pace(tmp_path / "metrics.jsonl") == pytest.approx(1 / 20)
    assert recommend.pace(tmp_path / "none.jsonl") == 0.0


def test_what_remedies_moved_is_what_the_results_say():
    found = json.loads((ROOT / "experiments" / "results" / "overfitting.json").read_text())
    values: dict[str, list[float]] = {}
    for row in found["rows"]:
        if (row["split"], row["metric"]) == ("test", "accuracy") and isinstance(row["seed"], int):
            values.setdefault(row["experiment"].rpartition(":")[2], []).append(row["value"])
    told = {name: one.moved for name, one in ABOUT.items() if "200 labelled digits" in one.moved}
    assert len(told) == 6
    for name, moved in told.items():
        assert len(values[name]) == 5 and f"by {100 * (np.mean(values[name]) - np.mean(values['none'])):+.1f} points" in moved, name
