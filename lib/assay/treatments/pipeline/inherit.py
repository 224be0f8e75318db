"""Continues from another run with all of its parameters and its treated model. Pipeline stages use it to build on the previous stage.

    --config.treatments=prune:heads=0.5,inherit:from=runs/pruned,quantize:int8

Model treatments listed before `inherit` are those of the other run. They are replayed for their shapes only, so resuming or loading a run
does not require the other run. Treatments listed after it change the inherited model.
"""

from functools import partial

from assay.core.tree import PyTree
from assay.models.model import Model
from assay.train.treatment import Treatment
from assay.treatments.folder import folder
from assay.treatments.runs import Runs


def inherit(from_: str, runs: Runs) -> Treatment:
    """Returns the treatment that inherits from the run in the work directory `from`."""
    return Treatment(inherit=partial(inherited, folder(from_), runs), name="inherit")


def inherited(workdir: str, runs: Runs) -> tuple[Model, PyTree]:
    """Returns the treated model and the parameters of the run in `workdir`."""
    model, params, _ = runs.load(workdir)
    return model, params
