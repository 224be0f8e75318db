"""What `assay fit` decides: models and steps by rows, the simple learners beside them, the leaderboard, and the config file."""

import ast
import importlib.util
import json

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from assay.cli.fit import Asked, looked
from assay.config.schema import to_dict
from assay.core.errors import UserError
from assay.fitting import scores
from assay.fitting.board import Entry, best, by_group, cell, verdict
from assay.fitting.budget import affordable, seconds_of, step_seconds
from assay.fitting.plans import QUALITIES, cut_of, plans, shortened
from assay.fitting.simple import _counted, constant, simple
from assay.fitting.written import text_of
from assay.tasks.table import build
from assay.treatments.pipeline.load import treatments


def texts(path, rows: int, rare: int = 0):
    """Writes texts whose class is that of a word; `rare` rows are of a third class."""
    random = np.random.default_rng(0)
    lines = ["text,label"]
    for i in range(rows):
        label = "rare" if i < rare else ("good", "bad")[i % 2]
        lines.append(f"{' '.join(random.choice(list('abcdefghij'), 5))} {label}word {i},{label}")
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return looked(texts(tmp_path_factory.mktemp("small") / "t.csv", 120, rare=6), Asked())


def test_every_choice_is_written_out(small):
    task, found = small
    assert (task.name, task.target, task.kind) == ("files/texts", "label", "classes")
    assert task.max_length == 16 and found.classes == ("bad", "good", "rare")


