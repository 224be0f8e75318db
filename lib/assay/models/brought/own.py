"""Models made elsewhere under a name in the table of families, so that a config names them: `config.model.name = "mine/digits"`.

    config.model = register("mine/digits", model, params, code)     # of a run that starts from these parameters
    missing(config["model"])                                         # why the model of a run is not known in this process, or ""

The table lasts as long as the process: a model is code, which a run does not hold. config.json has digests of the shapes of its parameters
and of its program, so a run is never read with another model. A later model with both the same takes the place of an earlier one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax

from assay.config.modules import OWN
from assay.core.digest import same_program, shapes_digest, values_digest
from assay.core.errors import UserError, unknown
from assay.core.tree import PyTree
from assay.models.families import FAMILIES, Family
from assay.models.model import Model, Vocabulary

GIVEN, FRESH = "given", "fresh"  # where a run starts: from the given parameters, or from new ones
MOST = 16  # models of one name that a process keeps, the newest


@dataclass(frozen=True)
class OwnConfig:
    """Keys of config.model of a model made elsewhere."""

    parameters: str  # their number, and a digest of paths, shapes and types
    code: str  # version of JAX, and a digest of the model's program
    start: str = GIVEN  # "given": its own parameters; "fresh": new ones
    begun: str = ""  # digest of the parameters that were given

    def __post_init__(self):
        if self.start not in (GIVEN, FRESH):
            raise unknown("start", self.start, (GIVEN, FRESH), "start=")


class Own(NamedTuple):
    model: Model
    params: PyTree
    parameters: str
    code: str
    begun: str


_known: dict[str, list[Own]] = {}  # by name, the newest last


def register(name: str, model: Model, params: PyTree, code: str) -> dict[str, str]:
    """Registers a model with its parameters, and returns config.model of a run that starts from them. `code` is its program's digest."""
    own = Own(model, params, shapes_digest(params), code, values_digest(params))
    others = [one for one in _known.get(name, []) if (one.parameters, one.code) != (own.parameters, own.code)]
    _known[name] = [*others, own][-MOST:]

    def build(config: OwnConfig, vocabulary: Vocabulary, dtype: Any) -> Model:
        del vocabulary
        if dtype != jax.numpy.float32:
            raise UserError("a model made elsewhere computes in the types that its code says. Set --config.precision.compute=float32.")
        fits = [one for one in _known[name] if _fits(one, vars(config))]
        if not fits:
            raise UserError(f"{missing({'name': name, **vars(config)})}. Give the model of the run.")
        return _started(([one for one in fits if one.code == config.code] or fits)[-1], config)

    FAMILIES[name] = Family(OwnConfig, build, brought=True)
    return {"name": name, "parameters": own.parameters, "code": code, "start": GIVEN, "begun": own.begun}


def missing(config: Mapping[str, Any]) -> str:
    """Returns why the model of a run's config.model is not known in this process; "" if it is, or if it is one of the package."""
    name = str(config.get("name"))
    known = _known.get(name, [])
    if not name.startswith(OWN) or any(_fits(one, config) for one in known):
        return ""
    if not known:
        return f"its model {name!r} is code, which a run does not hold"
    shapes = [one.parameters for one in known]
    if config["parameters"] not in shapes:
        return f"its model {name!r} has other parameters ({config['parameters']}) than the one given here ({shapes[-1]})"
    return f"its model {name!r} computes otherwise than the one given here, although their parameters have the same shapes"


# -- private --------------------------------------------------------------------------------------------------------------


def _fits(own: Own, config: Mapping[str, Any]) -> bool:
    return own.parameters == config["parameters"] and same_program(own.code, config["code"])


def _started(own: Own, config: OwnConfig) -> Model:
    """Returns the model with the parameters from which a run starts."""
    if config.start == FRESH:
        if own.model.fixed:
            raise UserError(
                "start='fresh' is not possible, because the library cannot make new parameters of this model. Build it again with another "
                "seed, and use start='given'."
            )
        return own.model

    def start() -> PyTree:
        if own.begun != config.begun:
            raise UserError(
                f"the run started from other parameters ({config.begun}) than the model has now ({own.begun}). Give the model as it was."
            )
        return own.params

    return replace(own.model, start=start)
