"""The scalar that an explanation explains: how much a model's output speaks for an answer, one number for each example.

    evidence = task.evidence(output, batch)                                  # the predicted class less the mean of the others
    target = predicted(model.apply(params, batch))                           # fixed once, before inputs are changed
    task.evidence(output, batch, target, against=ODDS)                       # log-odds of that class
    task.evidence(output, batch, target=3, against=5)                        # difference of two logits

Logits and not probabilities: a probability saturates, so its gradient vanishes and rankings are decided by rounding. An answer of several
tokens is the sum over the asked positions (`batch["mask"]`), the true tokens before each given; a mask of one position explains that token.
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

Classes = int | jax.Array | None  # one for all, [examples], or [examples, positions]; None: the predicted one
Evidence = Callable[..., jax.Array]  # (output, batch, target=None, against=None, head="") -> float32 [examples]


def of_classes(output: Output, batch: Batch, target: Classes = None, against: Classes | str = None, head: str = "") -> jax.Array:
    """Evidence for a class, float32 [examples]: its logit less what `against` names, summed over the asked positions.

    Args:
      output: logits [examples, classes], [examples, positions, classes], or one such array for each head by name.
      batch: `mask` [examples, positions] says which positions are asked; there is none where one answer is given for the whole input.
      target: the class explained. Fix it (`predicted`) where inputs change: the predicted class may change with them.
      against: None or MEAN, the mean of the other logits, which with two classes is the log-odds; ODDS, log p / (1 - p); NOTHING; or a
        class, in the forms of `target`.
      head: the head that is explained, where there are several.

    Raises UserError for an unknown head, or an `against` that is none of these.
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
    """Evidence of a regression: the output itself, as the model gives it, float32 [examples].

    `target`: which output, where there are several; `against`: another, whose value is taken off. Raises UserError where it must be named.
    """
    del batch
    logits = widened(_of_head(output.logits, head))
    if target is None and logits.shape[-1] > 1:
        raise UserError(f"the model answers with {logits.shape[-1]} numbers: give target, the place of the one that is explained.")
    if isinstance(against, str):
        raise UserError(f"against={against!r} names classes; of a regression give the place of another output, or None.")
    own = _taken(logits, 0 if target is None else target)
    return own if against is None else own - _taken(logits, against)


def of_members(members: Mapping[str, Evidence]) -> Evidence:
    """Evidence of several tasks in one batch: of each example on the head of its own task, `batch["member"]`, or of all on `head`."""
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
    """The likeliest class, int32 [examples] or [examples, positions]: the target to hold fixed while inputs change."""
    return _of_head(output.logits, head).argmax(axis=-1)


# -- private --------------------------------------------------------------------------------------------------------------


def _of_head(logits: Any, head: str) -> jax.Array:
    if isinstance(logits, Mapping):
        if head not in logits:
            raise unknown("head", head, logits, "the argument `head`")
        return logits[head]
    if head:
        raise UserError(f"the model has one head, and {head!r} is none. Leave the argument `head` out.")
    return logits


def _spread(logits: jax.Array, classes: int | jax.Array) -> jax.Array:
    """A class for each answer: one for all, one for each example, or as given."""
    classes = jnp.asarray(classes, jnp.int32)
    return jnp.broadcast_to(classes.reshape(classes.shape + (1,) * (logits.ndim - 1 - classes.ndim)), logits.shape[:-1])


def _taken(logits: jax.Array, classes: int | jax.Array) -> jax.Array:
    return jnp.take_along_axis(logits, _spread(logits, classes)[..., None], axis=-1)[..., 0]
