"""What the public functions return: lists, dicts and diagnoses that a notebook shows, saves and tabulates."""

import copy
import html
import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import assay
from assay.cli import compare as comparing
from assay.cli import diagnose as diagnosing
from assay.cli.python.shown import Card, Diagnosed, Rows, Stages, Suggestions, diagnosed
from assay.core.errors import UserError
from assay.diagnostics.measurement import inapplicable, sample
from assay.reports.card import card_page
from assay.reports.diagnosis import diagnosis_page
from assay.train.workdir import WorkDir
from assay.verdicts.card import build
from assay.verdicts.diagnosis import Diagnosis, ExampleSet

OLDER = Path(__file__).parents[1] / "older" / "run"
RIGHT = np.array([1.0, 0.0, 1.0, 1.0] * 30)


def diagnosis(values, name: str = "a") -> Diagnosis:
    score = sample(
        "generalisation", "score", "mean", {"test/score": values}, right=("score",), unit="fraction", better="higher", margin=0.01
    )
    about = {"schema": 1, "task": "digits", "experiment": name, "model": "mlp", "treatments": [], "split": "test", "quick": False}
    about |= {"checkpoint": "1-a", "vocabulary": [0, 10], "environment": {}, "notes": [], "failed": []}
    sets = {"test": ExampleSet(np.arange(len(values), dtype=np.uint64) + 9, None)}
    return Diagnosis(about, [score, inapplicable("cost", "flops", "no")], sets, [])


@pytest.fixture
def frames(monkeypatch):
    """Stands for pandas, which is not a dependency: a DataFrame is the list of its records."""
    fake = types.ModuleType("pandas")
    fake.DataFrame = list
    monkeypatch.setitem(sys.modules, "pandas", fake)


