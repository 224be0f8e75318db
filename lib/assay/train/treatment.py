"""A treatment: functions at the links of Task -> Model -> Objective -> Gradient -> Step. The identity treatment changes no bit.

A list of treatments applies link by link, in order. The step is written once and never transformed.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax

from assay.core.tree import PyTree, merge
from assay.data.loader import Sample
from assay.models.model import Batch, Model
from assay.tasks.task import Task
from assay.train.objective import Aux, Objective

Init = Callable[[jax.Array, Batch], PyTree]  # (key, batch) -> parameters of the model
Gradient = Callable[[PyTree, Batch, jax.Array], tuple[PyTree, Aux]]


def _same(value: Any) -> Any:
    return value


def _same_params(state: Any, params: PyTree) -> PyTree:
    del state
    return params


def _ready() -> None:
    pass


def _nothing(shapes: PyTree) -> PyTree:
    del shapes
    return {}


def _same_model(model: Model, params: PyTree) -> tuple[Model, PyTree]:
    return model, params


class Treatment(NamedTuple):
    task: Callable[[Task], Task] = _same  # what is asked, and how the answer is read (a scratchpad)
    init: Callable[[Init], Init] = _same  # how parameters are drawn (an ensemble's)
    start: Callable[[PyTree], PyTree] = _nothing  # shapes of {"model": ...} -> values for a part of it; asked by a fresh start only
    model: Callable[[Model, PyTree], tuple[Model, PyTree]] = _same_model  # prune by surgery, quantise, LoRA, ensemble
    objective: Callable[[Objective], Objective] = _same  # distil, attack, augment, L1
    gradient: Callable[[Gradient], Gradient] = _same  # per-example clipping and noise, federated rounds, SAM
    optimizer: Callable[[Any], Any] = _same  # masks, EMA
    sample: Callable[[Sample], Sample] = _same  # which examples a step sees: two domains, episodes, clients
    final: Callable[[Any, PyTree], PyTree] = _same_params  # (state, its parameters) -> those that evaluation reads (an average)
    inherit: Callable[[], tuple[Model, PyTree]] | None = (
        None  # another run's treated model and parameters, as `model` before this one made them
    )
    convert: Callable[[Model, PyTree], PyTree] | None = (
        None  # inherited parameters -> those after `model`, with data; None: `model` makes them
    )
    prepare: Callable[[], None] = _ready  # asked once before a run trains, and not by evaluation: what is missing is a UserError
    finished: bool = False  # whether it is for parameters that another run has trained: `inherit` stands in the list too
    steps: int = 0  # updates that it takes until it is done
    given: Mapping[
        str, PyTree | Callable[[], PyTree]
    ] = {}  # trees that enter the state (a teacher); what a function loads is not saved with it
    frozen: str = ""  # path regex of parameters that are read but not trained
    name: str = "unnamed"  # as rows and config.json say it


def compose(treatments: Sequence[Treatment]) -> Treatment:
    """One treatment that applies all, the first first. No treatments compose to the identity."""

    def chain(name: str) -> Callable[[Any], Any]:
        arrows = [getattr(treatment, name) for treatment in treatments]
        return lambda value: reduce(lambda so_far, arrow: arrow(so_far), arrows, value)

    def model(model: Model, params: PyTree) -> tuple[Model, PyTree]:
        for treatment in treatments:
            model, params = treatment.model(model, params)
        return model, params

    def start(shapes: PyTree) -> PyTree:
        return reduce(lambda so_far, treatment: merge(so_far, treatment.start(shapes)), treatments, {})

    def final(state: Any, params: PyTree) -> PyTree:
        return reduce(lambda so_far, treatment: treatment.final(state, so_far), treatments, params)

    def prepare() -> None:
        for treatment in treatments:
            treatment.prepare()

    last = max((i for i, treatment in enumerate(treatments) if treatment.inherit), default=None)

    def inherit() -> tuple[Model, PyTree]:
        assert last is not None
        found, *later = treatments[last:]
        assert found.inherit is not None
        model, params = found.inherit()
        for treatment in later:
            if treatment.convert is None:
                model, params = treatment.model(model, params)
            else:
                params, (model, _) = treatment.convert(model, params), jax.eval_shape(partial(treatment.model, model), params)
        return model, params

    given: dict[str, PyTree] = {}
    for treatment in treatments:
        given |= treatment.given
    frozen = "|".join(f"(?:{treatment.frozen})" for treatment in treatments if treatment.frozen)
    name = " + ".join(treatment.name for treatment in treatments if treatment.inherit is None) or "none"
    arrows: dict[str, Any] = {link: chain(link) for link in ("task", "init", "objective", "gradient", "optimizer", "sample")}
    whole = Treatment(
        start=start,
        model=model,
        final=final,
        inherit=None if last is None else inherit,
        prepare=prepare,
        finished=any(treatment.finished for treatment in treatments),
        steps=max((treatment.steps for treatment in treatments), default=0),
        given=given,
        frozen=frozen,
        name=name,
    )
    return whole._replace(**arrows)


def links(treatments: Sequence[Treatment]) -> dict[str, list[str]]:
    """Which treatments act at which link, in order: the composition, for config.json."""
    identity = Treatment()
    names = ("task", "init", "start", "inherit", "model", "objective", "gradient", "optimizer", "sample", "final")
    acting = {link: [t.name for t in treatments if getattr(t, link) is not getattr(identity, link)] for link in names}
    return {link: found for link, found in acting.items() if found}
