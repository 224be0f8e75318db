"""A one-sided bound from the row to the pages: its finite end is kept and shown, and two bounds are never ordered. Groups that are new, and
files of older versions."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from assay.cli.diagnose import write
from assay.diagnostics import table
from assay.diagnostics.bring import bring
from assay.diagnostics.calibration import calibration
from assay.diagnostics.measurement import HIGHER, LOWER, POINT, Measurement, Plot, limit, ordered, sample
from assay.diagnostics.table import Diagnostic, examine
from assay.reports.card import card_page
from assay.reports.diagnosis import diagnosis_page
from assay.reports.terminal.card import print_card
from assay.reports.terminal.diagnosis import print_diagnosis
from assay.verdicts.card import build
from assay.verdicts.diagnosis import ROWS, Diagnosis, ExampleSet, read
from assay.verdicts.verdict import BETTER, OPEN, SAME, Pair, judge

N = 500
RIGHT = (np.arange(N) < 325).astype(float)
IDS = np.arange(N, dtype=np.uint64) + np.uint64(7)
ABOUT = {
    "schema": 1,
    "task": "digits",
    "experiment": "demo",
    "model": "cnn",
    "treatments": [],
    "split": "test",
    "quick": False,
    "checkpoint": "",
    "vocabulary": [0, 10],
    "environment": {},
}


def certified(right=RIGHT):
    shared = {"unit": "fraction", "better": HIGHER, "margin": POINT, "meaning": "So many are certified."}
    return sample("robustness", "certified_accuracy", "mean", {"test/score": right}, right=("score",), bound="lower", **shared)


def audited(low=0.83, **more):
    shared = {
        "n": 100,
        "interval": (low, math.inf),
        "bound": "lower",
        "confidence": 0.99,
        "better": LOWER,
        "meaning": "At least so much leaks.",
    }
    return Measurement("privacy", "audited_epsilon", 1.5, **{**shared, **more})


def accounted(value=2.31):
    return Measurement("privacy", "epsilon", value, bound="upper", exact=True, better=LOWER, meaning="At most so much leaks.")


def diagnosis(*rows):
    return Diagnosis(dict(ABOUT), list(rows), {"test": ExampleSet(IDS, None)}, [])


def printed(draw, found):
    console = Console(file=io.StringIO(), width=200)
    draw(found, console)
    return console.file.getvalue()


def verdict(before, after):
    (found,) = judge([Pair(before.group, before.name, before, after)])
    return found


def test_a_bound_on_the_page_and_in_the_terminal():
    found = diagnosis(certified(), audited(), accounted())
    page = diagnosis_page(found, "python -m experiments.diagnose --workdir=W")
    assert "95 %: at least 61.3 %" in page and "99 %: at least 0.830" in page and "at most 2.31, exact" in page
    assert 'aria-label="65.0 %, at least 61.3 %"' in page and "inf" not in page.replace("information", "")
    table = printed(print_diagnosis, found)
    assert "at least 61.3 %" in table and "at least 0.830 (99.0 %)" in table and "at most 2.31" in table


def test_a_bound_is_read_as_it_was_written(tmp_path):
    write(diagnosis(certified(), audited(), accounted()), tmp_path, "x")
    said = json.loads((tmp_path / ROWS).read_text(), parse_constant=pytest.fail)
    assert said["rows"][0]["interval"][1] is None and said["rows"][0]["bound"] == "lower"
    first, second, third = read(tmp_path).rows
    assert first.interval == certified().interval and first.interval[1] == math.inf and first.right == ("score",)
    assert (second.confidence, second.interval, third.bound, third.interval) == (0.99, (0.83, math.inf), "upper", None)
    assert [limit(row) for row in (first, second, third)] == [certified().interval[0], 0.83, 2.31]


def test_a_bound_in_the_card():
    more = np.where(np.arange(N) >= 460, 1.0, RIGHT)
    before, after = diagnosis(certified(), audited(), accounted()), diagnosis(certified(more), audited(0.2), accounted(1.0))
    card = build(before, {"small": after})
    json.dumps(card, allow_nan=False)
    rows = {row["name"]: row for row in card["rows"]}
    first = rows["certified_accuracy"]["before"]
    assert first["interval"][1] is None and first["limit"] == pytest.approx(0.613, abs=1e-3)
    verdicts = {name: row["after"]["small"]["verdict"] for name, row in rows.items()}
    assert verdicts == {"certified_accuracy": BETTER, "audited_epsilon": OPEN, "epsilon": BETTER}
    page, table = card_page(card), printed(print_card, card)
    for said in ("65.0 % (at least 61.3 %)", "1.50 (at least 0.830)", "at most 2.31", "at most 1"):
        assert said in page and said in table, said
    for row in card["rows"]:  # as a card of an older version is
        for one in (row["before"], row["after"]["small"]):
            for key in ("bound", "limit", "confidence"):
                del one[key]
        row["before"]["interval"] = row["after"]["small"]["value_interval"] = None
    assert "65.0 %" in card_page(card) and "at least" not in printed(print_card, card)


def test_two_bounds_are_not_ordered():
    found = verdict(audited(0.83), audited(0.2))
    assert found.verdict == OPEN and "bounds" in found.why and found.p_value is None
    assert verdict(audited(), audited()).verdict == SAME, "the same number"
    other = verdict(audited(), audited(bound="upper", interval=(-math.inf, 3.0)))
    assert other.verdict == OPEN and "different methods" in other.why
    two_sided = verdict(audited(), audited(bound="", interval=(0.2, 3.0)))
    assert two_sided.verdict == OPEN and "different methods" in two_sided.why
    paired = verdict(certified(), certified(np.where(np.arange(N) >= 460, 1.0, RIGHT)))
    assert paired.verdict == BETTER and np.isfinite(paired.interval).all(), "examples are paired, whatever the bound of each"


def test_a_new_group_comes_after_the_known_ones(monkeypatch):
    assert ordered(["federation", "speed", "privacy", "reasoning", "federation"]) == ["reasoning", "speed", "federation", "privacy"]
    made = {
        "privacy": Diagnostic("privacy", ("epsilon",), lambda subject: [accounted()]),
        "robust": Diagnostic("robustness", ("certified_accuracy",), lambda subject: [certified()]),
        "cost": Diagnostic("cost", ("size",), lambda subject: [Measurement("cost", "size", 1.0)]),
        "audit": Diagnostic("privacy", ("audited_epsilon",), lambda subject: [audited()]),
    }
    monkeypatch.setattr(table, "DIAGNOSTICS", made)
    rows = examine(None, tuple(made))
    assert [row.name for row in rows] == ["size", "epsilon", "audited_epsilon", "certified_accuracy"]
    card = build(diagnosis(*rows[:2]), {"small": diagnosis(*rows)})
    assert [row["name"] for row in card["rows"]] == [row.name for row in rows]
    page = diagnosis_page(diagnosis(*rows), "x")
    assert page.index(">Cost<") < page.index(">Privacy<") < page.index(">Robustness<")
    assert card_page(card).count("Robustness") and "robustness" in printed(print_card, card)


def test_a_file_of_an_older_version_is_read(tmp_path):
    plot = Plot("line", [0, 1], {"a": [1.0, 2.0]}, "x", "y")
    score = sample("generalisation", "score", "mean", {"test/score": RIGHT}, right=("score",), plot=plot)
    loss = sample("calibration", "nll", "mean", {"test/loss": np.zeros(N)})
    write(diagnosis(score, loss), tmp_path, "x")
    said = json.loads((tmp_path / ROWS).read_text())
    assert set(said["rows"][0]["plot"]) == {"kind", "x", "lines", "x_label", "y_label", "labels"}, "a plot has what its kind needs"
    for row in said["rows"]:
        for key in ("right", "bound", "confidence"):
            del row[key]
    (tmp_path / ROWS).write_text(json.dumps(said))
    first, second = read(tmp_path).rows
    assert first.right == ("score",) and first.interval == score.interval and first.plot.kind == "line"
    assert (second.right, second.bound, second.confidence) == ((), "", 0.95)


def test_a_loss_of_zero_has_no_interval_of_right_answers():
    def apply(params, batch):
        return 200.0 * params["one"] * batch["inputs"]

    inputs = np.eye(2, dtype=np.float32)[np.arange(40) % 2]
    subject = bring(apply, {"one": np.ones((), np.float32)}, {"test": (inputs, np.arange(40) % 2)})
    nll = next(row for row in calibration(subject) if row.name == "nll")
    assert nll.value == 0 and nll.interval is None, "and not 0 to 0.088 nats, which is Wilson's of 40 wrong answers"
    assert subject.right == ("score",)
    columns = {"test/score": np.zeros(60), "test/tokens": np.full(60, 32.0)}
    assert sample("calibration", "nll", "token_mean", columns, unit="nats").interval is None, "over tokens, too"
    assert sample("generalisation", "score", "token_mean", columns, unit="fraction").interval is not None
