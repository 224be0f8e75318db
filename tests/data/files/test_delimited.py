"""CSV and its relatives: what people's programs write is read as they meant it; the rest is counted, or one message with its line."""

import csv
import gzip
import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.core.errors import UserError
from assay.data.files.formats.delimited import read_delimited
from assay.data.files.reader import read
from assay.data.files.table import size

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder, content: bytes | str, name="data.csv"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def cells(table):
    return {name: column.tolist() for name, column in table.columns.items()}


@pytest.mark.parametrize(
    ("content", "columns", "lines"),
    [
        ("text,label\nhello,a\nbye,b\n", {"text": ["hello", "bye"], "label": ["a", "b"]}, [2, 3]),
        ("text\tlabel\r\nhello, you\ta\r\nbye\tb", {"text": ["hello, you", "bye"], "label": ["a", "b"]}, [2, 3]),
        ("text|label\rhello|a\rbye|b\r", {"text": ["hello", "bye"], "label": ["a", "b"]}, [2, 3]),
        ("x;y\n1,5;2,5\n3,5;4,0\n", {"x": ["1,5", "3,5"], "y": ["2,5", "4,0"]}, [2, 3]),
        (
            'text,label\n"two\nlines; and, marks",a\n\n  \nlate,b\n',
            {"text": ["two\nlines; and, marks", "late"], "label": ["a", "b"]},
            [2, 6],
        ),
        ('text,label\n"say ""hi""",a\n', {"text": ['say "hi"'], "label": ["a"]}, [2]),
        ("a,a, ,a_2\n1,2,3,x\n", {"a": ["1"], "a_3": ["2"], "column_3": ["3"], "a_2": ["x"]}, [2]),
        ("sep=;\ntext;label\nx, y, z;a\n", {"text": ["x, y, z"], "label": ["a"]}, [3]),
        (
            "text,label\na\u2028b,नमस्ते\n你好,مرحبا\u200f\n👩‍👩‍👧,é\n",
            {"text": ["a\u2028b", "你好", "👩‍👩‍👧"], "label": ["नमस्ते", "مرحبا\u200f", "é"]},
            [2, 3, 4],
        ),
        ("text,tags\nx,a|b\ny,c|d\nz,e|f\n", {"text": ["x", "y", "z"], "tags": ["a|b", "c|d", "e|f"]}, [2, 3, 4]),
    ],
)
def test_what_a_file_says(tmp_path, content, columns, lines):
    table = read(write(tmp_path, content))
    assert cells(table) == columns and table.lines.tolist() == lines and table.lines.dtype == np.int64
    assert table.dropped == () and table.notes == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_by_its_mark(tmp_path, encoding):
    table = read(write(tmp_path, "text;label\r\nJürgen 好;नम\r\n".encode(encoding)))
    assert cells(table) == {"text": ["Jürgen 好"], "label": ["नम"]} and table.notes == ()


def test_other_encodings_are_said_with_their_line(tmp_path):
    table = read(write(tmp_path, "text,label\nok,a\ncafé “x”,b\n".encode("cp1252")))
    assert cells(table)["text"] == ["ok", "café “x”"]
    assert table.notes == ("not UTF-8 at line 3; read as Windows-1252 (another: --encoding=NAME)",)
    assert "Latin-1" in read(write(tmp_path, b"text,label\n\x81\xe9,b\n")).notes[0]
    path = write(tmp_path, "text,label\nЖизнь,да\n".encode("cp1251"))
    assert cells(read(path, encoding="cp1251")) == {"text": ["Жизнь"], "label": ["да"]}
    with pytest.raises(UserError, match=r"line 2: not utf-8, which --encoding=utf-8 says"):
        read(path, encoding="utf-8")
    for name in ("klingon", "base64"):
        with pytest.raises(UserError, match="unknown encoding"):
            read(path, encoding=name)


