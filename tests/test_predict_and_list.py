"""`experiments.list` and `experiments.predict` end to end."""

import ast
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from verb_server import ROOT, TINY, refused, verb  # noqa: F401

import assay
from assay.cli import predict as predicting
from assay.core.errors import UserError
from assay.core.plain import json_text
from assay.evals.answers import answers
from assay.models.model import Model, Output
from assay.tasks.datasets import classify
from assay.tasks.datasets.classify import labelled
from assay.treatments.pipeline.load import Loaded

CONFIG = "--config=experiments/text/transformer_classifier.py:tuned,tiny"
RATE = "--config.optimizer.learning_rate=0.02"


def config_files() -> list[Path]:
    return [path for path in sorted((ROOT / "experiments").glob("*/*.py")) if "def get_config(" in path.read_text()]


def test_list_names_every_config_with_what_it_says(verb):
    listed = verb("list")
    assert listed.code == 0, listed
    assert len(config_files()) >= 10
    for path in config_files():
        assert f"experiments/{path.relative_to(ROOT / 'experiments')}" in listed.out
        question, *rest = ast.get_docstring(ast.parse(path.read_text())).splitlines()
        assert question in listed.out
        for line in rest:
            if line.startswith(("Command:", "Cost:", "Expected:")):
                assert line.split(":", 1)[1].strip() in listed.out
    for subject in {path.parent.name for path in config_files()}:
        some = verb("list", f"--subject={subject}")
        assert some.code == 0
        names = [line.split()[0] for line in some.out.splitlines() if line.startswith("experiments/")]
        assert names == [f"experiments/{subject}/{path.name}" for path in config_files() if path.parent.name == subject]
    refused(verb("list", "--subject=visions"), "subject 'visions'", "vision")
    refused(verb("list", "--config.seed=1"), "no --config overrides")


@pytest.fixture(scope="module")
def run(verb, tmp_path_factory) -> Path:
    """A classifier that has learnt a little, so that its answers differ."""
    folder = tmp_path_factory.mktemp("package") / "run"
    done = verb("main", CONFIG, RATE, "--config.train.steps=40", "--config.task.max_length=12", f"--workdir={folder}")
    assert done.code == 0, done
    return folder


@pytest.fixture(scope="module")
def records(run) -> list[dict]:
    every = [json.loads(line) for line in (run / "predictions" / "valid.jsonl").read_text().splitlines()]
    chosen = every[:: max(1, len(every) // 30)]
    assert len({record["prediction"] for record in chosen}) >= 2
    return chosen


def checked(out: str, texts: list[str]) -> list[dict]:
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["id"] for line in lines] == list(range(len(texts))) and [line["text"] for line in lines] == texts
    for line in lines:
        assert line.keys() == {"id", "text", "label", "probabilities"} and len(line["probabilities"]) == 8
        assert sum(line["probabilities"].values()) == pytest.approx(1.0, abs=1e-5) and min(line["probabilities"].values()) >= 0
        assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)
    return lines


def test_answers_are_those_of_the_evaluation(run, records, verb, tmp_path):
    texts = [record["input"] for record in records]
    file = tmp_path / "new.csv"
    file.write_text("passage,other\n" + "".join('"{}",x\n'.format(text.replace('"', '""')) for text in texts), newline="")
    answered = verb("predict", f"--workdir={run}", f"--input={file}", "--column=passage", "--batch_size=7")
    assert answered.code == 0, answered
    lines = checked(answered.out, texts)
    assert [line["label"] for line in lines] == [record["prediction"] for record in records]
    confidence = [record["scores"]["confidence"] for record in records]
    np.testing.assert_allclose([max(line["probabilities"].values()) for line in lines], confidence, atol=2e-5)


def test_texts_of_the_command_line_come_first(run, records, verb, tmp_path):
    file = tmp_path / "new.csv"
    file.write_text("\ufefftext\n你好。世界\n" + '"import asyncio\nawait x"\n', encoding="utf-8")
    given = [records[0]["input"], "", "naïve 文字 text"]
    answered = verb("predict", f"--workdir={run}", *(f"--text={text}" for text in given), f"--input={file}")
    assert answered.code == 0, answered
    lines = checked(answered.out, [*given, "你好。世界", "import asyncio\nawait x"])
    assert "你好" in answered.out and lines[0]["label"] == records[0]["prediction"]


def test_no_batch_size_changes_an_answer(run, records):
    model, params, task = assay.load(run)
    texts = [record["input"] for record in records]
    one, many = (list(answers(model, params, task, texts, size)) for size in (1, 256))
    for a, b in zip(one, many, strict=True):
        assert a["label"] == b["label"] and a["probabilities"] == pytest.approx(b["probabilities"], abs=3e-6)


