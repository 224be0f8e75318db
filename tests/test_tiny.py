"""One run of seconds through the command, from an empty folder outside the repository, and what `assay list` gives to begin with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[1]


def command(folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib")}  # as after `pip install`: without the verbs of the checkout
    return subprocess.run([sys.executable, "-m", "assay", *words], cwd=folder, env=environment, capture_output=True, text=True)


def test_a_run_from_an_empty_folder(tmp_path):
    done = command(tmp_path, "train", "--config=parity:tiny", "--workdir=runs/tiny", "--config.evaluate.splits=iid")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "runs/tiny/results.json").read_text())["rows"]
    assert rows[0]["experiment"] == "reason/parity:tiny" and rows[0]["split"] == "iid"
    assert "answer_accuracy" in done.stdout and (tmp_path / "runs/tiny/report.html").exists()


def test_a_config_of_ones_own_comes_first(tmp_path):
    copied = command(tmp_path, "list", "--copy=parity")
    assert copied.returncode == 0 and (tmp_path / "parity.py").read_text() == (ROOT / "experiments/reason/parity.py").read_text()
    twice = command(tmp_path, "list", "--copy=parity")
    assert twice.returncode == 2 and "parity.py already exists" in twice.stderr
    (tmp_path / "parity.py").write_text("def get_config(variant):\n    raise ValueError('my own file')\n")
    own = command(tmp_path, "train", "--config=parity:tiny", "--workdir=runs/tiny")
    assert own.returncode == 2 and "my own file" in own.stderr and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tarin"], "Did you mean train?"),
        (["train", "--config=parit:tiny", "--workdir=x"], "Did you mean parity?"),
        (["train", "--config=nowhere.py", "--workdir=x"], "no config file 'nowhere.py'"),
        (["train", "--worfdir=x"], "workdir"),
    ],
)
def test_what_is_refused(tmp_path, words, said):
    done = command(tmp_path, *words)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_verb_has_a_door():
    for verb in VERBS:
        assert (ROOT / f"lib/assay/cli/{verb}.py").is_file() and (ROOT / f"experiments/{verb}.py").is_file(), verb


IMPORTS = """
import sys
sys.argv = ["assay", *{words!r}]
from assay.cli.main import main
try:
    main()
except SystemExit:
    pass
assert "jax" not in sys.modules, "{words} imports JAX"
"""


@pytest.mark.parametrize("words", [["--help"], ["list", "--subject=scale"], ["list", "--help"]], ids=" ".join)
def test_help_and_lists_do_not_import_jax(words):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS.format(words=words)], env={**os.environ, "PYTHONPATH": str(ROOT / "lib")}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
