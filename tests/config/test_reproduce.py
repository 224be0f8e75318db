"""The command on a run's page trains the run again: read as a shell reads it, with every key that differs from the config file."""

import shlex
from pathlib import Path

import pytest

from assay.cli.command import split_overrides
from assay.config.files import experiment_name, load, names_file, parts, source_of
from assay.config.overrides import override
from assay.config.reproduce import assignments, training_command
from assay.config.schema import to_dict

CHANGES = {
    "seed": "3",
    "optimizer.learning_rate": "3e-05",
    "evaluate.splits": "iid,41-44",
    "model.scan": "True",
    "treatments": "l2:weight=0.1,paths=kernel$,average",
    "optimizer.decay_paths": "a b$|it's",
}


def read_again(command: str) -> dict:
    """The config that the command's words make."""
    rest, overrides = split_overrides(shlex.split(command, comments=True))
    assert rest[:2] == ["assay", "train"]
    (spec,) = [word.removeprefix("--config=") for word in rest if word.startswith("--config=")]
    return to_dict(override(load(spec), overrides))


@pytest.mark.parametrize("variant", ["lstm,tiny", "transformer,tiny"])
def test_overrides_come_back(variant):
    spec = f"experiments/reason/parity.py:{variant}"
    changes = CHANGES if variant.startswith("transformer") else {key: text for key, text in CHANGES.items() if key != "model.scan"}
    wanted = to_dict(override(load(spec), changes))
    command = training_command({"experiment": f"reason/parity:{variant}", "composition": {}, **wanted}, "runs/my run")
    assert read_again(command) == wanted and "'--workdir=runs/my run'" in command and "#" not in command
    assert training_command({"experiment": f"reason/parity:{variant}", **to_dict(load(spec))}, "w") == (
        f"assay train --config={spec} --workdir=w"
    )


def test_a_file_of_ones_own_is_named_as_it_was_given(tmp_path, monkeypatch):
    own = tmp_path / "my configs" / "mine.py"
    own.parent.mkdir()
    text = "from assay.config import load\n\ndef get_config(variant):\n    return load('parity:lstm,tiny').copy_and_resolve_references()\n"
    own.write_text(text)
    monkeypatch.chdir(tmp_path)
    assert source_of("my configs/mine.py:x") == "my configs/mine.py:x" and source_of("parity:lstm") == ""
    assert source_of("experiments/reason/parity.py") == ""
    wanted = to_dict(override(load(f"{own}:x"), {"task.name": "chomsky/even_pairs"}))
    command = training_command({"experiment": "my configs/mine:x", "source": f"{own}:x", **wanted}, "w")
    assert read_again(command) == wanted
    own.unlink()
    assert "# the config file is not found" in training_command({"experiment": "mine:x", "source": f"{own}:x", **wanted}, "w")


def test_a_folder_may_have_colons_in_its_name(tmp_path):
    own = tmp_path / "at 12:30" / "mine.py"
    own.parent.mkdir()
    own.write_text("from assay.config import load\n\ndef get_config(variant):\n    return load(variant.replace('+', ':'))\n")
    spec = f"{own}:parity+lstm,tiny"
    assert to_dict(load(spec)) == to_dict(load("parity:lstm,tiny"))
    assert experiment_name(spec) == "at 12_30/mine:parity+lstm,tiny" and source_of(spec) == spec
    assert parts("parity:lstm,tiny") == ("parity", "lstm,tiny") and parts("a.py") == ("a.py", "")
    assert names_file(spec) and names_file("none.py:x") and not names_file("distill:student=experiments/vision/resnet_digits.py:tiny")
    assert parts(f"{tmp_path}/x.py:y/none.py:z") == (f"{tmp_path}/x.py", "y/none.py:z"), "no such file"


def test_a_key_that_the_file_does_not_have_is_told():
    base = load("experiments/reason/parity.py:lstm,tiny")
    words, left = assignments(base, {**to_dict(base), "seed": 4, "other": {"key": 1}})
    assert words == ["--config.seed=4"] and left == ["other"]
    assert "no other, as the run had" in training_command({"experiment": "reason/parity:lstm,tiny", **to_dict(base), "other": 1}, "w")


def test_every_included_config_is_its_own_command():
    for path in sorted(Path("experiments/text").glob("*.py"))[:2]:
        wanted = to_dict(load(str(path)))
        assert assignments(load(str(path)), wanted) == ([], [])
