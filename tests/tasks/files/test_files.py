"""Tasks on files of one's own: what a row becomes, for texts, tables and pictures, and for classes, labels and numbers."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from assay import config as configs
from assay.cli.fit import Asked, looked
from assay.config.schema import to_dict, typed
from assay.core.errors import UserError
from assay.models.model import Output
from assay.tasks.datasets.labels import score_labels
from assay.tasks.files.features import features, matrix
from assay.tasks.files.opened import opened
from assay.tasks.table import build, find

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def written(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def task_of(name, path, **keys):
    return build(to_dict(configs.files(name, path, **keys)), 0)


def found_of(name, path, **keys):
    values = to_dict(configs.files(name, path, **keys))
    return opened(typed(find(name).config, values, "task"))


def fetch(task, split):
    source = task.source(split)
    return source, source.fetch(np.arange(source.size))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """80 rows with two texts, a number with gaps, a category, a date and a class."""
    random, rows = np.random.default_rng(0), []
    for i in range(80):
        text = " ".join(random.choice(WORDS, 6))
        age = "" if i % 9 == 0 else f"{20 + i % 40}.5"
        rows.append(
            [
                f"title {i}: {text}",
                text[::-1],
                age,
                "red" if i % 3 else "blue",
                f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}",
                ["no", "yes"][i % 2],
            ]
        )
    return written(tmp_path_factory.mktemp("mixed") / "mixed.csv", ["title", "body", "age", "colour", "when", "label"], rows)


def test_a_row_of_texts_and_other_columns_is_one_sequence(mixed):
    task = task_of("files/texts", mixed)
    source, examples = fetch(task, "train")
    symbols = [task.symbols[token] for token in examples.input[0, : examples.input_length[0]]]
    assert "age" in symbols[0] and all("when" in one for one in symbols[1:5])
    assert symbols[5].startswith("colour=") and symbols[6] == "title" and "<sep>" in symbols
    assert max(examples.input.max(), 0) < task.vocabulary.inputs == len(task.symbols)
    batch = task.encode(examples, int(examples.input_length.max()))
    assert batch["inputs"].dtype == np.int32 and set(batch) == {"inputs", "length", "targets", "weight"}
    assert source.describe(examples, 0)["target"] in ("no", "yes") and "title=title" in source.describe(examples, 0)["input"]


def test_parts_share_no_content_and_have_every_class(mixed):
    task = task_of("files/texts", mixed)
    inputs = {
        split: {fetch(task, split)[0].describe(fetch(task, split)[1], i)["input"] for i in range(task.source(split).size)}
        for split in task.splits
    }
    assert task.splits == ("train", "valid", "test") and sum(map(len, inputs.values())) == 80
    assert not inputs["train"] & inputs["valid"] and not inputs["train"] & inputs["test"] and not inputs["valid"] & inputs["test"]
    for split in task.splits:
        assert set(fetch(task, split)[1].target[:, 0].tolist()) == {0, 1}


def test_rows_that_are_asked_about_may_lack_columns(mixed):
    task = task_of("files/texts", mixed)
    asked = task.examples([{"title": "alpha beta"}, {"title": "gamma", "age": "31.5", "colour": "green"}])
    said = [[task.symbols[token] for token in row[:length]] for row, length in zip(asked.input, asked.input_length, strict=True)]
    assert "age missing" in said[0] and "colour=other" in said[0] and "colour=other" in said[1]
    with pytest.raises(UserError, match=r"row 1 .* none of the columns"):
        task.examples([{"heading": "alpha"}])
    with pytest.raises(UserError, match="none of the columns"):
        task.examples(["alpha"])  # two texts: which one?


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """90 rows of a table: the class follows from x and the colour."""
    random, rows = np.random.default_rng(1), []
    for i in range(90):
        x, colour = random.normal(), ["red", "blue", "green"][i % 3]
        rows.append(
            [
                f"{x:.3f}",
                "" if i % 10 == 0 else f"{100 + 3 * x + random.normal():.2f}",
                colour,
                "up" if x + (colour == "red") > 0 else "down",
            ]
        )
    return written(tmp_path_factory.mktemp("table") / "table.csv", ["x", "weight", "colour", "label"], rows)


def test_features_are_learned_from_the_training_rows(table):
    found = found_of("files/table", table)
    made = features(found.parts["train"], found.roles)
    names = [name for one in made for name in one.names]
    assert names[:3] == ["x", "weight", "weight missing"] and set(names[3:]) == {"colour=blue", "colour=green", "colour=red"}
    train = matrix(found.parts["train"], made)
    at = names.index("x")
    assert train[:, at].mean() == pytest.approx(0, abs=1e-5) and train[:, at].std() == pytest.approx(1, abs=1e-4)
    assert set(train[:, names.index("weight missing")]) == {0.0, 1.0} and np.isfinite(train).all()
    task = task_of("files/table", table)
    strange = task.encode(task.examples([{"x": "1e9", "colour": "violet"}, {"x": "?", "colour": "red"}]), 1)["inputs"]
    assert strange[0, at] == 8.0 and not strange[0, [names.index(f"colour={one}") for one in ("red", "blue", "green")]].any()
    assert strange[1, names.index("colour=red")] == 1 and np.isfinite(strange).all()


def test_a_number_is_in_its_own_unit(table):
    task = task_of("files/table", table, target="weight", kind="number", ignore=("label",))
    source, examples = fetch(task, "test")
    batch = task.encode(examples, 1)
    exact = {"targets": batch["targets"]}
    loss, _, metrics = task.score(Output(jnp.asarray(batch["targets"]), {}), batch)
    assert float(loss.max()) == 0 and float(metrics["mae"].max()) == 0
    assert task.read(np.asarray(exact["targets"][0]), {}) == pytest.approx(source.describe(examples, 0)["target"], rel=1e-5)
    off = task.score(Output(jnp.asarray(batch["targets"]) + 1, {}), batch)[2]["mae"]
    trained = fetch(task, "train")[1].target
    np.testing.assert_allclose(off, trained.std(), rtol=1e-4)
    assert task.metrics[:3] == ("r2", "rmse", "mae")


def test_several_labels(tmp_path):
    rows = [{"text": f"{WORDS[i % 10]} {WORDS[i % 7]} {i}", "labels": [["a", "b"], ["b"], [], ["a", "c"]][i % 4]} for i in range(60)]
    path = tmp_path / "tags.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = task_of("files/texts", str(path), kind="labels", text=("text",))
    source, examples = fetch(task, "train")
    assert task.vocabulary.outputs == 3 and examples.target.shape[1] == 3 and task.metrics == ("exact_match", "jaccard", "label_accuracy")
    assert source.describe(examples, 0)["target"] == task.read(examples.target[0], {})


def test_the_score_of_labels_by_hand():
    logits = jnp.array([[2.0, -1.0, 0.5], [-1.0, -1.0, -1.0]])
    batch = {"targets": jnp.array([[1, 0, 0], [0, 0, 0]]), "weight": jnp.ones(2)}
    loss, _, metrics = score_labels(Output(logits, {}), batch)
    p = 1 / (1 + np.exp(-np.asarray(logits)))
    expected = -np.log(np.where(np.asarray(batch["targets"]) > 0, p, 1 - p)).mean(axis=1)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert metrics["exact_match"].tolist() == [0.0, 1.0] and metrics["jaccard"].tolist() == [0.5, 1.0]


def test_pictures_of_a_folder(tmp_path):
    random = np.random.default_rng(0)
    for label, level in (("dark", 40), ("light", 220)):
        (tmp_path / label).mkdir()
        for i in range(12):
            pixels = np.clip(level + random.normal(0, 10, (10 + i % 3, 12, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{i}.png")
    (tmp_path / "dark" / "broken.png").write_bytes(b"no picture")
    task = task_of("files/pictures", str(tmp_path), height=8, width=9, channels=1)
    source, examples = fetch(task, "train")
    batch = task.encode(examples, 1)
    assert batch["inputs"].shape[1:] == (8, 9, 1) and -1 <= batch["inputs"].min() < 0 < batch["inputs"].max() <= 1
    assert sum(task.source(split).size for split in task.splits) == 24
    means = batch["inputs"].mean(axis=(1, 2, 3))
    assert ((means > 0) == np.array([source.describe(examples, i)["target"] == "light" for i in range(source.size)])).all()
    assert any("left out" in notice for notice in task.notices)
    _, found = looked(str(tmp_path), Asked())
    assert (found.found.rows, sum(found.found.splits.values())) == (24, 24) and found.found.classes == {"dark": 12, "light": 12}
    one = task.examples([str(tmp_path / "light" / "3.png")])
    assert one.input.shape == (1, 8, 9, 1)
    with pytest.raises(UserError, match=r"picture 2 .* cannot be read"):
        task.examples([str(tmp_path / "light" / "3.png"), str(tmp_path / "dark" / "broken.png")])
    with pytest.raises(UserError, match="none of 1 pictures"):
        task.examples([str(tmp_path / "dark" / "broken.png")])


def test_a_test_file_keeps_its_rows_and_unknown_classes_are_counted(tmp_path, table):
    path = written(
        tmp_path / "test.csv",
        ["x", "weight", "colour", "label"],
        [["0.5", "1", "red", "up"], ["1", "2", "red", "sideways"], ["2", "2", "blue", "down"]],
    )
    task = task_of("files/table", table, test=path)
    assert task.source("test").size == 2
    found = found_of("files/table", table, test=path)
    assert set(found.parts) == {"train", "valid", "test"}
    lacking = written(tmp_path / "lacking.csv", ["x", "label"], [["0.5", "up"]])
    with pytest.raises(UserError, match="lacks the column"):
        task_of("files/table", table, test=lacking)
    strange = written(tmp_path / "strange.csv", ["x", "weight", "colour", "label"], [["0.5", "1", "red", "left"]])
    with pytest.raises(UserError, match="has a class of the training data"):
        task_of("files/table", table, test=strange)


def test_folds_cover_all_training_rows_once(table):
    held = [fetch(task_of("files/table", table, folds=3, fold=fold), "valid")[0] for fold in range(3)]
    whole = task_of("files/table", table)
    assert sum(source.size for source in held) == whole.source("train").size + whole.source("valid").size
    few = task_of("files/table", table, labels=20)
    assert few.source("train").size == 20 and few.source("valid").size == whole.source("valid").size


@pytest.mark.parametrize(
    ("name", "keys", "word"),
    [
        ("files/texts", {}, "no column of texts"),
        ("files/pictures", {}, "no columns of pictures"),
        ("files/table", {"target": "nothing"}, "nothing"),
        ("files/table", {"kind": "number", "target": "colour"}, "no column of numbers"),
        ("files/table", {"kind": "many"}, "kind of target"),
        ("files/table", {"target": "weight", "kind": "number", "folds": 3}, "need classes"),
    ],
)
def test_what_does_not_fit_is_said(table, name, keys, word):
    with pytest.raises(UserError, match=word):
        task_of(name, table, **keys)


def test_other_data_are_another_run(tmp_path):
    rows = [[f"{i / 7:.3f}", f"{i % 5}", "ab"[i % 2]] for i in range(40)]
    hashes = []
    for change in ("", "x"):
        path = written(tmp_path / f"t{change}.csv", ["u", "v", "label"], [[row[0], row[1], row[2] + change] for row in rows])
        hashes.append(task_of("files/table", path).data)
    turned = written(tmp_path / "turned.csv", ["u", "v", "label"], rows)
    assert hashes[0] != hashes[1] and task_of("files/table", turned).data == hashes[0]


def test_a_file_that_changed_is_read_again(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "\n".join(f"word {i},{'ab'[i % 2]}" for i in range(40)), encoding="utf-8")
    first = found_of("files/texts", str(path))
    assert found_of("files/texts", str(path)) is first, "read once"
    path.write_text("text,label\n" + "\n".join(f"other {i},{'ab'[i % 2]}" for i in range(60)), encoding="utf-8")
    assert found_of("files/texts", str(path)).found.rows == 60


def test_columns_of_one_value_are_no_inputs(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,label\n" + "\n".join(f"{int(i == 0)},{'ab'[i % 2]}" for i in range(60)), encoding="utf-8")
    with pytest.raises(UserError, match=r"has one value only in the training rows|only one|too few"):
        task_of("files/table", str(path))
