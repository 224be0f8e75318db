"""The screen: everything that a newcomer has to know about a file before it is used, on at most 25 lines of 100 characters."""

import numpy as np
import pytest

from assay.data.files.clean import clean
from assay.data.files.found import Found, found, screen
from assay.data.files.parts import divide
from assay.data.files.reader import read
from assay.data.files.roles import roles
from assay.data.files.table import Dropped, Table, column_of, unique_names


def everything(table, target="", regression=False):
    parts = roles(table, target, regression=regression)
    cleaned = clean(table, parts)
    return found(table, parts, cleaned, divide(cleaned.table, parts))


def test_from_a_file_to_the_screen(tmp_path):
    rows = [f"{i};this is the review number {i} of a film;{'good' if i % 4 else 'bad'};{i / 7:.2f}".replace(".", ",") for i in range(400)]
    rows[7], rows[9], rows[11] = "7;too short", rows[8], "11;no label here;;1,0"
    rows[13] = rows[13].rpartition(";")[0] + ";"
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["id;text;label;score", *rows]))
    made = everything(read(path))
    assert (made.rows, made.read, made.repeated, made.conflicting) == (397, 400, 1, 0)
    assert made.classes == {"bad": 100, "good": 297} and made.balance == 100 / 397 and made.values is None
    assert made.columns == {"id": "identifier", "text": "text", "label": "category", "score": "number"} or made.columns["id"] == "number"
    assert made.characters == 39 and made.words == 9 and made.missing["score"] == 1 / 397
    assert sum(made.splits.values()) == 397 and sum(each.count for each in made.dropped) == 3
    text = screen(made)
    for said in (
        "397 rows to use of 400",
        "good 297, bad 100",
        "25.2 % of the rows",
        "another number of fields",
        "line",
        "train 278, valid 40, test 79",
    ):
        assert said in text, text
    assert "score: numbers are written like 1234,5" in text


def test_a_number_is_said_by_its_range(tmp_path):
    table = Table(
        {"text": column_of(f"a b c d e f {i}" for i in range(50)), "y": column_of(i / 3 for i in range(50))}, np.arange(50), "x.csv"
    )
    made = everything(table, "y", regression=True)
    assert made.values == pytest.approx((0.0, 24.5 / 3, 49 / 3)) and "a number from 0 to 16.3333, median 8.16667" in screen(made)


LONG = "a very long name of something that somebody wrote " * 5
HUGE = Found(
    source="/folder" * 40,
    rows=10,
    read=10**9,
    columns={f"{LONG}{i}": "number" for i in range(90)},
    target=LONG,
    kind="classes",
    ignored={f"{LONG}{i}": LONG for i in range(90)},
    classes={f"{LONG}{i}": i + 1 for i in range(90)},
    balance=0.001,
    values=None,
    repeated=3,
    conflicting=3,
    dropped=tuple(Dropped(f"{LONG}{i}", i + 1, (LONG,) * 5) for i in range(30)),
    characters=10**6,
    words=10**5,
    missing={f"{LONG}{i}": 0.5 for i in range(90)},
    splits={"train": 1, "valid": 1, "test": 1},
    notes=tuple(f"{LONG}{i}" for i in range(40)),
)


@pytest.mark.parametrize(
    "made", [HUGE, HUGE._replace(values=(0.0, 1.0, 2.0), classes={}), HUGE._replace(source="a\nb", notes=(), dropped=())]
)
def test_the_screen_stays_small(made):
    lines = screen(made).splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 100
    assert any(line.startswith("parts: ") for line in lines)


def test_names_of_columns():
    assert unique_names(["a", " a ", "", "a_2", "a"]) == ["a", "a_3", "column_3", "a_2", "a_4"]
