"""`assay treat --apply=N`: a suggestion of a diagnosis, done through the command line; and what can be suggested at all."""

import json
import shutil
from pathlib import Path

import pytest
from verb_server import contents, refused, verb  # noqa: F401 - a fixture

from assay.treatments.pipeline.load import rebuild
from assay.verdicts.recommend import facts_of, stage_of

CONFIG = "experiments/vision/cnn_digits.py:plain,tiny"
SUGGESTED = [
    {"number": 1, "treatment": "augment:images=shift:1+rotate:12", "rule": "over-fitting: by hand", "row": "generalisation/train_test_gap"},
    {"number": 2, "treatment": "prune:channels=0.5", "rule": "needlessly wide: by hand", "row": "cost/parameters"},
]
SUGGESTED = [{**one, "expects": "lower", "effect": 0.02, "unit": "fraction"} for one in SUGGESTED]


@pytest.fixture(scope="module")
def run(verb, tmp_path_factory) -> Path:
    """A run with a diagnosis whose suggestions are known."""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert verb("main", f"--config={CONFIG}", "--config.train.steps=8", f"--workdir={folder}").code == 0
    done = verb("diagnose", f"--workdir={folder}", "--quick")
    assert done.code == 0, done.err
    path = folder / "diagnosis.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"suggestions": SUGGESTED}))
    return folder


def test_a_suggestion_is_done_and_kept(verb, run, tmp_path):
    before = contents(run)
    out = tmp_path / "out"
    done = verb("treat", f"--from={run}", "--apply=2", "--control=False", f"--workdir={out}", "--seconds=0.5")
    assert done.code == 0, done.err
    assert "prune:channels=0.5" in done.out and "needlessly wide" in done.out
    assert json.loads((out / "applied.json").read_text()) == {"from": str(run), "suggestion": SUGGESTED[1]}
    assert json.loads((out / "config.json").read_text())["treatments"][-1] == "prune:channels=0.5"
    assert contents(run) == before, "the run that is treated stays as it is"
    again = verb("treat", f"--from={run}", "--apply=2", "--control=False", f"--workdir={out}", "--seconds=0.5")
    assert again.code == 0, again.err


MISTAKES = {
    "beyond the list": (["--apply=3"], ["--apply=3", "1  augment:images=shift:1+rotate:12", "2  prune:channels=0.5"]),
    "none": (["--apply=0"], ["--apply=0", "2  prune:channels=0.5"]),
    "no number": (["--apply=first"], ["first", "--apply"]),
    "two things to do": (["--apply=1", "--treat=quantize:int8"], ["--apply=1", "--treat=quantize:int8"]),
    "nothing to do": ([], ["--treat", "--apply"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_and_nothing_is_written(verb, run, tmp_path, name):
    arguments, words = MISTAKES[name]
    before = contents(run)
    refused(verb("treat", f"--from={run}", f"--workdir={tmp_path / 'out'}", *arguments), *words)
    assert not (tmp_path / "out").exists() and contents(run) == before


def test_a_run_without_a_diagnosis_is_told(verb, run, tmp_path):
    bare = shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("diagnosis.*"))
    command = ("treat", f"--from={bare}", "--apply=1", f"--workdir={tmp_path / 'out'}")
    refused(verb(*command), "diagnosis.json", "assay diagnose")
    (bare / "diagnosis.json").write_text('{"schema": 0}')
    refused(verb(*command), "schema")
    shutil.copytree(bare, tmp_path / "seeds" / "seed_0")
    refused(verb("treat", f"--from={tmp_path / 'seeds'}", "--apply=1", f"--workdir={tmp_path / 'out'}"), "seed_0", "--from")
    empty = shutil.copytree(run, tmp_path / "empty")
    found = json.loads((empty / "diagnosis.json").read_text()) | {"suggestions": []}
    (empty / "diagnosis.json").write_text(json.dumps(found))
    refused(verb("treat", f"--from={empty}", "--apply=1", f"--workdir={tmp_path / 'out'}"), "--apply=1", "--treat")
    assert not (tmp_path / "out").exists()


def test_only_what_can_be_done_applies(run):
    for spec, wanted in {
        "augment:images=shift:1": True,
        "clip:norm=1.0": True,
        "smooth:share=0.1": True,
        "calibrate": True,
        "prune:channels=0.5": True,
        "quantize:int8": True,
        "distill:student=small": True,
        "augment:text=dropout:0.1": False,
        "prune:heads=0.5": False,
        "scratchpad": False,
        "couple": False,
        "reverse": False,
        "recombine": False,
        "curriculum": False,
        "init:from=elsewhere": False,
    }.items():
        assert (stage_of(run, spec) is not None) == wanted, spec


def test_facts_are_those_of_the_run(run):
    facts = facts_of(rebuild(run))
    assert (facts.kind, facts.side, facts.outputs, facts.states, facts.places) == ("images", 8, 10, False, 0)
    assert facts.model["name"] == "cnn" and facts.optimizer["clip_norm"] == 1.0 and facts.treatments == ()
