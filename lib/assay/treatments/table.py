"""Table of treatments. `config.treatments` lists them in order, each as `name` or `name:key=value,key=value`."""

import inspect
from collections.abc import Callable, Sequence

from assay.core.errors import UserError, unknown
from assay.train.treatment import Treatment
from assay.treatments.compression.distill import distill
from assay.treatments.compression.lora import lora, merge
from assay.treatments.compression.lowrank import lowrank
from assay.treatments.compression.prune import prune
from assay.treatments.compression.quantize import quantize
from assay.treatments.folder import pieces
from assay.treatments.option import GIVEN, parse
from assay.treatments.pipeline.inherit import inherit
from assay.treatments.reasoning.couple import couple
from assay.treatments.reasoning.curriculum import curriculum
from assay.treatments.reasoning.recombine import recombine
from assay.treatments.reasoning.reverse import reverse
from assay.treatments.reasoning.scratchpad import scratchpad
from assay.treatments.reasoning.supervise import supervise
from assay.treatments.runs import Runs
from assay.treatments.training.accumulate import accumulate
from assay.treatments.training.augment import augment
from assay.treatments.training.average import average
from assay.treatments.training.balance import balance
from assay.treatments.training.choices import dropout, early_stopping, larger, longer
from assay.treatments.training.clip import clip
from assay.treatments.training.ensemble import ensemble
from assay.treatments.training.gradients import gradients
from assay.treatments.training.initial import initial
from assay.treatments.training.penalty import l1, l2
from assay.treatments.training.rate import rate
from assay.treatments.training.smooth import smooth
from assay.treatments.training.temperature import calibrate
from assay.treatments.training.threshold import threshold

FACTORIES: dict[str, Callable[..., Treatment]] = {
    "accumulate": accumulate,
    "augment": augment,
    "average": average,
    "balance": balance,
    "calibrate": calibrate,
    "clip": clip,
    "couple": couple,
    "curriculum": curriculum,
    "distill": distill,
    "dropout": dropout,
    "early_stopping": early_stopping,
    "ensemble": ensemble,
    "gradients": gradients,
    "inherit": inherit,
    "init": initial,
    "l1": l1,
    "l2": l2,
    "larger": larger,
    "longer": longer,
    "lora": lora,
    "lowrank": lowrank,
    "merge": merge,
    "prune": prune,
    "quantize": quantize,
    "rate": rate,
    "recombine": recombine,
    "reverse": reverse,
    "scratchpad": scratchpad,
    "smooth": smooth,
    "supervise": supervise,
    "threshold": threshold,
}

REPEATABLE = ("init", "l1", "l2", "prune", "rate")  # each entry applies to its own paths or parts


def build(specs: Sequence[str], runs: Runs) -> list[Treatment]:
    """Builds the treatments listed in a config. `runs` reads the work directories that they name.

    Raises UserError for an unknown treatment, a treatment listed twice that may occur only once, or an invalid option.
    """
    made: list[Treatment] = []
    for spec in joined(specs):
        name, _, options = spec.partition(":")
        if name not in FACTORIES:
            raise unknown("treatment", name, FACTORIES, "--config.treatments")
        if name not in REPEATABLE and any(name == other.name.partition(":")[0] for other in made):
            raise UserError(f"the treatment {name!r} is listed twice, but may be listed only once. Change --config.treatments.")
        factory = FACTORIES[name]
        given = {GIVEN: runs} if GIVEN in inspect.signature(factory).parameters else {}
        made.append(factory(**parse(name, factory, options), **given)._replace(name=spec))
    return made


def joined(specs: Sequence[str]) -> list[str]:
    """Returns the specs with their options rejoined: command-line lists are split at every comma, including commas between options."""
    whole: list[str] = []
    for piece in pieces(specs):
        if whole and "=" in piece.partition(":")[0]:
            whole[-1] += f",{piece}" if ":" in whole[-1] else f":{piece}"
        else:
            whole.append(piece)
    return whole
