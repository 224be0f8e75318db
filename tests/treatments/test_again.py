"""Training a run again with another seed on a part of its examples, and loading any kept checkpoint of a run."""

import json
import shutil

import jax
import numpy as np
import pytest

import assay
from assay.core.errors import UserError
from assay.data.source import Examples, in_memory, subset
from assay.treatments.pipeline.again import again, only

SMALL = {
    "model.depth": 1,
    "model.width": 8,
    "train.steps": 12,
    "train.batch_size": 16,
    "train.steps_per_call": 4,
    "checkpoint.every": 4,
    "checkpoint.keep": 1,
    "checkpoint.keep_every": 4,
    "evaluate.splits": "valid",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = assay.config.defaults()
    config.task, config.model = assay.config.digits(), assay.config.mlp()
    folder = tmp_path_factory.mktemp("run") / "run"
    assay.run(config.lock(), folder, SMALL)
    return folder


def same(first, second) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


def test_it_trains_again_as_the_run_did(run):
    _, params, task = assay.load(run)
    everyone = np.ones(task.source("train").size, bool)
    train = again(run)
    assert same(train(0, everyone), params), "the same seed and examples give the same parameters"
    other = train(1, everyone)
    assert jax.tree.structure(other) == jax.tree.structure(params) and not same(other, params)
    half = everyone.copy()
    half[::2] = False
    assert not same(train(0, half), params)


def test_what_members_must_be(run):
    with pytest.raises(UserError, match=r"members has shape \(3,\).*needs \(718,\)"):
        again(run)(0, np.ones(3, bool))
    with pytest.raises(UserError, match="0 true"):
        again(run)(0, np.zeros(718, bool))
    endless = assay.config.override(assay.config.load("parity:tiny"), {"evaluate.splits": "iid"})
    with pytest.raises(UserError, match="unlimited"):
        assay.run(endless, run.with_name("endless"), treatments=[only(np.ones(4, bool))])


def test_a_run_that_reads_another_run_or_a_treatment_of_a_notebook(run, tmp_path):
    everyone = np.ones(718, bool)
    shutil.copytree(run, tmp_path / "stage")
    config = json.loads((tmp_path / "stage" / "config.json").read_text())
    (tmp_path / "stage" / "config.json").write_text(json.dumps(config | {"treatments": [f"inherit:from={run}"]}))
    with pytest.raises(UserError, match=r"inherit:from=.* reads a run that was trained on all"):
        again(tmp_path / "stage")(0, everyone)
    plain = assay.Treatment(gradient=lambda gradient: lambda *given: gradient(*given), name="mine")
    kept = assay.config.override(assay.config.load("parity:tiny"), {"evaluate.splits": "iid"})
    kept.task, kept.model = assay.config.digits(), assay.config.mlp()
    assay.run(kept, tmp_path / "mine", SMALL, treatments=[plain])
    with pytest.raises(UserError, match=r"trained with treatments .*'mine'"):
        again(tmp_path / "mine")(0, everyone)
    assert same(again(tmp_path / "mine", [plain])(0, everyone), assay.load(tmp_path / "mine", [plain])[1])


def test_a_subset_holds_its_members_and_no_others():
    tokens, ones = np.arange(10)[:, None] * np.ones((1, 3), int), np.ones(10, np.int64)
    length = np.array([1, 2] * 5)
    source = in_memory("train", Examples(np.arange(10), length, tokens.astype(np.int32), ones * 3, np.arange(10)[:, None], ones, ones))
    members = np.isin(np.arange(10), [1, 4, 5, 8])
    part = subset(source, members)
    assert part.size == 4 and part.labels is not None and part.labels().tolist() == [1, 4, 5, 8]
    found = part.fetch(np.arange(8))
    assert found.input[:, 0].tolist() == [1, 4, 5, 8] * 2 and found.id.tolist() == list(range(8))
    assert part.length_of(np.arange(4)).tolist() == [2, 1, 2, 1]
    assert part.fetch(part.index_of(np.arange(2), 1)).input[:, 0].tolist() == [4, 8]
    with pytest.raises(IndexError):
        part.fetch(np.array([-1]))


def test_any_kept_checkpoint_loads(run):
    steps = {step: assay.load(run, step=step)[1] for step in (0, 4, 8, 12)}
    assert same(steps[12], assay.load(run)[1])
    assert not any(same(steps[step], steps[step + 4]) for step in (0, 4, 8))
    with pytest.raises(UserError, match=r"no checkpoint of step 6; it has 4, 8, 12"):
        assay.load(run, step=6)
