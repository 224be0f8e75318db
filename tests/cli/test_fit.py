"""`assay fit` from a file to a finished run, and the same bits from the config that it writes."""

import csv
import io
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import assay
from assay.cli import fit as fitting
from assay.cli.predict import predict
from assay.cli.train import run as train
from assay.core.errors import UserError
from assay.fitting.scores import value
from assay.train.workdir import WorkDir
from assay.treatments.pipeline.load import load

SHORT = {"train.steps": "16", "train.steps_per_call": "8"}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("fit") / "reviews.csv"
    rows = [f"{' '.join(random.choice(list('abcdefgh'), 4))} {('lovely', 'dull')[i % 2]} {i},{('pos', 'neg')[i % 2]}" for i in range(60)]
    rows[9] = "dull dull dull,pos"
    path.write_text("review,sentiment\n" + "\n".join(rows), encoding="utf-8")
    return path


def test_a_file_becomes_a_run_that_its_config_makes_again(reviews, capsys):
    workdir = reviews.parent / "mine"
    entries = fitting.fit(str(reviews), str(workdir), fitting.Asked(group=("sentiment",)), SHORT).entries
    out = capsys.readouterr().out
    assert "target: sentiment, 2 classes" in out and "\nUse " in out and "TF-IDF with logistic regression" in out
    assert [one.name for one in entries] == ["constant", "simple", "bag"]
    summary = json.loads((workdir / fitting.SUMMARY).read_text())
    assert summary["chosen"] in ("simple", "bag") and [row["name"] for row in summary["leaderboard"]] == ["constant", "simple", "bag"]
    assert "\nsentiment  rows of test" in out and [row["group"] for row in summary["groups"]["sentiment"]] == ["neg", "pos"]
    assert sum(row["n"] for row in summary["groups"]["sentiment"]) == 12
    (first, *_) = csv.DictReader((workdir / "issues.csv").read_text().splitlines())
    assert (first["kind"], first["line"], first["given"], first["suggested"]) == ("suspect label", "11", "pos", "neg")
    assert f"suspect in the data ({workdir / 'issues.csv'}):" in out and "  1 suspect label" in out
    assert summary["issues"]["counts"]["suspect label"] == 1
    page = (workdir / "report.html").read_text(encoding="utf-8")
    assert "What may be wrong with the data" in page and "<h2>Leaderboard</h2>" in page and "<h3>By sentiment</h3>" in page
    assert summary["sentence"].split("%")[0].strip() in page.replace("\u00a0", " ")
    train(f"{workdir}/fit.py:bag", SHORT, reviews.parent / "again", quiet=True)
    (_, first, task), (_, second, _) = load(workdir), load(reviews.parent / "again")
    assert jax.tree.all(jax.tree.map(lambda a, b: (np.asarray(a) == np.asarray(b)).all(), first, second))
    assert task.examples(["lovely"]).input.shape[0] == 1
    kept = json.loads(WorkDir(workdir).fitted.read_text())
    assert 0 < kept["values"]["temperature"] != 1 and first["temperature"] == np.float32(kept["values"]["temperature"])
    assert set(kept["values"]) == {"temperature", "shift"} and 0 < kept["step"] <= 16
    answers = {record["id"]: record for record in map(json.loads, WorkDir(workdir).predictions("test").read_text().splitlines())}
    batch = task.encode(task.source("test").fetch(np.arange(12)), task.width(16))
    said = jax.nn.softmax(load(workdir).model.apply(first, batch).logits).max(axis=1)
    np.testing.assert_allclose(said, [answers[i]["scores"]["confidence"] for i in range(12)], rtol=1e-4)
    rows = WorkDir(workdir).read_results()["rows"]
    assert {row["split"] for row in rows} == {"valid", "test"} and rows[0]["treatment"].startswith("dropout")


def test_the_best_of_several_models_is_the_run(reviews, capsys):
    workdir = reviews.parent / "several"
    for _ in range(2):  # the second time, finished runs are read
        asked = fitting.Asked(quality="good", issues=False)
        entries = fitting.fit(str(reviews), str(workdir), asked, SHORT | {"train.steps": "8"}).entries
    assert not (workdir / "issues.csv").exists()
    chosen = max(entries[2:], key=lambda one: value("accuracy", one.parts["valid"]))
    assert [one.name for one in entries[2:]] == ["bag", "encoder"]
    assert WorkDir(workdir).read_config()["experiment"].endswith(f":{chosen.name}") and (workdir / "candidates" / "encoder").is_dir()
    assert WorkDir(workdir).read_results()["rows"] == WorkDir(workdir / "candidates" / chosen.name).read_results()["rows"]


