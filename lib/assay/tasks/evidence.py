"""Scalar that an explanation explains: the model's evidence for an answer, one number per example.

    evidence = task.evidence(output, batch)                                  # predicted class minus the mean of the others
    target = predicted(model.apply(params, batch))                           # fixed once, before inputs are changed
    task.evidence(output, batch, target, against=ODDS)                       # log-odds of that class
    task.evidence(output, batch, target=3, against=5)                        # difference of two logits

Evidence uses logits, not probabilities: a probability saturates, so its gradient vanishes and rankings depend on rounding. For an answer of
several tokens, evidence is summed over the answer positions (`batch["mask"]`) under teacher forcing; a mask with one position explains that
token.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from assay.core.errors import UserError, unknown
from assay.core.tree import widened
from assay.models.model import Batch, Output

MEAN, ODDS, NOTHING = "mean", "odds", "nothing"
AGAINST = (MEAN, ODDS, NOTHING)  # the mean of the other logits, their log-sum-exp (log-odds), or nothing (the logit itself)

Classes = int | jax.Array | None  # one for all, [examples], or [examples, positions]; None: the predicted class
Evidence = Callable[..., jax.Array]  # (output, batch, target=None, against=None, head="") -> float32 [examples]


def of_classes(output: Output, batch: Batch, target: Classes = None, against: Classes | str = None, head: str = "") -> jax.Array:
    """Returns evidence for a class, float32 [examples]: its logit minus the reference in `against`, summed over the answer positions.

    Args:
      output: logits [examples, classes], [examples, positions, classes], or one such array per head by name.
      batch: `mask` [examples, positions] marks the answer positions; absent if one answer covers the whole input.
      target: the class to explain. Fix it (`predicted`) when inputs change, because the predicted class may change with them.
      against: None or MEAN for the mean of the other logits, which with two classes is the log-odds; ODDS for log p / (1 - p); NOTHING; or
        a class, in the forms of `target`.
      head: the head to explain, if there are several.

    Raises UserError for an unknown head or an invalid `against`.
    """
    logits = widened(_of_head(output.logits, head))
    target = logits.argmax(axis=-1) if target is None else target
    own = _taken(logits, target)
    if isinstance(against, str | None):
        if (against or MEAN) not in AGAINST:
            raise unknown("against", str(against), AGAINST, "the argument `against` (or give a class)")
        others = logits.shape[-1] - 1
        if against == NOTHING or not others:
            value = own
        elif against == ODDS:
            is_own = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1) == _spread(logits, target)[..., None]
            value = own - jax.nn.logsumexp(jnp.where(is_own, -jnp.inf, logits), axis=-1)
        else:
            value = own - (logits.sum(axis=-1) - own) / others
    else:
        value = own - _taken(logits, against)
    if value.ndim == 1:
        return value
    return jnp.where(batch["mask"] > 0, value, 0.0).sum(axis=1)


def of_numbers(output: Output, batch: Batch, target: Classes = None, against: Classes | str = None, head: str = "") -> jax.Array:
    """Returns evidence of a regression: the raw model output, float32 [examples].

    `target` selects an output if there are several; `against` names another output to subtract. Raises UserError if a required one is
    missing.
    """
    del batch
    logits = widened(_of_head(output.logits, head))
    if target is None and logits.shape[-1] > 1:
        raise UserError(f"the model answers with {logits.shape[-1]} numbers: pass target, the index of the one to explain.")
    if isinstance(against, str):
        raise UserError(f"against={against!r} applies to classes; for a regression pass the index of another output, or None.")
    own = _taken(logits, 0 if target is None else target)
    return own if against is None else own - _taken(logits, against)


def of_members(members: Mapping[str, Evidence]) -> Evidence:
    """Returns evidence for several tasks in one batch: each example uses the head of its task, `batch["member"]`, or all use `head`."""
    names = tuple(members)

    def evidence(output: Output, batch: Batch, target: Classes = None, against: Classes | str = None, head: str = "") -> jax.Array:
        if head and head not in names:
            raise unknown("head", head, names, "the argument `head`")
        each = [
            members[name](output._replace(logits=output.logits[name]), batch, target, against) for name in names if not head or name == head
        ]
        if head:
            return each[0]
        return jnp.stack([jnp.where(batch["member"] == number, one, 0.0) for number, one in enumerate(each)]).sum(axis=0)

    return evidence


def predicted(output: Output, head: str = "") -> jax.Array:
    """Returns the likeliest class, int32 [examples] or [examples, positions]: a fixed target for changing inputs."""
    return _of_head(output.logits, head).argmax(axis=-1)


# -- private --------------------------------------------------------------------------------------------------------------


def _of_head(logits: Any, head: str) -> jax.Array:
    if isinstance(logits, Mapping):
        if head not in logits:
            raise unknown("head", head, logits, "the argument `head`")
        return logits[head]
    if head:
        raise UserError(f"the model has a single head, so the head {head!r} does not exist. Omit the argument `head`.")
    return logits


def _spread(logits: jax.Array, classes: int | jax.Array) -> jax.Array:
    """Broadcasts classes to one per answer: one for all, one per example, or as given."""
    classes = jnp.asarray(classes, jnp.int32)
    return jnp.broadcast_to(classes.reshape(classes.shape + (1,) * (logits.ndim - 1 - classes.ndim)), logits.shape[:-1])


def _taken(logits: jax.Array, classes: int | jax.Array) -> jax.Array:
    return jnp.take_along_axis(logits, _spread(logits, classes)[..., None], axis=-1)[..., 0]
