"""Go on from another run: its treated model and its parameters, whole. It is how a stage of a pipeline takes over from the one before.

    --config.treatments=prune:heads=0.5,inherit:from=runs/pruned,quantize:int8

Treatments of the model that are listed before it are those that the other run had: they are replayed for their shapes, so that a run
which goes on, or is loaded, needs no other run. Those listed after it change what was inherited.
"""

from functools import partial

from assay.core.tree import PyTree
from assay.models.model import Model
from assay.train.treatment import Treatment
from assay.treatments.runs import Runs


def inherit(from_: str, runs: Runs) -> Treatment:
    """Builds the treatment. `from`: a work directory."""
    return Treatment(inherit=partial(inherited, from_, runs), name="inherit")


def inherited(workdir: str, runs: Runs) -> tuple[Model, PyTree]:
    """Returns the other run's treated model and parameters."""
    model, params, _ = runs.load(workdir)
    return model, params
