"""The same runs on eight simulated devices and on one: the product of data, fsdp and tensor parallelism changes no number."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import equal, losses, train

STEPS = {"train.steps": "10", "train.steps_per_call": "5", "train.log_every": "1", "train.batch_size": "16", "checkpoint.every": "10"}
STEPS |= {"evaluate.splits": ""}
MOMENTUM = {"optimizer.name": "momentum", "optimizer.learning_rate": "0.02"} | STEPS
ADAMW = {"optimizer.name": "adamw", "optimizer.learning_rate": "3e-3", "optimizer.weight_decay": "0.1"} | STEPS
FAMILIES = {
    "decoder": ("experiments/reason/parity.py:transformer,tiny", {"model.width": "32", "model.mlp": "64"}),
    "encoder_decoder": ("experiments/translate/encoder_decoder.py:simple,tiny", {}),
    "classifier": ("experiments/text/transformer_classifier.py:tuned,tiny", {}),
    "lstm": ("experiments/reason/parity.py:lstm,tiny", {"model.width": "32"}),
    "resnet": ("experiments/vision/resnet_digits.py:tiny", {}),
}
MESHES = {
    "decoder": ("fsdp:8,data:1", "data:4,tensor:2", "data:2,fsdp:2,tensor:2"),
    "encoder_decoder": ("data:2,fsdp:2,tensor:2",),
    "classifier": ("data:4,tensor:2",),
    "lstm": ("data:2,fsdp:2,tensor:2",),
    "resnet": ("data:2,fsdp:4",),
}
ANSWERING = {"evaluate.splits": "iid", "evaluate.per_length": "6"}  # 48 examples, which 4 parts of the mesh share
ANSWERED = {
    "decoding": ("experiments/reason/parity.py:scratchpad,tiny", {"model.width": "32"}),  # with a cache
    "classified": ("experiments/reason/parity.py:transformer,tiny", {"model.width": "32"}),
}
WIDE = {"precision.params": "float64", "precision.compute": "float64", "precision.output": "float64"}
IN_FLOAT64 = {"decoder": "data:2,fsdp:2,tensor:2", "lstm": "data:2,fsdp:4"}


def job(folder: Path, family: str, changes: dict, mesh: str = "data:-1", name: str = "") -> dict:
    spec, own = (FAMILIES | ANSWERED)[family]
    return {"spec": spec, "changes": own | changes | {"mesh": mesh}, "workdir": str(folder / f"{family}{name}_{mesh}")}


def launched(folder: Path, jobs: list[dict], devices: int, **environment: str) -> None:
    """Runs the jobs in a process with so many simulated devices."""
    path = folder / f"jobs_{devices}_{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(jobs))
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, str(Path(__file__).parent / "runs.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eight")
    jobs = [job(folder, family, MOMENTUM, mesh) for family, meshes in MESHES.items() for mesh in meshes]
    jobs.append(job(folder, "decoder", ADAMW, "data:2,fsdp:2,tensor:2", "_adamw"))
    jobs.append(job(folder, "decoder", MOMENTUM, "data:8", "_pmap") | {"pmap": True})
    jobs += [job(folder, family, MOMENTUM | ANSWERING, "data:4,tensor:2", "_answers") for family in ANSWERED]
    jobs.append(job(folder, "decoder", MOMENTUM | {"train.batch_size": "15"}, "data:2,fsdp:2,tensor:2", "_odd") | {"error": True})
    launched(folder, jobs, 8)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_parameters_equal_one_device(sharded, tmp_path, family):
    one = job(tmp_path, family, MOMENTUM)
    train(one["spec"], one["changes"], one["workdir"])
    from runs import arrays

    expected, params = losses(one["workdir"]), arrays(one["workdir"])
    assert len(expected) == 10 and len(set(expected)) == 10
    for mesh in MESHES[family]:
        there = job(sharded, family, MOMENTUM, mesh)["workdir"]
        assert losses(there) == pytest.approx(expected, rel=1e-5, abs=1e-5)
        equal(dict(np.load(f"{there}/params.npz")), params)


@pytest.mark.parametrize("mesh", MESHES["decoder"])
def test_the_mesh_does_what_pmap_does(sharded, mesh):
    by_pmap, by_mesh = (job(sharded, "decoder", {}, *given)["workdir"] for given in (("data:8", "_pmap"), (mesh,)))
    equal(dict(np.load(f"{by_pmap}/params.npz")), dict(np.load(f"{by_mesh}/params.npz")))


def test_a_run_of_eight_devices_is_read_by_one(sharded):
    from runs import arrays

    there = job(sharded, "lstm", MOMENTUM, "data:2,fsdp:2,tensor:2")["workdir"]
    equal(dict(np.load(f"{there}/params.npz")), arrays(there), 0.0)


def test_adamw_has_the_same_losses(sharded, tmp_path):
    one = job(tmp_path, "decoder", ADAMW)
    train(one["spec"], one["changes"], one["workdir"])
    there = job(sharded, "decoder", ADAMW, "data:2,fsdp:2,tensor:2", "_adamw")["workdir"]
    assert losses(there) == pytest.approx(losses(one["workdir"]), rel=1e-5)


def test_adamw_has_the_same_parameters_in_float64(tmp_path):
    launched(tmp_path, [job(tmp_path, family, ADAMW | WIDE) for family in IN_FLOAT64], 1, JAX_ENABLE_X64="1")
    launched(tmp_path, [job(tmp_path, family, ADAMW | WIDE, mesh) for family, mesh in IN_FLOAT64.items()], 8, JAX_ENABLE_X64="1")
    for family, mesh in IN_FLOAT64.items():
        one, eight = (dict(np.load(f"{job(tmp_path, family, {}, each)['workdir']}/params.npz")) for each in ("data:-1", mesh))
        assert all(array.dtype == np.float64 for array in one.values())
        equal(one, eight)


def test_batch_that_the_mesh_cannot_divide(sharded):
    workdir = Path(job(sharded, "decoder", {}, "data:2,fsdp:2,tensor:2", "_odd")["workdir"])
    message = Path(f"{workdir}.error").read_text()
    assert "config.train.batch_size=15" in message and "4 devices" in message
    assert not workdir.exists()


@pytest.mark.parametrize("family", ANSWERED)
def test_eight_devices_answer_as_one(sharded, tmp_path, family):
    """Cached greedy decoding and plain evaluation on data:4,tensor:2: the same tokens and scores."""
    alone = job(tmp_path, family, MOMENTUM | ANSWERING, name="_answers")
    train(**alone)
    mesh = sharded / f"{family}_answers_data:4,tensor:2"
    mine, theirs = ((Path(folder) / "predictions" / "iid.jsonl").read_text().splitlines() for folder in (alone["workdir"], mesh))
    mine, theirs = [json.loads(line) for line in mine], [json.loads(line) for line in theirs]
    assert len(mine) == 48 and [record["prediction"] for record in mine] == [record["prediction"] for record in theirs]
    rows = [json.loads((Path(folder) / "results.json").read_text())["rows"] for folder in (alone["workdir"], mesh)]
    assert [row["value"] for row in rows[0]] == pytest.approx([row["value"] for row in rows[1]], rel=1e-5)
