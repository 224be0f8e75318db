"""The leaderboard of `assay fit` on the page of its run."""

import json

from assay.reports.board import board_of

FOUND = {
    "sentence": "Use the forest.",
    "title": "accuracy",
    "unit": "fraction",
    "leaderboard": [
        {"name": "a", "title": "the forest", "seconds": 1.25, "valid": {"value": 0.5, "low": None, "high": None}},
        {"name": "b", "title": "the net", "seconds": 2.0, "test": {"value": 0.9, "low": 0.8, "high": 0.95}},
    ],
    "groups": {"sex": [{"group": "F", "n": 1234, "b": {"value": None, "low": None, "high": None}}], "none": []},
}


def test_the_leaderboard_and_the_groups_are_tables(tmp_path):
    (tmp_path / "fit.json").write_text(json.dumps(FOUND))
    view = board_of(tmp_path)
    assert view.sentence == "Use the forest." and [table.title for table in view.tables] == ["", "By sex"]
    assert view.tables[0].rows == [("the forest", "1.2", "50.0 %", ""), ("the net", "2.0", "", "90.0 % (80.0 to 95.0 %)")]
    assert view.tables[1].columns == ("sex", "rows", "the net") and view.tables[1].rows == [("F", "1,234", "\u2013")]


def test_other_folders_have_none(tmp_path):
    assert board_of(tmp_path) is None
    for text in ("", "[]", '{"sentence": "Use it."}', json.dumps({**FOUND, "leaderboard": [{"name": "a"}]})):
        (tmp_path / "fit.json").write_text(text)
        assert board_of(tmp_path) is None
