"""Result files: what their command and other keys say of rows that lack it."""

import json

from assay.verdicts.result_file import commit_text, overrides_of, read

COMMAND = "assay study --config=scan:lstm --seeds=0 --config.task.name=scan/jump --config.model.dropout=0.2 --workdir=W"


def test_rows_have_the_overrides_of_the_command_and_the_shares_of_the_file(tmp_path):
    words = dict.fromkeys(("task", "model", "treatment", "metric", "unit", "interval_method"), "x")
    row = {
        **words,
        "experiment": "reason/scan:lstm",
        "split": "test",
        "value": 0.5,
        "interval": None,
        "n": 1,
        "seed": 0,
        "steps": 1,
        "published": [],
    }
    rows = [row, {**row, "split": "valid"}, {**row, "overrides": {"train.steps": "5"}, "seen_in_training": 0.1}]
    found = {"command": COMMAND, "environment": {"commit": "0123456789abc + uncommitted changes"}, "rows": rows}
    (tmp_path / "a.json").write_text(json.dumps({**found, "seen_in_training": {"reason/scan:lstm": {"test": 0.4}}}))
    read_back = read(tmp_path / "a.json")
    assert (read_back.name, read_back.commit, read_back.command) == ("a", "0123456 + uncommitted changes", COMMAND)
    changed = {"task.name": "scan/jump", "model.dropout": "0.2"}
    assert [one["overrides"] for one in read_back.rows] == [changed, changed, {"train.steps": "5"}]
    assert [one.get("seen_in_training") for one in read_back.rows] == [0.4, None, 0.1]


def test_a_row_records_no_key_that_leaves_its_number_alone():
    left = "--config.checkpoint.every=8 --config.checkpoint=keep:1 --config.train.log_every=1"
    assert overrides_of(f"assay train --config=a:b {left} --config.train.steps=9 --workdir=W") == {"train.steps": "9"}
    assert overrides_of("assay train --config=a:b --config.seed=3 --workdir=W") == {}
    assert commit_text(None) == "" and commit_text("0123456789") == "0123456"
