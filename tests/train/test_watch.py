"""Looks at the validation split, early stopping, and models that are fitted: what a run answers with, whatever happened on the way."""

import itertools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import assay
from assay.cli import train as conduct
from assay.config.files import load
from assay.config.overrides import override
from assay.config.schema import to_dict
from assay.core.errors import UserError
from assay.dist.mesh import make_mesh
from assay.evals.evaluate import batches, compiled, evaluate, make_answer
from assay.evals.rows import value_of
from assay.reports.view import read_run
from assay.train import loop, watch
from assay.train.checkpoint import Checkpointer
from assay.train.experiment import Experiment, assemble
from assay.treatments.pipeline.load import rebuild, restore

ROOT = Path(__file__).parents[2]
PARITY = f"{ROOT}/experiments/reason/parity.py:tiny"
LOOKS = {"train.validate_every": 3, "train.patience": 1, "train.steps": 60, "checkpoint.every": 4, "evaluate.splits": "valid,iid"}
LOOKS |= {"seed": 2, "optimizer.learning_rate": 0.01, "evaluate.per_length": 4}  # the second look is better than the first


def train(folder: Path, spec: str = PARITY, **changes: object) -> dict:
    assignments = {"train.log_every": 1, "evaluate.per_length": 2} | {key.replace("__", "."): value for key, value in changes.items()}
    config = override(load(spec), {key: str(value) for key, value in assignments.items()})
    return loop.run(config, str(folder), [], "watched", quiet=True)


def params_of(folder: Path) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(assay.load(folder)[1])]


def looks(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["valid_answer_accuracy"] for line in lines if "valid_answer_accuracy" in line}


def rows(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text())["rows"]


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run that stopped early. Tests that change it copy it."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    train(folder, **LOOKS)
    return folder


@pytest.fixture(scope="module")
def best_step(stopped) -> int:
    seen = looks(stopped)
    return max(seen, key=lambda step: (seen[step], -step))


def test_training_stops_at_the_first_look_that_is_no_better(stopped, best_step):
    seen = looks(stopped)
    assert list(seen) == list(range(3, 3 + 3 * len(seen), 3)) and 2 < len(seen) < 20
    *rising, last = seen.values()
    assert all(b > a for a, b in itertools.pairwise(rising)) and last <= rising[-1]
    assert best_step == list(seen)[-2]
    assert [path.name for path in (stopped / "checkpoints").iterdir() if path.name == str(max(seen))], "the last state is kept"
    assert {row["steps"] for row in rows(stopped)} == {best_step}


def test_it_answers_with_the_best_look(stopped, best_step, tmp_path):
    assert params_of(stopped) == [np.asarray(x).tobytes() for x in jax.tree.leaves(restore(rebuild(stopped), stopped).params["model"])]
    train(tmp_path / "short", **LOOKS | {"train.steps": best_step, "train.patience": 0, "train.validate_every": 0})
    assert params_of(stopped) == params_of(tmp_path / "short")
    assert rows(stopped) == rows(tmp_path / "short")
    train(tmp_path / "long", **LOOKS | {"train.steps": max(looks(stopped)), "train.patience": 0, "train.validate_every": 0})
    assert params_of(stopped) != params_of(tmp_path / "long"), "the steps after the best look moved the parameters"
    made = rebuild(stopped)
    records = evaluate(
        jax.jit(make_answer(made.model, made.task)), assay.load(stopped)[1], made.task, "valid", made.settings.evaluate, mesh(made)
    )
    assert value_of(records, "answer_accuracy", True) == looks(stopped)[best_step] == rows(stopped)[0]["value"]


def mesh(made: Experiment):
    return make_mesh(made.settings.mesh)


@pytest.mark.parametrize("at", [4, 8])  # between the looks at 3 and 6, and at 6 and 9
def test_a_run_that_was_broken_off_ends_the_same(stopped, tmp_path, monkeypatch, at):
    made_batches = Experiment.batches

    def broken(made: Experiment, start: int, count: int):
        if start >= at:
            raise RuntimeError("the machine went away")
        return made_batches(made, start, count)

    monkeypatch.setattr(Experiment, "batches", broken)
    with pytest.raises(RuntimeError, match="went away"):
        train(tmp_path, **LOOKS)
    monkeypatch.undo()
    assert not (tmp_path / "results.json").exists()
    train(tmp_path, **LOOKS)
    assert rows(tmp_path) == rows(stopped) and params_of(tmp_path) == params_of(stopped) and looks(tmp_path) == looks(stopped)
    for split in ("valid", "iid"):
        mine, theirs = (folder / "predictions" / f"{split}.jsonl" for folder in (tmp_path, stopped))
        assert mine.read_bytes() == theirs.read_bytes()


def test_no_checkpoint_is_ahead_of_the_best_look(tmp_path, monkeypatch):
    """A kill at any moment leaves the parameters that the newest checkpoint calls the best: they are written first."""
    save, told = Checkpointer.save, []

    def checked(checkpointer: Checkpointer, step: int, state, kept):
        if checkpointer.path.name == "checkpoints":
            told.append(kept["stopping"]["step"])
            assert told[-1] == 0 or [path.name for path in (tmp_path / "best").iterdir()] == [str(told[-1])]
        save(checkpointer, step, state, kept)

    monkeypatch.setattr(Checkpointer, "save", checked)
    train(tmp_path, **LOOKS)
    assert len(set(told)) >= 2


