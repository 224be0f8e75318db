"""Matches a student's activations to its teacher's, read at taps: hidden states by a learned projection, attention by its weights.

    hidden      mean over tokens and features of (P student - teacher)^2              (Romero et al. 2015, arXiv 1412.6550)
    attention   mean over tokens of KL(teacher || student), heads averaged            (Jiao et al. 2020, arXiv 1909.10351)

Families use different layouts: [batch * seq, features], [seq, batch, features], [batch, height, width, channels]. The batch axis is
identified by comparing shapes for the batch and for one twice as large.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.models.model import Batch, Model
from assay.train.objective import Term
from assay.treatments.option import KEY, check

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]  # tap -> its shape for a batch and for one twice as large


class Match(NamedTuple):
    """A pair of a student tap and a teacher tap."""

    kind: str  # hidden or attention
    student: str
    teacher: str


def parse_matches(kind: str, text: str) -> list[Match]:
    """Parses `a->b;c->d`; `a` alone means `a->a`. Raises UserError for an incomplete pair."""
    found = []
    for pair in (pair for pair in text.split(";") if pair):
        student, arrow, teacher = pair.partition("->")
        check(bool(student) and bool(teacher or not arrow), "distill", kind, pair, "write it as student_tap->teacher_tap")
        found.append(Match(kind, student, teacher or student))
    return found


def shapes_of(model: Model, params: PyTree, batch: Batch) -> Shapes:
    """Returns the shapes of every tap."""

    def taps(times: int) -> Mapping[str, Any]:
        wide = {name: jax.ShapeDtypeStruct((array.shape[0] * times, *array.shape[1:]), array.dtype) for name, array in batch.items()}
        return jax.eval_shape(model.apply, params, wide).taps

    once, twice = taps(1), taps(2)
    return {path: (once[path].shape, twice[path].shape) for path in once}


def check_taps(matches: Sequence[Match], student: Shapes, teacher: Shapes) -> None:
    """Raises UserError for a tap that does not exist, and lists those that do."""
    for match in matches:
        for whose, path, there in (("student", match.student, student), ("teacher", match.teacher, teacher)):
            known = [name for name in there if (match.kind == "attention") == name.endswith("/weights")]
            if path not in known:
                raise UserError(
                    f"the treatment 'distill' has {match.kind}={match.student}->{match.teacher}, but the {whose} has no such tap {path!r}. "
                    f"It has: {', '.join(known) or 'none of this kind'}. {KEY}"
                )


def projections(key: jax.Array, matches: Sequence[Match], student: Shapes, teacher: Shapes) -> dict[str, PyTree]:
    """Initializes one projection per pair of hidden states, from student to teacher features, LeCun-normal, as `projection_i`."""
    found = {}
    for i, match in enumerate(matches):
        if match.kind == "hidden":
            shape = (student[match.student][0][-1], teacher[match.teacher][0][-1])
            found[f"projection_{i}"] = {"kernel": jax.random.normal(rng.stream(key, "projection", i), shape) / jnp.sqrt(shape[0])}
    return found


def matched(
    i: int,
    match: Match,
    params: PyTree,
    batch: Batch,
    student: Mapping[str, jax.Array],
    teacher: Mapping[str, jax.Array],
    shapes: tuple[Shapes, Shapes],
) -> Term:
    """Returns the loss of pair number i, as a sum and its count. Raises UserError if two attentions differ in shape.

    Args:
        i: number of the pair.
        match: the pair.
        params: parameters with the pair's projection, if its kind is hidden.
        batch: the batch.
        student: the student's taps.
        teacher: the teacher's taps.
        shapes: tap shapes of the student and of the teacher.
    """
    ours, theirs = widened(student[match.student]), jax.lax.stop_gradient(widened(teacher[match.teacher]))
    if match.kind == "attention":
        ours, theirs = ours.mean(axis=1), theirs.mean(axis=1)  # [batch, query, key]
        if ours.shape != theirs.shape:
            raise UserError(f"the attentions {match.student} and {match.teacher} differ in shape: {ours.shape}, {theirs.shape}. {KEY}")
        each = (theirs * (jnp.log(theirs + 1e-9) - jnp.log(ours + 1e-9))).sum(axis=-1)
    else:
        rows = len(batch["weight"])
        ours, theirs = by_example(ours, rows, *shapes[0][match.student]), by_example(theirs, rows, *shapes[1][match.teacher])
        if ours.shape[1] != theirs.shape[1]:  # images of different sizes, or a state and a sequence
            ours, theirs = (_mean(array, batch)[:, None] for array in (ours, theirs))
        projected = ours @ params[f"projection_{i}"]["kernel"]
        each = jnp.square(projected - theirs).mean(axis=-1)
    weights = places(batch, each.shape[1]) * batch["weight"][:, None]
    return (each * weights).sum(), weights.sum()


def by_example(tap: jax.Array, rows: int, once: tuple[int, ...], twice: tuple[int, ...]) -> Float[Array, "rows places features"]:
    """Arranges a tap by example, with its tokens or pixels in order, or a single position.

    Args:
        tap: the activations.
        rows: batch size.
        once: shape of the tap for the batch.
        twice: shape of the tap for a batch twice as large.
    """
    axis = next(i for i, (one, two) in enumerate(zip(once, twice, strict=True)) if one != two)
    return jnp.moveaxis(tap, axis, 0).reshape(rows, -1, tap.shape[-1])


def places(batch: Batch, count: int) -> Float[Array, "batch count"]:
    """Returns 1 for positions of real tokens, 0 for padding."""
    rows = len(batch["weight"])
    if "length" in batch and batch["inputs"].ndim == 2 and batch["inputs"].shape[1] == count:
        return (jnp.arange(count)[None, :] < batch["length"][:, None]).astype(jnp.float32)
    if "mask" in batch and batch["mask"].shape[1] == count:
        return batch["mask"].astype(jnp.float32)
    return jnp.ones((rows, count))


def _mean(array: Float[Array, "batch places features"], batch: Batch) -> Float[Array, "batch features"]:
    weights = places(batch, array.shape[1])[:, :, None]
    return (array * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1.0)
