"""The verbs end to end: what they write is the public interface, and every number in it can be recomputed from the predictions alone."""

import json
import math
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import assay
from assay.cli import show as browse
from assay.cli.evaluate import evaluate
from assay.cli.study import study as study_of
from assay.cli.train import run as train
from assay.config.files import load
from assay.tasks.table import TASKS
from assay.train import loop
from assay.train.state import all_params
from assay.train.workdir import EXTRA
from assay.treatments.pipeline.load import rebuild, restore

ROOT = Path(__file__).parents[1]
CONFIG = "experiments/reason/parity.py"
VARIANTS, SEEDS, SPLITS = ("tiny", "scratchpad,tiny"), (0, 1), ("iid", "9-16")
METRICS = {"tiny": ("answer_accuracy",), "scratchpad,tiny": ("answer_accuracy", "token_accuracy", "exact_match")}
STUDY = ["experiments.study", *(f"--config={CONFIG}:{variant}" for variant in VARIANTS), "--seeds=0:1"]
RUNS = [(variant, seed) for variant in VARIANTS for seed in SEEDS]
CELL = {"value", "spread", "range", "statistic", "source", "tag", "protocol"}  # keys of a published value
ROW = {
    "experiment": str,
    "task": str,
    "model": str,
    "treatment": str,
    "split": str,
    "metric": str,
    "value": float,
    "unit": str,
    "n": int,
    "steps": int,
    "interval_method": str,
    "by_length": dict,
    "published": list,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """2 variants x 2 seeds by the real command. Tests that change a run copy it."""
    folder = tmp_path_factory.mktemp("study") / "study"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "lib")])}
    command = [sys.executable, "-m", *STUDY, f"--workdir={folder}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "answer_accuracy" in done.stdout and str(folder / "report.html") in done.stdout
    return folder


def path_of(study: Path, variant: str, seed: int) -> Path:
    return study / variant.replace(",", "-") / f"seed_{seed}"


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def predictions(run: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (run / "predictions" / f"{split}.jsonl").read_text().splitlines()]


def score(metric: str, target: list[int], prediction: list[int]) -> float:
    """What the metrics mean, from tokens."""
    right = [a == b for a, b in zip(target, prediction, strict=True)]
    return {"answer_accuracy": float(right[-1]), "token_accuracy": sum(right) / len(right), "exact_match": float(all(right))}[metric]


def wilson(share: float, n: int) -> tuple[float, float]:
    """The two p with (share - p)^2 = z^2 p (1 - p) / n (Wilson 1927), from the quadratic formula."""
    z2 = 1.959963984540054**2 / n
    a, b, c = 1 + z2, -(2 * share + z2), share**2
    root = math.sqrt(b * b - 4 * a * c)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def test_a_study_makes_its_folders(study):
    for variant, seed in RUNS:
        run = path_of(study, variant, seed)
        names = {path.name for path in run.iterdir()}
        assert names >= {"config.json", "checkpoints", "metrics.jsonl", "results.json", "predictions", "tensorboard"}
        assert {path.stem for path in (run / "predictions").iterdir()} == set(SPLITS)
        assert read(run / "config.json")["seed"] == seed
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [4, 8, 12, 16, 20]
        assert all(line.keys() >= {"loss", "learning_rate", "grad_norm", "examples_per_second"} for line in lines)
        found = [path for path in (run / "tensorboard").iterdir() if path.name.startswith("events.out.tfevents")]
        assert len(found) == 1 and sum(b"loss" in record for record in _records(found[0])) == len(lines)
    assert "<html" in (study / "report.html").read_text()


def test_the_schema_of_every_row(study):
    joined = read(study / "results.json")
    single = [read(path_of(study, *run) / "results.json") for run in RUNS]
    for results in (joined, *single):
        assert results["schema"] == 1
        assert results["environment"].keys() >= {"versions", "devices", "commit"}
        assert results["environment"]["versions"].keys() >= {"jax", "flax", "optax", "orbax-checkpoint", "numpy", "assay"}
        for row in results["rows"]:
            for key, kind in ROW.items():
                assert isinstance(row[key], kind) and not isinstance(row[key], bool), key
            assert 0 <= row["value"] <= 1 and row["unit"] == "fraction" and row["n"] > 0
            assert row["interval"] is None or (len(row["interval"]) == 2 and row["interval"][0] <= row["value"] <= row["interval"][1])
            assert all(length.isdigit() and 0 <= value <= 1 for length, value in row["by_length"].items())
            for cell in row["published"]:
                assert cell.keys() == CELL and cell["statistic"] in (
                    "max",
                    "mean",
                )
    for (variant, seed), results in zip(RUNS, single, strict=True):
        assert [(row["split"], row["metric"]) for row in results["rows"]] == [
            (split, name) for split in SPLITS for name in METRICS[variant]
        ]
        for row in results["rows"]:
            told = (row["experiment"], row["task"], row["treatment"], row["seed"], row["steps"])
            treatment = "scratchpad" if "scratchpad" in variant else "none"
            assert told == (f"reason/parity:{variant}", "chomsky/parity_check", treatment, seed, 20)


def test_means_over_seeds(study):
    rows = read(study / "results.json")["rows"]
    means = [row for row in rows if isinstance(row["seed"], list)]
    assert rows[: -len(means)] == [row for run in RUNS for row in read(path_of(study, *run) / "results.json")["rows"]]
    assert len(means) == sum(len(SPLITS) * len(METRICS[variant]) for variant in VARIANTS)
    for mean in means:
        same = ("experiment", "split", "metric")
        group = [row for row in rows if isinstance(row["seed"], int) and all(row[key] == mean[key] for key in same)]
        values = [row["value"] for row in group]
        assert mean["seed"] == list(SEEDS) == [row["seed"] for row in group]
        assert mean["value"] == pytest.approx(sum(values) / 2) and {mean["n"]} == {row["n"] for row in group}
        low, high = (min(row["interval"][0] for row in group), max(row["interval"][1] for row in group))
        assert mean["interval"] == pytest.approx([low, high]) and "seeds" in mean["interval_method"]
        for length, value in mean["by_length"].items():
            assert value == pytest.approx(sum(row["by_length"][length] for row in group) / 2)
    pairs = [[row["value"] for row in rows if row["metric"] == "token_accuracy" and row["seed"] == seed] for seed in SEEDS]
    assert pairs[0] != pairs[1], "seeds differ"


@pytest.mark.parametrize(("variant", "seed"), RUNS)
def test_every_value_is_computable_from_the_predictions(study, variant, seed):
    run = path_of(study, variant, seed)
    for row in read(run / "results.json")["rows"]:
        records, metric = predictions(run, row["split"]), row["metric"]
        lengths: dict[str, list[float]] = {}
        for record in records:
            assert record.keys() == {"id", "length", "input", "target", "prediction", "scores"}
            assert record["scores"].keys() == set(METRICS[variant]) and len(record["input"]) == record["length"]
            mine = score(metric, record["target"], record["prediction"])
            assert record["scores"][metric] == pytest.approx(mine, abs=1e-6)
            lengths.setdefault(str(record["length"]), []).append(mine)
        low, high = {"iid": (1, 8), "9-16": (9, 16)}[row["split"]]
        assert list(lengths) == list(row["by_length"]) == [str(length) for length in range(low, high + 1)]
        assert row["n"] == len(records) == len({record["id"] for record in records}) == 2 * len(lengths)
        by_length = {length: sum(values) / len(values) for length, values in lengths.items()}
        assert row["by_length"] == pytest.approx(by_length, abs=1e-6)
        assert "mean over lengths" in row["interval_method"] and "Wilson" in row["interval_method"]
        assert row["value"] == pytest.approx(sum(by_length.values()) / len(by_length), abs=1e-6)
        assert row["interval"] == pytest.approx(wilson(row["value"], row["n"]), abs=1e-9)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_predictions_hold_what_show_prints(study, capsys, variant, split):
    treated = ["scratchpad"] if "scratchpad" in variant else []
    browse.print_examples("chomsky/parity_check", split, 16, 0, "jsonl", treated, {"task.lengths": "1:8"})
    shown = {example["id"]: example for example in map(json.loads, capsys.readouterr().out.splitlines())}
    for seed in SEEDS:
        records = predictions(path_of(study, variant, seed), split)
        assert len(records) == 16
        for record in records:
            assert {key: record[key] for key in ("id", "length", "input", "target")} == shown[record["id"]]
            states = np.cumsum(record["input"]) % 2  # the target of parity, without Assay
            assert record["target"] == (states.tolist() if treated else [states[-1]])


def test_show_lists_every_task(capsys):
    browse.print_tasks()
    printed = capsys.readouterr().out.split()
    assert {name + "NAME" if name.endswith("/") else name for name in TASKS} <= set(printed) and len(TASKS) >= 15 and "41-500" in printed


def test_evaluate_adds_a_split(study, tmp_path, capsys):
    run = Path(shutil.copytree(path_of(study, "tiny", 0), tmp_path / "run"))
    before = read(run / "results.json")["rows"]
    evaluate(run, [], ["17:20"], {"per_length": 3}, {})
    assert "17-20" in capsys.readouterr().out and (run / "report.html").exists()
    rows = read(run / "results.json")["rows"]
    assert rows[: len(before)] == before
    (added,) = rows[len(before) :]
    assert (added["split"], added["n"], added["steps"], list(added["by_length"])) == ("17-20", 12, 20, ["17", "18", "19", "20"])
    records = predictions(run, "17-20")
    assert added["value"] == pytest.approx(sum(score("answer_accuracy", r["target"], r["prediction"]) for r in records) / 12)
    evaluate(run, [], ["17:20"], {"per_length": 1}, {})
    assert [(row["split"], row["n"]) for row in read(run / "results.json")["rows"]] == [("iid", 16), ("9-16", 16), ("17-20", 4)], (
        "not twice"
    )


def test_a_loaded_model_gives_the_stored_predictions(study):
    run = path_of(study, "tiny", 1)
    model, params, task = assay.load(run)
    for split in SPLITS:
        records = predictions(run, split)
        batch = task.encode(task.source(split).fetch(np.array([record["id"] for record in records])), task.width(16))
        answers = np.asarray(model.apply(params, batch).logits.argmax(axis=-1))
        assert [answers[i][batch["mask"][i] > 0].tolist() for i in range(len(records))] == [record["prediction"] for record in records]
    assert len({tuple(record["prediction"]) for record in records}) > 1


def test_config_json_is_enough_to_run_again(study, tmp_path):
    run = path_of(study, "tiny", 1)
    config = {key: value for key, value in read(run / "config.json").items() if key not in EXTRA}
    assert config.keys() == set(load(f"{ROOT}/{CONFIG}:tiny").keys())
    again = loop.run(config, str(tmp_path), [], "reason/parity:tiny", quiet=True)
    assert again["rows"] == read(run / "results.json")["rows"]
    mine, theirs = (jax.tree.leaves(all_params(restore(rebuild(folder), folder))) for folder in (tmp_path, run))
    assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_finished_study_is_not_trained_again(study, monkeypatch, capsys):
    def files():
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in study.rglob("seed_*/**/*") if path.is_file()}

    before, results = files(), (study / "results.json").read_bytes()
    monkeypatch.setattr(loop, "make_step", None)
    monkeypatch.setattr(loop, "measure", None)
    monkeypatch.chdir(ROOT)
    study_of([f"{CONFIG}:{variant}" for variant in VARIANTS], SEEDS, {}, study)
    assert "scratchpad" in capsys.readouterr().out
    assert files() == before and (study / "results.json").read_bytes() == results


def test_a_run_of_no_steps_is_the_untrained_model(tmp_path, capsys):
    changes = {"train.steps": "0", "evaluate.splits": "iid", "evaluate.per_length": "1"}
    train(f"{ROOT}/{CONFIG}:tiny", changes, tmp_path / "run", quiet=True)
    assert {row["steps"] for row in read(tmp_path / "run" / "results.json")["rows"]} == {0}
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(f"--config.{key}={text}" in page for key, text in changes.items()), "the command that repeats it"
    assert all(row["overrides"] == changes for row in read(tmp_path / "run" / "results.json")["rows"])
    evaluate(tmp_path / "run", ["valid"], [], {}, {})
    assert {row["split"] for row in read(tmp_path / "run" / "results.json")["rows"] if row["overrides"] == changes} == {"iid", "valid"}


def _records(path: Path) -> list[bytes]:
    """The records of an event file: length, checksum, bytes, checksum (TFRecord)."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        found.append(data[at + 12 : at + 12 + length])
        at += 12 + length + 4
    return found
