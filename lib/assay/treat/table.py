"""The table of treatments. `config.treatments` lists them in order, each `name` or `name:key=value,key=value`."""

from collections.abc import Callable, Mapping, Sequence

from assay.core.errors import UserError, unknown
from assay.train.treatment import Treatment
from assay.treat.scratchpad import scratchpad

FACTORIES: Mapping[str, Callable[..., Treatment]] = {"scratchpad": scratchpad}


def treatments(specs: Sequence[str]) -> list[Treatment]:
    """The treatments that a config names. Raises UserError for an unknown one or an option that it does not take."""
    made = []
    for spec in specs:
        name, _, options = spec.partition(":")
        if name not in FACTORIES:
            raise unknown("treatment", name, FACTORIES, "--config.treatments")
        pairs = dict(pair.partition("=")[::2] for pair in options.split(",") if pair)
        try:
            made.append(FACTORIES[name](**pairs)._replace(name=spec))
        except TypeError:
            raise UserError(f"the treatment {name!r} does not take {', '.join(pairs)}. Change it in --config.treatments.") from None
    return made
