"""Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531): trains a student on the outputs of finished runs and on the labels.

    loss = hard * loss on the labels + (1 - hard) * T^2 KL(teacher at temperature T || student at T)

    --treat=distill:student=small,T=4                            the treated run is the teacher
    --config.treatments=distill:from=runs/a+runs/b,hard=0.3      several teachers: the mean of their probabilities
    distill:hidden=block_0/residual->block_3/residual            also matches activations (treatments/compression/match.py)
    distill:sequence=True                                        its answers replace the labels (Kim and Rush 2016, arXiv 1606.07947)

Teacher and student may be of different families, on the same task. With `cache=True`, the teachers' outputs for each training example are
computed once and read from disk. Otherwise, teachers run on the same batches as the student, including augmentation. List `distill` before
treatments that change the batch.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from assay.core.divergence import divergence
from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.models.model import Batch, Model
from assay.tasks.task import Task
from assay.train.objective import Aux, Objective, Term, mean_of, metric_of, terms_of
from assay.train.treatment import Treatment
from assay.treatments.compression.match import Match, check_taps, matched, parse_matches, projections, shapes_of
from assay.treatments.compression.outputs import CLASSES, VALUES, fill, with_answers, with_outputs
from assay.treatments.compression.teacher import check_same, mean_logits, teachers
from assay.treatments.option import KEY, check
from assay.treatments.runs import Runs

COLDEST, HOTTEST = 1e-6, 1e9  # temperatures at which float32 holds logits / T and T^2 times their divergence


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
    """Returns the distillation treatment. Raises UserError for invalid options.

    Args:
        from_: work directories of the teachers, joined by `+`.
        runs: readers of other runs.
        T: temperature; from 1e-6 to 1e9.
        hard: weight of the loss on the labels, in [0, 1].
        hidden: hidden states to match, `student tap->tap of the first teacher`, separated by `;`.
        attention: attention weights to match, in the same format.
        match: weight of each matching loss; at least 0.
        cache: whether teacher outputs are computed once and stored on disk.
        top: number of classes to store with `cache`; 0: all.
        sequence: whether the first teacher's own answers replace the labels.
    """
    named = teachers(from_, runs)
    check(bool(named), "distill", "from", from_, "a work directory, or several joined by +")
    check(COLDEST <= T <= HOTTEST, "distill", "T", T, f"a temperature from {COLDEST:g} to {HOTTEST:g}")
    check(0 <= hard <= 1, "distill", "hard", hard, "a share in [0, 1]")
    check(0 <= match < math.inf, "distill", "match", match, "it must be at least 0")
    check(top >= 0, "distill", "top", top, "a number of classes, or 0 for all")
    check(not top or cache, "distill", "top", top, "it applies to cached outputs only; also set cache=True")
    pairs = [*parse_matches("hidden", hidden), *parse_matches("attention", attention)]
    check(not cache or not pairs, "distill", "cache", cache, "activations are not cached; omit cache, or hidden and attention")
    check(
        not sequence or not (cache or pairs),
        "distill",
        "sequence",
        sequence,
        "it replaces the labels; omit cache, hidden and attention",
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
    """Adds the distillation loss to an objective.

    Args:
        objective: the objective on the labels. The result's loss raises UserError unless it returns the logits of a single head.
        named: teachers, or objects with their `model` and `shapes()`.
        temperature: temperature T.
        hard: weight of the loss on the labels, in [0, 1].
        matches: pairs of taps whose activations are matched.
        weight: weight of each matching loss.
        cached: whether the batch contains the teachers' outputs; otherwise `params` has teacher_0, teacher_1, ...
    """

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
                "the treatment 'distill' requires the logits of a single head, but the objective or an earlier treatment returns others. "
                f"List it before ensemble, and choose a task with one head. {KEY}"
            )
        heard = [] if cached else [teacher.model.apply(params[f"teacher_{i}"], batch) for i, teacher in enumerate(named)]
        soft = soft_loss(aux.output.logits, _said(batch, heard, temperature), temperature, batch)
        sums = {**aux.sums, "labels": metric_of(terms_of(mean, aux)), "distill": soft}
        total = hard * mean + (1 - hard) * mean_of(soft)
        terms = [*terms_of(mean, aux, hard), ((1 - hard) * soft[0], soft[1])]
        if matches:
            shapes = _tap_shapes(model, params, batch)
            for i, pair in enumerate(matches):
                found = matched(i, pair, params, batch, aux.output.taps, heard[0].taps, shapes)
                total, sums[f"match_{i}"] = total + weight * mean_of(found), found
                terms.append((weight * found[0], found[1]))
        return total, aux._replace(weight=soft[1], sums=sums, terms=terms)

    return Objective(init, loss)


def soft_loss(logits: jax.Array, said: tuple[jax.Array, jax.Array | None], temperature: float, batch: Batch) -> Term:
    """Returns T^2 KL(teacher || student at T) as a weighted sum over examples or tokens and the sum of the weights; 0 between equals.

    Args:
        logits: logits of the student.
        said: logits of the teacher, and their classes (None: all). Other classes than these have probability 0.
        temperature: temperature T.
        batch: supplies the weights.
    """
    theirs, classes = said
    if classes is not None:
        theirs = jnp.put_along_axis(jnp.full(logits.shape, -jnp.inf), classes, theirs, axis=-1, inplace=False)
    each = temperature**2 * divergence(theirs / temperature, widened(logits) / temperature)
    weights = row_weights(batch, logits)
    return (each * weights).sum(), weights.sum()


def row_weights(batch: Batch, logits: jax.Array) -> jax.Array:
    """Returns the weight of each prediction: [batch], or [batch, seq] for a prediction per token."""
    return batch["weight"] if logits.ndim == 2 else batch["mask"] * batch["weight"][:, None]


# -- private --------------------------------------------------------------------------------------------------------------


def _said(batch: Batch, heard: Sequence, temperature: float) -> tuple[jax.Array, jax.Array | None]:
    if heard:
        return mean_logits([output.logits for output in heard], temperature), None
    return widened(batch[VALUES]), batch.get(CLASSES)