def toy() -> Loaded:
    """A classifier of numbers: yes above 0."""

    def examples(texts):
        return labelled(np.zeros(len(texts), int), np.array([[float(text)] for text in texts]))

    def apply(params, batch):
        return Output(batch["inputs"] * params, {})

    def encode(made, width):
        return {"inputs": made.input.astype(np.float32)}

    task = classify.task("toy", {"test": list}, ("yes", "no"), encode, examples=examples)
    return Loaded(Model(lambda key, batch: None, apply), np.float32([[1, -1]]), task)


def test_a_loaded_run_answers_texts_and_arrays():
    loaded = toy()
    model, params, task = loaded
    assert loaded.predict(["1", "-1", "2"], batch_size=2) == list(answers(model, params, task, ["1", "-1", "2"]))
    assert [line["label"] for line in loaded.predict(np.array([3.0, -3.0]))] == ["yes", "no"]
    assert loaded.predict("-1") == [{**loaded.predict(["-1"])[0], "text": "-1"}] and loaded.predict([]) == []
    assert "text" not in loaded.predict(np.array([3.0]))[0]
    with pytest.raises(UserError, match="batch_size=0"):
        loaded.predict(["1"], batch_size=0)
    with pytest.raises(UserError, match="trained on toy, which does not make examples of new inputs"):
        loaded._replace(task=replace(task, examples=None)).predict(["1"])


def test_probabilities_that_are_not_finite_are_no_answer():
    """The class of the largest probability would be the first one."""
    lines = list(answers(*toy(), ["1", "nan", "-1"], 2))
    assert [line["label"] for line in lines] == ["yes", None, "no"]
    assert json.loads(json_text(lines[1]))["probabilities"] == {"yes": None, "no": None}


def test_lines_of_standard_input_end_as_those_of_files(monkeypatch):
    held = io.BytesIO("one\x0btwo\nthree\u2028four\r\n\nlast".encode())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=held))
    assert predicting._lines() == ["one\x0btwo", "three\u2028four", "", "last"]


def test_what_cannot_be_answered_is_one_message(run, verb, tmp_path):
    at = f"--workdir={run}"
    refused(verb("predict", at), "--text", "--input")
    refused(verb("predict", "--text=x"), "--workdir")
    refused(verb("predict", f"--workdir={tmp_path / 'none'}", "--text=x"), "config.json")
    (tmp_path / "study" / "tuned" / "seed_0").mkdir(parents=True)
    refused(verb("predict", f"--workdir={tmp_path / 'study'}", "--text=x"), "holds a study", "tuned/seed_0")
    refused(verb("predict", at, f"--input={tmp_path / 'none.csv'}"), "none.csv")
    bad = tmp_path / "bad.csv"
    for content, words in (
        ("", ("empty",)),
        ("other\nx\n", ("'text'", "other")),
        ('text\n"x\n', ("never closed",)),
        ("text\n", ("no rows",)),
    ):
        bad.write_text(content)
        refused(verb("predict", at, f"--input={bad}"), str(bad), *words)
    bad.write_text("text\nx\n")
    refused(verb("predict", at, f"--input={bad}", "--column=passage"), "'passage'")
    refused(verb("predict", at, "--text=x", "--config.seed=1"), "no --config overrides")
    refused(verb("predict", at, "--text=x", "--batch_size=0"), "batch_size")


def test_a_run_over_tokens_answers_what_is_typed(verb, tmp_path):
    short = ["--config.train.steps=4", "--config.evaluate.splits=iid", "--config.evaluate.per_length=1"]
    assert verb("main", TINY, *short, f"--workdir={tmp_path / 'parity'}").code == 0
    run = f"--workdir={tmp_path / 'parity'}"
    refused(verb("predict", run, "--text=x"), "'x' in input 0 is no symbol of chomsky/parity_check, which has 0 1")
    lines = [json.loads(line) for line in verb("predict", run, "--text=0110", "--text=1 0 1").out.splitlines()]
    assert [line["text"] for line in lines] == ["0110", "1 0 1"] and {line["prediction"] for line in lines} <= {"0", "1"}


def test_a_picture_that_cannot_be_read_does_not_stop_the_others(tmp_path, capsys):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((9, 9), 200, np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    assert [Path(one).name for one in predicting._inputs(str(tmp_path), "", {"name": "files/pictures"})] == ["a.png", "b.png"]
    assert "1 without an answer" in (said := capsys.readouterr().err) and "broken.jpg" in said
    assert [Path(one).name for one in predicting._inputs(str(tmp_path / "a.png"), "", {"name": "digits"})] == ["a.png"]
