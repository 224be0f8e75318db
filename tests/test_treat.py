"""The verb `treat`: pipelines end to end, what each stage inherits, kills, and mistakes, through the real command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from verb_server import ROOT, contents, refused, verb  # noqa: F401 - a fixture

from assay.cli.treat import treat
from assay.core.errors import UserError
from assay.core.lock import locked
from assay.core.tree import count, paths
from assay.infer.export import exported_bytes
from assay.reports.terminal.stages import print_stages
from assay.treatments.pipeline.load import load, rebuild
from assay.treatments.pipeline.stages import plan, plan_controls
from assay.verdicts.control import Control, control_of

DIGITS = "experiments/vision/cnn_digits.py"
ALONE = "--control=False"  # what these tests show needs no second training
TEACHER = [f"--config={DIGITS}:cnn,tiny", "--config.evaluate.splits=valid", "--config.train.steps=24", "--config.checkpoint.every=8"]
PIPELINE = ["--treat=distill:student=small,T=2,steps=16", "--treat=prune:channels=0.5,steps=8", "--treat=quantize:int8"]


@pytest.fixture(scope="module")
def teacher(verb, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    assert verb("main", *TEACHER, f"--workdir={folder}").code == 0
    return folder


@pytest.fixture(scope="module")
def other(verb, tmp_path_factory) -> Path:
    """A run of another task."""
    folder = tmp_path_factory.mktemp("other") / "run"
    arguments = ["--config=experiments/reason/parity.py:lstm,tiny", "--config.evaluate.splits=iid", "--config.train.steps=2"]
    assert verb("main", *arguments, f"--workdir={folder}").code == 0
    return folder


@pytest.fixture(scope="module")
def small(verb, teacher) -> Path:
    """The teacher after three stages. Tests that change it copy it."""
    folder = teacher.parent / "small"
    done = verb("treat", f"--from={teacher}", *PIPELINE, f"--workdir={folder}", "--seconds=0.5")
    assert done.code == 0, done.err
    assert "3_quantize" in done.out and str(folder / "pareto.svg") in done.out
    return folder


def test_a_pipeline_is_written_by_one_process_at_a_time(small, teacher):
    specs = [word.removeprefix("--treat=") for word in PIPELINE]
    with locked(small / "stages"), pytest.raises(UserError, match=r"another process .* is writing to .*Wait until it has ended"):
        treat(str(teacher), specs, str(small), {}, 0.5)


def test_a_pipeline_is_a_run_a_stage(small, teacher):
    """Each stage can be opened alone, and has what was done before it."""
    folders = [teacher, small / "stages" / "1_distill", small / "stages" / "2_prune", small]
    models = [load(folder) for folder in folders]
    assert [folder.name for folder in sorted((small / "stages").iterdir())] == ["1_control", "1_distill", "2_control", "2_prune"]
    assert [rebuild(folder).settings.train.steps for folder in folders] == [24, 16, 8, 0]
    filters = [models[i][0].settings.filters for i in range(3)]
    assert filters == [(4, 8), (2, 4), (1, 2)]
    sizes = [exported_bytes(params) for _, params, _ in models]
    assert sizes[0] > 2 * sizes[1] > 2 * sizes[2] and sizes[2] > 1.5 * sizes[3]
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(models[3][1])} == {"int8", "float32"}
    assert count(models[1][1]) > count(models[2][1])
    treatments = json.loads((small / "config.json").read_text())["treatments"]
    assert treatments[0] == "prune:channels=0.5" and treatments[1] == f"inherit:from={small}/stages/2_prune"
    assert treatments[-1] == "quantize:int8" and "distill" not in str(treatments)
    assert (small / "results.json").exists() and (small / "report.html").exists()


def test_the_stages_are_measured_alike(small, teacher):
    found = json.loads((small / "stages.json").read_text())
    assert found["schema"] == 1 and (found["metric"], found["split"], found["task"]) == ("accuracy", "valid", "digits")
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["untreated", "1_distill", "2_prune", "3_quantize"]
    for name, row in rows.items():
        records = [json.loads(line) for line in (Path(row["workdir"]) / "predictions" / "valid.jsonl").read_text().splitlines()]
        assert row["n"] == len(records) == 180
        np.testing.assert_allclose(row["score"], np.mean([record["scores"]["accuracy"] for record in records]))
        if name != "untreated":
            np.testing.assert_allclose(row["difference"], row["score"] - rows["untreated"]["score"], atol=1e-9)
            low, high = row["difference_interval"]
            assert low <= row["difference"] <= high
        _, params, _ = load(row["workdir"])
        assert row["cost"]["bytes_on_disk"] == exported_bytes(params) and row["cost"]["parameters"] == count(params)
        assert 0 < row["speed"]["latency_p50_seconds"] <= row["speed"]["latency_p90_seconds"]
    assert "<svg" in (small / "pareto.svg").read_text()


def test_a_control_trains_as_long_without_the_treatments(small):
    """The student alone, then the student alone again; rounding trains nothing, and has the control of the stage before it."""
    rows = json.loads((small / "stages.json").read_text())["rows"]
    assert [row["updates"] for row in rows] == [0, 16, 24, 24]
    assert [row["control"] and row["control"]["workdir"] for row in rows] == [
        None,
        "stages/1_control",
        "stages/2_control",
        "stages/2_control",
    ]
    for row, stage in zip(rows[1:3], ("1_distill", "2_prune"), strict=True):
        control = small / row["control"]["workdir"]
        ours, theirs = rebuild(small / "stages" / stage).settings, rebuild(control).settings
        assert (ours.train.steps, ours.optimizer, ours.seed) == (theirs.train.steps, theirs.optimizer, theirs.seed)
        records = [json.loads(line) for line in (control / "predictions" / "valid.jsonl").read_text().splitlines()]
        np.testing.assert_allclose(row["control"]["score"], np.mean([record["scores"]["accuracy"] for record in records]))
        np.testing.assert_allclose(row["control"]["difference"], row["score"] - row["control"]["score"], atol=1e-9)
    told = [json.loads((small / "stages" / f"{i}_control" / "config.json").read_text())["treatments"] for i in (1, 2)]
    assert told[1][0] == f"inherit:from={small}/stages/1_control" and "distill" not in str(told) and "prune" not in str(told)


def test_a_treatment_that_does_nothing_has_no_effect(verb, teacher, tmp_path):
    """It trains 16 updates more and scores higher, and so does its control."""
    out = tmp_path / "out"
    command = ("treat", f"--from={teacher}", "--treat=l2:weight=1e-9,steps=16,rate=0.01", f"--workdir={out}", "--seconds=0.3")
    done = verb(*command)
    assert done.code == 0, done.err
    start, treated, control = states(teacher), states(out), states(out / "stages/1_control")
    moved, apart = (max(np.abs(leaf - of[path]).max() for path, leaf in control.items()) for of in (start, treated))
    assert moved > 0.05 and apart < moved / 50, "both were trained further, to the same place"
    row = json.loads((out / "stages.json").read_text())["rows"][1]
    assert abs(row["control"]["difference"]) <= 1 / 180 and row["control"]["p_value"] > 0.5
    assert control_of(out, teacher) == Control(str(out / "stages/1_control"), 16, "")
    assert control_of(out, out) is None and control_of(teacher, teacher) is None
    shutil.rmtree(out / "stages")
    found = control_of(out, teacher)
    assert found is not None and (found.workdir, found.updates) == ("", 16) and "removed" in found.why


def test_a_stage_answers_as_its_parameters_say(small):
    """The quantised stage is the pruned one with rounded weights: nothing else was changed, nor trained."""
    before, after = load(small / "stages" / "2_prune"), load(small)
    task = after[2]
    batch = dict(task.encode(task.source("valid").fetch(np.arange(64)), 1))
    ours, theirs = (np.asarray(model.apply(params, batch).logits) for model, params, _ in (after, before))
    assert 0 < np.abs(ours - theirs).max() < 0.05 * np.abs(theirs).max()


def test_the_same_command_again_changes_nothing(verb, small, teacher):
    before = contents(small)
    done = verb("treat", f"--from={teacher}", *PIPELINE, f"--workdir={small}", "--seconds=0.5")
    assert done.code == 0 and "3_quantize" in done.out
    assert contents(small) == before


def test_a_killed_pipeline_goes_on_to_the_same_bits(small, teacher, tmp_path):
    """Killed in the first stage, and again in a later one."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "lib")])}
    folder = tmp_path / "small"
    command = [sys.executable, "-m", "experiments.treat", f"--from={teacher}", *PIPELINE, ALONE, f"--workdir={folder}", "--seconds=0.3"]
    for sign in (folder / "stages" / "1_distill" / "checkpoints" / "8", folder / "stages" / "2_prune" / "config.json"):
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.time() + 120
        while not sign.exists() and process.poll() is None and time.time() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "stages.json").exists(), "it was too late"
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    for part in ("stages/1_distill", "stages/2_prune", "."):
        first, second = load(small / part)[1], load(folder / part)[1]
        assert jax.tree.all(jax.tree.map(lambda a, b: (np.asarray(a) == np.asarray(b)).all(), first, second)), part