def test_a_finished_run_is_only_printed(stopped, monkeypatch):
    before = files(stopped)
    monkeypatch.setattr(loop, "make_step", None)
    monkeypatch.setattr(loop, "measure", None)
    monkeypatch.setattr(watch, "evaluate", None)
    assert train(stopped, **LOOKS) == json.loads((stopped / "results.json").read_text())
    assert files(stopped) == before


def test_another_evaluation_of_an_early_stopped_run_is_of_the_best_look(stopped, best_step, tmp_path, monkeypatch):
    run = Path(shutil.copytree(stopped, tmp_path / "run"))
    monkeypatch.setattr(loop, "make_step", None)
    found = train(run, **LOOKS | {"evaluate.splits": "9-12"})
    assert [(row["split"], row["steps"]) for row in found["rows"]] == [("9-12", best_step)] and params_of(run) == params_of(stopped)
    shutil.rmtree(run / "best")
    with pytest.raises(UserError, match=f"best validation was at step {best_step}"):
        train(run, **LOOKS | {"evaluate.splits": "13-16"})


def test_a_run_without_a_look_answers_with_the_last_state(tmp_path, capsys):
    changes = {"train.steps": 2, "train.validate_every": 3, "train.patience": 1, "evaluate.splits": "iid", "evaluate.per_length": 1}
    conduct.run(PARITY, {key: str(value) for key, value in changes.items()}, tmp_path / "run", quiet=True)
    assert {row["steps"] for row in rows(tmp_path / "run")} == {2} and (tmp_path / "run" / "report.html").exists()
    train(tmp_path / "plain", train__steps=2)
    assert params_of(tmp_path / "run") == params_of(tmp_path / "plain")


def test_looks_alone_change_nothing(tmp_path):
    train(tmp_path / "looked", train__steps=10, train__validate_every=3)
    train(tmp_path / "plain", train__steps=10)
    assert list(looks(tmp_path / "looked")) == [3, 6, 9] and not (tmp_path / "looked" / "best").exists()
    assert params_of(tmp_path / "looked") == params_of(tmp_path / "plain") and rows(tmp_path / "looked") == rows(tmp_path / "plain")
    facts = json.dumps(read_run(tmp_path / "looked").metrics)
    assert "valid_answer_accuracy" in facts


def test_what_cannot_be_looked_at_is_told(tmp_path):
    scan = f"{ROOT}/experiments/translate/encoder_decoder.py:tiny"
    with pytest.raises(UserError, match=r"no split 'valid'.*config\.train\.validate_every"):
        train(tmp_path / "run", scan, train__validate_every=2, task__valid_share=0.0, evaluate__splits="test")
    with pytest.raises(UserError, match=r"config\.train\.patience=2.*validate_every"):
        train(tmp_path / "run", train__patience=2)
    with pytest.raises(UserError, match=r"config\.train\.validate_every=-1"):
        train(tmp_path / "run", train__validate_every=-1)
    assert not (tmp_path / "run" / "config.json").exists()


# -- a model that is fitted by counting -------------------------------------------------------------------------------------


NGRAM = f"{ROOT}/experiments/text/language_model.py:ngram3,tiny"
SMALL = {"task.bytes": "2000", "evaluate.splits": "train", "model.order": "3"}


def test_the_ngram_model_through_the_whole_run(tmp_path, capsys):
    conduct.run(NGRAM, SMALL, tmp_path / "run")
    assert "bits_per_byte" in capsys.readouterr().out
    made = assemble(to_dict(override(load(NGRAM), SMALL)), [])
    empty = made.model.init(made.key, made.first_batch())
    params = made.model.fit(empty, [batch for _, batch in batches(made.task, "train", made.settings.evaluate)])
    answer = compiled(make_answer(made.model, made.task), mesh(made))  # the run's own program: two programs may round differently
    records = evaluate(answer, params, made.task, "train", made.settings.evaluate, mesh(made))
    found = {row["metric"]: row["value"] for row in rows(tmp_path / "run")}
    assert found == {metric: value_of(records, metric, False) for metric in made.task.metrics}
    untrained = evaluate(answer, empty, made.task, "train", made.settings.evaluate, mesh(made))
    assert found["perplexity"] < 30 < value_of(untrained, "perplexity", False) == pytest.approx(260, rel=1e-4)
    assert params_of(tmp_path / "run") == [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]
    assert found["nll"] == pytest.approx(np.log(found["perplexity"]), rel=1e-6), "windows weigh by their tokens"
    before = files(tmp_path / "run")
    conduct.run(NGRAM, SMALL, tmp_path / "run")
    assert files(tmp_path / "run") == before
    (tmp_path / "run" / "results.json").unlink()
    again = train(tmp_path / "run", NGRAM, **SMALL)
    assert [row["value"] for row in again["rows"]] == list(found.values())


def test_steps_of_a_model_that_is_counted_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"fitted by counting.*--config\.train\.steps=0"):
        train(tmp_path / "run", NGRAM, **SMALL | {"train.steps": 3})
    assert not (tmp_path / "run").exists()
