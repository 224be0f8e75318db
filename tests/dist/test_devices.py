"""The same run on eight simulated devices, in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
import jax
from assay.core.config import load, override, to_dict
from assay.core.errors import UserError
from assay.train import loop

assert jax.device_count() == 8
changes = {"train.steps": "6", "train.steps_per_call": "2", "train.log_every": "1", "model.width": "32", "checkpoint.every": "6"}
config = to_dict(override(load("experiments/reason/parity.py:transformer,tiny"), changes))
config["mesh"] = {"data": 2, "fsdp": 2, "tensor": 2}
loop.run(config, sys.argv[1], [], quiet=True)
config["train"]["batch_size"] = 15
try:
    loop.run(config, sys.argv[1] + "_odd", [], quiet=True)
except UserError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(folder / "run")], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.strip().splitlines()[-1])


def losses(path):
    return [json.loads(line)["loss"] for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_losses_equal_one_device(sharded, tmp_path, tiny):
    from assay.train import loop

    changes = {"train.steps": "6", "train.steps_per_call": "2", "train.log_every": "1", "model.width": "32", "checkpoint.every": "6"}
    loop.run(tiny("transformer", changes), str(tmp_path / "run"), [], quiet=True)
    one, eight = losses(tmp_path / "run"), losses(sharded[0] / "run")
    assert len(one) == 6 and len(set(one)) == 6
    assert eight == pytest.approx(one, rel=1e-4)


def test_evaluation_equals_one_device_in_size(sharded):
    rows = json.loads((sharded[0] / "run" / "results.json").read_text())["rows"]
    assert {row["split"]: row["n"] for row in rows} == {"iid": 16, "9-16": 16}


def test_batch_that_the_mesh_cannot_divide(sharded):
    folder, message = sharded
    assert "config.train.batch_size=15" in message and "4 devices" in message
    assert not (folder / "run_odd").exists()
