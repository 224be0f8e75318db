"""colab/diagnose_your_model.ipynb runs without the repository, and what it says of its models is so."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import export
from notebooks import defined, executed, of_script, printed, shown, tagged

from assay.core.stats import mcnemar
from assay.verdicts.diagnosis import read

NAME = "diagnose_your_model"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colab")
    return executed(of_script(NAME), folder), folder


@pytest.fixture(scope="module")
def rows(run):
    return {f"{row.group}/{row.name}": row for row in read(run[1] / "plain").rows}


def test_the_table_is_what_is_saved(run, rows):
    table = printed(run[0], "diagnosis")
    for name in ("score", "train_test_gap", "calibration_error", "parameters", "dead_units", "effective_rank"):
        assert re.search(rf"^  {name} ", table, re.MULTILINE), name
    assert rows["cost/parameters"].value == 64 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10
    assert f"{100 * rows['generalisation/score'].value:.1f} %" in table
    assert not any(row.crashed for row in rows.values())


def test_the_model_learnt_its_digits_and_shift_and_contrast_hurt_most(rows):
    value = {name: row.value for name, row in rows.items() if row.applies}
    assert value["generalisation/score"] > 0.9 and value["generalisation/train_test_gap"] > 0.02
    corrupted = sorted((one, name.rpartition(" ")[2]) for name, one in value.items() if "corruption" in name)
    assert {name for _, name in corrupted[:2]} == {"shift", "contrast"}
    assert corrupted[1][0] < corrupted[2][0] - 0.1


def test_pictures_and_the_page_are_shown_inline(run):
    notebook, folder = run
    assert len(shown(notebook, "pictures", "image/svg+xml")) == 2
    (frame,) = shown(notebook, "page", "text/html")
    text = (folder / "plain" / "diagnosis.html").read_text()
    assert "srcdoc=" in frame and "&lt;/html&gt;" in frame and "http://" not in text.replace("http://www.w3.org/", "")
    assert "assay.diagnose(subject)" in text and "assay diagnose" not in text


def test_the_fix_is_compared_digit_by_digit(run):
    said = printed(run[0], "paired")
    first, second = (int(number) for number in re.findall(r"only: (\d+)", said))
    p_value = float(re.search(r"p = ([\d.]+)", said)[1])
    assert p_value == pytest.approx(mcnemar(second, first), abs=1e-4)
    assert float(re.search(r"([-+][\d.]+) points", said)[1]) == pytest.approx(100 * (second - first) / 899, abs=0.006)


def test_the_card_calls_the_shift_better_and_times_inconclusive(run):
    table = printed(run[0], "card")
    verdict = {line[:31].strip(): line.split("  ")[-1].strip() for line in (line.rstrip() for line in table.splitlines())}
    assert verdict["corruption: shift"] == "better"
    assert verdict["parameters"] == "no difference" and verdict["latency p50"] == "inconclusive"
    assert "moved:" in table and (run[1] / "card.html").read_text().startswith("<!")


def test_the_tokens_in_use_are_found(run):
    assert printed(run[0], "tokens").startswith("effective_context 1.0 tokens")
    assert len(tagged(run[0], "tokens").source.splitlines()) <= 12


def test_the_step_lowers_for_tpu():
    names = defined(of_script(NAME), "devices", "data", "model")
    batch = {"inputs": jax.ShapeDtypeStruct((64, 8, 8, 1), jnp.float32)}
    step = jax.jit(jax.grad(lambda params, batch: names["apply"](params, batch)[0].sum()))
    exported = export.export(step, platforms=["tpu"])(jax.eval_shape(lambda: names["start"](0)), batch)
    assert exported.platforms == ("tpu",) and "stablehlo.dot_general" in exported.mlir_module()
