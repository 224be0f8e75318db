"""Storage that fails: a checkpoint with one byte changed is refused, the newest good one is named, and a run goes on from it when told to;
a disk that takes no more ends the run with one message and what was saved before."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from test_resume import CONFIG, ENVIRONMENT, FAST, ROOT, assert_same_end, logged, started, train

from assay.core.errors import UserError
from assay.train.checkpoint import CheckpointConfig, Checkpointer, rewind
from assay.train.seal import SEAL, damage, seal


def flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(folder, train__steps=20, checkpoint__every=8, checkpoint__keep=3)
    return folder


@pytest.fixture
def run(finished, tmp_path) -> Path:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    (folder / "results.json").unlink()
    return folder


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_every_byte_is_sealed(finished, tmp_path, at):
    folder = Path(shutil.copytree(finished / "checkpoints" / "20", tmp_path / "20"))
    assert damage(folder) == ""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        flip(path, at)
        assert path.name in damage(folder), path
        path.write_bytes(whole[:-1])
        assert path.name in damage(folder), path
        path.write_bytes(whole)
    assert damage(folder) == ""


def test_a_seal_is_added_to(tmp_path):
    (tmp_path / "a").write_text("a")
    seal(tmp_path, later=["b"])
    (tmp_path / "b").write_text("b")
    (tmp_path / "a").write_text("changed")
    seal(tmp_path)
    assert json.loads((tmp_path / SEAL).read_text())["files"].keys() == {"a", "b"}
    assert "file a " in damage(tmp_path), "what had been sealed is not sealed again"


def test_the_newest_good_one_is_named(run):
    flip(next((run / "checkpoints/20/state/ocdbt.process_0/d").iterdir()), 0.5)
    told = started(run)
    assert "checkpoints/20 cannot be restored" in told and "intact one is step 16: --from_step=16" in told
    flip(next((run / "checkpoints/16/state/ocdbt.process_0/d").iterdir()), 0.5)
    assert "intact one is step 8: --from_step=8" in started(run)
    flip(run / "checkpoints/8/data/metadata", 0.5)
    assert "No earlier one is intact: --from_step=0" in started(run)
    with pytest.raises(UserError, match="from_step"):
        train(run, train__steps=20, checkpoint__every=8)


@pytest.mark.parametrize("step", [16, 8, 0])
def test_a_run_goes_on_from_an_older_step_and_ends_the_same(finished, run, step):
    flip(run / "checkpoints/20/state/_METADATA", 0.5)
    train(run, train__steps=20, checkpoint__every=8, checkpoint__keep=3, from_step=step)
    assert_same_end(run, finished)
    newer = {f"checkpoints_{other}" for other in (8, 16, 20) if other > step}
    assert {path.name for path in (run / "set_aside").iterdir()} == newer
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"8", "16", "20"}


def test_a_finished_run_goes_back_too_and_nothing_is_overwritten(finished, run):
    for _ in range(2):
        train(run, train__steps=20, checkpoint__every=8, checkpoint__keep=3, from_step=16)
    assert {path.name for path in (run / "set_aside").iterdir()} == {"checkpoints_20", "checkpoints_20.1"}
    assert_same_end(run, finished)


def test_a_step_that_is_not_there(run):
    with pytest.raises(UserError, match=r"--from_step=12 is not a checkpoint .* Available: 8, 16, 20"):
        train(run, train__steps=20, checkpoint__every=8, from_step=12)
    with pytest.raises(UserError, match="Available: none"):
        rewind([run / "nothing"], run / "set_aside", 3)
    assert not (run / "set_aside").exists()


def limited(folder: Path, size: int, **changes: object) -> subprocess.CompletedProcess:
    """The verb where no file can have more than `size` bytes: the system says no in the middle of a write, as a full disk does."""
    settings = FAST | {key.replace("__", "."): value for key, value in changes.items()}
    command = [sys.executable, "-m", "experiments.main", f"--config={CONFIG}:tiny", f"--workdir={folder}"]
    command += [f"--config.{key}={value}" for key, value in settings.items()]
    limit = ["bash", "-c", f'ulimit -f {size // 1024}; exec "$@"', "bash"]
    environment = ENVIRONMENT | {"JAX_ENABLE_COMPILATION_CACHE": "0"}
    return subprocess.run(limit + command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("size", "changes", "kept"),
    [
        (64 * 1024, {"train__steps": 5000, "checkpoint__every": 8}, "checkpoint of step"),  # what is logged
        (96 * 1024, {"train__steps": 50, "checkpoint__every": 8, "model__width": 128}, "There is no checkpoint"),  # what is saved
    ],
)
def test_a_disk_that_takes_no_more(tmp_path, size, changes, kept):
    ended = limited(tmp_path / "run", size, **changes)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    told = ended.stderr.splitlines()[-1]
    assert told.startswith("error: cannot write to") and "File too large" in told and kept in told
    if kept.startswith("checkpoint"):
        before = len(logged(tmp_path / "run"))
        train(tmp_path / "run", **changes | {"train__steps": before + 20})
        assert len(logged(tmp_path / "run")) == before + 20


@pytest.mark.parametrize("state", [{"a.b": 1.0, "a": {"b": 2.0}}, {"a": {"b.c": 1.0}, "a.b": {"c": 2.0}}])
def test_names_that_would_share_a_file_are_refused(state, tmp_path):
    """The second array would overwrite the first, and be read back as both. Slashes in names are safe."""
    with Checkpointer(tmp_path / "run", CheckpointConfig(every=1, keep=1)) as checkpointer:
        with pytest.raises(UserError, match=r"two arrays of the state are stored as 'a\.b"):
            checkpointer.save(1, jax.tree.map(np.float32, state), {})
        checkpointer.save(1, {"a/b": np.ones(2), "a": {"b": np.zeros(2)}}, {})
        assert checkpointer.finished() == 1
