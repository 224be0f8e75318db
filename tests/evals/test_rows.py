"""Rows against scikit-learn and the bootstrap itself, from nothing but a predictions file."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from assay.core.errors import UserError
from assay.core.means import mean_interval, shares_interval, units_of
from assay.core.stats import bootstrap, over_seeds, wilson
from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals.evaluate import EvaluateConfig, evaluate, make_answer
from assay.evals.rows import ALIKE, RESAMPLES, SOME_UNDEFINED, _value, at_chance, mean_rows, rows, value_of
from assay.evals.score import expected_calibration_error, f1_macro
from assay.evals.summary import SUMMARIES, of_predictions
from assay.models.model import Model, Output
from assay.tasks.table import TASKS, build
from assay.train.workdir import WorkDir

LABELS = {"experiment": "e", "model": "m", "treatment": "none", "seed": 0, "steps": 1}


def logits_of(batch) -> jax.Array:
    """Some function of what was read, with 8 or 10 classes, right now and then."""
    flat = batch["inputs"].reshape(len(batch["inputs"]), -1).astype(jnp.float32)
    classes = 10 if batch["inputs"].ndim == 4 else 8
    noise = jnp.sin(flat[:, :12].sum(axis=1, keepdims=True) * jnp.arange(1, classes + 1)[None, :])
    return 1.5 * noise + jax.nn.one_hot(batch["targets"], classes)


def answered(task, split: str, batch_size: int = 128) -> list[dict]:
    model = Model(init=lambda key, batch: {}, apply=lambda params, batch: Output(logits_of(batch), {}))
    config = EvaluateConfig((split,), 1, batch_size, 1)
    return evaluate(jax.jit(make_answer(model, task)), {}, task, split, config, make_mesh(MeshConfig(-1, 1, 1)))


@pytest.fixture(scope="module", params=["digits", "stdlib/package"])
def measured(request, tmp_path_factory):
    """(task, the rows of its test split, the lines of the predictions file)."""
    task = build({**TASKS[request.param].defaults, "name": request.param, **({} if request.param == "digits" else {"max_length": 32})}, 0)
    records = answered(task, "test")
    folder = WorkDir(tmp_path_factory.mktemp("run"))
    folder.write_predictions("test", records)
    lines = [json.loads(line) for line in folder.predictions("test").read_text().splitlines()]
    return task, {row["metric"]: row for row in rows(records, task, "test", LABELS, by_length=False)}, lines


def probabilities(task, lines: list[dict]) -> np.ndarray:
    source = task.source("test")
    found = source.fetch(np.array([line["id"] for line in lines]))
    shares = np.asarray(jax.nn.softmax(logits_of(task.encode(found, task.width(source.lengths[1]))), axis=-1), np.float64)
    return shares / shares.sum(axis=1, keepdims=True)


def test_values_equal_scikit_learn(measured):
    task, found, lines = measured
    assert tuple(found) == task.metrics == ("accuracy", "f1_macro", "nll", "ece")
    targets, predictions = ([line[name] for line in lines] for name in ("target", "prediction"))
    assert len(lines) == task.source("test").size and 0.2 < found["accuracy"]["value"] < 0.9
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(targets, predictions), rel=1e-12)
    assert found["f1_macro"]["value"] == pytest.approx(f1_score(targets, predictions, average="macro"), rel=1e-12)
    shares = probabilities(task, lines)
    assert found["nll"]["value"] == pytest.approx(log_loss(targets, shares, labels=list(task.classes)), rel=1e-5)
    ids = np.array([task.classes.index(target) for target in targets])
    assert found["ece"]["value"] == pytest.approx(expected_calibration_error(shares, ids), abs=2e-3)
    assert {name: row["unit"] for name, row in found.items()} == dict.fromkeys(found, "fraction") | {"nll": "nats"}


def test_values_and_intervals_are_computable_from_the_file(measured):
    task, found, lines = measured
    files = None if task.name == "digits" else np.array([line["group"] for line in lines])
    assert (files is None) == (task.source("test").groups is None) and ("group" in lines[0]) == (files is not None)
    right, nll, confidence = (np.array([line["scores"][name] for line in lines]) for name in ("accuracy", "nll", "confidence"))
    for metric, values in (("accuracy", right), ("nll", nll)):
        if metric == "accuracy" and files is None:
            assert (
                found[metric]["interval"] == pytest.approx(wilson(right.mean(), len(lines)))
                and "Wilson" in found[metric]["interval_method"]
            )
            continue
        value, *percentiles = bootstrap(np.mean, values, groups=files, resamples=RESAMPLES)
        ends = (shares_interval if metric == "accuracy" else mean_interval)(units_of(values, files))
        assert (found[metric]["value"], found[metric]["interval"]) == (pytest.approx(value), pytest.approx(ends))
        assert ends == pytest.approx(percentiles, abs=0.2 * (percentiles[1] - percentiles[0])), "near the percentile bootstrap"
        assert f"over {'examples' if files is None else 'groups'}" in found[metric]["interval_method"]
    targets, predictions = (np.array([str(line[name]) for line in lines]) for name in ("target", "prediction"))

    def f1(targets: np.ndarray, predictions: np.ndarray) -> float:
        return f1_score(targets, predictions, average="macro")

    _, *some = bootstrap(f1, targets, predictions, groups=files, resamples=20)
    _, *again = bootstrap(lambda t, p: value_of(_records(t, p), "f1_macro", False), targets, predictions, groups=files, resamples=20)
    assert some == pytest.approx(again), "of each resample too"
    ids = np.unique(np.stack([predictions, targets]), return_inverse=True)[1].reshape(2, -1)
    _, *interval = bootstrap(f1_macro, *ids, groups=files, resamples=RESAMPLES)
    assert found["f1_macro"]["interval"] == pytest.approx(interval)

    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs((right - confidence)[bins == b].sum()) for b in range(15)]
    assert found["ece"]["value"] == pytest.approx(sum(gaps) / len(right))
    assert found["ece"]["interval"] is None, "resampled answers lie farther from their confidence than answers do"
    assert all(row["interval"] is None or row["interval"][0] <= row["value"] <= row["interval"][1] for row in found.values())


def _records(targets: np.ndarray, predictions: np.ndarray) -> list[dict]:
    return [{"target": t, "prediction": p, "scores": {}} for t, p in zip(targets.tolist(), predictions.tolist(), strict=True)]


def test_files_are_drawn_whole(measured):
    """Passages of one file are alike: an interval over files is wider than one over passages, and of one file there is none."""
    task, _, lines = measured
    if task.name == "digits":
        return
    alike = [{**line, "group": "one.py"} for line in lines]
    (row, *_) = rows(alike, task, "test", LABELS, by_length=False)
    assert row["interval"] is None and row["caution"] == "too few groups for an interval: 1"
    constant = {file: float(i % 2) for i, file in enumerate(sorted({line["group"] for line in lines}))}
    same = [{**line, "scores": {**line["scores"], "accuracy": constant[line["group"]]}} for line in lines]
    (row, *_) = rows(same, task, "test", LABELS, by_length=False)
    low, high = wilson(row["value"], len(lines))
    assert row["interval"][1] - row["interval"][0] > 2 * (high - low)


def test_no_batch_size_changes_a_row(measured):
    task, found, _ = measured
    for batch_size in (7, 2000):
        again = rows(answered(task, "test", batch_size), task, "test", LABELS, by_length=False)
        for row in again:
            assert row["value"] == pytest.approx(found[row["metric"]]["value"], rel=1e-5) and row["n"] == found[row["metric"]]["n"]


def test_baselines(measured):
    task, found, lines = measured
    targets = [line["target"] for line in lines]
    majority = max(targets.count(target) for target in set(targets)) / len(targets)
    assert found["accuracy"]["baselines"] == {"chance": 1 / len(task.classes), "majority": pytest.approx(majority)}
    assert all(not found[metric]["baselines"] for metric in ("f1_macro", "nll", "ece"))


def seeded(row, values, **more):
    """The row of each of several seeds, whose own interval is 0.02 wide."""
    return [{**row, "seed": seed, "value": value, "interval": [value - 0.01, value + 0.01], **more} for seed, value in enumerate(values)]


def test_few_seeds_have_the_range_of_their_own_intervals(measured):
    """Student's t over 3 seeds covers the mean in .48 of cases where four of five trainings learn."""
    _, found, _ = measured
    (mean,) = mean_rows(seeded(found["accuracy"], [0.98, 0.6, 0.98]))
    assert mean["interval"] == pytest.approx([0.59, 0.99]) and mean["seed"] == [0, 1, 2] and mean["n"] == found["accuracy"]["n"]
    assert "seeds' own intervals" in mean["interval_method"]
    (alike,) = mean_rows(seeded(found["accuracy"], [1.0, 1.0, 1.0]))
    assert alike["interval"] == pytest.approx([0.99, 1.01]), "three seeds at 100 % are no certainty"
    (without,) = mean_rows(seeded(found["ece"], [0.1, 0.2], interval=None))
    assert without["interval"] is None


