"""Compatibility matrix of treatments and model families: tests every pair abstractly, on the shapes of a small model.

A pair is compatible if the state and, for trained models, one training step can be traced. Otherwise, the treatment gives a one-line reason
why it does not apply. Task treatments (scratchpad, position coupling, ...) depend on the task instead of the family and are omitted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax

from assay.core.errors import Inapplicable
from assay.core.tree import PyTree
from assay.models.model import Model
from assay.train.experiment import Experiment, assemble
from assay.train.state import all_params
from assay.train.step import make_step
from assay.train.treatment import Treatment, links
from assay.treatments.compression.distill import taught
from assay.treatments.compression.match import parse_matches
from assay.treatments.compression.outputs import with_answers
from assay.treatments.compression.teacher import Teacher
from assay.treatments.pipeline.load import RUNS, treatments

SPECS = (
    "distill",
    "distill:hidden=TAP",
    "distill:attention=TAP",
    "distill:sequence=True",
    "prune:sparsity=0.5",
    "prune:nm=2:4",
    "prune:heads=0.5",
    "prune:units=0.5",
    "prune:channels=0.5",
    "prune:layers=0.5",
    "quantize:int8",
    "quantize:int4,block=8",
    "quantize:nf4",
    "quantize:fp8",
    "quantize:int8,activations=dynamic",
    "quantize:int8,activations=static",
    "quantize:int4,method=gptq",
    "quantize:int4,method=awq",
    "quantize:int4,train=True",
    "lowrank:rank=2",
    "lora:rank=2",
    "quantize:nf4 + lora:rank=2",
    "lora:rank=2 + merge",
    "prune:sparsity=0.5 + quantize:int8",
    "prune:sparsity=0.5 + lora:rank=2",
    "prune:sparsity=0.5 + lowrank:rank=2",
    "prune:units=0.5 + lowrank:rank=1 + quantize:int8",
    "ensemble:members=2",
    "ensemble:members=2 + quantize:int8",
    "average",
    "calibrate",
    "dropout:rate=0.5",
    "early_stopping",
    "larger:times=2",
    "longer",
    "accumulate:parts=2",
    "clip",
    "smooth",
    "l1",
    "l2",
    "rate:times=0.5,paths=head",
    "gradients",
)


class Cell(NamedTuple):
    """Cell of the matrix: a treatment applied to a family."""

    spec: str
    family: str
    reason: str  # why it does not apply; "" if it does


def matrix(families: Mapping[str, Mapping[str, Any]], specs: Sequence[str] = SPECS) -> Iterator[Cell]:
    """Yields one cell per treatment and family, given small configs by family. Errors other than Inapplicable propagate."""
    for family, config in families.items():
        plain = assemble(config, [])
        for spec in specs:
            yield Cell(spec, family, tried(config, plain, spec))


def tried(config: Mapping[str, Any], plain: Experiment, spec: str) -> str:
    """Returns why the treatment does not apply to the config, or "" if it does."""
    try:
        named = [_distil(plain, spec)] if spec.startswith("distill") else treatments(spec.split(" + "))
        made = assemble(config, named)
        batch = made.first_batch()
        state = jax.eval_shape(made.init_state, made.key, made.given(), batch)
        if set(links(named)) <= {"model", "task", "init"}:  # these treatments leave the training step unchanged
            jax.eval_shape(made.model.apply, all_params(state)["model"], batch)
        elif made.settings.train.steps:
            jax.eval_shape(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer), state, batch)
    except Inapplicable as told:
        text = str(told).partition("does not apply")[2]
        return text.lstrip(":").strip().partition(". ")[0]
    return ""


# -- private --------------------------------------------------------------------------------------------------------------


class _Stand(NamedTuple):
    """Stand-in for a teacher without a run: the untrained model itself."""

    made: Experiment

    @property
    def model(self) -> Model:
        return self.made.model

    def shapes(self) -> PyTree:
        return all_params(self.made.abstract())["model"]


def _distil(plain: Experiment, spec: str) -> Treatment:
    stand: Any = _Stand(plain)
    if "sequence" in spec:
        return Treatment(task=partial(with_answers, teacher=Teacher("", RUNS)), objective=lambda objective: objective, name="distill")
    kind = "hidden" if "hidden" in spec else "attention" if "attention" in spec else ""
    pairs = parse_matches(kind, _tap(plain, kind)) if kind else []
    objective: Callable[..., Any] = partial(taught, named=[stand], temperature=2.0, hard=0.5, matches=pairs)
    given = {} if plain.model.fit is not None else {"teacher_0": stand.shapes}
    return Treatment(objective=objective, given=given, frozen="^teacher_0/", name="distill")


def _tap(plain: Experiment, kind: str) -> str:
    """Returns the first tap of the kind. Raises Inapplicable if the model has none."""
    if plain.model.fit is not None:
        return "counts"
    taps = jax.eval_shape(plain.model.apply, all_params(plain.abstract())["model"], plain.first_batch()).taps
    found = [path for path, tap in taps.items() if (kind == "attention") == path.endswith("/weights") and len(tap.shape) > 1]
    if not found:
        raise Inapplicable(f"does not apply: the model has no taps of {'attention' if kind == 'attention' else 'hidden states'}.")
    return found[0]
