"""The table of treatments. `config.treatments` lists them in order, each `name` or `name:key=value,key=value`."""

from collections.abc import Callable, Mapping, Sequence

from assay.core.errors import UserError, unknown
from assay.train.treatment import Treatment
from assay.treat.accumulate import accumulate
from assay.treat.augment import augment
from assay.treat.average import average
from assay.treat.clip import clip
from assay.treat.couple import couple
from assay.treat.curriculum import curriculum
from assay.treat.distill import distill
from assay.treat.ensemble import ensemble
from assay.treat.gradients import gradients
from assay.treat.inherit import inherit
from assay.treat.initial import initial
from assay.treat.lora import lora, merge
from assay.treat.lowrank import lowrank
from assay.treat.option import parse
from assay.treat.penalty import l1, l2
from assay.treat.prune import prune
from assay.treat.quantize import quantize
from assay.treat.rate import rate
from assay.treat.recombine import recombine
from assay.treat.reverse import reverse
from assay.treat.scratchpad import scratchpad
from assay.treat.smooth import smooth
from assay.treat.supervise import supervise

FACTORIES: Mapping[str, Callable[..., Treatment]] = {
    "accumulate": accumulate,
    "augment": augment,
    "average": average,
    "clip": clip,
    "couple": couple,
    "curriculum": curriculum,
    "distill": distill,
    "ensemble": ensemble,
    "gradients": gradients,
    "inherit": inherit,
    "init": initial,
    "l1": l1,
    "l2": l2,
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
}

REPEATABLE = ("init", "l1", "l2", "prune", "rate")  # each for paths, or parts, of its own


def treatments(specs: Sequence[str]) -> list[Treatment]:
    """The treatments that a config names. Raises UserError for an unknown one or an option that it does not take."""
    made: list[Treatment] = []
    for spec in joined(specs):
        name, _, options = spec.partition(":")
        if name not in FACTORIES:
            raise unknown("treatment", name, FACTORIES, "--config.treatments")
        if name not in REPEATABLE and any(name == other.name.partition(":")[0] for other in made):
            raise UserError(f"the treatment {name!r} is named twice, and once is what it is for. Change --config.treatments.")
        made.append(FACTORIES[name](**parse(name, FACTORIES[name], options))._replace(name=spec))
    return made


def joined(specs: Sequence[str]) -> list[str]:
    """The specs with their options together again: a list on the command line was cut at every comma, those between options too."""
    whole: list[str] = []
    for piece in specs:
        if whole and "=" in piece.partition(":")[0]:
            whole[-1] += f",{piece}" if ":" in whole[-1] else f":{piece}"
        else:
            whole.append(piece)
    return whole