def test_ten_seeds_have_students_interval_no_narrower_than_that_of_one(measured):
    _, found, _ = measured
    values = np.linspace(0.6, 0.9, 10)
    (mean,) = mean_rows(seeded(found["accuracy"], values))
    assert mean["interval"] == pytest.approx(over_seeds(values.tolist())) and "Student" in mean["interval_method"]
    (alike,) = mean_rows(seeded(found["accuracy"], [0.8] * 10))
    assert alike["interval"] == pytest.approx([0.79, 0.81])
    (top,) = mean_rows(seeded({**found["nll"], "metric": "bleu", "unit": "BLEU"}, [99.0] * 5 + [80.0] * 5))
    assert 80 < top["interval"][0] < top["interval"][1] <= 100.0
    (near,) = mean_rows(seeded(found["accuracy"], [1.0] * 9 + [0.6]))
    assert near["interval"][1] == 1.0, "no share above 1"


def test_seeds_that_learned_are_counted(measured):
    _, found, _ = measured
    row = {**found["accuracy"], "baselines": {"chance": 0.1, "majority": 0.55}}
    (mean,) = mean_rows(seeded(row, [0.98, 0.555, 0.7]))
    assert mean["learned"] == 2, "the second seed's interval holds the majority's score"
    (errors,) = mean_rows(seeded({**row, "metric": "mse", "baselines": {"constant": 0.5}}, [0.1, 0.6]))
    assert errors["learned"] == 1 and "learned" not in mean_rows(seeded({**row, "baselines": {}}, [0.1, 0.6]))[0]


