"""Parquet, Arrow and what `datasets` saves: the cells that were written come back as Python's own values, labels by their names."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest

from assay.core.errors import UserError
from assay.data.files.reader import read, read_parts

PNG = b"\x89PNG\r\n\x1a\n0000"
TABLE = pa.table(
    {
        "text": ["a", None, "ü"],
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
        "gap": pa.array(["x", None, "x"]).dictionary_encode(),
        "tags": pa.array([["p", "q"], [], None], pa.list_(pa.string())),
        "value": [1.5, float("nan"), None],
        "whole": pa.array([1, 2, None], pa.int8()),
        "flag": [True, False, None],
        "when": pa.array([datetime(2020, 1, 2, 3), None, None], pa.timestamp("ns", "UTC")),
        "day": pa.array([date(2020, 1, 2), None, None]),
        "price": pa.array([Decimal("1.25"), None, None], pa.decimal128(5, 2)),
        "bytes": pa.array([b"abc", None, b"\xff"], pa.binary()),
        "picture": pa.array([{"bytes": PNG, "path": None}, {"bytes": None, "path": "a.png"}, None]),
        "meta": pa.array([{"id": 1, "at": {"x": "u"}}, {"id": 2, "at": None}, None]),
    }
)
CELLS = {
    "text": ["a", None, "ü"],
    "kind": ["x", "y", "x"],
    "gap": ["x", None, "x"],
    "tags": [["p", "q"], [], None],
    "value": [1.5, None, None],
    "whole": [1, 2, None],
    "flag": [True, False, None],
    "when": [datetime(2020, 1, 2, 3, tzinfo=UTC), None, None],
    "day": [date(2020, 1, 2), None, None],
    "price": [1.25, None, None],
    "bytes": ["abc", None, b"\xff"],
    "meta.id": [1, 2, None],
    "meta.at.x": ["u", None, None],
}


def cells(table):
    return {name: column.tolist() for name, column in table.columns.items()}


def write_stream(path, table):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def write_file(path, table):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


WRITERS = {
    "parquet": lambda path, table: pa.parquet.write_table(table, path),
    "feather": lambda path, table: pa.feather.write_feather(table, str(path)),
    "file": write_file,
    "stream": write_stream,
}


@pytest.mark.parametrize("form", WRITERS)
def test_every_type_of_cell(tmp_path, form):
    path = tmp_path / "data.bin"  # the first bytes say what it is
    WRITERS[form](path, TABLE)
    found = cells(read(path))
    assert found.pop("picture") == [PNG, str(tmp_path / "a.png"), None]
    assert found == CELLS


def test_repeated_strings_are_one_object(tmp_path):
    pa.parquet.write_table(
        pa.table({"label": ["positive", "negative"] * 50, "text": [f"text {i}" for i in range(100)]}), tmp_path / "a.parquet"
    )
    table = read(tmp_path / "a.parquet")
    assert len({id(cell) for cell in table.columns["label"]}) == 2 and table.columns["text"][99] == "text 99"


FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    "tags": {"feature": {"names": ["a", "b"], "_type": "ClassLabel"}, "_type": "Sequence"},
}
LABELLED = pa.table({"text": ["x", "y", "z"], "label": [0, 1, -1], "tags": [[0], [1, 0], []]})


def save(folder, table, split, shards=1):
    """Writes the files that `datasets` 3 writes."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    size = -(-table.num_rows // shards)
    for i, name in enumerate(names):
        write_stream(folder / name, table.slice(i * size, size))
    state = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "f",
        "_format_columns": None,
        "_format_type": None,
        "_split": split,
    }
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(
        json.dumps({"citation": "", "description": "", "features": FEATURES, "homepage": "", "license": ""})
    )


def test_a_saved_dataset(tmp_path):
    save(tmp_path / "set", LABELLED, "train", shards=2)
    table = read(tmp_path / "set")
    assert cells(table) == {"text": ["x", "y", "z"], "label": ["neg", "pos", None], "tags": [["a"], ["b", "a"], []]}
    assert table.lines.tolist() == [1, 2, 3]


def test_a_saved_dict_of_datasets(tmp_path):
    for split in ("train", "validation", "test", "unsupervised"):
        save(tmp_path / "set" / split, LABELLED, split)
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test", "unsupervised"]}')
    parts = read_parts(tmp_path / "set")
    assert list(parts) == ["train", "valid", "test"] and cells(parts["valid"])["label"] == ["neg", "pos", None]
    with pytest.raises(UserError, match="has the parts train, valid, test"):
        read(tmp_path / "set")
    assert cells(read(tmp_path / "set" / "test"))["text"] == ["x", "y", "z"]


def test_features_in_the_metadata_of_a_parquet_file(tmp_path):
    told = LABELLED.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})
    pa.parquet.write_table(told, tmp_path / "a.parquet")
    assert cells(read(tmp_path / "a.parquet"))["label"] == ["neg", "pos", None]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("state.json", "{", "cannot be read"),
        ("state.json", "[]", "no JSON object"),
        ("state.json", "{}", "lists no data files"),
        ("state.json", '{"_data_files": []}', "the data set is empty"),
        ("state.json", '{"_data_files": [{"filename": "../x.arrow"}]}', "not in its folder"),
        ("state.json", '{"_data_files": [{"filename": "gone.arrow"}]}', "gone.arrow cannot be read"),
        ("data-00000-of-00001.arrow", "junk that is no stream", "damaged"),
        ("dataset_dict.json", '{"splits": []}', "names no splits"),
    ],
)
def test_a_damaged_folder_is_one_message(tmp_path, name, content, told):
    save(tmp_path / "set", LABELLED, "train")
    (tmp_path / "set" / name).write_text(content)
    with pytest.raises(UserError, match=told):
        read(tmp_path / "set")


def test_damaged_and_empty_files(tmp_path):
    pa.parquet.write_table(LABELLED, tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:60])
    (tmp_path / "c.parquet").write_bytes(b"text,label\n")
    pa.parquet.write_table(LABELLED.slice(0, 0), tmp_path / "d.parquet")
    for name, told in (("b", "damaged"), ("c", "does not begin as"), ("d", "no rows")):
        with pytest.raises(UserError, match=told):
            read(tmp_path / f"{name}.parquet")
