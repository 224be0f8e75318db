"""Texts and their classes: no file and no text in two splits, and every fault of a CSV file told once."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from verb_server import contents, refused, verb  # noqa: F401

from assay.config.older import completed
from assay.config.tasks import images, texts
from assay.core.errors import UserError
from assay.core.rng import stable_hash
from assay.data.csv import read_csv
from assay.tasks.datasets import classify
from assay.tasks.table import TASKS, build
from assay.treatments.pipeline.load import _check_files

TEXTS, TRAIN = {**TASKS["csv"].defaults, "name": "csv"}, "train.csv"


def package(**changes):
    return build({**TASKS["stdlib/package"].defaults, "name": "stdlib/package", **changes}, 0)


def examples(task, split: str) -> list[dict]:
    source = task.source(split)
    found = source.fetch(np.arange(source.size))
    return [source.describe(found, i) for i in range(source.size)]


# -- the standard library ---------------------------------------------------------------------------------------------------


def test_no_file_and_no_text_lies_in_two_splits():
    task = package()
    files = {split: set(task.source(split).groups) for split in task.splits}
    texts = {split: {example["input"] for example in examples(task, split)} for split in task.splits}
    assert list(task.splits) == ["train", "valid", "test"] and all(len(found) >= 20 for found in files.values())
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not files[first] & files[second] and not texts[first] & texts[second]
    for split in task.splits:
        source = task.source(split)
        assert len(source.groups) == source.size
        for example, file in zip(examples(task, split), source.groups, strict=True):
            assert example["target"] == ("module" if "/" not in file else file.split("/")[0])
    counts = np.unique([example["target"] for example in examples(task, "test")], return_counts=True)[1]
    assert len(counts) == 8 and len(set(counts)) == 1, "the majority is an eighth"


def test_folds_keep_files_whole():
    held: list[str] = []
    for fold in range(3):
        task = package(folds=3, fold=fold)
        train, valid = (set(task.source(split).groups) for split in ("train", "valid"))
        assert not train & valid and train | valid == set(package().source("train").groups)
        held += valid
    assert len(held) == len(set(held)) == len(set(package().source("train").groups))


def test_fewer_labels_are_nested():
    few, more = ([e["input"] for e in examples(package(labels=count), "train")] for count in (80, 160))
    assert len(few) == 80 and len(more) == 160 and set(few) < set(more)
    assert np.unique([e["target"] for e in examples(package(labels=80), "train")], return_counts=True)[1].tolist() == [10] * 8
    with pytest.raises(UserError, match=r"100000 labels.*config\.task\.labels"):
        package(labels=100_000)


def test_texts_are_cut_and_padded():
    task = package(max_length=20, tokenizer="bytes")
    source = task.source("test")
    found = source.fetch(np.arange(7))
    batch = task.encode(found, task.width(24))
    assert batch["inputs"].shape == (7, 24) and (batch["length"] == 20).all() and source.lengths[1] == 20
    for i in range(7):
        text = source.describe(found, i)["input"]
        assert batch["inputs"][i, :20].tolist() == [byte + 4 for byte in text.encode()[:20]] and (batch["inputs"][i, 20:] == 0).all()


@pytest.mark.parametrize("name", ["bytes", "characters", "words", "wordpiece", "bpe"])
def test_a_tokenizer_learns_from_training_texts_alone(name, tmp_path):
    write(tmp_path / "train.csv", [(f"common word number {i % 7} {i}", str(i % 2)) for i in range(40)])
    write(tmp_path / "test.csv", [(f"zyxwv {i}", str(i % 2)) for i in range(9)])
    one = csv(tmp_path, tokenizer=name, tokenizer_size=400)
    write(tmp_path / "test.csv", [(f"quite {i} другое", str(i % 2)) for i in range(9)])
    other = csv(tmp_path, tokenizer=name, tokenizer_size=400)
    tokens = [task.examples(["common zyxwv quite"]).input.tolist() for task in (one, other)]
    assert one.vocabulary == other.vocabulary and tokens[0] == tokens[1]


# -- csv --------------------------------------------------------------------------------------------------------------------


def write(path: Path, rows: list[tuple[str, str]], header: str = "text,label", bom: bool = False) -> Path:
    lines = [header, *('"' + text.replace('"', '""') + f'",{label}' for text, label in rows)]
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + "\n".join(lines).encode())
    return path


def csv(folder: Path, test: bool = True, **changes):
    files = {"train": str(folder / "train.csv"), "test": str(folder / "test.csv") if test else ""}
    return build({**TEXTS, **files, **changes}, 0)


@pytest.fixture
def overlapping(tmp_path) -> Path:
    """Files that share texts, and a training file that repeats some, with other labels too."""
    rows = [(f"text {i % 80}", str(i % 3)) for i in range(200)]
    write(tmp_path / "train.csv", rows)
    write(tmp_path / "test.csv", [(f"text {i}", str(i % 3)) for i in range(60, 100)] + [("text 61", "1")])
    return tmp_path


@pytest.mark.parametrize("changes", [{}, {"folds": 3, "fold": 1}, {"labels": 20}])
def test_no_text_lies_in_two_splits(overlapping, changes):
    task = csv(overlapping, **changes)
    texts = {split: [example["input"] for example in examples(task, split)] for split in task.splits}
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not set(texts[first]) & set(texts[second])
    assert len(texts["train"]) == len(set(texts["train"])) and len(texts["valid"]) == len(set(texts["valid"])) > 0
    assert len(texts["test"]) == 41, "every line of the test file counts"
    if "labels" not in changes:
        assert {*texts["train"], *texts["valid"]} == {f"text {i}" for i in range(60)}
    assert {e["input"]: e["target"] for e in examples(task, "train")}.items() <= {f"text {i}": str(i % 3) for i in range(60)}.items()


def test_folds_of_a_csv_partition_its_texts(overlapping):
    held = [e["input"] for fold in range(4) for e in examples(csv(overlapping, folds=4, fold=fold), "valid")]
    assert sorted(held) == sorted(f"text {i}" for i in range(60))


def test_a_file_with_more_rows_keeps_what_was_held_out(tmp_path):
    write(tmp_path / "train.csv", [(f"text {i}", str(i % 2)) for i in range(60)])
    before = {e["input"] for e in examples(csv(tmp_path, test=False), "valid")}
    write(tmp_path / "train.csv", [(f"text {i}", str(i % 2)) for i in reversed(range(120))])
    assert before < {e["input"] for e in examples(csv(tmp_path, test=False), "valid")}


@pytest.mark.parametrize("bom", [False, True])
def test_chinese_and_integer_labels(tmp_path, bom, verb):
    rows = [(f"今天天气很好,第{i}天\n“太好了”" if i % 3 else f'坏 {i} "quoted"', str((10, 2, -1)[i % 3])) for i in range(60)]
    write(tmp_path / "train.csv", rows, bom=bom)
    write(tmp_path / "test.csv", [(f"明天 {text}", label) for text, label in rows[:9]], bom=bom)
    task = csv(tmp_path, tokenizer="words")
    assert task.classes == ("-1", "2", "10"), "in the order of the numbers"
    assert [(e["input"], e["target"]) for e in examples(task, "test")] == [(f"明天 {text}", label) for text, label in rows[:9]]
    assert {(e["input"], e["target"]) for split in ("train", "valid") for e in examples(task, split)} == set(rows)
    files = [f"--config.task.{name}={tmp_path / f'{name}.csv'}" for name in ("train", "test")]
    shown = verb("show", "--task=csv", *files, "--split=test", "--n=-1", "--format=jsonl")
    assert shown.code == 0 and [json.loads(line)["input"] for line in shown.out.splitlines()] == [f"明天 {text}" for text, _ in rows[:9]]
    assert "明天" in verb("show", "--task=csv", *files, "--split=test", "--n=1").out


def rare(folder: Path, positive: int, negative: int) -> Path:
    write(folder / "train.csv", [(f"text {i}", "pos") for i in range(positive)] + [(f"no {i}", "neg") for i in range(negative)])
    return folder


@pytest.mark.parametrize(("positive", "negative"), [(100, 10), (300, 2), (40, 60), (30, 1)])
def test_valid_has_its_share_of_each_class(tmp_path, positive, negative):
    task = csv(rare(tmp_path, positive, negative), test=False, stratify=True)
    held = Counter(example["target"] for example in examples(task, "valid"))
    for name, size in (("pos", positive), ("neg", negative)):
        if size == 1:
            assert held[name] == 0, "a class's only text is for training"
        else:
            assert max(1, 0.5 * size // 10) <= held[name] <= max(1, np.ceil(1.5 * size / 10)), held
    again = csv(tmp_path, test=False, stratify=True)
    assert [e["input"] for e in examples(task, "valid")] == [e["input"] for e in examples(again, "valid")], "the same in every run"
    unequal = positive >= 5 * negative
    assert any("imbalanced classes" in said and "'neg'" in said for said in task.notices) == unequal


def test_a_split_without_a_class_is_told(tmp_path):
    rare(tmp_path, 60, 1)
    for fold in range(5):
        try:
            said = csv(tmp_path, test=False, folds=5, fold=fold).notices
        except UserError as error:  # the fold that holds the only negative text
            assert "fewer than two classes" in str(error)
        else:
            assert said[0] == "no text of class 'neg' in valid: its scores say nothing about it"
    rare(tmp_path, 60, 40)
    write(tmp_path / "test.csv", [("another text", "neg")])
    assert csv(tmp_path).notices == ("no text of class 'pos' in test: its scores say nothing about it",)


def test_notices_count_the_examples_that_have_a_label(tmp_path):
    rare(tmp_path, 100, 30)
    task = csv(tmp_path, test=False, labels=6, unlabelled=True)
    assert task.source("train").size > 100 and any("5 training texts of 'pos' and 1 of 'neg'" in said for said in task.notices)


def test_valid_of_older_configs_is_what_it_was(tmp_path):
    """A tenth of all texts by their hash, whatever their class; a config without the key means this."""
    task = csv(rare(tmp_path, 100, 10), test=False, stratify=False)
    held = {example["input"] for example in examples(task, "valid")}
    assert held == {text for text in [f"text {i}" for i in range(100)] + [f"no {i}" for i in range(10)] if stable_hash(text) % 10 == 0}
    for name, keys in (("csv", {"stratify": False}), ("tfds/mnist", {"stratify": False}), ("digits", {}), ("scan/jump", {})):
        assert completed({"task": {"name": name}}) == {"task": {"name": name, **keys}}
    assert texts("csv").stratify and texts("tfds/imdb_reviews").stratify and images("tfds/mnist").stratify
    assert "stratify" not in texts("stdlib/package") and completed({"task": texts("csv").to_dict()})["task"]["stratify"]


def test_equal_contents_stay_together_and_more_rows_keep_what_was_held_out():
    random = np.random.default_rng(0)
    contents = classify.hashes(f"text {i}" for i in random.integers(0, 400, 1000))
    labels = (contents % np.uint64(3)).astype(np.int64)
    held = classify.held_out(contents, labels)
    train = np.setdiff1d(np.arange(1000), held)
    assert len(held) and not np.isin(contents[held], contents[train]).any()
    some = classify.held_out(contents[:500], labels[:500])
    assert np.isin(some, held).mean() > 0.8
    assert len(set(classify.hashes(["caf\u00e9", "cafe\u0301", b"a", b"b"]).tolist())) == 3


def test_rows_that_are_left_out_are_counted_and_one_class_is_not_enough(tmp_path):
    rows = [(f"good {i}", "pos") for i in range(40)] + [(f"bad {i}", "neg") for i in range(20)] + [("good 1", "pos")]
    write(tmp_path / "train.csv", rows)
    write(tmp_path / "test.csv", [*rows[35:60], ("good 0", "pos")])
    for stratify in (True, False):
        with pytest.raises(
            UserError, match=r"only the label 'pos' is left .*27 of 61 rows.*26 whose text is also in .*1 that repeat.*task\.test"
        ):
            csv(tmp_path, stratify=stratify)
    write(tmp_path / "test.csv", [*rows[35:59], ("other", "pos")])
    task = csv(tmp_path)
    assert task.notices[0].startswith("25 of 61 rows of ") and "24 whose text is also in " in task.notices[0], task.notices
    assert any("imbalanced" in said or "no training text of class 'neg'" in said for said in task.notices[1:])
    assert not csv(rare(tmp_path, 40, 30), test=False).notices, "nothing is left out, nothing said"
    with pytest.raises(UserError, match=r"1 labelled training examples .* fewer than two classes.*config\.task\.labels"):
        csv(tmp_path, test=False, labels=1)


GOOD = "text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40))
BAD = {  # content of a training file: what the message says
    "": ("is empty",),
    "text,label\n": ("no rows",),
    "text,label\nx,a\ny,\n": ("line 3", "label"),
    "text,label\nx,a\none, two,b\n": ("line 3", "3 fields"),
    'text,label\nx,a\n"never closed,b\n': ("line 3", "never closed"),
    'text,label\nx,a\n"closed" early,b\n': ("line 3", "closing quote"),
    "words,label\nx,a\ny,b\n": ("no column 'text'", "words, label", "config.task.text"),
    "text,class\nx,a\ny,b\n": ("no column 'label'", "config.task.label"),
    "text;label\nx;a\n": ("';'",),
    "text,text,label\nx,y,a\n": ("2 times",),
    "text,label\nx,a\ny,a\n": ("only one label",),
    "text,label\nx\0,a\ny,b\n": ("NUL",),
    b"text,label\nx,a\n\xff\xfe,b\n": ("line 3", "UTF-8"),
    GOOD.encode("utf-16"): ("UTF-16",),
}


@pytest.mark.parametrize("content", BAD, ids=lambda content: repr(content[:24]))
def test_a_bad_training_file_is_one_message(verb, tmp_path, content):
    path = tmp_path / "train.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    told = refused(verb("show", "--task=csv", f"--config.task.train={path}"), str(path), *BAD[content])
    assert len(told.strip().splitlines()) == 1


def test_bad_pairs_of_files_are_one_message(verb, tmp_path):
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text(GOOD)

    def show(*more: str):
        return verb("show", "--task=csv", f"--config.task.train={train}", *more)

    test.write_text("text,label\nnew,a\nother,c\n")
    refused(show(f"--config.task.test={test}"), str(test), "line 3", "no label 'c'", "a, b")
    test.write_text(GOOD)
    refused(show(f"--config.task.test={test}"), "nothing is left to train on")
    refused(show(f"--config.task.test={tmp_path}"), "is a folder")
    refused(show(f"--config.task.test={tmp_path / 'no.csv'}"), "no CSV file")
    refused(show("--split=test"), "split 'test'", "train, valid")
    refused(show("--config.task.tokenizer=nope"), "tokenizer 'nope'")
    refused(show("--config.task.tokenizer=wordpiece", f"--config.task.tokenizer_file={train}"), str(train), "tokenizer.json")
    refused(show(f"--config.task.tokenizer_file={train}"), "tokenizer_file", "wordpiece or bpe")
    refused(show("--config.task.max_length=0"), "config.task.max_length=0")
    refused(show("--config.task.labels=1000"), "1000", "config.task.labels")
    refused(show("--lengths=1:5"), "no splits by length")
    refused(verb("show", "--task=csv"), "--config.task.train")
    assert show("--n=1").code == 0 and len(read_csv(train)) == 40


def test_the_verb_main_refuses_too(verb, tmp_path):
    (tmp_path / "train.csv").write_text("text,label\nx,a\ny,\n")
    config = ["--config=experiments/text/bilstm_classifier.py:csv", f"--config.task.train={tmp_path / TRAIN}"]
    refused(verb("main", *config, f"--workdir={tmp_path / 'run'}"), "line 3", "label")
    (tmp_path / "train.csv").write_text(GOOD)
    refused(verb("main", *config, f"--workdir={tmp_path / 'run'}"), "split 'test'", "config.evaluate.splits")
    assert not (tmp_path / "run").exists()


def test_a_run_knows_the_data_that_it_was_trained_on(verb, tmp_path):
    """Another row, label or order would give other classes or another tokenizer to the same parameters."""
    rows = [f"text number {i} about {'cats' if i % 2 else 'dogs'},{'cat' if i % 2 else 'dog'}" for i in range(40)]
    train = tmp_path / "train.csv"
    train.write_text("\n".join(["text,label", *rows]))
    spec = tmp_path / "mine.py"
    spec.write_text(
        "from assay.config import texts\nfrom experiments.text.bilstm_classifier import get_config as base\n"
        "def get_config(variant):\n    config = base('tiny')\n    config.unlock()\n"
        f"    config.task = texts('csv', train={str(train)!r}, max_length=8, tokenizer_size=50)\n"
        "    config.evaluate.splits = ('train',)\n    return config\n"
    )
    arguments = (f"--config={spec}", f"--workdir={tmp_path / 'run'}")
    assert verb("main", *arguments).code == 0
    assert verb("predict", f"--workdir={tmp_path / 'run'}", "--text=cats").code == 0
    before = contents(tmp_path / "run")
    train.write_text("\n".join(["text,label", *reversed(rows)]))
    refused(verb("main", *arguments), "training data", "--workdir")
    refused(verb("predict", f"--workdir={tmp_path / 'run'}", "--text=cats"), "training data", "have changed")
    assert contents(tmp_path / "run") == before


def test_a_run_whose_files_are_gone_names_them_and_no_flag(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    task = {"name": "csv", "train": "~/train.csv", "test": "", "tokenizer_file": ""}
    with pytest.raises(UserError, match=r"runs/a was trained on ~/train\.csv \(config\.task\.train\), which does not exist") as told:
        _check_files("runs/a", task)
    assert "--config" not in str(told.value)
    write(tmp_path / "train.csv", [("a", "b")])
    _check_files("runs/a", task)
    with pytest.raises(UserError, match=r"config\.task\.tokenizer_file"):
        _check_files("runs/a", {"name": "stdlib/lm", "tokenizer_file": str(tmp_path / "none.json")})