def test_a_constant_answer_and_a_score_at_chance_are_told(measured):
    task, _, lines = measured
    constant = [{**line, "prediction": lines[0]["prediction"]} for line in lines]
    (row, *_) = rows(constant, task, "test", LABELS, by_length=False)
    assert row["constant"] == 1.0 and "constant" not in rows(constant[:19], task, "test", LABELS, by_length=False)[0]
    best = max(row["baselines"].values())
    (near, *_) = (at_chance({**row, "value": value}) for value in (best + 0.049,))
    assert near and not at_chance({**row, "value": best + 0.051}) and not at_chance({**row, "value": None})
    assert not at_chance({**row, "metric": "nll", "unit": "nats"}) and not at_chance({**row, "baselines": {}})
    seeds = [{**row, "seed": seed, "value": value} for seed, value in enumerate((best, best + 0.2))]
    assert "at_chance" not in mean_rows(seeds)[0] and mean_rows(seeds)[0]["constant"] == 1.0
    assert mean_rows([seeds[0], {**seeds[0], "seed": 1, "constant": None}])[0].get("constant") is None


def test_resamples_of_few_or_of_equal_answers_give_no_interval(measured):
    task, _, lines = measured

    def f1(records):
        return next(row for row in rows(records, task, "test", LABELS, by_length=False) if row["metric"] == "f1_macro")

    few = f1(lines[:4])
    assert few["interval"] is None and few["caution"].startswith("too few ")
    perfect = f1([{**line, "prediction": line["target"]} for line in lines])
    assert (perfect["value"], perfect["interval"], perfect["caution"]) == (1, None, ALIKE)


