"""What `assay fit` decides: models and steps by rows, the simple learners beside them, the leaderboard, and the config file."""

import ast
import importlib.util
import json

import numpy as np
import pytest

from assay.cli.fit import Asked, looked
from assay.config.schema import to_dict
from assay.fitting.board import Entry, best, score_text, verdict
from assay.fitting.plans import QUALITIES, plans
from assay.fitting.simple import constant, correct, simple
from assay.fitting.written import text_of
from assay.tasks.table import build


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
    for split in ("valid", "test"):
        assert len(learner.answers[split]) == made.source(split).size
        assert correct(found, learner.answers, split).mean() > 0.9, "a word tells the class"
        shares = correct(found, usual.answers, split)
        assert set(usual.answers[split]) == {max(found.classes, key=lambda name: found.found.classes[name])} and 0.3 < shares.mean() < 0.7


def test_numbers_and_labels_have_learners_too(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=200)
    rows = "\n".join(f"{one:.4f},{'red' if i % 2 else 'blue'},{3 * one + (i % 2):.4f}" for i, one in enumerate(x))
    (tmp_path / "n.csv").write_text("x,colour,price\n" + rows, encoding="utf-8")
    task, found = looked(str(tmp_path / "n.csv"), Asked(target="price", regression=True))
    learner = simple(found, build(to_dict(task), 0))
    assert task.name == "files/table" and learner.title == "gradient boosting"
    assert correct(found, learner.answers, "test").mean() < 0.3 * correct(found, constant(found).answers, "test").mean()
    kinds = (("cat", ["c"]), ("dog", ["d"]), ("cat dog", ["c", "d"]))
    tags = "\n".join(json.dumps({"text": f"{kinds[i % 3][0]} {i}", "labels": kinds[i % 3][1]}) for i in range(90))
    (tmp_path / "tags.jsonl").write_text(tags, encoding="utf-8")
    task, found = looked(str(tmp_path / "tags.jsonl"), Asked(text=("text",)))
    learner = simple(found, build(to_dict(task), 0))
    assert task.kind == "labels" and correct(found, learner.answers, "test").mean() > 0.9


def entry(name: str, valid: list[float], test: list[float]) -> Entry:
    return Entry(name, f"the {name}", np.array(valid), np.array(test), 1.0)


def test_the_first_sentence_names_the_better_one():
    simple_one, model = entry("forest", [1] * 9 + [0], [1] * 90 + [0] * 10), entry("net", [1] * 7 + [0] * 3, [1] * 60 + [0] * 40)
    assert best([simple_one, model], lower=False) is simple_one
    told = verdict(simple_one, model, lower=False)
    assert (
        told.startswith("Use the forest: it is right for 90.0 % (82.6 to 94.5 %) of 100 rows of test, the net for 60.0 %")
        and "chance" not in told
    )
    same = verdict(simple_one, simple_one._replace(title="the twin"), lower=False)
    assert "difference of 0 points" in same and "may be chance" in same
    assert best([simple_one, model._replace(valid=simple_one.valid)], lower=False) is simple_one, "of equal ones the simple one"


def test_errors_are_better_when_lower():
    near, far = entry("near", [1.0, 4.0], [1.0] * 50), entry("far", [9.0, 16.0], [16.0] * 50)
    assert best([far, near], lower=True) is near
    told = verdict(near, far, lower=True)
    assert "its root mean squared error on 50 rows of test is 1, that of the far 4; a difference" in told
    assert score_text(far.test, lower=True) == "4" and score_text(None, lower=False) == "\u2013"