def test_a_few_damaged_lines_do_not_turn_utf_8_into_another_encoding(tmp_path):
    content = "text,label\n" + "नमस्ते,a\n" * 150
    table = read(write(tmp_path, content.encode() + b"caf\xe9,b\n"))
    assert cells(table)["text"][0] == "नमस्ते" and cells(table)["text"][-1] == "caf\ufffd"
    assert table.notes == ("1 line is not UTF-8 (first: line 152); their wrong bytes became U+FFFD",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\n\r\n \n", "is empty"),
        (b"text,label\n", "a header and no rows"),
        (b"text,label\nx,a\nx\0,b\n", "line 3: a NUL byte"),
        ("text,label\nx,a\n".encode("utf-16-le"), "--encoding=utf-16-le"),
        (b'text,label\nx,a\n"open\n,b\nc,d\n', "line 3: a quote opens here or below and is never closed"),
        (b"text,label\na,b,c\nd,e,f\ng,h\n", "line 2: 2 of 3 records have another number of fields than the first line: here 3"),
        (b'a,b\n"x"y,1\n"z"w,2\n', "line 2: 2 of 2 records have text after a closing quote"),
    ],
)
def test_a_bad_file_is_one_message(tmp_path, content, told):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        read(path)
    assert told in str(error.value) and path in str(error.value) and "\n" not in str(error.value)


def test_ragged_records_are_counted_with_their_first_lines(tmp_path):
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(40)]
    rows[3], rows[5], rows[7], rows[8] = "no label", "one, two, a", '"x" y,a', "text,label"
    table = read(write(tmp_path, "\n".join(["text,label", *rows])))
    assert size(table) == 36 and table.lines.tolist()[:5] == [2, 3, 4, 6, 8]
    assert [(each.reason, each.count, each.lines) for each in table.dropped] == [
        ("another number of fields than the 2 of the header", 2, (5, 7)),
        ("text after a closing quote", 1, (9,)),
        ("the header again", 1, (10,)),
    ]


def test_many_bad_lines_keep_the_first_five(tmp_path):
    content = "a,b\n" + "1,2\n" * 100 + "1\n" * 20
    (left,) = read(write(tmp_path, content)).dropped
    assert left.count == 20 and left.lines == (102, 103, 104, 105, 106)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("5.1,3.5,1.4,setosa\n4.9,3.0,1.4,setosa\n6.3,3.3,6.0,virginica\n5.8,2.7,5.1,virginica\n", False),
        ("width,height,kind\n5.1,3.5,a\n4.9,3.0,b\n", True),
        ("I loved it,pos\nI hated it,neg\nso so,pos\nbad,neg\nfine,pos\n", False),
        ("v1,v2\nham,I loved it\nspam,buy now\nham,so so\nspam,win\n", True),
        ("12 %,$3.50\n13 %,$4.00\n", False),
        ("share,price\n13 %,$4.00\n", True),
        (",0,1,2\n0,1.5,2.5,3.5\n1,4.5,5.5,6.5\n", True),
        ("label,0,1,2\n7,12,13,200\n3,0,0,255\n", True),
        ("?,3.5,a\n4.9,3.0,b\n5.0,3.1,a\n", False),
        ("2020-01-01,good day,up\n2020-01-02,bad day,down\n2020-01-03,day,up\n", False),
        ("text,label\ntext,label\nx,a\n", True),
        ("这部电影很好。,正面\n我不喜欢它。,负面\n", False),
    ],
)
def test_whether_there_is_a_header(tmp_path, content, named):
    table = read(write(tmp_path, content))
    first = next(csv.reader(io.StringIO(content)))
    assert (next(iter(table.columns)) != "column_1") == (named and first[0] != "")
    assert any("no header" in said for said in table.notes) != named
    assert table.lines[0] == 1 + named + (content.startswith("text,label\ntext"))
    for told in (True, False):
        assert read_delimited(write(tmp_path, content), has_header=told).notes == ()


def test_tabs_without_quoting(tmp_path):
    """As many corpora are written: a quote begins a text, and is never closed."""
    table = read(write(tmp_path, 'sentence\tlabel\n"so good\t1\nsaid "no"\t0\nbad\t0\n', "dev.tsv"))
    assert cells(table) == {"sentence": ['"so good', 'said "no"', "bad"], "label": ["1", "0", "0"]}
    assert table.notes == ('quotes (") are plain characters in this file',)


