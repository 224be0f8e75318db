"""What the wheel holds, as setup.py says it: every package of the library and every folder of config files."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools

from assay.config.files import shipped

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_holds_the_library_and_the_configs(monkeypatch):
    said = {}
    monkeypatch.setattr(setuptools, "setup", said.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    library = {".".join(path.parent.relative_to(ROOT / "lib").parts) for path in (ROOT / "lib/assay").rglob("__init__.py")}
    configs = {f"assay.experiments.{path.parent.name}" for path in shipped().glob("*/*.py") if "def get_config(" in path.read_text()}
    assert set(said["packages"]) == library | configs and configs
    for package in configs:
        assert (ROOT / said["package_dir"][package]).is_dir()


def test_every_folder_of_the_library_is_a_package():
    """A folder without __init__.py would be left out of the wheel."""
    for folder in {path.parent for path in (ROOT / "lib/assay").rglob("*.py")}:
        assert (folder / "__init__.py").exists(), folder


@pytest.mark.parametrize("words", ["--help", "--version", "fit --help"])
def test_a_reader_that_closes_the_pipe_is_no_error(words):
    """As in `assay --help | head -1`: here the reader reads nothing."""
    line = f"{sys.executable} -m assay {words} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "lib")})
    assert (done.returncode, done.stderr) == (0, "")
