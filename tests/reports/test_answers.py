"""The answers that a report shows: counts that add up, the surest wrong ones first, texts and pictures, and nothing for other tasks."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from assay.reports.answers import LINES, SHOWN, answers_of


def record(i: int, target, prediction, confidence: float, shown="a text"):
    return {"id": i, "input": shown, "target": target, "prediction": prediction, "scores": {"confidence": confidence}}


def written(folder, records, split="test"):
    (folder / "predictions").mkdir(exist_ok=True)
    (folder / "predictions" / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return answers_of(folder)


def test_counts_and_examples_are_those_of_the_file(tmp_path):
    random = np.random.default_rng(0)
    classes, n = ["cat", "dog", "fox"], 300
    records = [
        record(i, classes[i % 3], classes[i % 3] if random.random() < 0.8 else classes[(i + 1) % 3], float(random.random()))
        for i in range(n)
    ]
    found = written(tmp_path, records)
    assert (found.split, found.answered, found.classes) == ("test", "300", classes)
    wrong = sorted((one for one in records if one["target"] != one["prediction"]), key=lambda one: -one["scores"]["confidence"])
    right = sorted((one for one in records if one["target"] == one["prediction"]), key=lambda one: one["scores"]["confidence"])
    assert [one.id for one in found.wrong] == [str(one["id"]) for one in wrong[:SHOWN]]
    assert [one.id for one in found.unsure] == [str(one["id"]) for one in right[:SHOWN]]
    counts = {
        (target, name): sum((one["target"], one["prediction"]) == (target, name) for one in records)
        for target in classes
        for name in classes
    }
    for target, cells in found.matrix:
        assert [count or "0" for count, _ in cells] == [str(counts[target, name]) for name in classes]
    for name, rows, share, _, precision in found.table:
        assert rows == "100" and share == f"{counts[name, name]:.1f} %"
        assert precision == f"{100 * counts[name, name] / sum(counts[other, name] for other in classes):.1f} %"


def test_pictures_are_drawn_and_long_texts_cut(tmp_path):
    image = (np.arange(48).reshape(4, 4, 3) * 5).tolist()
    found = written(tmp_path, [record(0, 1, 2, 0.9, image), record(1, 2, 2, 0.8, "word " * 200), record(2, 10, 10, 0.7, [3, 1])])
    drawn = Image.open(io.BytesIO(base64.b64decode(found.wrong[0].picture)))
    assert drawn.size == (4, 4) and np.array(drawn)[3, 3].tolist() == [225, 230, 235] and found.wrong[0].text == ""
    assert found.classes == ["1", "2", "10"], "numbers by size"
    assert [one.text for one in found.unsure] == ["3 1", f"{('word ' * 200)[:280]}..."]


@pytest.mark.parametrize(
    "records",
    [
        [record(0, 1.5, 1.4, 0.9)],
        [record(0, [1, 0], [1, 1], 0.9)],
        [{"id": 0, "input": "a", "target": "b", "prediction": "b", "scores": {"nll": 0.3}}],
        [record(i, f"c{i}", f"c{i}", 0.9) for i in range(200)],
        [record(0, "a", "a", 0.9)],
        ["no record"],
    ],
)
def test_other_answers_have_no_section(tmp_path, records):
    assert written(tmp_path, records) is None


def test_valid_takes_the_place_of_test_and_a_broken_file_of_none(tmp_path):
    assert answers_of(tmp_path) is None and LINES > 1000
    assert written(tmp_path, [record(0, "a", "b", 0.9)], "valid").split == "valid"
    (tmp_path / "predictions" / "test.jsonl").write_text('{"id": 0')
    assert answers_of(tmp_path) is None
