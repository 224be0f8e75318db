"""Golden numbers of the first step of each variant's tiny run.

Where they change, first ask why: a change of the initialiser, the data, the loss or the optimiser moves them and must be meant. Then write
them anew: python -m pytest tests/train/test_golden.py --write-golden
"""

import json
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from assay.train.experiment import assemble
from assay.train.step import make_step, repeat
from assay.treatments.pipeline.load import treatments

pytestmark = pytest.mark.optimised

GOLDEN = Path(__file__).with_name("golden.json")


@pytest.mark.parametrize("variant", ["lstm", "transformer", "scratchpad"])
def test_first_step(variant, tiny, request):
    config = tiny(variant)
    made = assemble(config, treatments(config["treatments"]))
    state = jax.jit(made.init_state)(made.key, {}, made.first_batch())
    before = float(optax.tree.norm(state.params))
    call = jax.jit(repeat(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer), made.schedule))
    state, metrics = call(state, made.batches(0, 1), np.int32(1))
    found = {"initial_parameter_norm": before} | {name: float(value[0]) for name, value in sorted(metrics.items())}
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if request.config.getoption("--write-golden"):
        GOLDEN.write_text(json.dumps(golden | {variant: found}, indent=1) + "\n")
        return
    assert found == pytest.approx(golden[variant], rel=1e-4), f"the first step of {variant} changed; see this file's docstring"
