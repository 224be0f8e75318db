"""Rows that nothing can be learned from are left out, each for a reason that is counted; the rest stays as it was."""

import unicodedata

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.data.files.clean import clean
from assay.data.files.roles import Roles, roles
from assay.data.files.table import Table, column_of


def table(**columns):
    made = {name: column_of(cells) for name, cells in columns.items()}
    return Table(made, np.arange(2, 2 + len(next(iter(made.values())))), "data.csv")


def texts(count, start=0):
    return [f"this is the review number {i} of a film" for i in range(start, start + count)]


def cleaned(made, **flags):
    return clean(made, roles(made, "label", **flags))


def test_rows_are_left_out_and_counted():
    made = table(text=[*texts(8), "", texts(1)[0], texts(2)[1], "late"], label=["a", "b"] * 4 + ["a", "a", "a", ""])
    found = cleaned(made)
    assert found.table.lines.tolist() == list(range(2, 10)) and found.classes == {"a": 4, "b": 4}
    assert [(each.reason, each.count, each.lines) for each in found.table.dropped] == [
        ("no target (label)", 1, (13,)),
        ("no input (text)", 1, (10,)),
        ("the same inputs and target as an earlier row", 1, (11,)),
        ("the inputs of an earlier row with another target", 1, (12,)),
    ]
    assert (found.repeated, found.conflicting) == (1, 1)
    assert "1 input comes with different targets; the first row of each is kept" in found.table.notes


def test_unicode_forms_of_one_text_and_one_label():
    names = ["caf\u00e9 noir et blanc", unicodedata.normalize("NFD", "caf\u00e9 noir et blanc")]
    found = cleaned(table(text=[*names, *texts(6)], label=["t\u00e9", "te\u0301 ", " t\u00e9", "b", "b", "b", "b", "b"]))
    assert found.repeated == 1 and found.classes == {"b": 5, "t\u00e9": 2}


def test_short_rows_that_are_equal_by_chance_stay():
    made = table(colour=["red", "blue"] * 20, size=["big", "big", "small", "small"] * 10, label=["a", "b", "a", "a"] * 10)
    found = cleaned(made)
    assert len(found.table.lines) == 40 and found.repeated == 36 and found.conflicting == 0
    assert "36 rows have the same inputs" in found.table.notes[0]
    few = table(x=[*(f"{i / 7:.3f}" for i in range(40)), "0.000"], label=["a", "b"] * 20 + ["a"])
    assert len(cleaned(few).table.lines) == 40, "a copy of a measurement is no chance"


def test_one_class_or_none():
    for labels, told in ((["a"] * 6, "only one class, 'a'"), ([""] * 6, "every cell of the target 'label' is missing")):
        made = table(text=texts(6), label=labels)
        with pytest.raises(UserError, match=told):
            cleaned(made)
    made = table(text=texts(6), label=["a", "b"] * 3)
    parts = roles(made)
    assert clean(table(text=texts(2), label=["a", "a"]), parts, training=False).classes == {"a": 2}
    with pytest.raises(UserError, match="is missing"):
        clean(table(text=texts(2), label=["", None]), parts, training=False)
    with pytest.raises(UserError, match="no row has both a target and an input"):
        clean(table(text=["", ""], label=["a", "b"]), parts)


def test_one_row():
    with pytest.raises(UserError, match="only one row"):
        cleaned(table(text=texts(1), label=["a"]))


def test_remarks_on_classes():
    found = cleaned(table(text=texts(13), label=["Good"] * 6 + ["good"] * 6 + ["odd"]))
    assert found.table.notes == (
        "classes with fewer than 5 rows can hardly be learned: odd (1)",
        "classes that differ in case only are different classes: Good, good",
    )


def test_names_of_classes():
    assert list(cleaned(table(text=texts(12), label=["10", "9", "2"] * 4)).classes) == ["2", "9", "10"]
    assert cleaned(table(text=texts(4), label=[1.0, 0.0, 1.0, 0.0])).classes == {"0": 2, "1": 2}
    assert cleaned(table(text=texts(4), label=[True, False] * 2)).classes == {"false": 2, "true": 2}
    assert cleaned(table(text=texts(8), label=["None", "mild", "severe", "None"] * 2)).classes == {"None": 4, "mild": 2, "severe": 2}
    assert cleaned(table(text=texts(100), label=["mild", "severe"] * 49 + ["none", "?"])).classes == {"mild": 49, "severe": 49}


def test_labels_and_numbers():
    found = cleaned(table(text=texts(4), label=[["b", "a", "b"], [], None, ["a"]]))
    assert found.classes == {"a": 2, "b": 1} and found.table.columns["label"].tolist() == [["b", "a"], [], ["a"]]
    found = cleaned(table(text=texts(3), label=["1,5", "2,75", "?"]), regression=True)
    assert found.table.columns["label"].tolist() == [1.5, 2.75] and found.classes == {}
    with pytest.raises(UserError, match="no label in any row"):
        clean(
            table(text=texts(2), label=[[], []]),
            Roles("label", "labels", ("text",), kinds=roles(table(text=texts(2), label=[["a"], []])).kinds),
        )