def test_models_and_steps_follow_the_rows(small, tmp_path):
    task, found = small
    for number, quality in enumerate(QUALITIES, 1):
        assert len(plans(task, found, quality)) == number
    (plan,) = plans(task, found, "fast")
    rows = found.found.splits["train"]
    assert plan.config.model.name == "bag" and plan.config.train.steps == max(100, 40 * max(1, rows // 32))
    assert "balance" in plan.config.treatments and any(one.startswith("early_stopping") for one in plan.config.treatments)
    task, found = looked(texts(tmp_path / "even.csv", 1500), Asked())
    (larger,) = plans(task, found, "fast")
    assert larger.config.train.steps > plan.config.train.steps and "balance" not in larger.config.treatments


def test_the_file_makes_the_same_config(small, tmp_path):
    task, found = small
    listed = plans(task, found, "best")
    path = tmp_path / "fit.py"
    path.write_text(text_of(listed, 'a "label"', "t.csv", str(path)), encoding="utf-8")
    assert (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0] == "Can a 'label' be predicted from t.csv?"
    spec = importlib.util.spec_from_file_location("fit", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for plan in listed:
        assert to_dict(module.get_config(plan.name)) == to_dict(plan.config)


def test_simple_learners_are_scored_on_the_same_rows(small):
    task, found = small
    made = build(to_dict(task), 0)
    usual, learner = constant(found), simple(found, made)
    commonest = max(found.classes, key=lambda name: found.found.classes[name])
    for split in ("valid", "test"):
        assert len(learner.parts[split]) == made.source(split).size
        assert scores.value("accuracy", learner.parts[split]) > 0.9, "a word tells the class"
        assert scores.value("nll", learner.parts[split]) < scores.value("nll", usual.parts[split]), "and how surely"
        assert {row["prediction"] for row in usual.parts[split]} == {commonest}
        assert 0.3 < scores.value("accuracy", usual.parts[split]) < 0.7


def test_numbers_and_labels_have_learners_too(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=200)
    rows = "\n".join(f"{one:.4f},{'red' if i % 2 else 'blue'},{3 * one + (i % 2):.4f}" for i, one in enumerate(x))
    (tmp_path / "n.csv").write_text("x,colour,price\n" + rows, encoding="utf-8")
    task, found = looked(str(tmp_path / "n.csv"), Asked(target="price", regression=True))
    learner = simple(found, build(to_dict(task), 0))
    assert task.name == "files/table" and learner.title == "gradient boosting"
    assert scores.value("mse", learner.parts["test"]) < 0.3 * scores.value("mse", constant(found).parts["test"])
    kinds = (("cat", ["c"]), ("dog", ["d"]), ("cat dog", ["c", "d"]))
    assert 0.5 < scores.value("r2", learner.parts["test"]) < 1
    tags = "\n".join(json.dumps({"text": f"{kinds[i % 3][0]} {i}", "labels": kinds[i % 3][1]}) for i in range(90))
    (tmp_path / "tags.jsonl").write_text(tags, encoding="utf-8")
    task, found = looked(str(tmp_path / "tags.jsonl"), Asked(text=("text",)))
    learner = simple(found, build(to_dict(task), 0))
    assert task.kind == "labels" and scores.value("exact_match", learner.parts["test"]) > 0.9
    assert scores.value("jaccard", learner.parts["test"]) > 0.9 > scores.value("jaccard", constant(found).parts["test"])


def test_the_threshold_of_the_simple_learner_is_that_of_the_metric(tmp_path, monkeypatch):
    """A rare class that the inputs tell only in part: at one half it is hardly ever the answer."""
    monkeypatch.setattr("assay.fitting.simple._learner", lambda *_: LogisticRegression())
    random = np.random.default_rng(0)
    rare = random.random(3000) < 0.1
    x = random.normal(size=3000) + 1.5 * rare
    lines = [f"{one:.4f},{'yes' if here else 'no'}" for one, here in zip(x, rare, strict=True)]
    (tmp_path / "r.csv").write_text("x,label\n" + "\n".join(lines), encoding="utf-8")
    task, found = looked(str(tmp_path / "r.csv"), Asked(metric="f1_macro"))
    assert cut_of(found, "f1_macro") == "f1_macro" and cut_of(found, "") == "accuracy" and cut_of(found, "auroc") == ""
    made = build(to_dict(task), 0)
    plain, cut = simple(found, made), simple(found, made, "f1_macro")
    assert scores.value("f1_macro", cut.parts["test"]) > scores.value("f1_macro", plain.parts["test"]) + 0.03
    assert scores.value("auroc", cut.parts["test"]) == pytest.approx(scores.value("auroc", plain.parts["test"]))
    assert plans(task, found, "fast", "f1_macro")[0].config.treatments[-2:] == ("calibrate", "threshold:metric=f1_macro")


def test_a_class_of_one_row_stops_no_learner(tmp_path, monkeypatch):
    """Gradient boosting holds out a stratified part of many rows, which a class of one row does not have."""
    monkeypatch.setattr("assay.fitting.simple._learner", lambda *_: HistGradientBoostingClassifier(max_iter=2, early_stopping=True))
    lines = [f"{i},{'odd' if i == 3 else 'high' if i > 50 else 'low'}" for i in range(100)]
    (tmp_path / "odd.csv").write_text("x,label\n" + "\n".join(lines), encoding="utf-8")
    task, found = looked(str(tmp_path / "odd.csv"), Asked())
    assert found.parts["train"].columns["label"].tolist().count("odd") == 1
    assert scores.value("accuracy", simple(found, build(to_dict(task), 0)).parts["test"]) > 0.9


def entry(name: str, valid: list[float], test: list[float], metric: str = "accuracy") -> Entry:
    parts = {part: [{"scores": {metric: one}} for one in rows] for part, rows in (("valid", valid), ("test", test))}
    return Entry(name, f"the {name}", parts, 1.0)


def test_the_first_sentence_names_the_better_one():
    simple_one, model = entry("forest", [1] * 9 + [0], [1] * 90 + [0] * 10), entry("net", [1] * 7 + [0] * 3, [1] * 60 + [0] * 40)
    assert best([simple_one, model], "accuracy") is simple_one
    told = verdict(simple_one, model, "accuracy")
    assert (
        told.startswith("Use the forest: it is right for 90.0 % (82.6 to 94.5 %) of 100 rows of test, the net for 60.0 %")
        and "chance" not in told
    )
    same = verdict(simple_one, simple_one._replace(title="the twin"), "accuracy")
    assert "difference of 0 points" in same and "may be chance" in same
    twin = model._replace(parts={**model.parts, "valid": simple_one.parts["valid"]})
    assert best([simple_one, twin], "accuracy") is simple_one, "of equal ones the simple one"
    assert cell(simple_one._replace(parts={}), "valid", "accuracy") == "\u2013"


def numbers(name: str, errors: list[float]) -> Entry:
    targets = np.arange(len(errors), dtype=float)
    rows = [{"target": t, "prediction": t + e, "scores": {"mse": e * e, "mae": abs(e)}} for t, e in zip(targets, errors, strict=True)]
    return Entry(name, f"the {name}", {"valid": rows, "test": rows}, 1.0)


@pytest.mark.parametrize("metric, value", [("rmse", "1"), ("mae", "1"), ("r2", "0.995")])
def test_errors_are_better_when_lower(metric, value):
    near, far = numbers("near", [1.0, -1.0] * 25), numbers("far", [4.0, -4.0] * 25)
    assert best([far, near], metric) is near
    told = verdict(near, far, metric)
    assert f"its {scores.title_of(metric)} on 50 rows of test is {value}" in told and "chance" not in told


def test_the_metric_of_the_choice_is_the_one_that_was_asked_for():
    """Of 20 rows of a rare and a common class, one model never says the rare one: right more often, and worse by macro F1 and AUROC."""
    targets = ["rare"] * 4 + ["usual"] * 16

    def model(name: str, rare: list[float]) -> Entry:
        answers = ["rare" if p > 0.5 else "usual" for p in rare]
        rows = [
            {"target": t, "prediction": a, "scores": {"accuracy": float(a == t), "confidence": max(p, 1 - p)}}
            for t, a, p in zip(targets, answers, rare, strict=True)
        ]
        return Entry(name, name, {"valid": rows, "test": rows}, 1.0)

    silent, finding = model("silent", [0.4, 0.1] * 10), model("finding", [0.9] * 4 + [0.8] * 5 + [0.1] * 11)
    assert best([silent, finding], "accuracy") is silent
    assert best([silent, finding], "f1_macro") is finding and best([silent, finding], "auroc") is finding
    rows = finding.parts["test"]
    true, said = [row["target"] for row in rows], [row["prediction"] for row in rows]
    assert scores.value("f1_macro", rows) == pytest.approx(f1_score(true, said, average="macro"))
    found = scores.difference("f1_macro", rows, silent.parts["test"])
    assert found.value == pytest.approx(scores.value("f1_macro", rows) - scores.value("f1_macro", silent.parts["test"]))
    assert scores.difference("f1_macro", rows, rows).value == 0.0
    assert np.isnan(scores.value("auroc", rows[:4])), "one class has no AUROC"
    assert np.isnan(scores.interval("auroc", rows[3:]).low), "nor have resamples of one class"


def test_groups_are_the_values_of_a_column():
    one = entry("one", [], [1, 1, 0, 1, 0])
    rows = by_group([one], ["b", "a", "b", None, "b"], "test", "accuracy")
    assert [(row["group"], row["n"], row["one"]["value"]) for row in rows] == [("b", 3, 1 / 3), ("a", 1, 1.0), ("missing", 1, 1.0)]
    many = by_group([entry("one", [], [1] * 50)], [f"g{i % 30}" for i in range(50)], "test", "accuracy")
    assert len(many) == 21 and {row["group"]: row["n"] for row in many}["all other values"] == 10 and sum(row["n"] for row in many) == 50
    named = by_group([entry("one", [], [1, 1, 0])], ["missing", None, "missing"], "test", "accuracy")
    assert [(row["group"], row["n"]) for row in named] == [("missing", 2), ("(missing)", 1)], "a value of that name is another group"


def test_a_time_is_a_number_of_steps(small, tmp_path):
    assert [seconds_of(text) for text in ("90", "90s", "1.5m", "2 h")] == [90.0, 90.0, 90.0, 7200.0]
    for text in ("", "soon", "0s", "-3m", "5d"):
        with pytest.raises(UserError, match="is not a time"):
            seconds_of(text)
    task, found = small
    (plan,) = plans(task, found, "fast")
    each = step_seconds(plan.config, treatments)
    assert 1e-5 < each < 1.0
    assert affordable(4000, 0.01, 1e6) == 4000 and affordable(4000, 0.01, 10.0) == 800 and affordable(7, 0.01, 0.0) == 7
    fewest = affordable(plan.config.train.steps, each, 0.0)
    less = shortened(plan, fewest)
    assert fewest == 20 and less.config.train.steps == 20 and less.config.train.log_every == 2
    assert "early_stopping:patience=8,every=2" in less.config.treatments
    assert plans(task, found, "fast")[0].config == plan.config, "the plan itself is as before"


def test_words_of_the_simple_learner_keep_their_marks():
    """To Python's `\\w`, vowel signs are no letters: several words of Hindi would be one."""
    texts = ["के घर", "कु घर", "कै घर", "cafe\u0301 noir", "café noir"] * 8
    rows = _counted(texts).transform(texts[:5]).toarray()
    assert len({tuple(row) for row in rows[:3]}) == 3 and (rows[3] == rows[4]).all() and rows[3].any()