def test_values_that_are_not_finite_are_counted(measured):
    task, _, lines = measured
    broken = [{**line, "scores": {**line["scores"], "nll": np.nan}} if i < 3 else line for i, line in enumerate(lines)]
    found = {row["metric"]: row for row in rows(broken, task, "test", LABELS, by_length=False)}
    assert found["nll"]["value"] is None and found["nll"]["interval"] is None and found["accuracy"]["value"] is not None
    assert found["nll"]["caution"] == f"3 of {len(lines):,} values are not finite ({3 / len(lines):.1%})"
    assert mean_rows([{**found["nll"], "seed": seed} for seed in (0, 1)]) == []


def test_a_metric_of_ones_own_need_not_be_a_fraction(measured):
    """Wilson's interval of a value above 1 is a domain error, after training."""
    records = [{"scores": {"distance": 3.0 + i % 5, "share": (i % 5) / 5}, "length": 1 + i % 4} for i in range(40)]
    task = replace(measured[0], units={})
    for by_length in (False, True):
        found = _value(records, task, "distance", by_length)
        assert (found["value"], found["unit"]) == (5.0, "") and 3 < found["interval"][0] < 5 < found["interval"][1] < 7
        assert _value(records, task, "share", by_length)["unit"] == "fraction"
        assert _value(records, replace(task, units={"distance": "m"}), "distance", by_length)["unit"] == "m"


SEEN = [{"prediction": "ab"[i % 2], "target": "a", "scores": {"confidence": 0.6 + 0.01 * i}} for i in range(30)]  # one true class
NOTHING = [{"prediction": [0, 0], "target": [0, 0], "scores": {"exact_match": 1.0}} for _ in range(30)]


@pytest.mark.parametrize(
    ("metric", "records", "why"),
    [
        ("auroc", SEEN, "auroc has no value: all targets are of one class"),
        ("f1_labels", NOTHING, "f1_labels has no value: no label occurs as target or answer"),
        ("silent", NOTHING, "silent has no value: it is not finite for these examples"),
    ],
)
def test_a_metric_that_the_examples_do_not_define_has_no_value_and_says_why(measured, monkeypatch, metric, records, why):
    monkeypatch.setitem(SUMMARIES, "silent", of_predictions(lambda predictions, targets: np.inf))
    records = [{"id": i, "length": 1, **record} for i, record in enumerate(records)]
    (found,) = rows(records, replace(measured[0], metrics=(metric,)), "test", LABELS, by_length=False)
    assert found["value"] is found["interval"] is None and found["caution"] == why
    assert not np.isfinite(value_of(records, metric, by_length=False))
    assert mean_rows([{**found, "seed": seed} for seed in (0, 1)]) == []


def test_resamples_without_a_value_leave_no_interval(measured):
    """Two of 30 examples are of the other class, so that some resamples have none."""
    records = [{"id": i, "length": 1, **one, "target": "b" if i in (3, 8) else "a"} for i, one in enumerate(SEEN)]
    (found,) = rows(records, replace(measured[0], metrics=("auroc",)), "test", LABELS, by_length=False)
    assert 0 < found["value"] < 1 and found["interval"] is None and found["caution"] == SOME_UNDEFINED


def test_a_class_that_is_a_list_is_one_message():
    """As of a task of one's own that describes its targets as tokens."""
    records = [{"id": 0, "length": 1, "prediction": "b", "target": [1], "scores": {"accuracy": 1.0}}]
    with pytest.raises(UserError, match=r"f1_macro .* the prediction is 'b' and the target \[1\].*Source.describe"):
        value_of(records, "f1_macro", False)
