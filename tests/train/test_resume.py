"""Stop and resume: a run that was stopped anywhere ends bit for bit where an unbroken one ends, and a finished run is not trained again."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from assay.config.files import load
from assay.config.overrides import override
from assay.core.errors import Terminated, UserError
from assay.core.lock import locked
from assay.dist.mesh import make_mesh
from assay.train import loop
from assay.train.checkpoint import Checkpointer
from assay.train.experiment import Experiment
from assay.treatments.pipeline.load import rebuild, restore, treatments

ROOT = Path(__file__).parents[2]
CONFIG = f"{ROOT}/experiments/reason/parity.py"
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "lib")])}
FAST = {"train.log_every": 1, "evaluate.splits": "iid", "evaluate.per_length": 1}
CLOCK = ("examples_per_second", "elapsed_seconds")  # the figures of a line that depend on the day


def train(
    folder: Path, variant: str = "tiny", quiet: bool = True, from_step: int | None = None, profile: bool = False, **changes: object
) -> dict:
    """`loop.run` with `train__steps=10` for config.train.steps=10."""
    assignments = FAST | {key.replace("__", "."): value for key, value in changes.items()}
    config = override(load(f"{CONFIG}:{variant}"), {key: str(value) for key, value in assignments.items()})
    return loop.run(config, str(folder), treatments(config.treatments), f"reason/parity:{variant}", quiet, from_step, profile)


def state_bytes(folder: Path) -> dict[str, bytes]:
    """Every array of the newest checkpoint by its path: step, parameters, optimiser state, key."""
    state = restore(rebuild(folder), folder)
    leaves = jax.tree_util.tree_leaves_with_path(state._replace(key=jax.random.key_data(state.key)))
    found = {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}
    assert {name.split("[")[0].split(".")[1] for name in found} >= {"step", "params", "opt_state", "key"}
    return found


def logged(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its bytes and the time of its last change."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """`unbroken(variant)`: the folder of a run of 20 steps that was never stopped."""
    made: dict[tuple, Path] = {}

    def make(variant: str = "tiny", **changes: object) -> Path:
        key = (variant, *changes.items())
        if key not in made:
            made[key] = tmp_path_factory.mktemp("unbroken") / "run"
            train(made[key], variant, train__steps=20, **changes)
        return made[key]

    return make


def assert_same_end(folder: Path, reference: Path) -> None:
    mine, wanted = state_bytes(folder), state_bytes(reference)
    assert mine.keys() == wanted.keys()
    assert [name for name in wanted if mine[name] != wanted[name]] == []
    assert logged(folder) == logged(reference)
    assert [line["step"] for line in logged(folder)] == list(range(1, len(logged(folder)) + 1))


@pytest.mark.parametrize(
    ("variant", "stop", "changes"),  # a call takes the steps 9 to 12: 10 is in the middle of it, 8 is not
    [("tiny", 10, {"train__buckets": 2, "model__dropout": 0.2}), ("scratchpad,tiny", 8, {})],
)
def test_stop_and_resume(unbroken, tmp_path, variant, stop, changes):
    train(tmp_path, variant, train__steps=stop, **changes)
    halfway = state_bytes(tmp_path)
    train(tmp_path, variant, train__steps=20, **changes)
    reference = unbroken(variant, **changes)
    assert_same_end(tmp_path, reference)
    moved = [name for name, value in state_bytes(tmp_path).items() if halfway[name] != value]
    assert any("params" in name for name in moved) and any("opt_state" in name for name in moved), "the rest of the run trains"
    mine, wanted = (json.loads((folder / "results.json").read_text())["rows"] for folder in (tmp_path, reference))
    assert mine == wanted


def test_many_stops_and_other_saves(unbroken, tmp_path):
    """How often a run stops, saves, logs and how many checkpoints it keeps changes nothing."""
    for stop, every in ((1, 1), (13, 3), (20, 100)):
        train(tmp_path, train__steps=stop, checkpoint__every=every, checkpoint__keep=1)
    assert_same_end(tmp_path, unbroken())


def test_metrics_beyond_the_checkpoint_are_cut_back(unbroken, tmp_path):
    train(tmp_path, train__steps=10)
    file = tmp_path / "metrics.jsonl"
    line = json.loads(file.read_text().splitlines()[-1])
    later = [json.dumps(line | {"step": step, "loss": 1e9}) for step in (11, 12)]
    file.write_text(file.read_text() + "\n".join([*later, json.dumps(line | {"step": 13})[:50]]))  # as a kill would leave it
    train(tmp_path, train__steps=20)
    assert_same_end(tmp_path, unbroken())


def test_a_finished_run_is_only_read(tmp_path, monkeypatch):
    first = train(tmp_path, train__steps=4)
    before = files(tmp_path)
    monkeypatch.setattr(loop, "make_step", None)
    monkeypatch.setattr(loop, "measure", None)
    assert train(tmp_path, train__steps=4) == first == json.loads((tmp_path / "results.json").read_text())
    assert files(tmp_path) == before


def test_another_evaluation_is_measured_without_training(tmp_path, monkeypatch):
    first = train(tmp_path, train__steps=4)
    before = {name: file for name, file in files(tmp_path).items() if "checkpoints" in name or "metrics" in name}
    monkeypatch.setattr(loop, "make_step", None)
    again = train(tmp_path, train__steps=4, evaluate__per_length=3, evaluate__splits="iid,9-12")
    assert [row["n"] for row in first["rows"]] == [8]
    assert [(row["split"], row["n"]) for row in again["rows"]] == [("iid", 24), ("9-12", 12)]
    assert again == json.loads((tmp_path / "results.json").read_text())
    assert files(tmp_path).items() >= before.items()


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    """A finished run of 16 steps with one checkpoint. Tests copy it."""
    folder = tmp_path_factory.mktemp("sixteen") / "run"
    train(folder, train__steps=16, checkpoint__keep=1)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["16"]
    return folder


def started(folder: Path, made: Experiment | None = None) -> str:
    """Where the loop would start, and a hash of all bits of the state; or the error."""
    made = made or rebuild(folder)
    try:
        with Checkpointer(folder / "checkpoints", made.settings.checkpoint) as checkpointer:
            state, step, _ = loop.start(made, make_mesh(made.settings.mesh), checkpointer)
    except UserError as error:
        return f"error: {error}"
    leaves = jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))
    return f"{step} {hashlib.sha256(b''.join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()}"


def test_no_part_of_a_checkpoint_is_lost_in_silence(sixteen, tmp_path):
    """Each file and folder of the only checkpoint in turn, deleted or cut in half: an error, or just the same state. Never a fresh start,
    never other values. In a process of its own: a restore that fails leaves coroutines behind."""
    damaged: dict[tuple[str, str], Path] = {}
    for part in sorted((sixteen / "checkpoints" / "16").rglob("*")):
        for how in ("deleted",) if part.is_dir() else ("deleted", "cut in half"):
            name, run = str(part.relative_to(sixteen)), tmp_path / str(len(damaged))
            damaged[name, how] = Path(shutil.copytree(sixteen, run))
            if how == "cut in half":
                (run / name).write_bytes(part.read_bytes()[: part.stat().st_size // 2])
            else:
                shutil.rmtree(run / name) if part.is_dir() else (run / name).unlink()
    command = [sys.executable, __file__, *map(str, damaged.values())]
    outcomes = json.loads(subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=120).stdout)
    whole, refused = started(sixteen), set()
    assert whole.startswith("16 ")
    for (name, how), outcome in zip(damaged, outcomes, strict=True):
        if outcome != whole:
            assert "checkpoints/16 cannot be restored" in outcome and "--workdir" in outcome, f"{name} {how}: {outcome}"
            refused.add(name.removeprefix("checkpoints/16/"))
    assert refused >= {"data", "data/metadata", "state", "state/_METADATA", "state/manifest.ocdbt", "state/ocdbt.process_0/d"}


def test_a_deleted_checkpoint_starts_anew_and_says_so(sixteen, tmp_path, capsys):
    run = Path(shutil.copytree(sixteen, tmp_path / "run"))
    shutil.rmtree(run / "checkpoints" / "16")
    (run / "results.json").unlink()
    train(run, quiet=False, train__steps=16, checkpoint__keep=1)
    assert "from scratch" in capsys.readouterr().err
    assert started(run) == started(sixteen) and logged(run) == logged(sixteen)


class Verb:
    """`python -m experiments.main` on `tiny` as a process of its own."""

    def __init__(self, folder: Path, **changes: object):
        assignments = FAST | {key.replace("__", "."): value for key, value in changes.items()}
        command = [sys.executable, "-m", "experiments.main", f"--config={CONFIG}:tiny", f"--workdir={folder}"]
        command += [f"--config.{key}={value}" for key, value in assignments.items()]
        self.process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_for(self, happened, seconds: float = 90.0) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, "timed out"
            time.sleep(0.005)

    def stop(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


def test_sigterm_saves_at_the_step_then_reached(tmp_path):
    run = tmp_path / "stopped"
    metrics = run / "metrics.jsonl"
    verb = Verb(run, train__steps=100_000, checkpoint__every=100_000)
    verb.wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 20)
    returncode, err = verb.stop(signal.SIGTERM)
    assert returncode == 143, err
    assert "Traceback" not in err and "SIGTERM" in err
    step = int(re.search(r"saved at step (\d+)", err).group(1))
    assert step >= 20
    assert [path.name for path in (run / "checkpoints").iterdir()] == [str(step)], "no other save was due"
    assert [line["step"] for line in logged(run)] == list(range(1, step + 1))
    assert not (run / "results.json").exists()
    for folder in (run, tmp_path / "unbroken"):
        train(folder, train__steps=step + 6, checkpoint__every=100_000)
    assert_same_end(run, tmp_path / "unbroken")


def test_ctrl_c_saves_too(unbroken, tmp_path, monkeypatch):
    batches = Experiment.batches
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def interrupted(made: Experiment, start: int, count: int):
        if start == 8:
            signal.raise_signal(signal.SIGINT)
        return batches(made, start, count)

    monkeypatch.setattr(Experiment, "batches", interrupted)
    with pytest.raises(Terminated, match="SIGINT, saved at step 12"):
        train(tmp_path, train__steps=20, checkpoint__every=100)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    monkeypatch.undo()
    train(tmp_path, train__steps=20)
    assert_same_end(tmp_path, unbroken())


def test_a_signal_during_evaluation_corrupts_nothing(unbroken, tmp_path):
    run = tmp_path / "run"
    long = {"evaluate__splits": "iid,9-16", "evaluate__per_length": 1000}
    verb = Verb(run, train__steps=20, **long)
    verb.wait_for((run / "predictions" / "iid.jsonl").exists)
    returncode, _ = verb.stop(signal.SIGTERM)
    assert returncode in (-signal.SIGTERM, 143)
    assert not (run / "results.json").exists() and not (run / "predictions" / "9-16.jsonl").exists()
    assert len([json.loads(line) for line in (run / "predictions" / "iid.jsonl").read_text().splitlines()]) == 8 * 1000
    results = train(run, train__steps=20)
    assert results["rows"] == json.loads((unbroken() / "results.json").read_text())["rows"]
    assert_same_end(run, unbroken())


if __name__ == "__main__":
    same = rebuild(sys.argv[1])
    print(json.dumps([started(Path(folder), same) for folder in sys.argv[1:]]))


def test_a_folder_that_another_process_writes_to_is_left_alone(tiny, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder), pytest.raises(UserError, match=r"another process .* is writing to .*Wait until it has ended"):
        loop.run(tiny("lstm"), str(folder), [])
    assert list(folder.iterdir()) == []
