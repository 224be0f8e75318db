"""The public API: the names of `assay.__all__`, their docstrings as doctests, and that no submodule replaces them."""

import doctest
import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import assay

ROOT = Path(__file__).resolve().parents[1]
# The examples read what those before them wrote.
RUNS = ("run", "load", "diagnose", "suggest", "treat", "compare", "register", "Model", "Task", "Treatment")
ORDER = (*RUNS, "from_linen", "from_nnx", "from_function", "from_predict", "fit")
OTHERS = ("from_equinox", "from_haiku", "from_keras")  # of libraries that are not among the dependencies: tests/diagnostics/brought


def test_every_name_has_a_place_and_a_docstring():
    assert sorted(assay.__all__) == list(assay.__all__) and {*ORDER, *OTHERS, "config"} == set(assay.__all__)
    for name in assay.__all__:
        assert inspect.getdoc(getattr(assay, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = assay.nothing


TWICE = """
import importlib, pkgutil
import assay
first = {name: getattr(assay, name) for name in assay.__all__}
for module in pkgutil.walk_packages(assay.__path__, "assay."):
    if module.name != "assay.__main__":
        importlib.import_module(module.name)
for name in assay.__all__:
    assert getattr(assay, name) is first[name], name
    assert name == "config" or callable(first[name]), name
assert callable(assay.config.defaults) and callable(assay.config.transformer)
"""


def test_no_submodule_replaces_a_name():
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'lib'}"}
    done = subprocess.run([sys.executable, "-c", TWICE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def _as_before():
    """What an example registers is gone afterwards."""
    from assay.models.families import FAMILIES
    from assay.tasks.table import TASKS
    from assay.treatments.table import FACTORIES

    tables = FACTORIES, FAMILIES, TASKS
    known = [dict(table) for table in tables]
    yield
    for table, before in zip(tables, known, strict=True):
        table.clear()
        table.update(before)


def test_the_examples_of_the_docstrings_run(tmp_path, monkeypatch, _as_before):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("assay.cli.diagnose.FEW", (32, 0.2))  # examples, and seconds of timing: enough to see that all works
    finder, tried = doctest.DocTestFinder(recurse=False), 0
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for name in ORDER:
        (test,) = finder.find(getattr(assay, name), name, globs={"assay": assay, "np": np})
        assert test.examples, f"assay.{name} has no example"
        said: list[str] = []
        runner.run(test, out=said.append)
        assert not runner.failures, "".join(said)
        tried += len(test.examples)
    assert tried >= 20
