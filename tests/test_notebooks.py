"""Notebooks are what their scripts say, with outputs, small and clean. tests/colab runs them; tests/test_notebook.py has the quickstart."""

import json
import re

import jupytext
import nbformat
import pytest
from notebooks import COLAB, PAIRED, committed, of_script, tagged

LARGEST = 400_000  # bytes


@pytest.fixture(params=PAIRED)
def name(request):
    return request.param


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_script_is_paired():
    assert sorted(path.stem for path in COLAB.glob("*.py")) == sorted(PAIRED)
    assert sorted(path.stem for path in COLAB.glob("*.ipynb")) == sorted([*PAIRED, "quickstart"])


def test_script_and_notebook_say_the_same(name):
    notebook, script = committed(name), of_script(name)
    nbformat.validate(notebook)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [(cell.cell_type, cell.source) for cell in script.cells]
    assert [cell.metadata for cell in notebook.cells] == [cell.metadata for cell in script.cells]
    assert jupytext.writes(notebook, fmt="py:percent") == (COLAB / f"{name}.py").read_text()


def test_outputs_are_committed_and_hold_no_error(name):
    notebook = committed(name)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1)), "run from top to bottom"
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert all(output.get("name", "stdout") == "stdout" for output in outputs), "no warnings"
    assert sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs) >= 2


def test_it_is_small_and_names_no_machine(name):
    text = (COLAB / f"{name}.ipynb").read_text()
    assert len(text.encode()) < LARGEST
    assert not re.search(r"/(?:work|home|root|tmp)/", json.dumps(json.loads(text), ensure_ascii=False))


def test_cells_are_short_and_a_sentence_stands_before_them(name):
    notebook = committed(name)
    assert max(len(cell.source.splitlines()) for cell in code(notebook)) <= 30
    bare = [cell for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False) if before.cell_type == cell.cell_type == "code"]
    assert bare == [tagged(notebook, "devices")]


def test_the_first_cell_installs_only_what_is_missing_and_the_last_tells_of_tpus(name):
    notebook = committed(name)
    first = code(notebook)[0].source
    assert first.index("import assay") < first.index("except ImportError") < first.index("%pip install")
    assert "Runtime > Change runtime type > TPU" in notebook.cells[-1].source
    assert not any("experiments" in line for cell in code(notebook) for line in cell.source.splitlines() if "import" in line)
