"""The division: equal contents are together, every class is everywhere, and the order of rows changes nothing."""

from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import UserError
from assay.data.files.content import keys_of, spelled
from assay.data.files.parts import Shares, divide
from assay.data.files.roles import roles
from assay.data.files.table import Table, column_of, take

NAMES = ("train", "valid", "test")


def table(texts, labels):
    return Table({"text": column_of(texts), "label": column_of(labels)}, np.arange(2, 2 + len(texts)), "data.csv")


def text(i):
    return f"this is the review number {i} of a film"


def many(count, classes=3):
    return table([text(i) for i in range(count)], ["abcdefgh"[i % classes] for i in range(count)])


def parts_of(made, **given):
    return divide(made, roles(made, "label"), **given)


def contents(made, rows):
    return {name: {made.columns["text"][i] for i in rows[name]} for name in rows}


@pytest.mark.parametrize(("count", "sizes"), [(600, (420, 60, 120)), (90, (54, 18, 18)), (9, (3, 3, 3))])
def test_shares_of_each_class(count, sizes):
    made = many(count)
    rows = parts_of(made).rows
    assert tuple(rows) == NAMES and tuple(map(len, rows.values())) == sizes
    assert sorted(np.concatenate(list(rows.values()))) == list(range(count))
    for name in NAMES:
        counts = np.unique(made.columns["label"][rows[name]].astype(str), return_counts=True)[1]
        assert len(counts) == 3 and len(set(counts)) == 1


def test_the_order_of_rows_changes_nothing():
    made = many(200)
    order = np.random.default_rng(0).permutation(200)
    assert contents(made, parts_of(made).rows) == contents(take(made, order), parts_of(take(made, order)).rows)


def test_more_rows_move_few():
    made = many(1000)
    before, after = parts_of(take(made, np.arange(900))).rows, parts_of(made).rows
    where = np.empty(1000, int)
    for number, name in enumerate(NAMES):
        where[after[name]] = number
    moved = sum((where[before[name]] != number).sum() for number, name in enumerate(NAMES))
    assert moved <= 90


SPELLINGS = ["Caf\u00e9  noir", "cafe\u0301 noir ", "CAF\u00c9 NOIR", "caf\u00e9\tnoir\u200f", "\u202bcaf\u00e9 noir\u202c"]


def test_spellings_of_one_text_stay_together():
    assert len({spelled(each) for each in SPELLINGS}) == 1 and spelled("STRASSE") == spelled("Stra\u00dfe")
    assert spelled("a b") != spelled("ab")
    made = table([*SPELLINGS, normalize("NFD", SPELLINGS[0]), *map(text, range(60))], ["a"] * 6 + ["a", "b"] * 30)
    rows = parts_of(made).rows
    assert any(set(range(6)) <= set(rows[name].tolist()) for name in NAMES)
    exact = keys_of(made, roles(made, "label"), spelling=True)
    assert len(set(exact[:6].tolist())) == 5, "two forms of Unicode are one text, others are spellings"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 25), st.sampled_from("abc"), st.booleans()), min_size=12, max_size=80))
def test_no_content_is_in_two_parts(drawn):
    made = table([text(i).upper() if upper else text(i) for i, _, upper in drawn], [label for _, label, _ in drawn])
    parts = roles(many(30))
    rows = divide(made, parts).rows
    seen = {name: {i for i, (number, _, _) in enumerate(drawn)} and {drawn[i][0] for i in rows[name]} for name in NAMES}
    assert not (seen["train"] & seen["valid"] or seen["train"] & seen["test"] or seen["valid"] & seen["test"])
    assert sum(map(len, rows.values())) == len(drawn)
    reverse = divide(take(made, np.arange(len(drawn))[::-1]), parts).rows
    assert {name: {drawn[len(drawn) - 1 - i][0] for i in reverse[name]} for name in NAMES} == seen


def test_rare_classes():
    made = table([text(i) for i in range(106)], ["a"] * 100 + ["b"] * 3 + ["c"] * 2 + ["d"])
    label = made.columns["label"]
    where = {name: "".join(sorted(set(label[rows]))) for name, rows in parts_of(made).rows.items()}
    assert where in ({"train": "abcd", "valid": "ab", "test": "abc"},)


def test_a_given_test_table_takes_its_contents_out_of_training():
    made, test = many(300), table([text(3).upper(), text(9), "new one here"], ["a", "a", "z"])
    found = parts_of(made, test=test)
    assert found.rows["test"].tolist() == [0, 1, 2] and len(found.rows["train"]) + len(found.rows["valid"]) == 298
    assert not {3, 9} & {*found.rows["train"].tolist(), *found.rows["valid"].tolist()}
    (left,) = found.dropped
    assert (left.reason, left.count, left.lines) == ("training rows whose inputs are also in the test data", 2, (5, 11))
    assert found.notes == ("1 rows of test have a class that no training row has, such as 'z'",)


def test_given_validation_rows():
    made, test, valid = many(300), table([text(3), "x y"], ["a", "b"]), table([text(3), text(4), "z"], ["a", "b", "c"])
    found = parts_of(made, test=test, valid=valid)
    assert found.rows["valid"].tolist() == [1, 2] and len(found.rows["train"]) == 298
    assert [each.count for each in found.dropped] == [1, 1, 1]
    assert found.dropped[1].reason == "validation rows whose inputs are also in the test data"
    with pytest.raises(UserError, match="nothing is left to train on"):
        parts_of(made, test=made)
    with pytest.raises(UserError, match="Give other data to validate on"):
        parts_of(made, test=test, valid=take(test, np.array([0])))


def test_numbers_are_divided_over_their_range():
    made = table([text(i) for i in range(400)], [float(i) for i in range(400)])
    rows = divide(made, roles(made, "label", regression=True)).rows
    for name in NAMES:
        values = made.columns["label"][rows[name]].astype(float)
        assert abs(values.mean() - 199.5) < 20 and values.min() < 40 and values.max() > 360


def test_labels_are_divided_one_by_one():
    cells = [[name for name, every in (("a", 2), ("b", 5), ("c", 20)) if i % every == 0] for i in range(400)]
    made = table([text(i) for i in range(400)], cells)
    rows = divide(made, roles(made, "label")).rows
    for name, share in (("test", 0.2), ("valid", 0.1)):
        for label, count in (("a", 200), ("b", 80), ("c", 20)):
            held = sum(label in cells[i] for i in rows[name])
            assert abs(held - share * count) <= 0.2 * share * count + 1, (name, label, held)


def test_shares_that_leave_nothing():
    with pytest.raises(UserError, match="leave nothing to train on"):
        parts_of(many(30), shares=Shares(0.5, 0.5))
    assert len(parts_of(many(300), shares=Shares(0.1, 0.0)).rows["test"]) == 0
