"""A suite: what a budget affords is run and shown, the rest says that it was not; the same command with more time completes it."""

import json
import re
from pathlib import Path

import pytest

from assay.cli import suite
from assay.cli.suite import Entry, folder_of, seconds_of
from assay.config.files import load
from assay.config.overrides import override
from assay.config.suites import SUITES
from assay.core.errors import UserError
from assay.reports.grid import Cell, curve_of, render
from assay.reports.table import DASH
from assay.treatments.pipeline.load import treatments

PARITY = "experiments/reason/parity.py:tiny"


def entry(model: str, seconds: float, **changes: str) -> Entry:
    return Entry("parity", model, PARITY, {"train.steps": "4", **changes}, "9-16", "answer_accuracy", seconds)


def make_row(split: str, value: float, seed: int, by_length: dict) -> dict:
    row = {
        "experiment": "e",
        "task": "t",
        "model": "lstm",
        "treatment": "none",
        "split": split,
        "metric": "answer_accuracy",
        "unit": "fraction",
    }
    row |= {"value": value, "interval": [value - 0.01, value + 0.01], "interval_method": "m", "n": 10, "seed": seed, "steps": 7}
    return row | {"published": [], "baselines": {"chance": 0.5}, "by_length": by_length}


def test_a_seed_without_a_value_is_told_in_place_of_the_value_of_the_others(capsys):
    rows = [make_row("9-16", 0.9, 0, {"9": 0.9}), make_row("9-16", 0.8, 1, {"9": 0.8})]
    lost = {**rows[1], "value": None, "interval": None, "caution": "3 of 10 values are not finite (30.0%)"}
    told = {"whole": rows, "one lost": [rows[0], lost], "all lost": [{**lost, "seed": 0}, lost], "alone": [lost]}
    cells = [Cell("t", model, "9-16", "answer_accuracy", of) for model, of in told.items()]
    suite._print(cells)
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split() == ["t", "85.0", DASH, DASH, DASH]
    lines = [
        "t, one lost: 1 of 2 seeds has no value",
        "t, all lost: 2 of 2 seeds have no value",
        "t, alone: 3 of 10 values are not finite (30.0%)",
    ]
    assert printed[2:] == lines
    page = render("grid", "", cells, "command")
    assert all(f'<p class="soft">{line}</p>' in page for line in lines)
    assert "seed mean 0, 1; 7 updates; 1 of 2 seeds has no value" in page and "<b>90.0</b>" not in page


@pytest.mark.parametrize(("text", "seconds"), [("10m", 600.0), ("90s", 90.0), ("1.5h", 5400.0), ("", float("inf"))])
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["10", "m", "-3m", "0s", "ten minutes", "3d"])
def test_what_is_no_time_is_told(text):
    with pytest.raises(UserError, match=r"--budget=.*such as 10m"):
        seconds_of(text)


def test_a_budget_leaves_out_what_it_does_not_afford_and_more_time_adds_it(tmp_path, capsys):
    entries = [entry("first", 2.0), entry("second", 10_000.0), entry("third", 2.0, **{"model.width": "8"})]
    arguments = ("pair", "Two models.", entries, [0], {})
    suite.run(*arguments, "500s", str(tmp_path))
    page, printed = (tmp_path / "report.html").read_text(), capsys.readouterr().out
    assert (page.count(">not run<") == 1 and "about 10000 s" in page.replace(",", "")) or "s of the budget" in page
    assert "not run" in printed and "2 of 3 runs are finished" in page
    before = folder_of(tmp_path, entries[0], 0).joinpath("results.json").stat().st_mtime_ns
    suite.run(*arguments, "", str(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert ">not run<" not in page and "3 of 3 runs are finished" in page
    assert folder_of(tmp_path, entries[0], 0).joinpath("results.json").stat().st_mtime_ns == before, "a finished run is read"
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert {row["split"] for row in rows} >= {"9-16"} and len(rows) == 3 * len({row["split"] for row in rows})
    for link in re.findall(r'<a href="([^"#]+)"', page):
        assert (tmp_path / link).exists()


def test_a_run_of_another_config_is_not_read(tmp_path):
    arguments = ("one", "", [entry("first", 1.0)], [0])
    suite.run(*arguments, {}, "", str(tmp_path))
    with pytest.raises(UserError, match=r"model\.width"):
        suite.run(*arguments, {"model.width": "12"}, "", str(tmp_path))


def test_a_run_that_fails_does_not_end_the_others(tmp_path, capsys):
    entries = [entry("lost", 1.0, **{"optimizer.learning_rate": "1e30", "optimizer.clip_norm": "0"}), entry("second", 1.0)]
    with pytest.raises(UserError, match="1 of 2 runs failed"):
        suite.run("pair", "", entries, [0], {}, "", str(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert "1 of 2 runs are finished" in page and page.count(">not run<") == 1


def test_mistakes_are_told_before_anything_runs(tmp_path):
    wrong = Entry("parity", "x", PARITY, {"train.stepz": "4"}, "9-16", "answer_accuracy", 1.0)
    with pytest.raises(UserError, match="stepz"):
        suite.run("pair", "", [entry("first", 1.0), wrong], [0], {}, "", str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SUITES)
def test_every_entry_of_every_suite_is_a_config(name):
    entries = SUITES[name].entries
    assert len({folder_of(Path("suite"), one, 0) for one in entries}) == len(entries), "no two share a folder"
    for one in entries:
        config = override(load(one.spec), one.overrides)
        assert one.split in config.evaluate.splits and one.seconds > 0
        treatments(config.treatments)


def test_colours_count_from_chance_and_curves_from_all_splits():
    rows = [make_row("iid", 1.0, seed, {"1": 1.0, "2": 1.0}) for seed in (0, 1)]
    rows += [make_row("41-50", value, seed, {"41": value, "50": 0.5}) for seed, value in ((0, 0.7), (1, 0.8))]
    cell = Cell("a/b", "lstm", "41-50", "answer_accuracy", rows, "x/report.html")
    assert curve_of(cell) == {1: 1.0, 2: 1.0, 41: 0.75, 50: 0.5}
    cells = [cell, Cell("a/b", "other", "41-50", "answer_accuracy", why="no time")]
    page = render("Title", "Sums & <b>", cells, "command")
    assert "--share: 50%" in page and "<b>" not in page.partition("summary")[2].partition("</p>")[0] and ">75.0<" in page
    assert 'title="no time"' in page and page == render(
        "Title", "Sums & <b>", [cell, Cell("a/b", "other", "41-50", "answer_accuracy", why="no time")], "command"
    )
    points = re.search(r'polyline points="([^"]+)"', page)[1].split()
    assert len(points) == 4 and points[0] == "0.0,0.0" and points[-1] == "100.0,20.0"
