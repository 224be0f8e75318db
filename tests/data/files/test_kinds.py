"""What a column holds: certain where every cell agrees, careful where a cell could be read in two ways."""

from datetime import date, datetime

import numpy as np
import pytest

from assay.data.files.kinds import kind_of
from assay.data.files.table import column_of
from assay.data.files.values import categories, dates, labels, missing, numbers

SENTENCES = [f"this is the text number {i}, and it says something" for i in range(30)]


def column(*cells):
    return column_of(cells, len(cells))


@pytest.mark.parametrize(
    ("cells", "name"),
    [
        (["", None, " ", float("nan")], "empty"),
        (["NA", "?", ""], "empty"),
        (["x"] * 5, "constant"),
        ([3] * 5, "constant"),
        (["x", "x", ""], "category"),
        (["1", "2.5", "-3e4", "NA", "?", ""], "number"),
        ([1, 2.5, None], "number"),
        (["0", "1", "1"], "number"),
        (["true", "False", "TRUE", "n/a"], "boolean"),
        (["yes", "no", "no"], "boolean"),
        ([True, False, None], "boolean"),
        (["2020-01-02", "2021-12-31T10:00:00Z", ""], "date"),
        ([date(2020, 1, 2), datetime(2020, 1, 3)], "date"),
        (["31.12.2020", "1.2.2021"], "date"),
        (["2020-13-45", "2020-01-02"], "text"),
        (["red", "blue", "red", "blue", "green", "green"], "category"),
        (["very satisfied with the product", "not at all satisfied with it"] * 10, "category"),
        (SENTENCES, "text"),
        ([*SENTENCES[:10], "none", "?", "-"], "text"),
        ([f"这部电影很好看{i}" for i in range(30)], "text"),
        (["Anna", "Berta", "Cäcilie", "Dora"], "text"),
        (["CC(=O)O", "c1ccccc1", "CCN(CC)CC", "OCC1CC1", "CC=O", "N#N", "CO", "C1CC1N", "CCC", "O=C=O"], "text"),
        ([f"user{i * 37 % 1000}" for i in range(30)], "identifier"),
        ([f"{i * 7919:08x}-{i:04x}" for i in range(1000, 1030)], "identifier"),
        ([str(i) for i in range(5, 40)], "identifier"),
        ([*range(40), *range(41, 60)], "identifier"),
        ([i * 37 % 101 for i in range(50)], "number"),
        ([["a", "b"], [], ["a"]], "labels"),
        ([["a"], None], "labels"),
        ([[0.5, 1.5], [1.0, 2.0]], "other"),
        ([[1, 2, 3], [4, 5, 6]], "other"),
        (["a|b", "b|c", "a", "c|a", "b"], "labels"),
        (["a;b", "b", "a;b", "a"], "labels"),
        (["['x', 'y']", "[]", '["y"]'], "labels"),
        (["so good; really, I mean it", "bad; never again", "fine"], "text"),
        (["cats/1.png", "dogs/2.JPG"], "picture"),
        ([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"], "picture"),
        ([b"\0\1", b"\2"], "other"),
        (["01234", "90210", "01234", "00501"] * 2, "category"),
    ],
)
def test_kinds(cells, name):
    kind = kind_of(column(*cells))
    assert kind.name == name
    assert kind_of(column(*cells)[::-1]).name == name or name == "identifier"


def test_a_name_tells_identifiers_from_measurements():
    cells = [str(i * 7919 % 10_007) for i in range(40)]
    assert [kind_of(column(*cells), name).name for name in ("id", "user_id", "PassengerId", "Unnamed: 0", "column_1")] == ["identifier"] * 5
    assert [kind_of(column(*cells), name).name for name in ("price", "humid", "paid", "")] == ["number"] * 4
    assert kind_of(column(*cells, cells[0]), "id").name == "number", "an identifier does not repeat"


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,234.5", "2", "1,000,000"], [1234.5, 2, 1e6]),
        (["1.234,5", "2", "0,75"], [1234.5, 2, 0.75]),
        (["1,5", "2,25", "NA"], [1.5, 2.25, np.nan]),
        (["950", "1,234", "12,500"], [950, 1234, 12500]),
        (["12 %", "3.5%", "?"], [12, 3.5, np.nan]),
        (["$3", "$1,200.50", "-$2"], [3, 1200.5, -2]),
        (["3 €", "4,50 €"], [3, 4.5]),
    ],
)
def test_numbers_as_people_write_them(cells, values):
    kind = kind_of(column(*cells))
    assert kind.name == "number" and len(kind.notes) == 1
    np.testing.assert_array_equal(numbers(column(*cells), kind), values)


