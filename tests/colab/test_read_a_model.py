"""colab/read_a_model.ipynb runs without the repository, and its interventions show the circuit that it tells of."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from notebooks import defined, executed, of_script, printed, shown

from assay.train.experiment import assemble

NAME = "read_a_model"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colab")
    notebook = of_script(NAME)
    (result,) = (cell for cell in notebook.cells if "result" in cell.metadata.get("tags", []))
    result.source += "\nprint(table.tolist())"  # what the picture shows
    return executed(notebook, folder)


def numbers(notebook, name):
    return [float(one) for one in re.findall(r"\d\.\d+", printed(notebook, name))]


def test_it_learns_at_ten_tokens_and_answers_at_64(run):
    for split in ("iid", "64"):
        assert float(re.search(rf"^{split}: answer accuracy ([\d.]+)", printed(run, "train"), re.MULTILINE)[1]) > 0.95


def test_treescope_shows_parameters_and_weights(run):
    assert "treescope-container" in "".join(shown(run, "parameters", "text/html"))
    assert printed(run, "parameters").startswith("17,903 parameters in block_0, block_1")
    assert "<Arrayviz rendering>" in printed(run, "taps") and "treescope-container" in "".join(shown(run, "taps", "text/html"))
    assert "block_1/attention/weights  (256, 2, 10, 10)" in printed(run, "taps")


def test_attention_is_drawn_and_both_kinds_of_heads_are_found(run):
    (drawn,) = shown(run, "attention", "image/svg+xml")
    assert drawn.startswith("<svg") and "layer 1, head 1" in drawn and ">T<" in drawn
    previous, induction = (re.findall(r": (\d\.\d\d)", line) for line in printed(run, "heads").splitlines())
    assert max(map(float, previous)) > 0.5 and max(map(float, induction)) > 0.8


def test_one_place_behind_each_block_brings_the_answer_back(run):
    clean, without, *table = numbers(run, "result")
    table = np.array(table).reshape(3, 3)
    assert clean > 0.95 and without < 0.2
    assert (np.diag(table) > 0.9 * clean).all(), table
    assert (table[~np.eye(3, dtype=bool)] < 0.5).all(), table
    assert len(shown(run, "result", "image/png")) == 1


def test_the_answer_is_lost_without_the_attention_of_block_1(run):
    found = {line.rpartition(": ")[0]: float(line.rpartition(": ")[2]) for line in printed(run, "ablation").splitlines()}
    assert found["block_1/attention/weights, both off"] < 0.2
    assert found["block_0/local/weights, head 0 off"] < 0.95 or found["block_0/local/weights, head 1 off"] < 0.95


def test_an_edited_model_lowers_for_tpu():
    names = defined(of_script(NAME), "config")
    made = assemble(names["config"].to_dict(), [])
    batch = made.first_batch()
    params = jax.eval_shape(made.model.init, made.key, batch)
    zeroed = jax.tree_util.Partial(jnp.zeros_like)
    program = jax.jit(lambda params, batch: made.model.apply(params, batch, edits={"block_1/attention/weights": zeroed}).logits)
    exported = export.export(program, platforms=["tpu"])(params, batch)
    assert exported.platforms == ("tpu",) and "stablehlo.dot_general" in exported.mlir_module()