def test_seeds_are_treated_one_by_one(verb, teacher, tmp_path):
    for seed in (0, 1):
        shutil.copytree(teacher, tmp_path / "study" / f"seed_{seed}")
    done = verb("treat", f"--from={tmp_path / 'study'}", "--treat=quantize:int4", f"--workdir={tmp_path / 'out'}", "--seconds=0.3")
    assert done.code == 0, done.err
    assert all((tmp_path / "out" / f"seed_{seed}" / "stages.json").exists() for seed in (0, 1))
    both = verb("compare", "--pareto", f"--workdir={tmp_path}/out/seed_0", f"--workdir={tmp_path}/out/seed_1", f"--plot={tmp_path}/p.svg")
    assert both.code == 0 and "1_quantize" in both.out and (tmp_path / "p.svg").exists()


def test_a_student_may_be_of_another_file_or_the_model_itself(verb, teacher, tmp_path):
    other = "--treat=distill:student=experiments/vision/resnet_digits.py:tiny,steps=2"
    itself = "--treat=distill:student=itself,steps=4"
    done = verb(
        "treat",
        f"--from={teacher}",
        other,
        "--treat=prune:sparsity=0.5,steps=0",
        itself,
        ALONE,
        f"--workdir={tmp_path}/out",
        "--seconds=0.3",
    )
    assert done.code == 0, done.err
    kinds = [rebuild(tmp_path / "out" / part).settings.model["name"] for part in ("stages/1_distill", "stages/2_prune", ".")]
    assert kinds == ["resnet"] * 3
    before, after = (load(tmp_path / "out" / part)[1] for part in ("stages/2_prune", "."))
    zeros = jax.tree.map(lambda leaf: np.asarray(leaf) == 0, before["head"]["kernel"])
    assert zeros.mean() > 0.1 and (np.asarray(after["head"]["kernel"]) == 0)[zeros].all(), "what was pruned stays so while it recovers"
    assert (np.asarray(after["head"]["kernel"]) != np.asarray(before["head"]["kernel"])).any()
    spec = json.loads((tmp_path / "out" / "config.json").read_text())["treatments"]
    assert f"distill:from={teacher}" in spec, "the run that is treated teaches"


