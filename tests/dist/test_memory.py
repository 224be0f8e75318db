"""What cannot fit into memory is refused by its count of bytes, before anything is allocated or written."""

import pytest

from assay.config.files import load
from assay.core.errors import UserError
from assay.dist import memory
from assay.models.families import build
from assay.models.model import Vocabulary
from assay.models.precision import PrecisionConfig
from assay.train import loop
from assay.train.experiment import assemble


def test_the_machine_has_memory_and_more_is_refused(monkeypatch):
    assert memory.machine_bytes() > 2**28
    memory.check_fits(memory.machine_bytes(), "all of it", "nothing")
    with pytest.raises(UserError, match=r"not enough memory: arrays take at least .* Reduce --config\.train\.batch_size\."):
        memory.check_fits(memory.machine_bytes() + 1, "arrays", "--config.train.batch_size")
    monkeypatch.setattr(memory, "machine_bytes", lambda: 0)  # a system that does not say
    memory.check_fits(2**60, "arrays", "nothing")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("train.batch_size", "200000000", "the examples of a call.*--config.train.batch_size"),
        ("train.steps_per_call", "2000000000", "the examples of a call.*--config.train.steps_per_call"),
        ("evaluate.per_length", "4000000000", "the records of the split 'iid'.*--config.evaluate.per_length"),
    ],
)
def test_examples_that_cannot_fit(tiny, key, value, told):
    with pytest.raises(UserError, match=f"not enough memory: {told}"):
        assemble(tiny("lstm", {"evaluate.splits": "iid", key: value}), [])


def test_parameters_that_cannot_fit_are_refused_before_the_folder_is_made(tiny, tmp_path, monkeypatch):
    small, state = tiny("lstm"), 2226 * 4 * 4  # parameters, gradients and Adam's two moments, float32
    monkeypatch.setattr(loop, "check_fits", lambda needed, what, keys: memory.check_fits(needed * 2**50, what, keys))
    with pytest.raises(UserError, match=r"not enough memory: parameters, gradients and optimizer state.*--config\.model"):
        loop.run(small, str(tmp_path / "run"), [])
    assert not (tmp_path / "run").exists()
    asked = []
    monkeypatch.setattr(loop, "check_fits", lambda needed, what, keys: asked.append(needed))
    loop._check_memory(assemble(small, []))
    assert state <= asked[0] <= state + 64  # and the counters of the optimizer


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [("width", 2**53, "2,147,483,647"), ("depth", 10**9, "10,000"), ("test_loops", 10**9, "10,000")],
)
def test_sizes_that_no_model_has(key, value, told):
    config, precision = load("parity:transformer,tiny").model.to_dict(), PrecisionConfig("float32", "float32", "float32")
    build(config, Vocabulary(2, 2), precision)
    with pytest.raises(UserError, match=f"config.model.{key}={value} is not possible: it may be at most {told}"):
        build(config | {key: value}, Vocabulary(2, 2), precision)
