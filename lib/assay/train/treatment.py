"""A treatment: functions at the links of Task -> Model -> Objective -> Gradient -> Step. The identity treatment changes no bit.

A list of treatments applies link by link, in order. The step is written once and never transformed.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax

from assay.core.tree import PyTree
from assay.data.loader import Sample
from assay.models.model import Batch, Model
from assay.tasks.task import Task
from assay.train.objective import Aux, Objective

Gradient = Callable[[PyTree, Batch, jax.Array], tuple[PyTree, Aux]]


def _same(value: Any) -> Any:
    return value


def _same_model(model: Model, params: PyTree) -> tuple[Model, PyTree]:
    return model, params


class Treatment(NamedTuple):
    task: Callable[[Task], Task] = _same  # what is asked, and how the answer is read (a scratchpad)
    model: Callable[[Model, PyTree], tuple[Model, PyTree]] = _same_model  # prune by surgery, quantise, LoRA, ensemble
    objective: Callable[[Objective], Objective] = _same  # distil, attack, augment, L1
    gradient: Callable[[Gradient], Gradient] = _same  # per-example clipping and noise, federated rounds, SAM
    optimizer: Callable[[Any], Any] = _same  # masks, EMA
    sample: Callable[[Sample], Sample] = _same  # which examples a step sees: two domains, episodes, clients
    given: Mapping[str, PyTree] = {}  # trees that enter the state as they are (a teacher)
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

    given: dict[str, PyTree] = {}
    for treatment in treatments:
        given |= treatment.given
    frozen = "|".join(f"(?:{treatment.frozen})" for treatment in treatments if treatment.frozen)
    name = " + ".join(treatment.name for treatment in treatments) or "none"
    return Treatment(chain("task"), model, chain("objective"), chain("gradient"), chain("optimizer"), chain("sample"), given, frozen, name)


def links(treatments: Sequence[Treatment]) -> dict[str, list[str]]:
    """Which treatments act at which link, in order: the composition, for config.json."""
    identity = Treatment()
    names = ("task", "model", "objective", "gradient", "optimizer", "sample")
    acting = {link: [t.name for t in treatments if getattr(t, link) is not getattr(identity, link)] for link in names}
    return {link: found for link, found in acting.items() if found}
