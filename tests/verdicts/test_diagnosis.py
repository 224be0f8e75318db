"""The diagnosis of a run, and its card, from folders: what is written, what is the same twice, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import EXPERIMENTS
from verb_server import verb  # noqa: F401 - a fixture

from assay.cli import diagnose as diagnosing
from assay.cli.compare import card_of
from assay.config.files import load
from assay.config.overrides import override
from assay.core.errors import UserError
from assay.diagnostics import table as diagnostics
from assay.train import loop
from assay.treatments.pipeline.load import rebuild, treatments
from assay.verdicts import diagnosis
from assay.verdicts.card import build

KEYS = {"group", "name", "value", "unit", "n", "interval", "how", "meaning", "applies", "reason", "timing"}
FILES = (diagnosis.ROWS, diagnosis.COLUMNS, diagnosis.PAGE)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, fast) -> dict[str, Path]:
    """Two runs of one task, and one of another."""
    folder = tmp_path_factory.mktemp("runs")
    specs = {
        "cnn": ("vision/cnn_digits.py:cnn,tiny", {"evaluate.splits": "valid"}),
        "other": ("vision/cnn_digits.py:cnn,tiny", {"seed": "1"}),
    }
    specs["parity"] = ("reason/parity.py:scratchpad,tiny", {})
    for name, (spec, changes) in specs.items():
        config = override(load(f"{EXPERIMENTS}/{spec}"), {"train.log_every": "2", "evaluate.splits": "", **changes})
        loop.run(config, str(folder / name), treatments(config.treatments), spec.replace(".py", ""), quiet=True)
    for name in specs:
        diagnosing.diagnose(folder / name, quick=True)
    return {name: folder / name for name in specs}


@pytest.fixture(scope="module")
def fast():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnosing, "FEW", (64, 0.4))
        yield


def without_times(path: Path) -> dict:
    said = json.loads((path / diagnosis.ROWS).read_text())
    said["rows"] = [row for row in said["rows"] if not row["timing"]]
    return said


def test_what_is_written(runs):
    for path in runs.values():
        said = json.loads((path / diagnosis.ROWS).read_text())
        assert said["schema"] == 1 and said["quick"] is True
        for row in said["rows"]:
            assert set(row) >= KEYS, row
            assert row["applies"] == (row["value"] is not None)
            assert row["interval"] is None or row["interval"][0] <= row["interval"][1]
        assert all((path / name).stat().st_size for name in FILES)
        assert not any(row["crashed"] for row in said["rows"])
        page = (path / diagnosis.PAGE).read_text()
        assert "http" not in page.replace("http://www.w3.org", "") and "<script" not in page


def test_every_group_stands_on_the_page_in_order(runs):
    said = json.loads((runs["cnn"] / diagnosis.ROWS).read_text())
    groups = list(dict.fromkeys(row["group"] for row in said["rows"]))
    assert groups == ["reasoning", "long range", "generalisation", "calibration", "cost", "speed", "optimisation health"]


def test_what_was_measured_is_read_again(runs):
    found = diagnosis.read(runs["parity"])
    row = next(row for row in found.rows if row.name == "out_of_distribution")
    assert row.value == pytest.approx(next(iter(row.columns.values())).mean())
    (name,) = (key.rpartition("/")[0] for key in row.columns)
    assert len(found.sets[name].ids) == row.n == len(set(found.sets[name].ids.tolist()))


def test_a_diagnosed_run_is_known_to_its_subject(runs, fast, tmp_path, monkeypatch):
    copy, seen = tmp_path / "copy", []
    shutil.copytree(runs["cnn"], copy)
    monkeypatch.setattr(diagnosing, "examine", lambda subject, *rest, **more: seen.append(subject) or [])
    diagnosing.diagnose(copy, quick=True)
    run = seen[0].run
    assert run.config == json.loads((copy / "config.json").read_text()) and run.treatments == tuple(run.config["treatments"])
    assert run.steps == run.config["train"]["steps"] and not seen[0].members("test").any()
    made = rebuild(copy)
    used = np.unique(np.concatenate([made.sample(step) for step in range(run.steps)]) % made.source.size)
    assert np.array_equal(seen[0].members("train"), np.isin(seen[0].places("train"), used))


def test_two_diagnoses_are_the_same_bytes_without_the_times(runs, fast, tmp_path):
    for name in ("cnn", "parity"):
        first, columns = without_times(runs[name]), (runs[name] / diagnosis.COLUMNS).read_bytes()
        diagnosing.diagnose(runs[name], quick=True)
        assert json.dumps(without_times(runs[name])) == json.dumps(first)
        assert (runs[name] / diagnosis.COLUMNS).read_bytes() == columns


def test_a_run_against_itself_differs_in_nothing(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["cnn"], copy)
    card = card_of(str(runs["cnn"]), [str(copy)], 0.5)
    verdicts = {row["name"]: row["after"]["copy"]["verdict"] for row in card["rows"] if row["after"]["copy"]["verdict"]}
    assert len(verdicts) > 20 and set(verdicts.values()) == {"no difference"}, verdicts


def test_two_seeds_are_paired_and_what_is_exact_is_alike(runs):
    card = card_of(str(runs["cnn"]), [str(runs["other"])], 0.5)
    rows = {row["name"]: row for row in card["rows"]}
    assert rows["parameters"]["after"]["other"]["verdict"] == "no difference"
    score = rows["score"]["after"]["other"]
    assert score["difference"] == pytest.approx(score["value"] - rows["score"]["before"]["value"])
    assert score["interval"][0] <= score["difference"] <= score["interval"][1] and 0 <= score["agreement"] <= 1


def test_a_missing_checkpoint_leaves_the_times_open(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["other"], copy)
    shutil.rmtree(copy / "checkpoints")
    card = card_of(str(runs["cnn"]), [str(copy)], 0.5)
    rows = {row["name"]: row["after"]["copy"] for row in card["rows"]}
    assert rows["latency_p50"]["verdict"] == "inconclusive" and rows["score"]["difference"] is not None


def test_runs_of_different_tasks_are_refused(runs):
    with pytest.raises(UserError, match="different tasks"):
        card_of(str(runs["cnn"]), [str(runs["parity"])], 0.5)
    with pytest.raises(UserError, match="different tasks"):
        build(diagnosis.read(runs["cnn"]), {"x": diagnosis.read(runs["parity"])}, {}, {}, {})


@pytest.mark.parametrize("spoil", ["older", "damaged", "cut", "gone", "of another"])
def test_a_diagnosis_that_cannot_be_read(runs, tmp_path, spoil):
    copy = tmp_path / "copy"
    shutil.copytree(runs["cnn"], copy)
    rows, columns = copy / diagnosis.ROWS, copy / diagnosis.COLUMNS
    if spoil == "older":
        rows.write_text(rows.read_text().replace('"schema": 1', '"schema": 0', 1))
    elif spoil == "damaged":
        columns.write_bytes(columns.read_bytes()[:200])
    elif spoil == "of another":  # killed between the two files
        shutil.copy(runs["other"] / diagnosis.COLUMNS, columns)
    elif spoil == "cut":
        rows.write_text(rows.read_text()[:300])
    else:
        rows.unlink()
    with pytest.raises(UserError, match="assay diagnose"):
        diagnosis.read(copy)


def test_a_diagnostic_that_crashes_has_a_row_and_the_others_stand(runs, fast, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(runs["cnn"], copy)

    def fails(subject):
        raise ZeroDivisionError("<b>no</b>")

    monkeypatch.setitem(diagnostics.DIAGNOSTICS, "effective_rank", diagnostics.DIAGNOSTICS["effective_rank"]._replace(measure=fails))
    found = diagnosing.diagnose(copy, quick=True)
    (row,) = [row for row in found.rows if row.crashed]
    assert row.name == "effective_rank" and "ZeroDivisionError" in row.reason
    assert sum(one.applies for one in found.rows) > 20
    page = (copy / diagnosis.PAGE).read_text()
    assert "&lt;b&gt;no&lt;/b&gt;" in page and "<b>no</b>" not in page


def test_what_fails_on_the_way_to_suggestions_is_told(runs, fast, tmp_path, monkeypatch):
    """The rows stand, and it is no silence that nothing is suggested."""
    whole, copy = diagnostics.DIAGNOSTICS["calibration"], tmp_path / "copy"
    shutil.copytree(runs["cnn"], copy)

    def fails(subject):
        if subject.choosing:
            raise ZeroDivisionError("on the split for choices")
        return whole.measure(subject)

    monkeypatch.setitem(diagnostics.DIAGNOSTICS, "calibration", whole._replace(measure=fails))
    found = diagnosing.diagnose(copy, quick=True)
    assert not any(row.crashed for row in found.rows) and len(found.rows) > 20
    assert len(found.about["failed"]) == 3 and "calibration/nll on valid: crashed: ZeroDivisionError" in found.about["failed"][1]
    assert "on the split for choices" in (copy / diagnosis.PAGE).read_text()

    def none(workdir, rows):
        raise ZeroDivisionError("no rule")

    monkeypatch.setattr("assay.cli.diagnose.recommend", none)
    again = diagnosing.diagnose(copy, quick=True)
    assert again.about["failed"] == ["the suggestions: ZeroDivisionError: no rule"] and again.suggestions == []


def test_a_run_that_has_not_ended_says_so(runs, fast, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["cnn"], copy)
    (copy / "results.json").unlink()
    (note,) = diagnosing.diagnose(copy, quick=True).about["notes"]
    steps = json.loads((copy / "config.json").read_text())["train"]["steps"]
    assert note == f"The run has not finished; this diagnosis measures its checkpoint of step {steps:,} of {steps:,}."
    assert note in (copy / diagnosis.PAGE).read_text()


def test_a_folder_that_cannot_be_written_is_told_before_the_work(runs, verb, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["other"], copy)
    (copy / diagnosis.ROWS).unlink()
    (tmp_path / "file").write_text("")
    refused = verb("compare", f"--before={runs['cnn']}", f"--after={copy}", f"--out={tmp_path / 'file' / 'x'}")
    assert refused.code == 2 and "cannot write to" in refused.err
    assert "diagnosing" not in refused.err and not (copy / diagnosis.ROWS).exists()


def test_the_verb(runs, verb, tmp_path):
    assert verb("diagnose").code == 2
    assert verb("diagnose", f"--workdir={tmp_path}").code == 2
    bare = tmp_path / "bare"
    shutil.copytree(runs["cnn"], bare)
    shutil.rmtree(bare / "checkpoints")
    refused = verb("diagnose", f"--workdir={bare}")
    assert refused.code == 2 and "no checkpoint" in refused.err and "Traceback" not in refused.err
    done = verb("diagnose", f"--workdir={runs['cnn']}", "--quick")
    assert done.code == 0, done.err
    assert "generalisation" in done.out and "train_test_gap" in done.out and "diagnosis.html" in done.out


def test_a_run_diagnosed_treated_and_carded(runs, verb, tmp_path):
    small = tmp_path / "small"
    done = verb(
        "treat", f"--from={runs['cnn']}", "--treat=quantize:int8", f"--workdir={small}", "--seconds=1", "--config.evaluate.splits=valid"
    )
    assert done.code in (0, 2), done.err  # the untreated run was never evaluated
    if done.code == 2:
        assert "assay evaluate" in done.err
        assert verb("evaluate", f"--workdir={runs['cnn']}", "--split=valid").code == 0
        done = verb("treat", f"--from={runs['cnn']}", "--treat=quantize:int8", f"--workdir={small}", "--seconds=1")
    assert done.code == 0, done.err
    done = verb("compare", f"--before={runs['cnn']}", f"--after={small}", "--seconds=1")
    assert done.code == 0, done.err
    card = json.loads((small / "card.json").read_text())
    rows = {row["name"]: row["after"]["small"] for row in card["rows"]}
    assert rows["bytes_on_disk"]["verdict"] == "better" and rows["score"]["verdict"] in ("no difference", "inconclusive")
    assert (small / "card.html").exists()