def test_the_rows_of_a_run_are_a_list_that_shows_itself(tmp_path, frames):
    run = Path(shutil.copytree(OLDER, tmp_path / "run"))
    plain = WorkDir(run).read_results()["rows"]
    rows = Rows(plain, run)
    assert rows == plain and rows[0] is plain[0] and isinstance(rows, list) and copy.copy(rows).workdir == run
    assert "<table>" in rows._repr_html_() and plain[0]["metric"] in rows._repr_html_()
    first = rows.to_dataframe()[0]
    assert (first["value"], [first["low"], first["high"]]) == (plain[0]["value"], plain[0]["interval"])
    assert first["baselines.chance"] == plain[0]["baselines"]["chance"] and not {"interval", "published", "by_length"} & set(first)
    assert json.loads(json.dumps(rows)) == plain
    (run / "report.html").write_text("the page")
    rows.save(tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").read_text() == "the page"
    (run / "report.html").unlink()
    rows.save(tmp_path / "page.html")
    assert "</html>" in (tmp_path / "page.html").read_text() and plain[0]["metric"] in (tmp_path / "page.html").read_text()
    with pytest.raises(UserError, match="cannot write"):
        rows.save(tmp_path)


def test_a_diagnosis_keeps_its_fields_and_its_page(tmp_path, frames):
    plain = diagnosis(RIGHT)
    found = diagnosed(plain, "assay diagnose --workdir=runs/a")
    assert isinstance(found, Diagnosis) and found == plain and found.rows is plain.rows
    about, rows, sets, suggestions = found
    assert (about, rows, sets, suggestions) == tuple(plain)
    found.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == diagnosis_page(plain, "assay diagnose --workdir=runs/a")
    assert "75.0 %" in found._repr_html_() and "Rows that do not apply: 1" in found._repr_html_()
    score, without = found.to_dataframe()
    assert (score["value"], score["n"], score["unit"]) == (0.75, 120, "fraction") and 0.66 < score["low"] < 0.75 < score["high"] < 0.83
    assert (without["applies"], without["reason"], without["low"]) == (False, "no", None)
    assert diagnosed(plain).command == diagnosing.COMMAND


def test_a_card_is_a_dict_that_shows_itself(tmp_path, frames):
    before, after = diagnosis(RIGHT), diagnosis(np.ones(120))
    card = assay.compare(diagnosed(before), {"after": diagnosed(after)})
    plain = build(before, {"after": after})
    assert isinstance(card, Card) and dict(card) == plain and card["rows"][0]["after"]["after"]["verdict"] == "better"
    card.save(tmp_path / "card.html")
    assert (tmp_path / "card.html").read_text() == card_page(plain) and json.loads(json.dumps(card)) == plain
    assert "+25.0 points" in card._repr_html_() and "better" in card._repr_html_()
    score = next(row for row in card.to_dataframe() if row["name"] == "score")
    assert (score["before"], score["after"], score["difference"], score["run"], score["verdict"]) == (0.75, 1.0, 0.25, "after", "better")
    assert 0.15 < score["low"] < 0.25 < score["high"] < 0.35


def test_suggestions_are_a_list_that_shows_itself(tmp_path, frames):
    one = {"number": 1, "treatment": "l2:weight=1e-3", "rule": "over-fitting: a <gap>", "row": "generalisation/train_test_gap"}
    one |= {"expects": "lower", "effect": 0.02, "unit": "fraction"}
    found = Suggestions([one], "runs/a")
    assert found == [one] and found.to_dataframe() == [one]
    assert "over-fitting: a &lt;gap&gt;" in found._repr_html_() and "lower by 2.0 points" in found._repr_html_()
    found.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert "No rule found a bottleneck" in Suggestions([], "runs/a")._repr_html_()


def test_the_page_of_a_model_made_elsewhere_calls_python():
    one = {"number": 1, "treatment": "l2:weight=1e-3", "rule": "over-fitting: a gap", "row": "generalisation/score", "expects": "higher"}
    found = diagnosis(RIGHT)._replace(suggestions=[one])
    for command, source, target in (
        ("assay.diagnose(subject)", "subject", "runs/treated_1"),
        ("assay.diagnose('a', quick=True)", "'a'", "a_1"),
    ):
        page = html.unescape(diagnosis_page(found, command))
        assert f"assay.treat({source}, 'l2:weight=1e-3', '{target}')\nassay.compare({source}, '{target}')" in page
    assert "assay treat --from=a --apply=1 --workdir=a_1" in diagnosis_page(found, "assay diagnose --workdir=a")


def test_without_pandas_one_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for shown in (Rows([], "runs/a"), diagnosed(diagnosis(RIGHT)), Card(build(diagnosis(RIGHT), {"after": diagnosis(RIGHT)}))):
        with pytest.raises(UserError, match="pip install pandas"):
            shown.to_dataframe()


def test_the_public_functions_return_them(tmp_path, monkeypatch):
    run = Path(shutil.copytree(OLDER, tmp_path / "run"))
    monkeypatch.setattr(diagnosing, "diagnose", lambda *_: diagnosis(RIGHT))
    monkeypatch.setattr(comparing, "card_of", lambda *_: {"rows": []})
    found = assay.diagnose(run, quick=True)
    assert isinstance(found, Diagnosed) and found.command == f"assay diagnose --workdir={run} --quick"
    assert isinstance(assay.compare("a", "b"), Card)


def test_printed_they_are_a_few_lines(tmp_path):
    """Not kilobytes of arrays: a newcomer prints what a function returns."""
    before, after = diagnosis(RIGHT), diagnosis(np.ones(120))
    card, found = Card(build(before, {"after": after})), diagnosed(before)
    assert repr(card).startswith("after: ") and "75.0 % \N{RIGHTWARDS ARROW} 100 %" in repr(card) and len(repr(card)) < 400
    assert repr(found).startswith("75.0 % of the held-out answers are right") and len(repr(found)) < 1000
    rows = Rows([{"split": "test", "metric": "accuracy", "value": 0.5, "unit": "fraction"}], "runs/a")
    assert repr(rows).splitlines() == ["1 rows of runs/a", f"  {'test':<10} {'accuracy':<22} 50.0 %"]
    assert repr(Suggestions([{"number": 1, "treatment": "l2", "rule": "why"}])) == "1. l2: why" and "no treatment" in repr(Suggestions([]))
    assert repr(Stages([{"name": "untreated", "score": 0.5, "spec": ""}], "runs/a")).splitlines()[1].split() == ["untreated", "0.5"]
