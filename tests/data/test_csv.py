"""CSV files: what a spreadsheet writes is read as it is, and whatever else lies there is one message with file, line and reason."""

import csv
import io
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.core.errors import UserError
from assay.data.csv import Keys, Row, class_ids, classes_of, read_csv


def write(tmp_path, content: bytes):
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"text,label\nhello,a\n", [Row("hello", "a", 2)]),
        (b"\xef\xbb\xbftext,label\r\nhello,a\r\nbye,b", [Row("hello", "a", 2), Row("bye", "b", 3)]),
        (b'\xef\xbb\xbf"text","label"\nx,1\n', [Row("x", "1", 2)]),
        (b'text,label\n"two\nlines",a\nnext,b\n', [Row("two\nlines", "a", 2), Row("next", "b", 4)]),
        (b'text,label\n"say ""hi"", then",a\n', [Row('say "hi", then', "a", 2)]),
        (b"label,text,more\n 3 , x ,y\n", [Row(" x ", "3", 2)]),
        (b"text,label\n\n\nlate,a\n", [Row("late", "a", 4)]),
        (b"text,label\rmac,a\r", [Row("mac", "a", 2)]),
        ("text,label\n这部电影很好。,正面\n".encode(), [Row("这部电影很好。", "正面", 2)]),
        ("text,label\na\u2028b,x\n".encode(), [Row("a\u2028b", "x", 2)]),
    ],
)
def test_what_a_file_says(tmp_path, content, rows):
    assert read_csv(write(tmp_path, content)) == rows


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"text,label\n", "no rows"),
        (b"text,lable\nx,a\n", "line 1: no column 'label'. Columns: text, lable."),
        (b"text;label\nx;a\n", "separated by commas, not by ';'"),
        (b"text,label,label\nx,a,b\n", "'label' 2 times"),
        (b"text,label\nx,a\nx,y,a\n", "line 3: 3 fields, but the header names 2"),
        (b'text,label\n"x\ny",a\nx\n', "line 4: 1 fields"),
        (b'text,label\nx,a\n"open\n,b\nc,d\n', "line 3: a quote opens here or below and is never closed"),
        (b'text,label\n"a"b,c\n', "line 2: text follows a closing quote"),
        (b"text,label\nok,a\n\xff,b\n", "line 3: not UTF-8: byte 0xff at offset 16"),
        (b"\xef\xbb\xbftext,label\nok,a\n\xff,b\n", "line 3: not UTF-8: byte 0xff at offset 19"),
        (b"text,label\nok,a\nx\0,b\n", "line 3: a NUL byte at offset 17"),
        ("text,label\nx,a\n".encode("utf-16"), "save it as UTF-8"),
        (b"text,label\nx, \n", "line 2: the label (column 'label') is empty"),
    ],
)
def test_a_bad_file_is_named_by_line_and_reason(tmp_path, content, told):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        read_csv(path)
    assert told in str(error.value) and str(path) in str(error.value)


def test_columns_by_name_and_files_without_labels(tmp_path):
    path = write(tmp_path, b"review,stars\ngood,5\n")
    assert read_csv(path, "review", "stars") == [Row("good", "5", 2)]
    assert read_csv(path, "review", "") == [Row("good", "", 2)]


def test_classes_are_sorted_as_numbers_where_all_are_integers():
    def rows(*labels):
        return [Row("", label, i + 2) for i, label in enumerate(labels)]

    assert classes_of(rows("10", "9", "-1", "9")) == ("-1", "9", "10")
    assert classes_of(rows("10", "9", "x")) == ("10", "9", "x")
    assert class_ids("f", rows("10", "-1"), ("-1", "9", "10")).tolist() == [2, 0]
    assert class_ids("f", [], ("a",)).dtype == np.int64


def test_labels_that_unicode_considers_equal_are_one_class():
    rows = [Row("a", "caf\u00e9", 2), Row("b", "cafe\u0301", 3), Row("c", "tea", 4)]
    classes = classes_of(rows)
    assert classes == ("caf\u00e9", "tea") and class_ids("f", rows, classes).tolist() == [0, 0, 1]
    assert classes_of(rows[1:]) == ("cafe\u0301", "tea"), "the only spelling stays as it is"
    assert class_ids("f", rows[:1], classes_of(rows[1:])).tolist() == [0]


def test_a_long_field_is_read_and_the_limit_of_the_process_stays(tmp_path):
    before = csv.field_size_limit()
    (row,) = read_csv(write(tmp_path, b"text,label\n" + b"x" * 200_000 + b",a\n"))
    assert len(row.text) == 200_000 and csv.field_size_limit() == before


def test_a_pipe_is_read_where_once_is_enough_and_refused_where_not():
    def pipe() -> str:
        read, wrote = os.pipe()
        os.write(wrote, b"text\nhello\n")
        os.close(wrote)
        return f"/dev/fd/{read}"

    assert read_csv(pipe(), "text", "", Keys("--input", "--column", once=True)) == [Row("hello", "", 2)]
    with pytest.raises(UserError, match=r"a pipe or a device.*several times.*config\.task\.train"):
        read_csv(pipe(), "text", "")


def test_a_home_folder_is_found_and_messages_name_the_keys_they_are_given(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, b"text,label\nhello,a\n")
    assert read_csv("~/train.csv") == [Row("hello", "a", 2)]
    for path, column, words in (("~/none.csv", "text", "Set --input"), ("~/train.csv", "passage", "with --column")):
        with pytest.raises(UserError, match=words) as told:
            read_csv(path, column, "", Keys("--input", "--column"))
        assert "config" not in str(told.value)


def test_a_label_that_training_lacks_is_named_with_its_line():
    with pytest.raises(UserError, match=r"test\.csv, line 7: the training file has no label 'c'; it has: a, b\."):
        class_ids("test.csv", [Row("x", "a", 6), Row("x", "c", 7)], ("a", "b"))


def test_no_file_a_folder_and_a_name_that_no_file_can_have(tmp_path):
    for path in (tmp_path, tmp_path / "absent.csv", "", "a\0b", "x" * 5000, "\ud800"):
        with pytest.raises(UserError):
            read_csv(path)


MARKS = st.sampled_from(
    [b'"', b",", b"\n", b"\r\n", b"\r", b"\0", b"\xef\xbb\xbf", b"text,label\n", b"\xff", b'""', "好".encode(), b"a", b" "]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=80),
        st.lists(MARKS, max_size=25).map(b"".join),
        st.lists(MARKS, max_size=25).map(lambda m: b"text,label\n" + b"".join(m)),
    )
)
def test_any_bytes_are_rows_or_one_message(tmp_path, content):
    try:
        rows = read_csv(write(tmp_path, content))
    except UserError as error:
        assert "\n" not in str(error) or b"\n" in content
    else:
        assert rows and all(row.label for row in rows)
        class_ids("again", rows, classes_of(rows))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.sampled_from(["a", "b,c", '"', "7"])),
        min_size=1,
    )
)
def test_what_the_csv_writer_wrote_comes_back(tmp_path, pairs):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *pairs])
    rows = read_csv(write(tmp_path, buffer.getvalue().encode()))
    assert [(row.text, row.label) for row in rows] == pairs
