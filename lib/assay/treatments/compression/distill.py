"""Distillation (Hinton et al. 2015, arXiv 1503.02531): a student learns what finished runs answer, and not only which answer is right.

    loss = hard * loss on the labels + (1 - hard) * T^2 KL(teacher at temperature T || student at T)

    --treat=distill:student=small,T=4                            the run that is treated is the teacher
    --config.treatments=distill:from=runs/a+runs/b,hard=0.3      several: the mean of their probabilities
    distill:hidden=block_0/residual->block_3/residual            activations too (treatments/compression/match.py)
    distill:sequence=True                                        its own answers are the labels (Kim and Rush 2016, arXiv 1606.07947)

Any family teaches any other on one task. With `cache=True` teachers answer each training example once, and what they said is read from
disk; otherwise they answer what the student sees, changed by augmentation or not. List it before treatments that change the batch.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.models.model import Batch, Model
from assay.tasks.task import Task
from assay.train.objective import Aux, Objective
from assay.train.treatment import Treatment
from assay.treatments.compression.match import Match, check_taps, matched, parse_matches, projections, shapes_of
from assay.treatments.compression.outputs import CLASSES, VALUES, fill, with_answers, with_outputs
from assay.treatments.compression.teacher import check_same, mean_log_probability, teachers
from assay.treatments.option import KEY, check
from assay.treatments.runs import Runs


def distill(
    from_: str,
    runs: Runs,
    T: float = 4.0,
    hard: float = 0.5,
    hidden: str = "",
    attention: str = "",
    match: float = 1.0,
    cache: bool = False,
    top: int = 0,
    sequence: bool = False,
) -> Treatment:
    """`from`: work directories of teachers, joined by `+`. `T`: temperature. `hard`: share of the loss on the labels. `hidden` and
    `attention`: taps of the student -> taps of the first teacher, several separated by `;`, with the weight `match` each. `cache`: whether
    teachers answer once, to disk, keeping `top` classes; 0: all. `sequence`: whether the first teacher's own answers are the labels."""
    named = teachers(from_, runs)
    check(bool(named), "distill", "from", from_, "a work directory, or several joined by +")
    check(0 < T < math.inf, "distill", "T", T, "a temperature above 0")
    check(0 <= hard <= 1, "distill", "hard", hard, "a share in [0, 1]")
    check(0 <= match < math.inf, "distill", "match", match, "it is at least 0")
    check(top >= 0, "distill", "top", top, "a number of classes, or 0 for all")
    check(not top or cache, "distill", "top", top, "it is for outputs on disk; set cache=True too")
    pairs = [*parse_matches("hidden", hidden), *parse_matches("attention", attention)]
    check(not cache or not pairs, "distill", "cache", cache, "activations are not kept on disk; leave out cache, or hidden and attention")
    check(
        not sequence or not (cache or pairs),
        "distill",
        "sequence",
        sequence,
        "the labels are changed; leave out cache, hidden and attention",
    )
    asked: list[Task] = []

    def task(task: Task) -> Task:
        asked[:] = [task]
        if sequence:
            return with_answers(task, named[0])
        return with_outputs(task, named, T, top) if cache else task

    def prepare() -> None:
        for teacher in named:
            check_same(teacher, asked[0])
        if sequence or cache:
            fill(asked[0], named, T, top, sequence)

    if sequence:
        return Treatment(task=task, prepare=prepare, name="distill")
    taught_so = partial(taught, named=named, temperature=T, hard=hard, matches=pairs, weight=match, cached=cache)
    if cache:
        return Treatment(task=task, prepare=prepare, objective=taught_so, name="distill")
    given = {f"teacher_{i}": teacher.params for i, teacher in enumerate(named)}
    return Treatment(task=task, prepare=prepare, objective=taught_so, given=given, frozen=r"^teacher_\d+/", name="distill")


def taught(
    objective: Objective,
    named: Sequence[Any],
    temperature: float,
    hard: float,
    matches: Sequence[Match] = (),
    weight: float = 1.0,
    cached: bool = False,
) -> Objective:
    """The objective with the answers of teachers, or of what has their `model` and `shapes()`, beside the labels. `params` has teacher_0,
    teacher_1, ..., or the batch what they said."""

    def init(key: jax.Array, model: Model, params: PyTree, batch: Batch) -> Mapping[str, PyTree]:
        found = dict(objective.init(key, model, params, batch))
        if matches:
            shapes = _tap_shapes(model, params, batch)
            check_taps(matches, *shapes)
            found |= projections(key, matches, *shapes)
        return found

    def _tap_shapes(model: Model, params: PyTree, batch: Batch):
        teacher = params["teacher_0"] if "teacher_0" in params else named[0].shapes()
        return shapes_of(model, params["model"], batch), shapes_of(named[0].model, teacher, batch)

    def loss(model: Model, params: PyTree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Aux]:
        mean, aux = objective.loss(model, params, batch, key, step)
        if aux.output is None or not isinstance(aux.output.logits, jax.Array):
            raise UserError(
                "the treatment 'distill' reads the logits of one head, and what stands before it in --config.treatments hands on others. "
                f"List it before ensemble, and choose a task with one head. {KEY}"
            )
        heard = [] if cached else [teacher.model.apply(params[f"teacher_{i}"], batch) for i, teacher in enumerate(named)]
        soft = divergence(aux.output.logits, _said(batch, heard, temperature), temperature, batch)
        rows = row_weights(batch, aux.output.logits).sum()
        sums = {**aux.sums, "labels": (mean * rows, rows), "distill": (soft * rows, rows)}
        total = hard * mean + (1 - hard) * soft
        if matches:
            shapes = _tap_shapes(model, params, batch)
            for i, pair in enumerate(matches):
                value = matched(i, pair, params, batch, aux.output.taps, heard[0].taps, shapes)
                total, sums[f"match_{i}"] = total + weight * value, (value * rows, rows)
        return total, aux._replace(weight=rows, sums=sums)

    return Objective(init, loss)


def divergence(logits: jax.Array, said: tuple[jax.Array, jax.Array | None], temperature: float, batch: Batch) -> jax.Array:
    """T^2 KL(teacher || student at T), the mean over examples or over tokens that count; 0 where both say the same. `said`: the teacher's
    log probabilities, and the classes that they are of where they are not all; those are made to sum to one."""
    theirs, classes = said
    ours = jax.nn.log_softmax(widened(logits) / temperature, axis=-1)
    if classes is not None:
        ours, theirs = jnp.take_along_axis(ours, classes, axis=-1), jax.nn.log_softmax(theirs, axis=-1)
    theirs = jax.lax.stop_gradient(theirs)
    each = (jnp.exp(theirs) * (theirs - ours)).sum(axis=-1)
    weights = row_weights(batch, logits)
    return temperature**2 * (each * weights).sum() / jnp.maximum(weights.sum(), 1e-9)


def row_weights(batch: Batch, logits: jax.Array) -> jax.Array:
    """What each answer counts: [batch], or [batch, seq] where one is given at every token."""
    return batch["weight"] if logits.ndim == 2 else batch["mask"] * batch["weight"][:, None]


# -- private --------------------------------------------------------------------------------------------------------------


def _said(batch: Batch, heard: Sequence, temperature: float) -> tuple[jax.Array, jax.Array | None]:
    if heard:
        return mean_log_probability([output.logits for output in heard], temperature), None
    return widened(batch[VALUES]), batch.get(CLASSES)
