"""Any table goes all the way to the screen, or ends in one message: whatever the cells are."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import UserError
from assay.data.files.clean import clean
from assay.data.files.found import found, screen
from assay.data.files.parts import divide
from assay.data.files.roles import roles
from assay.data.files.table import Table, column_of, size

WORDS = [
    "",
    "NA",
    "-",
    "none",
    "a",
    "b",
    "a|b",
    "1",
    "2.5",
    "1,5",
    "1.234,5",
    "$3",
    "12 %",
    "01",
    "2020-01-02",
    "1/2/2020",
    "x.png",
    "[]",
    "['a']",
]
CELL = st.one_of(
    st.sampled_from(WORDS),
    st.none(),
    st.booleans(),
    st.integers(-3, 10**18),
    st.floats(),
    st.lists(st.sampled_from(["a", "b", 1, None]), max_size=3),
    st.dates(),
    st.datetimes(timezones=st.timezones() | st.none()),
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\0"]),
    st.text(max_size=8),
)
KINDS = st.sampled_from([CELL, st.sampled_from(["a", "b"]), st.sampled_from(WORDS), st.integers(0, 3), st.floats(), st.text(max_size=12)])


@st.composite
def columns(draw):
    rows = draw(st.integers(2, 25))
    names = draw(st.lists(st.sampled_from(["id", "text", "label", "y", "score", "when"]), min_size=2, max_size=4, unique=True))
    return {name: draw(st.lists(draw(KINDS), min_size=rows, max_size=rows)) for name in names}


@settings(max_examples=80, deadline=None)
@given(columns(), st.booleans())
def test_any_table_is_a_screen_or_one_message(cells, regression):
    made = {name: column_of(column) for name, column in cells.items()}
    table = Table(made, np.arange(len(next(iter(made.values())))) + 2, "data.csv")
    try:
        parts = roles(table, list(table.columns)[-1], regression=regression)
        cleaned = clean(table, parts)
        divided = divide(cleaned.table, parts)
    except UserError as error:
        assert "data.csv" in str(error)
        return
    rows = np.concatenate(list(divided.rows.values()))
    assert sorted(rows.tolist()) == list(range(size(cleaned.table)))
    assert size(cleaned.table) + sum(each.count for each in cleaned.table.dropped) == size(table)
    text = screen(found(table, parts, cleaned, divided))
    assert len(text.splitlines()) <= 25 and max(map(len, text.splitlines())) <= 100