def test_lora_is_merged_and_cut(verb, tmp_path):
    """What was adapted is the family's own model again, which surgery takes."""
    run = tmp_path / "run"
    arguments = ["--config=experiments/reason/parity.py:transformer,tiny", "--config.evaluate.splits=iid", "--config.train.steps=8"]
    assert verb("main", *arguments, f"--workdir={run}").code == 0
    stages = ["--treat=lora:rank=2,steps=4", "--treat=merge", "--treat=prune:units=0.5,steps=4"]
    done = verb("treat", f"--from={run}", *stages, ALONE, f"--workdir={tmp_path}/out", "--seconds=0.3")
    assert done.code == 0, done.err
    adapted, merged, cut = (load(tmp_path / "out" / part) for part in ("stages/1_lora", "stages/2_merge", "."))
    task = merged[2]
    batch = dict(task.encode(task.source("iid").fetch(np.arange(8)), task.width(8)))
    np.testing.assert_allclose(adapted[0].apply(adapted[1], batch).logits, merged[0].apply(merged[1], batch).logits, atol=1e-5)
    assert cut[0].settings.mlp * 2 == merged[0].settings.mlp
    assert (np.asarray(cut[1]["head"]["kernel"]) != np.asarray(merged[1]["head"]["kernel"])).any(), "a merged model is trained again"


