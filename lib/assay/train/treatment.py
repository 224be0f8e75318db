"""A treatment: functions at the links of Task -> Model -> Objective -> Gradient -> Step. The identity treatment changes no bit.

A list of treatments applies link by link, in order. The step is written once and never transformed.

What a treatment keeps from step to step besides parameters (control variates, an adversary's weights over groups) is carried: `carry` makes
it, a gradient arrow takes and returns all that is carried, an objective reads `params["carried"]` and returns its part in `Aux`. It is
saved with the state, and no optimizer, norm, average or count of parameters sees it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax

from assay.core.errors import UserError
from assay.core.tree import PyTree, merge
from assay.data.loader import Sample
from assay.data.source import Source
from assay.models.model import Batch, Model
from assay.tasks.task import Task
from assay.train.objective import MODEL, Aux, Objective

Init = Callable[[jax.Array, Batch], PyTree]  # (key, batch) -> parameters of the model
# (params, batch, key, step, carried) -> (grads, aux, carried). `key` is the run's own, the same at every step: randomness of a step is
# rng.stream(key, NAME, step), and whoever asks for several gradients hands each a key of its own, such as rng.stream(key, "client", i).
Gradient = Callable[[PyTree, Batch, jax.Array, jax.Array, PyTree], tuple[PyTree, Aux, PyTree]]
PART = "part"  # a column of a batch, [rows] and all equal: parts of one batch that draw different randomness from one key
Choices = tuple[Any, Mapping[str, Any]]  # (the TrainConfig, config.model)


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


def _nothing_carried(shapes: PyTree, batch: Batch) -> Mapping[str, PyTree]:
    del shapes, batch
    return {}


def _same_settings(train: Any, model: Mapping[str, Any]) -> Choices:
    return train, model


def _same_sample(sample: Sample, source: Source) -> Sample:
    del source
    return sample


def _same_model(model: Model, params: PyTree) -> tuple[Model, PyTree]:
    return model, params


class Treatment(NamedTuple):
    settings: Callable[[Any, Mapping[str, Any]], Choices] = _same_settings  # early stopping, dropout; asked before anything is built
    task: Callable[[Task], Task] = _same  # what is asked, and how the answer is read (a scratchpad)
    init: Callable[[Init], Init] = _same  # how parameters are drawn (an ensemble's)
    start: Callable[[PyTree], PyTree] = _nothing  # shapes of {"model": ...} -> values for a part of it; asked by a fresh start only
    model: Callable[[Model, PyTree], tuple[Model, PyTree]] = _same_model  # prune by surgery, quantise, LoRA, ensemble
    objective: Callable[[Objective], Objective] = _same  # distil, attack, augment, L1
    gradient: Callable[[Gradient], Gradient] = _same  # per-example clipping and noise, federated rounds, SAM
    # (shapes of the trained parameters, what the model sees at once) -> what is carried at first, by a name that no other treatment takes
    carry: Callable[[PyTree, Batch], Mapping[str, PyTree]] = _nothing_carried
    optimizer: Callable[[Any], Any] = _same  # masks, EMA
    sample: Callable[[Sample, Source], Sample] = _same_sample  # which examples a step sees: two domains, episodes, clients
    one: Callable[[Batch], Batch] = _same  # a step's batch -> what the model sees at once: one client's rows, one episode
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
    mixes: bool = False  # whether a row's loss or gradient depends on other rows of its batch (mixup, CORAL, batch statistics)
    per_example: bool = False  # whether the gradient arrow asks for the gradient of each row alone
    secret: bool = False  # whether noise and sampling must not follow from the published seed (core/secret.py)
    name: str = "unnamed"  # as rows and config.json say it


def compose(treatments: Sequence[Treatment]) -> Treatment:
    """One treatment that applies all, the first first. No treatments compose to the identity.

    Raises UserError where two carry something under one name, and where rows are mixed below per-example gradients.
    """
    _check_order(treatments)

    def chain(name: str) -> Callable[[Any], Any]:
        arrows = [getattr(treatment, name) for treatment in treatments]
        return lambda value: reduce(lambda so_far, arrow: arrow(so_far), arrows, value)

    def model(model: Model, params: PyTree) -> tuple[Model, PyTree]:
        for treatment in treatments:
            model, params = treatment.model(model, params)
        return model, params

    def settings(train: Any, model: Mapping[str, Any]) -> Choices:
        for treatment in treatments:
            train, model = treatment.settings(train, model)
        return train, model

    def sample(sample: Sample, source: Source) -> Sample:
        return reduce(lambda so_far, treatment: treatment.sample(so_far, source), treatments, sample)

    def one(batch: Batch) -> Batch:
        return reduce(lambda so_far, treatment: treatment.one(so_far), reversed(treatments), batch)  # the last added the outermost axis

    def carry(shapes: PyTree, batch: Batch) -> Mapping[str, PyTree]:
        carried: dict[str, PyTree] = {}
        for treatment in treatments:
            found = treatment.carry(shapes, batch)
            if taken := [name for name in found if name in carried or name == MODEL]:
                raise UserError(
                    f"the treatment {treatment.name!r} carries {taken[0]!r}, a name that is taken. Leave one of them out of "
                    "--config.treatments, or give it another name in Treatment.carry."
                )
            carried |= found
        return carried

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
    arrows: dict[str, Any] = {link: chain(link) for link in ("task", "init", "objective", "gradient", "optimizer")}
    whole = Treatment(
        settings=settings,
        sample=sample,
        one=one,
        carry=carry,
        start=start,
        model=model,
        final=final,
        inherit=None if last is None else inherit,
        prepare=prepare,
        finished=any(treatment.finished for treatment in treatments),
        steps=max((treatment.steps for treatment in treatments), default=0),
        given=given,
        frozen=frozen,
        mixes=any(treatment.mixes for treatment in treatments),
        per_example=any(treatment.per_example for treatment in treatments),
        secret=any(treatment.secret for treatment in treatments),
        name=name,
    )
    return whole._replace(**arrows)


def links(treatments: Sequence[Treatment]) -> dict[str, list[str]]:
    """Which treatments act at which link, in order: the composition, for config.json."""
    identity = Treatment()
    names = ["settings", "task", "init", "start", "inherit", "model", "objective"]
    names += ["gradient", "carry", "optimizer", "sample", "one", "final"]
    acting = {link: [t.name for t in treatments if getattr(t, link) is not getattr(identity, link)] for link in names}
    return {link: found for link, found in acting.items() if found}


def _check_order(treatments: Sequence[Treatment]) -> None:
    """Raises UserError for a list in which per-example gradients would silently undo what another treatment does over rows.

    The gradient link applies the first listed innermost, and objectives and models are below all of it: whatever mixes rows there sees
    single rows.
    """
    for place, outer in enumerate(treatments):
        if not outer.per_example:
            continue
        for other, inner in enumerate(treatments):
            if not inner.mixes or inner is outer:
                continue
            if inner.gradient is _same or inner.objective is not _same or inner.model is not _same_model:
                raise UserError(
                    f"the treatment {outer.name!r} takes the gradient of each example alone, and {inner.name!r} mixes the examples of a "
                    "batch, which would have no effect. Leave one of them out of --config.treatments."
                )
            if other < place:
                raise UserError(
                    f"the treatment {outer.name!r} takes the gradient of each example alone, and {inner.name!r}, listed before it, mixes "
                    f"the examples of a batch, which would have no effect. List {inner.name!r} after it in --config.treatments."
                )
