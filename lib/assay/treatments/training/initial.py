"""Initializes parameters from another run where paths and shapes match, and reports which parameters were and were not loaded.

    --config.treatments=init:from=runs/pretrained
    --config.treatments='init:from=runs/pretrained,map=/head/->/unused/;^model/trunk/->model/'

`map` rewrites the paths of the other run with rules `regex->replacement`, separated by `;`; the first rule that matches a path applies.
The loaded values replace the random initial values before any model treatment is applied, and only when a run starts. Resuming or loading
the run does not require the other run.
"""

import sys
from functools import partial

import jax

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.train.treatment import Treatment
from assay.treatments.folder import folder
from assay.treatments.option import KEY
from assay.treatments.runs import Runs
from assay.treatments.training.transfer import Rules, match, parse_rules


def initial(from_: str, runs: Runs, map_: str = "") -> Treatment:
    """Returns the treatment that initializes from another run. Raises UserError for a malformed rule.

    Args:
        from_: work directory of the other run.
        runs: readers of other runs.
        map_: rules that rewrite its paths, `regex->replacement` separated by `;`.
    """
    try:
        rules = parse_rules(map_)
    except UserError as error:
        raise UserError(f"the treatment 'init' has map={map_}: {error} {KEY}") from None
    return Treatment(start=partial(loaded, workdir=folder(from_), rules=rules, runs=runs), name="init")


def loaded(shapes: PyTree, workdir: str, rules: Rules, runs: Runs) -> PyTree:
    """Returns the matching values for a part of {"model": ...}, and prints a report. Raises UserError if nothing can be loaded."""
    _, params, _ = runs.load(workdir)
    try:
        found, report = match(shapes, {"model": jax.device_get(params)}, rules)
    except UserError as error:
        raise UserError(f"init:from={workdir} in --config.treatments: {error}") from None
    print(f"from {workdir}: {report}", file=sys.stderr)
    return found