def states(folder: Path) -> dict[str, np.ndarray]:
    params = load(folder)[1]
    return {path: np.asarray(leaf) for path, leaf in zip(paths(params), jax.tree.leaves(params), strict=True)}


def test_zeros_are_rounded_and_adapted(verb, teacher, tmp_path):
    """A mask stays whatever is done to its matrix afterwards."""
    stages = ["--treat=prune:sparsity=0.6,steps=4", "--treat=quantize:nf4", "--treat=lora:rank=1,steps=2"]
    done = verb("treat", f"--from={teacher}", *stages, ALONE, f"--workdir={tmp_path}/out", "--seconds=0.3")
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in json.loads((tmp_path / "out" / "stages.json").read_text())["rows"]}
    pruned, rounded = states(tmp_path / "out/stages/1_prune"), states(tmp_path / "out/stages/2_quantize")
    for path, leaf in rounded.items():
        if path.endswith("/qvalue"):
            np.testing.assert_array_equal(leaf == 0, pruned[path.removesuffix("/qvalue")] == 0)
    share = {name: row["cost"]["nonzero"] / row["cost"]["parameters"] for name, row in rows.items()}
    assert share["1_prune"] < 0.6 and share["2_quantize"] < 0.7 < share["untreated"]


def test_training_with_rounding_and_then_rounding(verb, teacher, tmp_path):
    stages = ["--treat=quantize:int4,train=True,steps=4", "--treat=quantize:int4"]
    done = verb("treat", f"--from={teacher}", *stages, ALONE, f"--workdir={tmp_path}/out", "--seconds=0.3")
    assert done.code == 0, done.err
    trained, rounded = load(tmp_path / "out/stages/1_quantize"), load(tmp_path / "out")
    task = trained[2]
    batch = dict(task.encode(task.source("valid").fetch(np.arange(32)), 1))
    first, second = (np.asarray(model.apply(params, batch).logits) for model, params, _ in (trained, rounded))
    np.testing.assert_allclose(first, second, atol=1e-5, err_msg="it was trained as what it is rounded to")


def test_a_small_student_is_of_its_teachers_family_and_has_its_steps(teacher):
    base = json.loads((teacher / "config.json").read_text())
    for experiment, model in (("reason/parity:transformer,tiny", "decoder"), ("reason/scan:transformer,tiny", "encoder_decoder")):
        (one,) = plan(str(teacher), ["distill:student=small"], "out", {}, {**base, "experiment": experiment})
        assert one.config["model"]["name"] == model
    _, two = plan(str(teacher), ["quantize:int8", "distill:student=small"], "out", {}, base)
    assert two.config["train"]["steps"] == 24 and two.config["optimizer"] == base["optimizer"]
    student, after = plan(
        str(teacher), ["distill:student=experiments/vision/resnet_digits.py:resnet", "prune:channels=0.5"], "out", {}, base
    )
    assert after.config["train"]["steps"] == student.config["train"]["steps"] // 4 == 375
    given = {**base, "treatments": ["reverse", "augment:images=shift:1", "scratchpad"]}
    (one,) = plan(str(teacher), ["distill:student=small"], "out", {}, given)
    assert [spec.partition(":")[0] for spec in one.config["treatments"]] == ["reverse", "scratchpad", "distill", "augment"]