@pytest.mark.parametrize("cells", [["1,234", "2,345"], ["1,234", "2000"], ["$3", "3 €"], ["$3", "4"], ["12 %", "0.5"], ["1.234.5", "2"]])
def test_numbers_that_may_mean_two_things_stay_text(cells):
    kind = kind_of(column(*cells))
    assert kind.name in ("text", "category") and "not read as numbers" in kind.notes[0]


def test_a_few_strays_in_a_column_of_numbers():
    cells = [*(f"{i / 7:.3f}" for i in range(300)), "about 3", "about 3"]
    kind = kind_of(column(*cells))
    assert (kind.name, kind.strays, kind.missing, kind.distinct) == ("number", 2, 2, 300)
    assert kind.notes == ("2 cells are no numbers and count as missing, such as 'about 3'",)
    assert np.isnan(numbers(column(*cells), kind)).sum() == missing(column(*cells), kind).sum() == 2
    assert kind_of(column("1", "2", "x", "3")).name == "text"


def test_what_is_infinite_is_missing():
    for cells in ([1.5, float("inf"), 2.5, float("-inf")], ["1.5", "1e999", "2.5", "-1e999"]):
        assert missing(column(*cells), kind_of(column(*cells))).tolist() == [False, True, False, True]


def test_mixed_types():
    kind = kind_of(column("red", 1, "blue", 2.5, True, "red", "blue", 1, 2.5, True))
    assert kind.name == "category" and kind.notes == ("6 cells are no strings; they are read as text",)
    assert kind_of(column("1", 2, 2.5, None)).name == "number"


def test_dates_of_people():
    for cells, form in ((["31/12/2020", "01/02/2021"], "day/month/year"), (["12/31/2020", "01/02/2021"], "month/day/year")):
        kind = kind_of(column(*cells))
        assert (kind.name, kind.form) == ("date", form) and kind.notes == (f"dates are {form}",)
        assert dates(column(*cells, "NA"), kind)[0] == np.datetime64("2020-12-31") and np.isnat(dates(column("NA"), kind))[0]
    unclear = kind_of(column("01/02/2020", "03/04/2021"))
    assert unclear.name != "date" and "day and month" in unclear.notes[0]
    zoned = column("2020-01-01T00:30:00+01:00", "2020-01-02")
    assert dates(zoned, kind_of(zoned))[0] == np.datetime64("2019-12-31T23:30:00")


def test_names_of_categories_and_labels():
    cells = column(" cafe\u0301 ", "caf\u00e9", "", None, "caf\u00e9", "tea", "tea", "NA")
    assert categories(cells, kind_of(cells)).tolist() == ["caf\u00e9", "caf\u00e9", None, None, "caf\u00e9", "tea", "tea", None]
    whole = column("1.0", "2.0", "2", "")
    assert categories(whole, kind_of(whole)).tolist() == ["1", "2", "2", None]
    assert categories(column(True, 1, 1.0), kind_of(column(True, 1, 1.0))).tolist() == ["true", "1", "1"]
    tags = column("b|a| b ", "a", "", "a|b")
    assert labels(tags, kind_of(tags)).tolist() == [["b", "a"], ["a"], None, ["a", "b"]]
    listed = column("['x', 'y']", "[]", '["y"]')
    assert labels(listed, kind_of(listed)).tolist() == [["x", "y"], [], ["y"]]


def test_markers_are_words_of_a_text_and_gaps_of_short_cells():
    texts, short = column(*SENTENCES, "none", ""), column("red", "blue", "red", "blue", "NA", "")
    assert missing(texts, kind_of(texts)).sum() == 1
    assert missing(short, kind_of(short)).sum() == kind_of(short).missing == 2


def test_numbers_among_other_values_are_told():
    """Too many cells that are no numbers make a column text or categories: nobody expects that of a size."""
    random = np.random.default_rng(0)
    cells = [f"{one:.2f}" if i % 7 else random.choice(["n/a!", "unknown", "0.5 cm"]) for i, one in enumerate(random.normal(size=300))]
    found = kind_of(column_of(cells, len(cells)), "size")
    assert found.name != "number" and any("% of its different values are numbers, but" in note for note in found.notes), found
    assert not any("are numbers" in note for note in kind_of(column_of(["a 1", "b 2", "c"] * 40, 120), "words").notes)
