"""Which column is predicted: found where one can be it, asked for where two can, and never a quantity without the flag."""

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.data.files.roles import roles
from assay.data.files.table import Table, column_of

N = 60
TEXT = [f"this is the review number {i} of a film" for i in range(N)]
CLASS = ["good", "bad", "so so"] * (N // 3)
REAL = [f"{(i * 37 % 61) / 7:.3f}" for i in range(N)]
FEW = [str(i % 5) for i in range(N)]


def table(**columns):
    return Table({name: column_of(cells) for name, cells in columns.items()}, np.arange(2, N + 2), "data.csv")


@pytest.mark.parametrize("name", ["label", "Label", " TARGET", "class", "y", "sentiment"])
def test_the_target_is_found_by_its_name(name):
    found = roles(table(**{name: CLASS, "text": TEXT, "score": REAL, "colour": ["red", "blue"] * 30}))
    assert (found.target, found.kind) == (name, "classes")
    assert (found.texts, found.numbers, found.categories, found.inputs) == (("text",), ("score",), ("colour",), ("text", "score", "colour"))


def test_the_only_plausible_column():
    assert roles(table(a=REAL, b=REAL[::-1], kind=CLASS)).target == "kind"
    assert roles(table(v1=CLASS, v2=TEXT)).target == "v1", "a class before texts alone"
    assert roles(table(text=TEXT, stars=FEW)).target == "stars"
    for columns, told in (
        ({"region": CLASS, "rooms": REAL, "cost": REAL[::-1]}, "region may be it"),
        ({"a": CLASS, "b": CLASS[::-1], "text": TEXT}, "a, b may be it"),
        ({"label": CLASS, "target": CLASS[::-1], "text": TEXT}, "label, target may each be"),
        ({"text": TEXT, "cost": REAL}, "no column looks like a target"),
    ):
        with pytest.raises(UserError, match=rf"{told}.*--target=NAME.*Columns: ") as error:
            roles(table(**columns))
        assert "data.csv" in str(error.value)


def test_a_number_is_predicted_where_it_is_asked_for_only():
    columns = {"text": TEXT, "target": REAL}
    with pytest.raises(UserError, match=r"60 different numbers in 60 rows.*--regression"):
        roles(table(**columns))
    assert roles(table(**columns), regression=True).kind == "number"
    assert roles(table(text=TEXT, cost=REAL), regression=True).target == "cost"
    assert roles(table(text=TEXT, label=FEW)).kind == "classes", "whole numbers are classes"
    assert roles(table(text=TEXT, label=["0.5", "1.5", "2.5"] * 20)).kind == "classes", "few values are classes"
    with pytest.raises(UserError, match=r"so it does not hold classes.*--regression"):
        roles(table(text=TEXT, label=[str(i * 37 % 1009) for i in range(N)]))
    with pytest.raises(UserError, match=r"no column of numbers \(line 2: 'good'\)"):
        roles(table(text=TEXT, label=CLASS), regression=True)


def test_targets_that_cannot_be_predicted():
    for cells, told in (
        ([""] * N, "every cell of the target"),
        (TEXT, "60 different values"),
        ([f"2020-01-{i % 28 + 1:02d}" for i in range(N)], "dates"),
    ):
        with pytest.raises(UserError, match=told):
            roles(table(label=cells, text=TEXT), "label")


def test_labels():
    found = roles(table(text=TEXT, labels=[["a", "b"], [], ["b"]] * 20))
    assert (found.target, found.kind) == ("labels", "labels")
    assert roles(table(text=TEXT, tags=["a|b", "b", "a"] * 20)).kind == "labels"


def test_what_is_ignored_and_why():
    columns = {
        "id": range(N),
        "same": ["x"] * N,
        "none": [""] * N,
        "odd": CLASS[::-1],
        "label": CLASS,
        "text": TEXT,
        "label_text": ["G", "B", "S"] * 20,
    }
    found = roles(table(**columns), ignore=["odd"])
    assert found.inputs == ("text",)
    assert found.ignored == {
        "id": "it identifies rows (running numbers)",
        "same": "every cell is the same",
        "none": "every cell is missing",
        "odd": "asked by --ignore",
        "label_text": "it says the same as the target 'label' in other words",
    }


def test_an_identifier_is_an_input_where_there_is_no_other():
    found = roles(table(code=[f"ab{i * 7919 % 997}" for i in range(N)], label=CLASS))
    assert found.texts == ("code",) and "no other column is left" in found.notes[0]
    assert roles(table(x=[str(i) for i in range(N)], label=CLASS)).numbers == ("x",)
    for columns in ({"label": CLASS}, {"same": ["x"] * N, "label": CLASS}):
        with pytest.raises(UserError, match=r"no column to predict 'label' from.*--text=NAME"):
            roles(table(**columns))


def test_flags():
    columns = {"a": CLASS, "b": ["x", "y"] * 30, "label": FEW}
    assert roles(table(**columns), texts=["a"]).texts == ("a",)
    assert roles(table(**columns), target="b").target == "b"
    assert roles(table(**columns), target="b", ignore=["label"]).categories == ("a",)
    for flags, told in (
        ({"target": "lable"}, r"unknown column of data.csv 'lable'. Did you mean 'label'\? Known: a, b, label. Set it with --target=NAME"),
        ({"texts": ["c"]}, "--text=NAME"),
        ({"ignore": ["c"]}, "--ignore=NAME"),
        ({"target": "a", "texts": ["a"]}, "both --target and --text"),
        ({"target": "a", "ignore": ["a"]}, "both --target and --ignore"),
        ({"texts": ["a"], "ignore": ["a"]}, "both --text and --ignore"),
    ):
        with pytest.raises(UserError, match=told):
            roles(table(**columns), **flags)