def test_controls_leave_out_what_a_pipeline_adds(teacher):
    base = {**json.loads((teacher / "config.json").read_text()), "treatments": ["lora:rank=2", "l2:weight=0.1", "augment:images=shift:1"]}
    specs = ["quantize:int8", "l2:weight=0.5,steps=4", "prune:sparsity=0.5,steps=0", "distill:student=itself,steps=2"]
    stages = plan(str(teacher), specs, "out", {}, base)
    none, first, same, last = plan_controls(str(teacher), stages, "out", base)
    assert none is None and first is same and first is not None and last is not None
    out = f"{os.getcwd()}/out/stages"
    assert first.config["treatments"] == ["lora:rank=2", f"inherit:from={teacher}", "augment:images=shift:1"]
    assert last.config["treatments"] == ["lora:rank=2", f"inherit:from={out}/2_control", "augment:images=shift:1"]
    assert (first.workdir, last.workdir) == (f"{out}/2_control", f"{out}/4_control")
    assert [one.config["train"]["steps"] for one in (first, last)] == [4, 2]


def test_longer_and_larger_are_compared_with_the_run(teacher):
    base = {**json.loads((teacher / "config.json").read_text()), "treatments": ["prune:units=0.5", "early_stopping", "l2:weight=0.1"]}
    stages = plan(str(teacher), ["longer:steps=40,rate=0.5", "larger:times=4", "l2:weight=0.5,steps=4"], "out", {}, base)
    further, wider, last = (stage.config for stage in stages)
    assert further["treatments"] == ["prune:units=0.5", f"inherit:from={teacher}", "l2:weight=0.1", "longer"]
    assert (further["train"]["steps"], further["optimizer"]["learning_rate"]) == (40, 0.5)
    assert wider["treatments"] == ["early_stopping", "l2:weight=0.1", "larger:times=4"]
    assert (wider["train"], wider["optimizer"]) == (base["train"], base["optimizer"])
    none, alone, control = plan_controls(str(teacher), stages, "out", base)
    assert none is None and alone is None and control is not None
    assert control.config["treatments"] == [f"inherit:from={os.getcwd()}/out/stages/2_larger", "l2:weight=0.1", "larger:times=4"]
    assert last["treatments"] == [f"inherit:from={os.getcwd()}/out/stages/2_larger", "larger:times=4", "l2:weight=0.5"]
    chain = plan(str(teacher), ["l2:weight=0.5,steps=4", "longer:steps=40", "quantize:int8"], "out", {}, {**base, "treatments": []})
    first, further_on, rounded = plan_controls(str(teacher), chain, "out", {**base, "treatments": []})
    assert first is not None and further_on is None and rounded is None, "the control of the first stage has 40 updates fewer"
    (own,) = plan(str(teacher), ["longer"], "out", {}, base)
    assert own.config["train"]["steps"] == base["train"]["steps"]
    assert own.config["optimizer"]["learning_rate"] == base["optimizer"]["learning_rate"]


def test_a_later_stage_is_done_anew_when_an_earlier_one_changed(verb, teacher, tmp_path):
    constant = [ALONE, "--config.optimizer.schedule=constant", f"--workdir={tmp_path}/out", "--seconds=0.3"]
    for steps in (8, 16):
        done = verb("treat", f"--from={teacher}", f"--treat=distill:student=small,steps={steps}", "--treat=quantize:int8", *constant)
        assert done.code == 0, done.err
    student, rounded = states(tmp_path / "out/stages/1_distill"), states(tmp_path / "out")
    biases = [path for path in student if path.endswith("bias")]
    assert biases and all((student[path] == rounded[path]).all() for path in biases)