def printed(capsys, workdir, file: str, column: str = "", texts: tuple[str, ...] = ()) -> list[dict]:
    capsys.readouterr()
    predict(str(workdir), texts, file, column, 64, {})
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_simple_learner_answers_when_it_is_asked(tmp_path, capsys):
    """It is what the first sentence recommends here, and a run holds the parameters of the model only."""
    random = np.random.default_rng(0)
    x, kinds = random.normal(size=400), [("red", "blue", "green")[i % 3] for i in range(400)]
    rows = [
        f"{one:.4f},{kind},2024-01-{1 + i % 28:02d},{'yes' if (one > 0) != (kind == 'red') else 'no'}"
        for i, (one, kind) in enumerate(zip(x, kinds, strict=True))
    ]
    (tmp_path / "a.csv").write_text("x,colour,day,bought\n" + "\n".join(rows[:320]))
    (tmp_path / "b.csv").write_text("x,colour,day,bought\n" + "\n".join(rows[320:]))
    made = fitting.fit(
        str(tmp_path / "a.csv"),
        str(tmp_path / "w"),
        fitting.Asked(test=str(tmp_path / "b.csv"), target="bought", issues=False),
        overrides=SHORT,
    )
    assert made.chosen.name == "simple" and "--simple" in capsys.readouterr().out
    predict(str(tmp_path / "w"), (), str(tmp_path / "b.csv"), "", 64, {}, simple=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    wanted = next(one for one in made.entries if one.name == "simple").parts["test"]
    assert [line["label"] for line in lines] == [one["prediction"] for one in wanted]
    np.testing.assert_allclose(
        [max(line["probabilities"].values()) for line in lines], [one["scores"]["confidence"] for one in wanted], atol=1e-5
    )
    (tmp_path / "part.csv").write_text("x\n0.3\n")
    predict(str(tmp_path / "w"), (), str(tmp_path / "part.csv"), "", 64, {})
    told = capsys.readouterr().err
    assert "2 of the 3 columns" in told and "colour, day" in told and "gradient boosting was better on valid" in told
    (tmp_path / "w" / "fit.json").write_text("[3")  # damaged, or none, as in a treated run
    predict(str(tmp_path / "w"), (), str(tmp_path / "b.csv"), "", 64, {}, simple=True)
    assert [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()] == [line["label"] for line in lines]


def test_a_text_is_enough_where_other_columns_may_be_missing(tmp_path, capsys):
    rows = [f"{'good' if i % 2 else 'bad'} day {i},{i % 7},2024-02-{1 + i % 28:02d},{'pos' if i % 2 else 'neg'}" for i in range(60)]
    (tmp_path / "a.csv").write_text("review,size,day,label\n" + "\n".join(rows))
    fitting.fit(str(tmp_path / "a.csv"), str(tmp_path / "w"), fitting.Asked(text=("review",), issues=False), overrides=SHORT)
    capsys.readouterr()
    for simple in (False, True):
        predict(str(tmp_path / "w"), ("a good day",), "", "", 64, {}, simple=simple)
        out, err = capsys.readouterr()
        assert json.loads(out)["text"] == "a good day" and "2 of the 3 columns that the model reads count as missing" in err


def test_new_rows_are_answered_from_any_table(reviews, tmp_path, capsys, monkeypatch):
    workdir = reviews.parent / "mine"
    if not workdir.exists():
        fitting.fit(str(reviews), str(workdir), overrides=SHORT)
    (tmp_path / "new.csv").write_text("other;review\n1;a lovely day\n2;dull", encoding="utf-8")
    (tmp_path / "new.jsonl").write_text('{"review": "a lovely day"}\n{"review": "dull"}', encoding="utf-8")
    answers = printed(capsys, workdir, str(tmp_path / "new.csv"))
    assert [one["id"] for one in answers] == [0, 1] and set(answers[0]["probabilities"]) == {"neg", "pos"}
    assert printed(capsys, workdir, str(tmp_path / "new.jsonl")) == answers
    named = printed(capsys, workdir, str(tmp_path / "new.csv"), "review", ("dull",))
    assert [one["text"] for one in named] == ["dull", "a lovely day", "dull"] and named[0]["label"] == answers[1]["label"]
    predict(str(workdir), (), str(tmp_path / "new.csv"), "review", 64, {}, "csv")
    header, first, second = csv.reader(capsys.readouterr().out.splitlines())
    assert header == ["id", "text", "label", "probability of neg", "probability of pos"] and second[:2] == ["1", "dull"]
    assert float(first[3]) == answers[0]["probabilities"]["neg"]
    for table in (tmp_path / "new.csv", tmp_path / "new.jsonl"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(table.read_bytes())))
        assert printed(capsys, workdir, "-") == answers
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a lovely day\r\ndull\n")))
    assert [one["label"] for one in printed(capsys, workdir, "", "", ("-",))] == [one["label"] for one in answers]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n")))
    assert [one["text"] for one in printed(capsys, workdir, "", "", ("-",))] == ["caf\ufffd"]
    predict(str(workdir), ("a day",), str(tmp_path / "new.csv"), "", 64, {}, "csv")
    mixed = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert [row[:2] for row in mixed] == [["id", "text"], ["0", "a day"], ["1", ""], ["2", ""]] and len({len(row) for row in mixed}) == 1
    with pytest.raises(UserError, match="unknown format 'xml'"):
        predict(str(workdir), (), "-", "", 64, {}, "xml")
    with pytest.raises(UserError, match="read once"):
        predict(str(workdir), ("-",), "-", "", 64, {})
    (tmp_path / "bad.csv").write_text("title,other\na,b\nc,d", encoding="utf-8")
    with pytest.raises(UserError, match="none of the columns that the model reads: review"):
        predict(str(workdir), (), str(tmp_path / "bad.csv"), "", 64, {})
    with pytest.raises(UserError, match="unknown column"):
        predict(str(workdir), (), str(tmp_path / "new.csv"), "revew", 64, {})