def test_a_delimiter_may_be_given(tmp_path):
    path = write(tmp_path, "a:b\n1:2\n")
    assert cells(read(path, delimiter=":")) == {"a": ["1"], "b": ["2"]}
    assert cells(read(write(tmp_path, "a\tb\n1\t2\n"), delimiter="tab")) == {"a": ["1"], "b": ["2"]}
    for wrong in ("::", '"', "\n"):
        with pytest.raises(UserError, match="not one character"):
            read(path, delimiter=wrong)


def test_a_comma_between_digits_is_no_separator_where_another_mark_is(tmp_path):
    table = read(write(tmp_path, "1,5;2,5\n3,5;4,0\n"))
    assert cells(table) == {"column_1": ["1,5", "3,5"], "column_2": ["2,5", "4,0"]} and "no header" in table.notes[0]
    assert len(read(write(tmp_path, "1,5,2\n3,5,4\n")).columns) == 3


def test_gzip_and_what_is_damaged(tmp_path):
    path = tmp_path / "data.csv.gz"
    packed = gzip.compress(b"text,label\nhello,a\n")
    path.write_bytes(packed)
    assert cells(read(path)) == {"text": ["hello"], "label": ["a"]}
    path.write_bytes(packed[:-6])
    with pytest.raises(UserError, match="damaged gzip"):
        read(path)


def test_long_fields_are_read_and_the_limit_of_the_process_stays(tmp_path):
    before = csv.field_size_limit()
    assert len(cells(read(write(tmp_path, "text,label\n" + "x" * 200_000 + ",a\n")))["text"][0]) == 200_000
    assert csv.field_size_limit() == before


def test_repeated_cells_are_one_object(tmp_path):
    table = read(write(tmp_path, "text,label\n" + "".join(f"text {i},{'positive' if i % 2 else 'negative'}\n" for i in range(50))))
    assert len({id(cell) for cell in table.columns["label"]}) == 2


CELL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@QUICK
@given(st.lists(st.tuples(CELL, CELL, st.sampled_from(["a", "b"])), min_size=1), st.sampled_from(",;|\t"), st.booleans())
def test_what_the_csv_writer_wrote_comes_back(tmp_path, rows, delimiter, quoted):
    buffer = io.StringIO(newline="")
    quoting, end = (csv.QUOTE_ALL, "\n") if quoted else (csv.QUOTE_MINIMAL, "\r\n")
    csv.writer(buffer, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows([("first", "second", "label"), *rows])
    table = read_delimited(write(tmp_path, buffer.getvalue()), delimiter, "utf-8", True)
    assert list(zip(*cells(table).values(), strict=True)) == rows


WORD = st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=6)


@QUICK
@given(
    st.lists(st.tuples(st.lists(WORD, min_size=1, max_size=4), st.sampled_from(["good", "bad"])), min_size=3),
    st.sampled_from(",;|\t"),
    st.data(),
)
def test_the_delimiter_is_found(tmp_path, rows, delimiter, data):
    """Texts may hold any of the four marks, also the one that separates fields, since the writer quotes it."""
    written = [
        (data.draw(st.sampled_from([", ", " ", "; "])).join(words), "x" if i % 2 else "y", label) for i, (words, label) in enumerate(rows)
    ]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows([("text", "side", "label"), *written])
    assert list(zip(*cells(read(write(tmp_path, buffer.getvalue()))).values(), strict=True)) == written


@QUICK
@given(
    st.lists(
        st.sampled_from([b'"', b",", b"\n", b"\r\n", b"\r", b"\t", b";", b"\0", b"\xff", b"a", b"1", b" ", "好".encode()]), max_size=40
    )
)
def test_any_bytes_are_a_table_or_one_message(tmp_path, marks):
    try:
        table = read_delimited(write(tmp_path, b"text,label\n" + b"".join(marks)))
    except UserError as error:
        assert "Traceback" not in str(error)
    else:
        assert size(table) > 0 and all(len(column) == size(table) for column in table.columns.values())
