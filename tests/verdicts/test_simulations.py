"""The simulations of verdicts: their draws have the truth that they state, and their bars can be missed."""

import json

import numpy as np
import pytest

from experiments.calibration_of_tests import finished, tasks
from experiments.simulations.cards import answers, cards, power_of_mcnemar
from experiments.simulations.intervals import MEANS, intervals
from experiments.simulations.page import failures, page
from experiments.simulations.seeds import seeds


@pytest.mark.parametrize(("gain", "discordant", "kind"), [(0.0, 0.06, "plain"), (0.02, 0.1, "plain"), (-0.015, 0.015, "losses only")])
def test_two_models_differ_by_what_is_said(gain, discordant, kind):
    first, second, groups = answers(np.random.default_rng(0), 200_000, gain, discordant, kind)
    changed = first["score"] != second["score"]
    assert np.mean(second["score"] - first["score"]) == pytest.approx(gain, abs=2e-3) and changed.mean() == pytest.approx(
        discordant, abs=2e-3
    )
    assert groups is None and first["score"].mean() == pytest.approx(0.85 - max(gain, 0), abs=3e-3)


def test_values_have_the_mean_that_is_said():
    for name, (draw, truth, _) in MEANS.items():
        values = [draw(np.random.default_rng(seed), 20_000)[0].mean() for seed in range(5)]
        assert np.mean(values) == pytest.approx(truth, rel=0.1), name


def test_the_power_of_mcnemars_test_is_the_published_one():
    found = [power_of_mcnemar(512, 0.02, share) for share in (0.1, 0.06, 0.04)]
    assert found == pytest.approx([0.26, 0.38, 0.55], abs=0.01)


def test_a_page_says_what_is_missed():
    tables = {
        "cards": [cards(64, 0.0, 0.06, "groups", 4, 20), cards(300, -0.015, 0.015, "losses only", 4, 1)],
        "seeds": [seeds(3, 30, kind, 10) for kind in ("some fail", "groups")],
        "power": [{**cards(512, 0.02, 0.06, "plain", 4, 1), "exact": 0.38}],
        "intervals": [intervals("shares, mostly 1", 20, 10), intervals("losses, 5 % large", 5, 10)],
    }
    assert json.loads(json.dumps(tables)) == tables and tables["intervals"][1]["none"] == 10
    said = {"command": "c", "environment": {"commit": "0123456789"}, "missed": [], **tables}
    assert "Every verdict keeps what it promises" in page(said) and "| groups | 64 | +0.0 |" in page(said)
    many = {"cards": 1000, "trials": 1000}
    bad = {
        "cards": [{**tables["cards"][0], **many, "any": 80}, {**tables["cards"][1], **many, "same": 40}],
        "seeds": [{**tables["seeds"][0], **many, "called": 100}],
        "power": [{**tables["power"][0], **many, "called": 200}],
        "intervals": [{**tables["intervals"][0], **many, "held": 850, "none": 0, "caution": 0}],
    }
    missed = failures(bad)
    assert len(missed) == 5 and "80 of 1000 cards; at most 5 %" in missed[0]
    assert "5 bars are missed" in page({**said, **bad, "missed": missed})
    good = {name: [] for name in bad}
    assert failures(good) == []


def test_every_table_has_its_draws():
    found = {name for name, *_ in tasks(10, 10)}
    assert found == {"cards", "seeds", "intervals"}


def test_a_stopped_simulation_goes_on(tmp_path):
    path = tmp_path / "tables.jsonl"
    path.write_text(json.dumps({"task": "cards (20,)", "row": {"any": 1}}) + "\n" + '{"task": "cards (5')
    assert finished(path) == {"cards (20,)": {"any": 1}} and path.read_text().endswith("}}\n"), "what was cut off is drawn again"
    assert finished(tmp_path / "none.jsonl") == {}
