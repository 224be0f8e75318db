"""A user's mistake ends with exit code 2 and one message that names the wrong thing, the allowed things and the key; nothing is written.

Every case goes through `launch` of the real verb. JAX is slow to import, so one server process (verb_server.py) runs the verbs
one after another, each with its own flags and its standard error caught at the file descriptor; a few cases are processes of their own.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
from verb_server import (  # noqa: F401 - fixtures
    CONFIG,
    ROOT,
    SCRATCHPAD,
    SHORT,
    TINY,
    TRANSFORMER,
    Outcome,
    contents,
    go_on,
    in_a_process,
    refused,
    run,
    run_of_16,
    verb,
)

MISTAKES = {
    "unknown key": ([TINY, "--config.model.widht=8"], ["model.widht", "--config.model.width?", "depth, dropout, embedding, name, width"]),
    "unknown group": ([TINY, "--config.modle.width=8"], ["modle.width", "--config.model.width?", "checkpoint, evaluate"]),
    "key of another model": ([TINY, "--config.model.heads=2"], ["model.heads", "depth, dropout, embedding, name, width"]),
    "group as a value": ([TINY, "--config.model=lstm"], ["--config.model is a group", "model.width", "'lstm'"]),
    "number without end": ([TINY, "--config.train.steps=99999999999999999999"], ["train.steps", "9,007"]),
    "keys of another task": ([TINY, "--config.task.name=addition"], ["task.convention", "'addition'"]),
    "one stream, two sequences": (
        ["--config=experiments/reason/scan.py:lstm,tiny", "--config.task.layout=translation"],
        ["layout=prompted", "encoder_decoder"],
    ),
    "unknown axis": ([TINY, "--config.mesh=data:1,pipeline:2"], ["mesh.pipeline", "tensor"]),
    "axis twice": ([TINY, "--config.mesh=data:1,data:2"], ["--config.mesh is a group", "each once"]),
    "no whole number": ([TINY, "--config.train.steps=ten"], ["--config.train.steps=ten", "expected int"]),
    "a fraction of a step": ([TINY, "--config.train.steps=1.5"], ["--config.train.steps=1.5", "expected int"]),
    "no number": ([TINY, "--config.optimizer.learning_rate=fast"], ["--config.optimizer.learning_rate=fast", "expected float"]),
    "not a number": ([TINY, "--config.optimizer.learning_rate=nan"], ["config.optimizer.learning_rate=nan", "finite"]),
    "no batch": ([TINY, "--config.train.batch_size=0"], ["config.train.batch_size=0", "at least 1"]),
    "negative seed": ([TINY, "--config.seed=-1"], ["config.seed=-1", "non-negative"]),
    "a batch beyond memory": ([TINY, "--config.train.batch_size=4e9"], ["config.train.batch_size=4000000000", "at most 16,777,216"]),
    "more steps than numbers": ([TINY, "--config.train.steps=3e9"], ["config.train.steps=3000000000", "at most 2,147,483,647"]),
    "a decay without end": ([TINY, "--config.optimizer.decay_steps=3e9"], ["optimizer.decay_steps=3000000000", "at most 2,147,483,647"]),
    "a warmup beyond the decay": (
        [TINY, "--config.optimizer=schedule:cosine,warmup_steps:10,decay_steps:10"],
        ["config.optimizer.warmup_steps=10", "config.optimizer.decay_steps=10", "rate would be 0"],
    ),
    "model": (
        [TINY, "--config.model.name=grue"],
        ["'grue'", "'gru'?", "decoder, encoder", "--config.model.name"],
    ),
    "task": (
        [TINY, "--config.task.name=chomsky/party_check"],
        ["'chomsky/party_check'", "Did you mean 'chomsky/parity_check'", "chomsky/even_pairs", "--config.task.name"],
    ),
    "optimizer": ([TINY, "--config.optimizer.name=adma"], ["'adma'", "'adam'?", "momentum, muon, sgd", "--config.optimizer.name"]),
    "schedule": ([TINY, "--config.optimizer.schedule=step"], ["'step'", "constant, cosine, linear", "--config.optimizer.schedule"]),
    "objective": ([TINY, "--config.objective.name=gan"], ["'gan'", "supervised", "--config.objective.name"]),
    "precision": ([TINY, "--config.precision.compute=int8"], ["'int8'", "bfloat16, float32", "--config.precision.compute"]),
    "positions": (
        [TRANSFORMER, "--config.model.positions=rope"],
        ["'rope'", "alibi, direction, learned, none, rotary, sinusoidal", "--config.model.positions"],
    ),
    "heads": ([TRANSFORMER, "--config.model.heads=3"], ["config.model.heads=3", "divide the width, 16"]),
    "variant": ([f"--config={CONFIG}:tinny"], ["'tinny'", "'tiny'?", "lstm, scratchpad, small, tiny, transformer", "--config="]),
    "treatment": ([TINY, "--config.treatments=scratchpda"], ["'scratchpda'", "'scratchpad'?", "--config.treatments"]),
    "option of a treatment": ([TINY, "--config.treatments=scratchpad:size=3"], ["'scratchpad'", "size", "--config.treatments"]),
    "no config file": (["--config=experiments/reason/party.py"], ["experiments/reason/party.py", "--config="]),
    "no config in the file": (["--config=experiments/show.py"], ["experiments/show.py", "get_config"]),
    "lengths, empty": ([TINY, "--config.task.lengths=8:1"], ["config.task.lengths='8:1'", "empty range", "FIRST:LAST"]),
    "lengths, one number": ([TINY, "--config.task.lengths=8"], ["config.task.lengths='8'", "FIRST:LAST"]),
    "lengths, from 0": ([TINY, "--config.task.lengths=0:8"], ["config.task.lengths='0:8'", "at least 1"]),
    "split, empty": ([TINY, "--config.evaluate.splits=iid,500-41"], ["'500-41'", "empty range"]),
    "split, half": ([TINY, "--config.evaluate.splits=41-"], ["'41-'", "FIRST:LAST"]),
    "split, unknown": ([TINY, "--config.evaluate.splits=idd"], ["'idd'", "'iid'?", "valid", "--config.evaluate.splits"]),
    "mesh of 3": ([TINY, "--config.mesh.data=3"], ["data=3", "1 device(s)", "--config.mesh.data"]),
    "mesh of 0": ([TINY, "--config.mesh.data=0"], ["config.mesh.data=0", "at least 1"]),
    "mesh, all twice": ([TINY, "--config.mesh.fsdp=-1"], ["mesh", "only one axis may be -1"]),
    "positions too short for the test": (
        [TRANSFORMER, "--config.model.positions=learned", "--config.model.max_length=12"],
        ["config.model.max_length=12", "17 tokens", "--config.model.positions"],
    ),
    "scratchpad, encoder": ([SCRATCHPAD, "--config.model.name=encoder"], ["'encoder'", "decoder, lstm", "--config.model.name"]),
    "scratchpad, no state": (
        [SCRATCHPAD, "--config.task.name=chomsky/reverse_string"],
        ["scratchpad", "chomsky/reverse_string", "chomsky/parity_check", "--config.task.name"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_and_nothing_is_written(verb, tmp_path, name):
    arguments, words = MISTAKES[name]
    refused(verb("main", *arguments, f"--workdir={tmp_path / 'run'}"), *words)
    assert not contents(tmp_path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["main", TINY], ["--workdir"]),
        (["main", "--workdir={}/run"], ["--config"]),
        (["main", TINY, "--workdir={}/run", "--steps=3"], ["'steps'", "--help"]),
        (["main", TINY, "--workdir={}/run", "steps=3"], ["'steps=3'", "--name=value"]),
        (["main", TINY, "--workdir={}/run", "--config.seed"], ["--config.seed has no value"]),
        (["main", TINY, "--workdir=/proc/nowhere"], ["/proc/nowhere", "--workdir"]),
        (["main", TINY, f"--workdir={ROOT}/pyproject.toml/run"], ["pyproject.toml/run", "Not a directory", "--workdir"]),
        (["study", TINY, TINY, "--workdir={}/run"], ["same name", "tiny"]),
        (["study", TINY, "--seeds=4:0", "--workdir={}/run"], ["--seeds='4:0'", "FIRST:LAST"]),
        (["study", TINY, f"--workdir={ROOT}/pyproject.toml/run"], ["pyproject.toml/run", "--workdir"]),
        (["show", "--task=chomsky/party_check"], ["'chomsky/party_check'", "'chomsky/parity_check'?", "--task"]),
        (["show", "--task=chomsky/parity_check", "--split=tset"], ["'tset'", "train, valid", "--split"]),
        (["show", "--task=chomsky/parity_check", "--n=-2"], ["--n=-2", "0 or more"]),
        (["show", "--task=chomsky/parity_check", "--split=9-16", "--n=-1"], ["--n=-1", "'9-16'", "infinite"]),
        (["show", "--task=chomsky/parity_check", "--lengths=9:3"], ["9", "empty range", "FIRST:LAST"]),
        (["show", "--task=chomsky/parity_check", "--format=xml"], ["xml", "text", "jsonl"]),
        (["show", "--task=chomsky/reverse_string", "--treatment=scratchpad"], ["scratchpad", "chomsky/parity_check"]),
    ],
)
def test_wrong_arguments(verb, tmp_path, words, told):
    refused(verb(*(word.format(tmp_path) for word in words)), *told)
    assert not contents(tmp_path)


def test_help_and_examples_come_through_the_same_door(verb):
    shown = verb("main", "--help")
    assert shown.code == 0 and shown.err == ""
    for text in ("--config=parity:lstm", "--workdir", "Work directory of the run", "--config.KEY=VALUE"):
        assert text in shown.out
    shown = verb("show", "--task=chomsky/parity_check", "--split=9-12", "--n=3", "--format=jsonl")
    examples = [json.loads(line) for line in shown.out.splitlines()]
    assert shown.code == 0 and [example["length"] for example in examples] == [9, 10, 11]
    assert all(example["target"] == [sum(example["input"]) % 2] for example in examples)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["--config.seed=9223372036854775808"], "config.seed"),
        (["--config.optimizer.decay_paths=(", "--config.optimizer.weight_decay=0.1"], "config.optimizer.decay_paths"),
        (["--config.task.lengths=²:3"], "config.task.lengths"),
    ],
)
def test_values_that_only_python_refuses(verb, tmp_path, arguments, key):
    refused(verb("main", TINY, *arguments, f"--workdir={tmp_path / 'run'}"), key)
    assert not contents(tmp_path)


def test_a_folder_of_another_experiment_is_left_alone(verb, run):
    before = contents(run)
    told = refused(
        go_on(verb, run, "--config.model.width=8", "--config.seed=3"),
        "config.model.width: 16 in the run, 8",
        "config.seed: 0 in the run, 3",
        "start from scratch",
    )
    assert "--workdir" in told
    assert "config.task" not in told, "only keys that differ are listed"
    refused(verb("main", SCRATCHPAD, f"--workdir={run}"), "config.model.name: 'lstm' in the run, 'decoder'", "config.treatments")
    assert contents(run) == before


def test_checkpoints_without_a_config_are_left_alone(verb, run):
    (run / "config.json").unlink()
    before = contents(run)
    refused(go_on(verb, run), "checkpoints without a config.json", "--workdir")
    assert contents(run) == before


@pytest.mark.parametrize("name", ["config.json", "results.json"])
def test_a_cut_off_json_file_is_told(verb, run, name):
    (run / name).write_text((run / name).read_text()[:40])
    before = contents(run)
    refused(go_on(verb, run, steps=16), name, "cannot be read", "--workdir")
    assert contents(run) == before


def test_a_checkpoint_beyond_the_steps_is_told(verb, run):
    refused(go_on(verb, run, steps=12), "step 16", "config.train.steps=12", "--config.train.steps", "--workdir")


def test_a_checkpoint_beyond_the_steps_changes_nothing(verb, run):
    before = contents(run)
    refused(go_on(verb, run, steps=12))
    assert contents(run) == before


def test_runs_and_studies_are_told_apart(verb, run, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(run, study / "tiny" / "seed_0")
    before = contents(tmp_path)
    refused(verb("main", TINY, f"--workdir={study}"), "holds a study", "--workdir")
    refused(verb("evaluate", f"--workdir={study}", "--lengths=9:12"), "holds a study", "tiny/seed_0", "--workdir")
    refused(verb("study", TINY, f"--workdir={run}"), "holds a single run", "--workdir")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--lengths=FIRST:LAST", "--split"]),
        (["--lengths=12:9"], ["--lengths='12:9'", "empty range"]),
        (["--lengths=0:9"], ["--lengths='0:9'", "at least 1"]),
        (["--lengths=9"], ["--lengths='9'", "FIRST:LAST"]),
        (["--lengths=9:12", "--split=idd"], ["'idd'", "'iid'?"]),
        (["--lengths=9:12", "--per_length=-1"], ["per_length"]),
        (["--lengths=9:12", "--config.model.width=3"], ["--config", "--lengths"]),
    ],
)
def test_evaluate_refuses(verb, run, arguments, words):
    before = contents(run)
    refused(verb("evaluate", f"--workdir={run}", *arguments), *words)
    assert contents(run) == before


def test_evaluate_needs_a_checkpoint(verb, run, tmp_path):
    refused(verb("evaluate", f"--workdir={tmp_path / 'nothing'}", "--lengths=9:12"), "no config.json", "--workdir")
    assert not (tmp_path / "nothing").exists()
    shutil.rmtree(run / "checkpoints")
    before = contents(run)
    refused(verb("evaluate", f"--workdir={run}", "--lengths=9:12"), "no checkpoint", "assay train")
    assert contents(run) == before


def test_evaluate_beyond_learned_positions(verb, tmp_path):
    from assay.config.files import load
    from assay.config.overrides import override
    from assay.config.schema import to_dict

    config = override(load(f"{ROOT}/{CONFIG}:transformer,tiny"), {"model.positions": "learned", "model.max_length": "17"})
    (tmp_path / "config.json").write_text(json.dumps({"experiment": "learned", "composition": {}, **to_dict(config)}))
    before = contents(tmp_path)
    refused(verb("evaluate", f"--workdir={tmp_path}", "--lengths=9:17"), "config.model.max_length=17", "18 tokens")
    assert contents(tmp_path) == before


def damage(path: Path, how: str) -> None:
    if how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "edited":
        path.write_text(path.read_text().replace("16", "15"))
        (path.parents[1] / "seal.json").unlink()  # as an older checkpoint
    elif how == "linked":
        target = path.rename(path.parents[4] / "elsewhere")
        path.symlink_to(target)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("part", "how", "words"),
    [
        ("state", "deleted", ["checkpoints/16", "cannot be restored", "No earlier one is intact: --from_step=0", "--workdir"]),
        ("data/metadata", "deleted", ["checkpoints/16", "cannot be restored", "--workdir"]),
        ("data/metadata", "edited", ["checkpoints/16", "data iterator is at {'step': 15}", "--workdir"]),
        ("state/_METADATA", "truncated", ["checkpoints/16", "cannot be restored", "--workdir"]),
        ("state/ocdbt.process_0/d", "deleted", ["checkpoints/16", "cannot be restored", "--workdir"]),
        ("state/manifest.ocdbt", "linked", ["checkpoints/16", "symbolic link, manifest.ocdbt", "not followed"]),
    ],
)
def test_a_damaged_checkpoint_is_told(verb, run, part, how, words):
    damage(run / "checkpoints" / "16" / part, how)
    before = {name: content for name, content in contents(run).items() if name not in ("config.json", "results.json")}
    refused(go_on(verb, run), *words)
    refused(verb("evaluate", f"--workdir={run}", "--lengths=9:12"), *words)
    assert contents(run).items() >= before.items(), "what was there stays as it was"


def test_a_damaged_checkpoint_changes_nothing(verb, run):
    damage(run / "checkpoints" / "16" / "data" / "metadata", "deleted")
    before = contents(run)
    refused(go_on(verb, run), "Nothing was changed")
    assert contents(run) == before


DIVERGE = (
    "--config.optimizer.name=sgd",
    "--config.optimizer.clip_norm=0",
    "--config.checkpoint.every=1",
    "--config.train.steps_per_call=1",
    *SHORT,
)


def test_figures_that_are_not_finite_stop_the_run(verb, tmp_path):
    import jax
    import numpy as np

    from assay.treatments.pipeline.load import rebuild, restore

    run = tmp_path / "run"
    rising = ["--config.optimizer.learning_rate=1e38", "--config.optimizer.warmup_steps=10"]  # the first update is 0, the second is not
    words = ("so training stopped", str(run / "checkpoints"), "--config.optimizer.learning_rate", "--workdir")
    told = refused(verb("main", TINY, *DIVERGE, *rising, f"--workdir={run}"), *words)
    assert re.search(r"step 2: \w+ is (inf|nan)", told), told
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.json", "metrics.jsonl", "tensorboard"]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["1"], "the last good one"
    state = restore(rebuild(run), run)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, state.opt_state)))


def test_a_batch_that_eight_devices_cannot_share(tmp_path):
    arguments = (TINY, "--config.train.batch_size=12", f"--workdir={tmp_path / 'run'}")
    outcome = in_a_process("experiments.main", *arguments, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    refused(outcome, "config.train.batch_size=12", "8 devices", "multiple of 8", "--config.mesh.data")
    assert outcome.out == "" and not contents(tmp_path)


def test_a_truncated_manifest_shows_no_traceback(run):
    damage(run / "checkpoints" / "16" / "state" / "manifest.ocdbt", "truncated")
    arguments = (TINY, "--config.train.steps=20", "--config.checkpoint.keep=1", *SHORT, f"--workdir={run}")
    refused(in_a_process("experiments.main", *arguments), "checkpoints/16", "cannot be restored")
