"""A run that starts from another's parameters: loaded at its start alone, before treatments of the model, and told."""

import shutil

import jax
import numpy as np
import pytest

from assay.core.errors import UserError
from assay.models.model import Model
from assay.train import loop
from assay.train.state import init_params
from assay.train.treatment import Treatment, compose
from assay.treatments.pipeline.load import load, treatments


def short(tiny, steps: str, **changes: str):
    keys = {"train.steps": steps, "train.batch_size": "4", "checkpoint.every": "2", "evaluate.splits": "iid", "evaluate.per_length": "1"}
    return tiny("lstm", keys | {name.replace("__", "."): value for name, value in changes.items()})


def test_a_run_starts_from_another_and_goes_on_without_it(tiny, tmp_path, capsys):
    loop.run(short(tiny, "2"), str(tmp_path / "first"), [], quiet=True)
    taught = load(tmp_path / "first")[1]
    spec = f"init:from={tmp_path / 'first'},map=/head/->/unused/"
    start = short(tiny, "0", treatments=spec, seed="1")
    loop.run(start, str(tmp_path / "second"), treatments(start["treatments"]), quiet=True)
    told = capsys.readouterr().err
    assert "parameters loaded" in told and "model/head/kernel" in told
    shutil.rmtree(tmp_path / "first")
    params = load(tmp_path / "second")[1]  # without the first
    same = {name: all(map(np.array_equal, jax.tree.leaves(params[name]), jax.tree.leaves(taught[name]))) for name in params}
    assert not same.pop("head") and all(same.values())
    longer = start | {"train": {**start["train"], "steps": 2}}
    assert loop.run(longer, str(tmp_path / "second"), treatments(longer["treatments"]), quiet=True)["rows"]
    assert not capsys.readouterr().err


def test_what_is_not_there_is_told_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        config = short(tiny, "0", treatments=f"init:from={tmp_path / 'nowhere'}")
        loop.run(config, str(tmp_path / "run"), treatments(config["treatments"]), quiet=True)
    assert not (tmp_path / "run" / "config.json").exists()


def test_values_enter_before_treatments_of_the_model():
    model = Model(lambda key, batch: {"kernel": np.zeros(2), "bias": np.zeros(2)}, lambda params, batch: None)
    double = Treatment(model=lambda model, params: (model, jax.tree.map(lambda leaf: 2 * leaf, params)))
    treatment = compose([double, Treatment(start=lambda shapes: {"model": {"kernel": np.ones(2)}})])
    _, params = init_params(jax.random.key(0), model, treatment, {}, treatment.start({}))
    assert params["kernel"].tolist() == [2, 2] and params["bias"].tolist() == [0, 0]
