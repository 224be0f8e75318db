"""Work directories of an older version: tests/older/run was written by the commit that tests/older/expected.json names.

The run was trained for 4 of its steps by

    python -m experiments.main --config=experiments/reason/parity.py:transformer,tiny --config.treatments=scratchpad,average \\
        --config.train.steps=4 --config.model.width=8 --config.checkpoint.keep=1 --config.evaluate.splits=iid \\
        --config.evaluate.per_length=1

and the expected numbers are what that version computed from it.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import assay
from assay.cli.evaluate import evaluate
from assay.config.older import completed
from assay.core.errors import UserError
from assay.train.workdir import WorkDir

OLDER = Path(__file__).parent / "older"
EXPECTED = json.loads((OLDER / "expected.json").read_text())
SPEC = "parity:transformer,tiny"
CHANGES = {
    "treatments": "scratchpad,average",
    "model.width": 8,
    "model.window": 80,  # the config file's value when that version trained the run
    "checkpoint.keep": 1,
    "evaluate.splits": "iid",
    "evaluate.per_length": 1,
}


@pytest.fixture
def run(tmp_path) -> Path:
    return Path(shutil.copytree(OLDER / "run", tmp_path / "run"))


def test_it_loads_and_answers_the_same(run):
    model, params, task = assay.load(run)
    batch = task.encode(task.source("iid").fetch(np.arange(2)), task.width(8))
    np.testing.assert_allclose(np.asarray(model.apply(params, batch).logits)[0], EXPECTED["logits"], atol=2e-5)


def test_it_evaluates_to_the_same_rows(run):
    before = WorkDir(run).read_results()["rows"]
    evaluate(run, ["iid"], [], {}, {})
    after = WorkDir(run).read_results()["rows"]
    assert [(row["metric"], row["value"], row["n"]) for row in after] == [(row["metric"], row["value"], row["n"]) for row in before]


def test_it_resumes_to_the_same_numbers(run):
    assay.run(SPEC, run, {**CHANGES, "train.steps": 8})
    last = json.loads(WorkDir(run).metrics.read_text().splitlines()[-1])
    assert last["step"] == 8
    for name, value in EXPECTED["step_8"].items():
        assert last[name] == pytest.approx(value, rel=1e-4), name


def test_a_finished_run_of_an_older_version_is_only_read(run):
    before = (run / "results.json").stat().st_mtime_ns
    rows = assay.run(SPEC, run, {**CHANGES, "train.steps": 4})
    assert rows == WorkDir(run).read_results()["rows"] and (run / "results.json").stat().st_mtime_ns == before


def test_a_default_that_changed_since_is_named(run):
    changes = {key: value for key, value in CHANGES.items() if key != "model.window"}
    with pytest.raises(UserError, match=r"config\.model\.window: 80 in the run, 0 requested"):
        assay.run(SPEC, run, changes)


def test_keys_that_are_there_stay():
    config = json.loads((OLDER / "run" / "config.json").read_text())
    changed = completed({**config, "checkpoint": {**config["checkpoint"], "keep": 7}})
    assert changed["checkpoint"]["keep"] == 7 and changed["model"]["width"] == 8
