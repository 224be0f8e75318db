"""Planted faults: runs with one thing wrong, small enough to be trained here, whose diagnosis must suggest the right remedy first.

They differ in model, size, task and seed. A run with nothing wrong gets no remedy for a fault.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from conftest import EXPERIMENTS
from ml_collections import ConfigDict

from assay.cli import diagnose as diagnosing
from assay.config import cnn, mlp, recurrent, transformer
from assay.config.files import load
from assay.config.schema import to_dict
from assay.diagnostics.table import DIAGNOSTICS, examine
from assay.train import loop
from assay.treatments.pipeline.load import treatments

FAULTS = ("exploding", "vanishing", "spurious", "over-fitting", "longer inputs", "not learnt", "miscalibrated")
SHIFTS = "augment:images=shift:1+rotate:12"


def config(
    spec: str, model: ConfigDict | None, task: Mapping[str, Any], train: Mapping[str, Any], optimizer: Mapping[str, Any]
) -> ConfigDict:
    made = load(f"{EXPERIMENTS}/{spec}").unlock()
    made.model = model or made.model
    made.task.update(task)
    made.train.update({"batch_size": 32, "log_every": 5, "steps_per_call": 10, "buckets": 1, "validate_every": 0, **train})
    made.optimizer.update({"warmup_steps": 0, **optimizer})
    made.evaluate.update({"splits": (), "per_length": 2})
    made.checkpoint.every = 10_000
    made.treatments = ()
    return made


def digits(model: ConfigDict, steps: int = 200, rate: float = 2e-3, **task: Any) -> ConfigDict:
    return config("vision/cnn_digits.py:plain", model, task, {"steps": steps}, {"learning_rate": rate})


def texts(spec: str, steps: int, labels: int, **sizes: Any) -> ConfigDict:
    made = config(spec, None, {"labels": labels, "max_length": 32, "tokenizer_size": 2000}, {"steps": steps}, {"learning_rate": 1e-3})
    made.model.update(sizes)
    return made


def symbols(task: str, lengths: str, model: ConfigDict, steps: int, **optimizer: Any) -> ConfigDict:
    train = {"steps": steps, "batch_size": 64, "log_every": 1}
    return config("reason/parity.py:transformer", model, {"name": f"chomsky/{task}", "lengths": lengths}, train, optimizer)


def decoder(**sizes: Any) -> ConfigDict:
    return transformer("decoder", positions="alibi", heads=2, kv_heads=1, activation="relu", **sizes)


def treated(made: ConfigDict, *specs: str) -> ConfigDict:
    made.treatments = specs
    return made


class Case(NamedTuple):
    config: Callable[[], ConfigDict]
    seed: int
    rule: str
    remedies: tuple[str, ...]  # what the first suggestion may begin with


UNCLIPPED = {"name": "momentum", "learning_rate": 0.3, "clip_norm": 0.0}
SMALL_TEXT = {"width": 32, "depth": 1}
CASES = {
    "CNN, 50 labels": Case(lambda: digits(cnn(filters=(16, 32), dense=64), labels=50), 0, "over-fitting", (SHIFTS,)),
    "MLP, 80 labels": Case(lambda: digits(mlp(width=64), labels=80), 1, "over-fitting", (SHIFTS,)),
    "BiLSTM, 64 passages": Case(
        lambda: texts("text/bilstm_classifier.py:package", 120, 64, **SMALL_TEXT, embedding=32, dropout=0.0),
        2,
        "over-fitting",
        ("augment:text=",),
    ),
    "Transformer, 50 passages": Case(
        lambda: texts("text/transformer_classifier.py:tuned", 200, 50, **SMALL_TEXT, heads=2, kv_heads=2, mlp=64),
        0,
        "over-fitting",
        ("augment:text=",),
    ),
    "CNN, colour is the class": Case(
        lambda: digits(cnn(filters=(16, 32), dense=64), colour=1.0), 1, "spurious colour", ("augment:images=colour:1",)
    ),
    "MLP, colour is mostly the class": Case(
        lambda: digits(mlp(width=64), 300, colour=0.9), 0, "spurious colour", ("augment:images=colour:1",)
    ),
    "parity by a Transformer": Case(
        lambda: symbols("parity_check", "1:6", decoder(depth=2, width=32, mlp=64), 300, learning_rate=1e-3),
        0,
        "",
        ("scratchpad",),
    ),
    "a walk on a circle by a Transformer": Case(
        lambda: symbols("cycle_navigation", "1:8", decoder(depth=2, width=32, mlp=64), 300, learning_rate=1e-3),
        1,
        "longer inputs",
        ("scratchpad",),
    ),
    "CNN, needlessly wide": Case(
        lambda: treated(digits(cnn(filters=(32, 64), dense=512), 300), SHIFTS), 1, "needlessly wide", ("prune:channels", "distill:")
    ),
    "LSTM, needlessly wide": Case(
        lambda: symbols("even_pairs", "1:10", recurrent("lstm", width=256), 150, learning_rate=3e-3),
        0,
        "needlessly wide",
        ("prune:units", "distill:"),
    ),
    "RNN on a circle, unclipped": Case(
        lambda: symbols("cycle_navigation", "1:40", recurrent("rnn", width=64), 200, **UNCLIPPED), 0, "exploding gradients", ("clip:",)
    ),
    "RNN on parity, unclipped": Case(
        lambda: symbols("parity_check", "1:40", recurrent("rnn", width=48), 200, **UNCLIPPED), 1, "exploding gradients", ("clip:",)
    ),
}
HEALTHY = {
    "CNN": lambda: treated(digits(cnn(filters=(32, 64), dense=128, dropout=0.3), 400, 3e-3), SHIFTS, "average:decay=0.99"),
    "LSTM": lambda: symbols("parity_check", "1:10", recurrent("lstm", width=24), 500, learning_rate=1e-2),
}


@pytest.fixture
def suggested(tmp_path, monkeypatch):
    """Trains a run, diagnoses it, and returns what is suggested. Times are not measured: no rule reads them."""
    untimed = tuple(name for name, one in DIAGNOSTICS.items() if not one.timing)
    monkeypatch.setattr(diagnosing, "examine", lambda subject, names=untimed, **more: examine(subject, names, **more))

    def make(config: ConfigDict, seed: int) -> list[dict[str, Any]]:
        config.seed = seed
        made = to_dict(config.lock())
        loop.run(made, str(tmp_path / "run"), treatments(made["treatments"]), "reason/parity:transformer", quiet=True)
        return diagnosing.diagnose(tmp_path / "run", quick=True).suggestions

    return make


@pytest.mark.parametrize("name", CASES)
def test_a_planted_fault_gets_the_right_remedy_first(name, suggested):
    case = CASES[name]
    found = suggested(case.config(), case.seed)
    assert found and found[0]["number"] == 1, "nothing is suggested"
    assert found[0]["treatment"].startswith(case.remedies) and found[0]["rule"].startswith(case.rule), found
    assert found[0]["effect"] > 0 and found[0]["expects"] in ("lower", "higher") and "/" in found[0]["row"]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_not_alarmed(name, suggested):
    found = suggested(HEALTHY[name](), 0)
    assert not found or not found[0]["rule"].startswith(FAULTS), found
