"""The notebook runs from top to bottom without the repository, what it trains learns, and its steps lower for a TPU."""

import json
from pathlib import Path

import jax
import nbformat
import numpy as np
import pytest
from jax import export
from nbclient import NotebookClient

from assay.config.files import load
from assay.nn.positions import POSITIONS
from assay.train.experiment import assemble
from assay.train.step import make_step, repeat
from assay.treatments.pipeline.load import treatments

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "colab" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def tagged(notebook, *tags: str) -> dict:
    """What the cells with these tags define, run in order."""
    names: dict = {}
    for cell in notebook.cells:
        if set(tags) & set(cell.metadata.get("tags", [])):
            exec(cell.source, names)
    return names


@pytest.fixture(scope="module")
def executed(notebook, tmp_path_factory):
    """The notebook after a run in an empty folder, where `experiments` cannot be imported; and that folder."""
    folder = tmp_path_factory.mktemp("colab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "lib"))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        copy = nbformat.from_dict(notebook)
        NotebookClient(copy, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return copy, folder


def printed(notebook, name: str) -> str:
    cell = next(cell for cell in notebook.cells if cell.id == name)
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


def test_it_is_committed_without_outputs(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert max(len(cell.source.splitlines()) for cell in code) <= 30, "short cells"
    assert NOTEBOOK.stat().st_size < 40_000


def test_the_first_cell_installs_only_what_is_missing(notebook):
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert first.index("import assay") < first.index("except ImportError") < first.index("%pip install")


def test_every_cell_runs_and_the_models_learn(executed):
    notebook, folder = executed
    for cell in notebook.cells:
        assert all(output.output_type != "error" for output in cell.get("outputs", []))
    longer = {}
    for run in ("lstm", "sinusoidal", "near"):
        rows = json.loads((folder / "runs" / run / "results.json").read_text())["rows"]
        value = {row["split"]: row["value"] for row in rows if row["metric"] == "answer_accuracy"}
        longer[run] = value["9-40"]
        assert value["iid"] >= 0.9, (run, value)
        assert f"{run}: answer accuracy {value['iid']:.3f} at lengths 1-8, {value['9-40']:.3f}" in printed(notebook, "summary")
    assert longer["lstm"] >= 0.95 and longer["near"] >= 0.95 and longer["sinusoidal"] < 0.75, longer
    assert sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])) == 2
    platform = {"cpu": "a CPU", "gpu": "a GPU", "tpu": "a TPU"}[jax.devices()[0].platform]
    assert f"This runs on {platform}: " in printed(notebook, "devices")


def test_the_loaded_model_answers_strings_of_200_bits(executed):
    lines = printed(executed[0], "load").splitlines()
    parity, answers = (line.partition(":")[2].split() for line in lines[:2])
    assert parity == answers and len(parity) == 5, lines
    assert "block_0/hidden" in lines[2]


def lowered_for_tpu(config) -> export.Exported:
    """The compiled call of the training loop, from shapes alone."""
    made = assemble(config, treatments(config["treatments"]))
    step = make_step(made.model, made.objective, made.treatment.gradient, made.optimizer)
    state = jax.eval_shape(made.init_state, made.key, made.given(), made.first_batch())
    batches = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in made.batches(0, 1).items()}
    call = jax.jit(repeat(step, made.schedule))
    return export.export(call, platforms=["tpu"])(state, batches, np.int32(1))


@pytest.mark.parametrize("variant", ["lstm", "transformer", "scratchpad"])
def test_the_steps_of_the_demo_lower_for_tpu(variant):
    config = load(f"{ROOT}/experiments/reason/parity.py:{variant}").to_dict()
    exported = lowered_for_tpu(config)
    assert exported.platforms == ("tpu",)
    assert "stablehlo.while" in exported.mlir_module() and "stablehlo.dot_general" in exported.mlir_module()


@pytest.mark.parametrize("tags", [("config",), ("config", "extend", "transformer")])
def test_the_steps_of_the_notebook_lower_for_tpu(notebook, monkeypatch, tags):
    monkeypatch.setitem(POSITIONS, "near", None)  # what a cell puts there is taken out again
    exported = lowered_for_tpu(tagged(notebook, *tags)["config"].to_dict())
    assert exported.platforms == ("tpu",) and "stablehlo.while" in exported.mlir_module()