def test_pictures_and_numbers_are_answered(tmp_path, capsys):
    random = np.random.default_rng(0)
    for label, level in (("dark", 30), ("light", 220)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(level + random.normal(0, 9, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{i}.png")
    fitting.fit(str(tmp_path / "pictures"), str(tmp_path / "p"), overrides=SHORT)
    answers = printed(capsys, tmp_path / "p", str(tmp_path / "pictures" / "dark"))
    (tmp_path / "some.csv").write_text("photo,note\npictures/dark/0.png,a\npictures/light/1.png,b")
    named = [printed(capsys, tmp_path / "p", str(tmp_path / "some.csv"), column) for column in ("", "photo")]
    assert named[0] == named[1] and [one["probabilities"] for one in named[0]][:1] == [answers[0]["probabilities"]]
    (tmp_path / "some.csv").write_text("photo,note\npictures/dark/0.png,a\n,b")
    with pytest.raises(UserError, match=r"line 3 of .* has no picture in photo"):
        predict(str(tmp_path / "p"), (), str(tmp_path / "some.csv"), "", 64, {})
    assert len(answers) == 12 and answers[0]["text"].endswith("dark/0.png") and set(answers[0]["probabilities"]) == {"dark", "light"}
    x = random.normal(size=60)
    (tmp_path / "n.csv").write_text("x,price\n" + "\n".join(f"{one:.3f},{5 + 3 * one:.3f}" for one in x), encoding="utf-8")

    class Frame:
        def to_csv(self, path, index):
            assert not index
            Path(path).write_bytes((tmp_path / "n.csv").read_bytes())

    board = assay.fit(Frame(), tmp_path / "r", target="price", regression=True, overrides=SHORT)
    assert [row["name"] for row in board] == ["constant", "simple", "mlp"] and board.metric == "rmse" and board.chosen in ("simple", "mlp")
    assert board[1]["low"] < board[1]["test"] < board[1]["high"] and capsys.readouterr().out == ""
    assert "gradient boosting" in board._repr_html_() and board.sentence.split(":")[0] in board._repr_html_()
    (tmp_path / "n.csv").write_text("x,price\n1,2\n3,4")
    with pytest.raises(UserError, match="exists and holds other rows than the DataFrame"):
        assay.fit(Frame(), tmp_path / "r", target="price", regression=True, overrides=SHORT)
    with pytest.raises(UserError, match="not int"):
        assay.fit(3, tmp_path / "s")
    (first, *_) = printed(capsys, tmp_path / "r", str(tmp_path / "n.csv"))
    assert isinstance(first["prediction"], float) and np.isfinite(first["prediction"])


def test_what_cannot_be_fitted_is_said(reviews, tmp_path):
    with pytest.raises(UserError, match="quality"):
        fitting.fit(str(reviews), str(tmp_path / "w"), fitting.Asked(quality="perfect"))
    with pytest.raises(UserError, match="'soon' is not a time"):
        fitting.fit(str(reviews), str(tmp_path / "w"), fitting.Asked(budget="soon"))
    with pytest.raises(UserError, match=r"unknown column of .* 'sex'"):
        fitting.fit(str(reviews), str(tmp_path / "w"), fitting.Asked(group=("sex",)))
    with pytest.raises(UserError, match=r"nothing\.csv"):
        fitting.fit(str(tmp_path / "nothing.csv"), str(tmp_path / "w"))
    (tmp_path / "one.csv").write_text("text,label\n" + "\n".join(f"word {i},same" for i in range(30)))
    with pytest.raises(UserError, match="only one class"):
        fitting.fit(str(tmp_path / "one.csv"), str(tmp_path / "w"))
    rows = [f"good text {i},pos" for i in range(60)] + [f"bad text {i},neg" for i in range(20)]
    (tmp_path / "train.csv").write_text("text,label\n" + "\n".join(rows))
    (tmp_path / "test.csv").write_text("text,label\n" + "\n".join([*rows[60:], *(f"other text {i},pos" for i in range(9))]))
    with pytest.raises(UserError, match="only rows of the class 'pos' are left to train on"):
        fitting.fit(str(tmp_path / "train.csv"), str(tmp_path / "w"), fitting.Asked(test=str(tmp_path / "test.csv")))
    with pytest.raises(UserError, match="unknown metric 'speed'"):
        fitting.fit(str(reviews), str(tmp_path / "w"), fitting.Asked(metric="speed"))
    assert not (tmp_path / "w").exists()
    for paths in ([], ["a.csv", "b.csv"]):
        with pytest.raises(UserError, match="one file or folder"):
            fitting.main({}, paths)
    for key in ("model.width", "task.labels", "evaluate.splits", "treatments"):
        with pytest.raises(UserError, match=f"fit chooses .* so it takes no --config.{key}"):
            fitting.fit(str(reviews), str(tmp_path / "w"), overrides={key: "8"})
    with pytest.raises(UserError, match="both say how long"):
        fitting.fit(str(reviews), str(tmp_path / "w"), fitting.Asked(budget="5s"), {"train.steps": "8"})
    wrong = {"optimizer.learning_rate": "fast"}
    with pytest.raises(UserError, match="learning_rate"):
        fitting.fit(str(reviews), str(tmp_path / "wrong"), fitting.Asked(), wrong)
    assert fitting._before(tmp_path / "wrong", str(reviews), fitting.Asked(), {}) == {}, "nothing was trained, so it can be corrected"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "fit.py").write_text("mine")
    with pytest.raises(UserError, match="was not written by assay fit"):
        fitting.fit(str(reviews), str(tmp_path / "own"))
    assert (tmp_path / "own" / "fit.py").read_text() == "mine"


def test_a_fit_with_other_options_does_not_touch_the_first(reviews):
    workdir = reviews.parent / "mine"
    if not workdir.exists():
        fitting.fit(str(reviews), str(workdir), fitting.Asked(group=("sentiment",)), SHORT)
    held = {name: (workdir / name).read_bytes() for name in ("fit.py", "fit.json", "results.json", "config.json")}
    for asked, overrides, said in (
        (fitting.Asked(quality="good"), SHORT, "holds a fit with quality='fast', and now it is 'good'"),
        (fitting.Asked(metric="auroc"), SHORT, "metric="),
        (fitting.Asked(), {}, "overrides="),
        (fitting.Asked(seed=3), SHORT, "seed=0"),
    ):
        with pytest.raises(UserError, match=said):
            fitting.fit(str(reviews), str(workdir), asked, overrides)
    again = fitting.fit(str(reviews), str(workdir), fitting.Asked(issues=False), SHORT, quiet=True)
    took = json.loads(held["fit.json"])["leaderboard"][-1]["seconds"]
    assert round(again.entries[-1].seconds, 1) == took, "the time is that of the training"
    assert {name: (workdir / name).read_bytes() for name in ("fit.py", "results.json", "config.json")} == {
        name: held[name] for name in ("fit.py", "results.json", "config.json")
    }
    assert json.loads((workdir / "fit.json").read_text())["issues"] == json.loads(held["fit.json"])["issues"]
