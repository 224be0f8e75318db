"""JSON and JSONL: objects become rows, whatever their keys are; lines that hold none are counted."""

import gzip
import json

import pytest

from assay.core.errors import UserError
from assay.data.files.reader import read


def write(folder, content: bytes | str, name="data.jsonl"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def cells(table):
    return {name: column.tolist() for name, column in table.columns.items()}


RECORDS = [{"text": "नमस्ते\n", "meta": {"source": {"id": 3}, "tags": ["a", "b"]}}, {"text": None, "label": 1.5, "meta": {}}, {"extra": True}]
COLUMNS = {
    "text": ["नमस्ते\n", None, None],
    "meta.source.id": [3, None, None],
    "meta.tags": [["a", "b"], None, None],
    "label": [None, 1.5, None],
    "meta": [None, None, None],
    "extra": [None, None, True],
}


@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.txt", "data"])
def test_the_same_records_in_every_form(tmp_path, name):
    lines = "".join(json.dumps(each) + "\r\n\n" for each in RECORDS)
    array = json.dumps(RECORDS, indent=2)
    wrapped = json.dumps({"version": 1, "data": RECORDS})
    for content in (
        lines,
        array,
        wrapped,
        json.dumps(RECORDS),
        lines.encode("utf-8-sig"),
        array.encode("utf-16"),
        gzip.compress(lines.encode()),
    ):
        assert cells(read(write(tmp_path, content, name))) == COLUMNS
    assert read(write(tmp_path, lines)).lines.tolist() == [1, 3, 5]


def test_cells_that_are_no_text_and_no_number(tmp_path):
    table = read(write(tmp_path, '{"a": NaN, "b": [1, {"c": 2}, [3]], "c": []}\n{"a": 2, "b": null, "c": ["x"]}\n'))
    assert cells(table) == {"a": [None, 2], "b": [[1, '{"c": 2}', "[3]"], None], "c": [[], ["x"]]}


def test_broken_lines_are_counted(tmp_path):
    good = '{"text": "x", "label": "a"}\n'
    table = read(write(tmp_path, good * 3 + '{"text": \n' + good * 9 + "[1]\n7\n"))
    assert len(table.lines) == 12 and [(each.reason, each.count, each.lines) for each in table.dropped] == [
        ("not a JSON object", 3, (4, 14, 15))
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("\n  \n", "is empty"),
        ("[]", "no records"),
        ("[1, 2]", "element 1 of the array is a number, as 2 of 2 are"),
        ('"text"', "holds a string"),
        ('[{"a": 1},\n {"a": 2}\n', "line 3: no JSON"),
        ('{"a": 1}\nx\ny\n', "line 2: no JSON object (Expecting value), as 2 of 3 lines"),
        ('{"text": ["a", "b"], "label": [1, 2]}', "holds columns, not records"),
        ('{"train": [{"a": 1}], "test": [{"a": 1}]}', "several arrays"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_table_is_one_message(tmp_path, content, told):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        read(path)
    assert told in str(error.value) and path in str(error.value)