def test_a_list_of_treatments_in_a_config(verb, teacher, tmp_path):
    listed = "--treat=experiments/compress/digits.py:small"
    done = verb("treat", f"--from={teacher}", listed, ALONE, f"--workdir={tmp_path}/out", "--config.train.steps=2", "--seconds=0.3")
    assert done.code == 0, done.err
    assert [path.name for path in sorted((tmp_path / "out" / "stages").iterdir())] == ["1_distill", "2_prune"]
    refused(verb("treat", f"--from={teacher}", f"{listed}er", f"--workdir={tmp_path}/other"), "'smaller'", "small", "--treat")


MISTAKES = {
    "an option that is misspelt": (["--treat=prune:sparcity=0.5"], ["does not take 'sparcity'", "Change it in --treat"]),
    "treatments of a stage": (["--treat=quantize:int8", "--config.treatments=l2"], ["--treat", "--config.treatments"]),
    "sizes of a model that is taken over": (["--treat=quantize:int8", "--config.model.dense=8"], ["config.model.dense", "student"]),
    "a ramp longer than the stage": (["--treat=prune:sparsity=0.9,ramp=400,steps=20"], ["400 steps", "steps="]),
    "below zero": (["--treat=prune:channels=0.5,steps=-1"], ["steps=-1", "at least 0"]),
    "members after training": (["--treat=ensemble:members=2"], ["'ensemble'", "--treat"]),
    "a start that is not kept": (["--treat=prune:sparsity=0.5,rewind=7"], ["no checkpoint of step 7"]),
    "an endless temperature": (["--treat=distill:student=small,T=inf"], ["T=inf"]),
    "a later teacher of another task": (["--treat=quantize:int8", "--treat=distill:student=itself,from={other}"], ["labels", "digits"]),
    "no time": (["--treat=quantize:int8", "--seconds=nan"], ["--seconds=nan"]),
    "no treatment": ([], ["--treat"]),
    "unknown treatment": (["--treat=quantise:int8"], ["'quantise'", "'quantize'?"]),
    "a path that is nowhere": (["--treat=quantize:int8,paths=nowhere"], ["paths=nowhere", "block_0/conv/kernel", "head/kernel"]),
    "nothing to prune there": (["--treat=prune:sparsity=0.5,paths=nowhere"], ["paths=nowhere", "model/block_0/conv/kernel"]),
    "sparsity of one": (["--treat=prune:sparsity=1.0"], ["sparsity=1.0", "[0, 1)"]),
    "negative sparsity": (["--treat=prune:sparsity=-0.5"], ["sparsity=-0.5", "[0, 1)"]),
    "quantised twice": (["--treat=quantize:int8", "--treat=quantize:int4"], ["quantize"]),
    "heads of a cnn": (["--treat=prune:heads=0.5"], ["does not apply", "attention"]),
    "surgery after rounding": (["--treat=quantize:int8", "--treat=prune:channels=0.5"], ["does not apply", "after quantize"]),
    "student of another task": (["--treat=distill:student=experiments/vision/cnn_cifar.py:cnn"], ["cifar", "digits", "labels"]),
    "student of another kind": (["--treat=distill:student=experiments/reason/parity.py:lstm,tiny"], ["parity_check", "digits"]),
    "unknown student": (["--treat=distill:student=smal"], ["'smal", "small"]),
    "student of a pruning": (["--treat=prune:channels=0.5,student=small"], ["student", "distill"]),
    "steps in words": (["--treat=prune:channels=0.5,steps=many"], ["steps=many", "int"]),
    "a later stage": (["--treat=quantize:int8,steps=0", "--treat=lora:rank=0"], ["rank=0"]),
    "unknown key": (["--treat=quantize:int8", "--config.train.stepz=3"], ["train.stepz"]),
    "the run itself": (["--treat=quantize:int8", "--workdir={teacher}"], ["--workdir", "another folder"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_and_nothing_is_written(verb, teacher, other, tmp_path, name):
    arguments, words = MISTAKES[name]
    arguments = [word.format(teacher=teacher, other=other) for word in arguments]
    before = contents(teacher)
    told = verb("treat", f"--from={teacher}", f"--workdir={tmp_path / 'out'}", *arguments)
    refused(told, *words)
    assert not (tmp_path / "out").exists() and contents(teacher) == before


def test_what_cannot_be_treated_is_told(verb, teacher, tmp_path):
    refused(
        verb("treat", f"--from={tmp_path / 'nowhere'}", "--treat=quantize:int8", f"--workdir={tmp_path / 'out'}"), "nowhere", "config.json"
    )
    shutil.copytree(teacher, tmp_path / "bare", ignore=shutil.ignore_patterns("checkpoints"))
    refused(verb("treat", f"--from={tmp_path / 'bare'}", "--treat=quantize:int8", f"--workdir={tmp_path / 'out'}"), "no checkpoint")
    shutil.copytree(teacher, tmp_path / "unfinished", ignore=shutil.ignore_patterns("results.json"))
    refused(verb("treat", f"--from={tmp_path / 'unfinished'}", "--treat=quantize:int8", f"--workdir={tmp_path / 'out'}"), "results.json")
    assert not (tmp_path / "out").exists()


def test_a_quantised_run_is_not_quantised_again(verb, small, tmp_path):
    refused(verb("treat", f"--from={small}", "--treat=quantize:int4", f"--workdir={tmp_path / 'out'}"), "quantize")


def test_plans_say_steps_and_rates(teacher):
    base = json.loads((teacher / "config.json").read_text())
    one, two, three = plan(
        str(teacher), ["prune:sparsity=0.5,rate=0.01", "prune:channels=0.5,steps=3", "quantize:int4,train=true"], "out", {}, base
    )
    assert (one.config["train"]["steps"], one.config["optimizer"]["learning_rate"]) == (6, 0.01)
    assert two.config["train"]["steps"] == 3 and two.config["optimizer"]["schedule"] == "cosine"
    assert three.config["train"]["steps"] == 6 and [one.workdir, three.workdir] == [str(ROOT / "out/stages/1_prune"), str(ROOT / "out")]
    np.testing.assert_allclose(two.config["optimizer"]["learning_rate"], 0.3 * base["optimizer"]["learning_rate"])
    kept = [spec for spec in one.config["treatments"] if spec.startswith(("augment", "average"))]
    assert kept == base["treatments"], "what the run was trained with stays"
    with pytest.raises(UserError, match="--treat"):
        plan(str(teacher), [], "out", {}, base)


def test_a_run_without_updates_has_the_steps_of_the_run_that_it_continues(small):
    """`small` ends with a stage of zero steps after one of eight."""
    base = json.loads((small / "config.json").read_text())
    one, two = plan(str(small), ["average", "prune:sparsity=0.5"], "out", {}, base)
    assert base["train"]["steps"] == 0 and (one.config["train"]["steps"], two.config["train"]["steps"]) == (8, 2)
    inherited = [spec for spec in base["treatments"] if spec.startswith("inherit:")]
    gone = [spec.replace(inherited[0], "inherit:from=/nowhere") for spec in base["treatments"]]
    (zero,) = plan(str(small), ["average"], "out", {}, {**base, "treatments": gone})
    assert zero.config["train"]["steps"] == 0


def test_a_disturbed_timing_prints_its_reason_and_no_ratio(small, capsys):
    found = json.loads((small / "stages.json").read_text())
    for row in found["rows"]:
        assert {"alone_seconds", "turn_seconds", "others_cores", "disturbed"} == {*row["speed"]["timing"]}
        row["speed"] |= {"latency_ratio": None, "throughput_ratio": None, "verdict": "disturbed"}
        row["speed"]["timing"]["disturbed"] = "disturbed: other processes used 0.8 cores"
    print_stages(found)
    text = " ".join(capsys.readouterr().out.split())
    assert "Times are not compared (disturbed: other processes used 0.8 cores)" in text and " ms - disturbed - " in text


def test_a_slower_model_is_called_slower(small, capsys):
    found = json.loads((small / "stages.json").read_text())
    found["rows"][1]["speed"]["verdict"] = "slower"
    print_stages(found)
    assert "Slower than untreated on this device: 1_distill" in " ".join(capsys.readouterr().out.split())
