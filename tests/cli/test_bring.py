"""The diagnosis of a model that was trained elsewhere is written, read back and compared as that of a run."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from assay.cli.diagnose import COMMAND, examined, page, save
from assay.core.errors import UserError
from assay.diagnostics.bring import bring
from assay.verdicts.card import build
from assay.verdicts.diagnosis import read


def linear(params, batch):
    return batch["inputs"] @ params["kernel"]


def brought(kernel, n=64, name="toy"):
    inputs = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    return bring(linear, {"kernel": jnp.asarray(kernel, jnp.float32)}, {"test": (inputs, inputs.argmax(axis=1))}, name=name, seconds=0.1)


def test_what_is_brought_is_saved_and_read_back(tmp_path):
    found = examined(brought(np.eye(3)), "mine")
    save(found, tmp_path / "new" / "folder")
    again = read(tmp_path / "new" / "folder")
    assert again.about == json.loads(json.dumps(found.about)) and again.about["model"] == "mine"
    assert [(row.name, row.value) for row in again.rows] == [(row.name, row.value) for row in found.rows]
    (score,) = (row for row in again.rows if row.name == "score")
    assert score.value == 1.0 and len(again.sets["test"].ids) == 64
    assert COMMAND in page(found) and page(found) == page(found)


def test_two_models_are_paired_and_other_data_are_refused():
    right, wrong = examined(brought(np.eye(3)), "right"), examined(brought(-np.eye(3)), "wrong")
    card = build(right, {"wrong": wrong})
    (score,) = (row for row in card["rows"] if row["name"] == "score")
    assert score["after"]["wrong"]["verdict"] == "worse" and score["after"]["wrong"]["difference"] == -1.0
    assert right.about["checkpoint"] != wrong.about["checkpoint"]
    assert right.about["checkpoint"] == examined(brought(np.eye(3)), "other").about["checkpoint"]
    with pytest.raises(UserError, match="tasks"):
        build(right, {"other": examined(brought(np.eye(3), name="another"), "other")})


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create the folder"):
        save(examined(brought(np.eye(3)), "mine"), tmp_path / "file" / "below")
