"""Rows and records that were changed by hand are told apart from those that a run writes."""

import json
from pathlib import Path

import pytest

from assay.core.errors import UserError
from assay.evals.written import wrong_line, wrong_record, wrong_row
from assay.train.workdir import WorkDir
from assay.verdicts.comparison import scores
from assay.verdicts.result_file import read_results

OLDER = Path(__file__).parents[1] / "older" / "run"
RESULTS = sorted((Path(__file__).parents[2] / "experiments" / "results").glob("*.json"))
ROW = json.loads((OLDER / "results.json").read_text())["rows"][0]


def test_what_runs_have_written_is_right():
    for path in [OLDER / "results.json", *RESULTS]:
        assert wrong_row(json.loads(path.read_text())["rows"]) == "", path
    for line in (OLDER / "metrics.jsonl").read_text().splitlines():
        assert wrong_line(json.loads(line)) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("unit", None),
        ("experiment", ["x"]),
        ("value", "x"),
        ("value", 10**400),
        ("n", -1),
        ("n", True),
        ("seed", []),
        ("interval", [0.5]),
        ("by_length", {"x": 1.0}),
        ("published", [{"value": 1.0}]),
        ("baselines", {"chance": "half"}),
    ],
)
def test_a_row_with_a_wrong_value_is_named(key, value):
    assert wrong_row([ROW, ROW | {key: value}]) == f"row 2 has no valid {key!r}"
    assert wrong_row([{name: one for name, one in ROW.items() if name != "metric"}]) == "row 1 has no valid 'metric'"
    assert wrong_row([ROW, []]) == "row 2 is not an object"


def test_records_and_lines():
    assert wrong_record({"id": 0, "target": [1], "scores": {"accuracy": 1.0}}) == ""
    assert wrong_record({"id": 0, "target": [1], "scores": {}}) == "it has no valid 'scores'"
    assert wrong_record([1]) == "it is not an object"
    assert wrong_line({"step": 3, "loss": None}) == "" and wrong_line({"step": 3, "loss": 1.0, "private": False}) == ""
    assert wrong_line({"step": 3, "loss": 1.0, "private": 1.0}) == "it has no valid 'private'"
    assert wrong_line({"step": 3, "loss": "x"}) == "it has no valid 'loss'"
    assert wrong_line({"loss": 1.0}) == "it has no valid 'step'"


def test_readers_name_the_file(tmp_path):
    run = WorkDir(tmp_path)
    run.results.write_text(json.dumps({"schema": 1, "rows": [ROW | {"n": None}], "environment": {}}))
    for read in (run.read_results, lambda: read_results(run.results)):
        with pytest.raises(UserError, match=r"results\.json is damaged: row 1 has no valid 'n'"):
            read()
    run.write_predictions("iid", [{"id": 0, "target": [1], "scores": {"accuracy": 1.0}}, {"id": 1}])
    with pytest.raises(UserError, match=r"iid\.jsonl is damaged: line 2: it has no valid 'scores'.*assay evaluate"):
        scores(tmp_path, "iid", "accuracy")
    run.predictions("iid").write_text("")
    with pytest.raises(UserError, match=r"iid\.jsonl is damaged: it is empty"):
        scores(tmp_path, "iid", "accuracy")
