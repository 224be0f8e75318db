"""Treatments: functions at the links of Task -> Model -> Objective -> Gradient -> Step. The identity treatment changes no bit.

A list of treatments is applied in order at each link. The training step itself is never transformed.

State that a treatment keeps from step to step besides parameters (control variates, an adversary's weights over groups) is carried. `carry`
creates it. A gradient function takes and returns all carried state. An objective reads `params["carried"]` and returns its part in `Aux`.
Carried state is saved with the checkpoint, but excluded from the optimizer, norms, averages and parameter counts.

Under a treatment that claims differential privacy (`private`), the innermost gradient is zero where it or its loss is not finite: stopping
at such an example would reveal that it was drawn. That gradient is of one example if the treatment takes per-example gradients. A treatment
that clips anything larger, such as the update of a client, itself drops an update that is not finite (core/tree.py, `all_finite`). The run
then stops only at a gradient or parameter that is not finite after the treatment's noise. What it writes about training examples is
marked `"private": false`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from assay.core.errors import UserError
from assay.core.tree import PyTree, all_finite, merge
from assay.data.loader import Sample
from assay.data.source import Source
from assay.models.model import Batch, Model
from assay.tasks.task import Task
from assay.train.objective import MODEL, Aux, Objective

Init = Callable[[jax.Array, Batch], PyTree]  # (key, batch) -> parameters of the model
# (params, batch, key, step, carried) -> (grads, aux, carried). `key` is the run's key, the same at every step. Randomness of a step is
# rng.stream(key, NAME, step). Code that takes several gradients passes a distinct key to each, such as rng.stream(key, "client", i).
Gradient = Callable[[PyTree, Batch, jax.Array, jax.Array, PyTree], tuple[PyTree, Aux, PyTree]]
PART = "part"  # batch column [rows] of one repeated value: parts of one batch that draw different randomness from one key
SHARES = "shares"  # batch column [rows, terms] of one repeated row: factors of the means that the loss adds up (objective.shares_of)
LINKS = (
    *("settings", "task", "init", "start", "inherit", "model", "objective"),
    *("gradient", "carry", "optimizer", "sample", "one", "final", "fitted"),
)
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


class Fitted(NamedTuple):
    """A parameter of one number that is fitted on `valid` after training, such as a temperature. `Treatment.model` adds it."""

    neutral: float  # its value in training
    fit: Callable[[Model, PyTree, Task], float]  # (treated model, parameters for evaluation, task) -> its value after training


class Treatment(NamedTuple):
    """Functions at the links of a run; each is the identity unless given. Treatments are plain values that compose.

    >>> from dataclasses import replace
    >>> half = assay.Treatment(settings=lambda train, model: (replace(train, steps=train.steps // 2), model), name="half the steps")
    >>> rows = assay.run("parity:tiny", "runs/half", {"evaluate.splits": "iid"}, treatments=[half])
    >>> rows[0]["treatment"], rows[0]["steps"]
    ('half the steps', 10)
    """

    settings: Callable[[Any, Mapping[str, Any]], Choices] = _same_settings  # early stopping, dropout; applied before anything is built
    task: Callable[[Task], Task] = _same  # changes the question and how the answer is read (a scratchpad)
    init: Callable[[Init], Init] = _same  # changes parameter initialization (an ensemble's)
    start: Callable[[PyTree], PyTree] = _nothing  # shapes of {"model": ...} -> values for a part of it; used by a fresh start only
    model: Callable[[Model, PyTree], tuple[Model, PyTree]] = _same_model  # structured pruning, quantization, LoRA, ensembles
    objective: Callable[[Objective], Objective] = _same  # distillation, adversarial training, augmentation, L1
    gradient: Callable[[Gradient], Gradient] = _same  # per-example clipping and noise, federated rounds, SAM
    # (shapes of the trained parameters, one model input) -> initial carried state, under a name that no other treatment uses
    carry: Callable[[PyTree, Batch], Mapping[str, PyTree]] = _nothing_carried
    optimizer: Callable[[Any], Any] = _same  # masks, EMA
    sample: Callable[[Sample, Source], Sample] = _same_sample  # selects the examples of a step: two domains, episodes, clients
    one: Callable[[Batch], Batch] = _same  # a step's batch -> one model input: one client's rows, one episode
    final: Callable[[Any, PyTree], PyTree] = _same_params  # (state, its parameters) -> parameters for evaluation (an average)
    fitted: Mapping[str, Fitted] = {}  # top-level parameters, by name, that a run fits after training (temperature, threshold)
    inherit: Callable[[], tuple[Model, PyTree]] | None = (
        None  # loads another run's treated model and parameters, as produced by `model` of the treatments listed before
    )
    convert: Callable[[Model, PyTree], PyTree] | None = (
        None  # inherited parameters -> those after `model`, computed with data; None: `model` computes them
    )
    prepare: Callable[[], None] = _ready  # called once before training, not by evaluation; raises UserError if something is missing
    finished: bool = False  # True if it applies to parameters of a trained run: the list must also contain `inherit`
    steps: int = 0  # updates it needs to complete
    given: Mapping[
        str, PyTree | Callable[[], PyTree]
    ] = {}  # trees added to the state (a teacher); trees loaded by a function are not saved with it
    frozen: str = ""  # path regex of parameters that are read but not trained
    mixes: bool = False  # True if a row's loss or gradient depends on other rows of its batch (mixup, CORAL, batch statistics)
    per_example: bool = False  # True if the gradient function takes per-example gradients
    private: bool = False  # True if it claims that the parameters are differentially private with respect to the training examples
    unclipped: bool = False  # True if optimizer.clip_norm must be 0: its gradient function returns a pseudo-gradient (federated rounds)
    secret: bool = False  # True if noise and sampling must not be predictable from the published seed (core/secret.py)
    name: str = "unnamed"  # name in result rows and config.json


def compose(treatments: Sequence[Treatment]) -> Treatment:
    """Composes treatments into one that applies them in order. An empty list composes to the identity.

    Raises UserError if two treatments carry state under one name, or if rows are mixed below per-example gradients.
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
        return reduce(lambda so_far, treatment: treatment.one(so_far), reversed(treatments), batch)  # the last one adds the outer axis

    def carry(shapes: PyTree, batch: Batch) -> Mapping[str, PyTree]:
        carried: dict[str, PyTree] = {}
        for treatment in treatments:
            found = treatment.carry(shapes, batch)
            if taken := [name for name in found if name in carried or name == MODEL]:
                raise UserError(
                    f"the treatment {treatment.name!r} carries {taken[0]!r}, a name that is taken. Remove one of them from "
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

    fitted: dict[str, Fitted] = {}
    for treatment in treatments:
        if taken := sorted(fitted.keys() & treatment.fitted.keys()):
            raise UserError(f"two treatments fit the parameter {taken[0]!r}. Remove {treatment.name} from --config.treatments.")
        fitted |= treatment.fitted

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
        fitted=fitted,
        inherit=None if last is None else inherit,
        prepare=prepare,
        finished=any(treatment.finished for treatment in treatments),
        steps=max((treatment.steps for treatment in treatments), default=0),
        given=given,
        frozen=frozen,
        mixes=any(treatment.mixes for treatment in treatments),
        per_example=any(treatment.per_example for treatment in treatments),
        private=any(treatment.private for treatment in treatments),
        unclipped=any(treatment.unclipped for treatment in treatments),
        secret=any(treatment.secret for treatment in treatments),
        name=name,
    )
    acting = links(treatments)
    unchanged = {link: value for link, value in Treatment()._asdict().items() if link in LINKS and link not in acting}
    whole = whole._replace(**{**arrows, **unchanged})
    outer = whole.gradient
    return whole._replace(gradient=lambda gradient: outer(_finite(gradient))) if whole.private else whole


def links(treatments: Sequence[Treatment]) -> dict[str, list[str]]:
    """Returns the treatments that act at each link, in order: the composition stored in config.json."""
    identity = Treatment()
    acting = {link: [t.name for t in treatments if getattr(t, link) is not getattr(identity, link)] for link in LINKS}
    return {link: found for link, found in acting.items() if found}


def _finite(gradient: Gradient) -> Gradient:
    """Returns the gradient function with zeros as gradient and metrics where the gradient or its loss is not finite."""

    def bounded(params: PyTree, batch: Batch, key: jax.Array, step: jax.Array, carried: PyTree) -> tuple[PyTree, Aux, PyTree]:
        grads, aux, carried = gradient(params, batch, key, step, carried)
        finite = all_finite((grads, aux.sums["loss"]))
        grads, sums = jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.zeros_like(leaf)), (grads, dict(aux.sums)))
        return grads, aux._replace(sums=sums), carried

    return bounded


def _check_order(treatments: Sequence[Treatment]) -> None:
    """Raises UserError if per-example gradients would silently cancel what another treatment does across rows.

    The gradient link applies the first listed treatment innermost; objectives and models lie below all of them. Anything there that mixes
    rows would see single rows.
    """
    for place, outer in enumerate(treatments):
        if not outer.per_example:
            continue
        for other, inner in enumerate(treatments):
            if not inner.mixes or inner is outer:
                continue
            if inner.gradient is _same or inner.objective is not _same or inner.model is not _same_model:
                raise UserError(
                    f"the treatment {outer.name!r} takes per-example gradients, and {inner.name!r} mixes the examples of a "
                    "batch, which would have no effect. Remove one of them from --config.treatments."
                )
            if other < place:
                raise UserError(
                    f"the treatment {outer.name!r} takes per-example gradients, and {inner.name!r}, listed before it, mixes "
                    f"the examples of a batch, which would have no effect. List {inner.name!r} after it in --config.treatments."
                )
