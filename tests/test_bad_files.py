"""Faults of files: configs that are no configs, folders whose parts are not what a run writes, places that cannot be written.

Each ends with exit code 2 and one message, and leaves what is there as it was.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from verb_server import ROOT, SHORT, TINY, contents, go_on, in_a_process, refused, run, run_of_16, verb  # noqa: F401

BROKEN = {
    "syntax": ("def get_config(:\n", ["line 1", "SyntaxError"]),
    "import": ("import a_module_that_is_not_there\n", ["line 1", "a_module_that_is_not_there"]),
    "fails": ("def get_config(variant):\n    return {}['steps']\n", ["line 2", "KeyError", "steps"]),
    "no argument": ("def get_config():\n    pass\n", ["TypeError"]),
    "no config": ("def get_config(variant):\n    return {'seed': 0}\n", ["returns dict", "ConfigDict"]),
    "exits": ("import sys\nsys.exit(0)\n", ["line 2", "SystemExit"]),
    "a function as a value": (
        "from assay.config import defaults\ndef get_config(variant):\n    config = defaults()\n"
        "    config.extra = lambda: 3\n    return config\n",
        ["config.extra", "is not possible"],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_config_file_that_cannot_be_used(verb, tmp_path, name):
    text, words = BROKEN[name]
    (tmp_path / "broken.py").write_text(text)
    refused(verb("main", f"--config={tmp_path / 'broken.py'}", f"--workdir={tmp_path / 'run'}"), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["[]", "{}", "[1, 2]", '"text"'])
@pytest.mark.parametrize("name", ["config.json", "results.json"])
def test_json_that_no_run_writes(verb, run, name, text):
    (run / name).write_text(text)
    before = contents(run)
    refused(go_on(verb, run, steps=16), name, "is not a file of a run", "--workdir")
    refused(verb("evaluate", f"--workdir={run}", "--lengths=17:18"), name, "is not a file of a run")
    assert contents(run) == before, "nothing is evaluated before what is there was read"


def test_metrics_that_are_no_text_are_cut(verb, run):
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b"\xff\xfe\n")
    assert go_on(verb, run).code == 0
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()][-1] == 20


@pytest.mark.parametrize("part", ["checkpoints", "tensorboard", "predictions", "metrics.jsonl", "report.html"])
def test_a_part_of_the_wrong_kind(verb, run, part):
    path = run / part
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("hi")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
    before = contents(run)
    refused(go_on(verb, run), str(path), "--workdir")
    assert contents(run) == before


def test_a_work_directory_with_too_long_a_name(verb, tmp_path):
    refused(verb("main", TINY, f"--workdir={tmp_path / ('a' * 300)}"), "cannot write", "--workdir")


@pytest.mark.parametrize("name", ["../x", ".", "a/b", ""])
def test_publish_writes_into_its_folder_only(verb, run, tmp_path, name):
    before = contents(tmp_path)
    refused(verb("publish", f"--workdir={run}", f"--name={name}", f"--out={tmp_path / 'out'}"), "--name")
    assert contents(tmp_path) == before


def test_publish_into_a_file_and_bench_into_a_folder(verb, run, tmp_path):
    (tmp_path / "file").write_text("")
    refused(verb("publish", f"--workdir={run}", "--name=x", f"--out={tmp_path / 'file'}"), "cannot write")
    refused(verb("bench", "loop", TINY, "--steps=20", "--repeats=1", f"--out={tmp_path}"), "cannot write")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("study", TINY, "--config.seed=3", "--workdir=/tmp/never"), ["--seeds", "--config.seed"]),
        (("show", "--task=chomsky/parity_check", "--lengths=1:3", "--split=iid"), ["--split", "--lengths"]),
        (("show", "--task=chomsky/parity_check", "--lengths=1:1000000000000000000000"), ["100,000"]),
        (("show", "--task=chomsky/parity_check", "--lengths=-1:3"), ["--lengths='-1:3'"]),
        (("main", TINY, "--config.task.lengths=1:99999999999", "--workdir=/tmp/never"), ["100,000"]),
        (("main", TINY, "--config.optimizer.learning_rate=inf", "--workdir=/tmp/never"), ["learning_rate", "finite"]),
    ],
)
def test_more_mistakes(verb, words, told):
    refused(verb(*words), *told)
    assert not os.path.exists("/tmp/never")


def test_where_nothing_was_saved_no_checkpoint_is_promised(verb, tmp_path):
    diverge = ("--config.optimizer.name=sgd", "--config.optimizer.learning_rate=1e38", "--config.optimizer.clip_norm=0")
    told = refused(verb("main", TINY, *diverge, *SHORT, f"--workdir={tmp_path / 'run'}"), "no checkpoint had been saved")
    assert "last good" not in told
    assert not (tmp_path / "run" / "checkpoints").exists(), "no empty folder is left"


def test_not_enough_memory_is_told(tmp_path):
    refused(in_a_process("experiments.main", TINY, "--config.model.width=300000", f"--workdir={tmp_path / 'run'}"), "not enough memory")


def test_a_folder_that_is_lost_while_it_is_saved_to(tmp_path):
    """The process ends by itself: the writer's threads do not keep it."""
    workdir = tmp_path / "run"
    arguments = (TINY, "--config.train.steps=10000000", "--config.checkpoint.every=100", f"--workdir={workdir}")
    command = [sys.executable, "-m", "experiments.main", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        try:
            while not list(workdir.glob("checkpoints/*00")):
                time.sleep(0.05)
                assert running.poll() is None
            for attempt in range(100):  # the run may have made the folder again in between
                os.rename(workdir / "checkpoints", tmp_path / f"gone_{attempt}")
                with contextlib.suppress(IsADirectoryError):
                    (workdir / "checkpoints").write_text("")
                    break
            _, told = running.communicate(timeout=60)
        finally:
            running.send_signal(signal.SIGKILL)
    assert running.returncode == 2 and told.count("error: ") == 1 and "cannot write to" in told and "Traceback" not in told
