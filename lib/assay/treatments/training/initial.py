"""Start from the parameters of another run, those whose paths and shapes agree; a report says what was and was not loaded.

    --config.treatments=init:from=runs/pretrained
    --config.treatments='init:from=runs/pretrained,map=/head/->/unused/;^model/trunk/->model/'

`map` rewrites the other run's paths, `regex->replacement` separated by `;`, the first that is found in a path. The values replace those
that were drawn, before any treatment of the model sees them, and only when a run starts: to go on with it or to load it, the other run
need not be there.
"""

import sys
from functools import partial

import jax

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.train.treatment import Treatment
from assay.treatments.option import KEY
from assay.treatments.runs import Runs
from assay.treatments.training.transfer import Rules, match, parse_rules


def initial(from_: str, runs: Runs, map_: str = "") -> Treatment:
    """`from`: a work directory; `map`: rules for its paths."""
    try:
        rules = parse_rules(map_)
    except UserError as error:
        raise UserError(f"the treatment 'init' has map={map_}: {error} {KEY}") from None
    return Treatment(start=partial(loaded, workdir=from_, rules=rules, runs=runs), name="init")


def loaded(shapes: PyTree, workdir: str, rules: Rules, runs: Runs) -> PyTree:
    """The other run's values for a part of {"model": ...}, and a report on the terminal. Raises UserError where nothing can be loaded."""
    _, params, _ = runs.load(workdir)
    try:
        found, report = match(shapes, {"model": jax.device_get(params)}, rules)
    except UserError as error:
        raise UserError(f"init:from={workdir} in --config.treatments: {error}") from None
    print(f"from {workdir}: {report}", file=sys.stderr)
    return found
