"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599): divides the logits of a trained classifier by one number, fitted on `valid`.

    assay treat --from=runs/A --treat=calibrate --workdir=runs/B
    assay train --config=... --config.treatments=calibrate --workdir=runs/A

Answers do not change, only how sure they are. The temperature minimizes the cross-entropy of `valid`, with a standard normal prior of
its logarithm: where few examples are all right, their likelihood alone would make the model sure of everything. It is the parameter
`temperature` of the model: 1 in training, and fitted again at the end of each run or stage.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar

from assay.core.errors import Inapplicable, UserError
from assay.core.tree import PyTree, widened
from assay.data.loader import bucket_ends, bucket_of, encoded
from assay.models.model import Batch, Decode, Model, Output
from assay.tasks.evidence import of_numbers
from assay.tasks.task import Task
from assay.train.treatment import Fitted, Treatment
from assay.treatments.option import check

NAME = "temperature"
NUMBERS = "does not apply: the answers are numbers, which have no temperature."
ROWS, BUCKETS = 64, 4  # examples per batch; number of padded lengths
WIDEST = 6.0  # of the logarithm: temperatures from 1/400 to 400

Change = Callable[[jax.Array, jax.Array], jax.Array]  # (logits, the number) -> logits


def calibrate(examples: int = 4096) -> Treatment:
    """Returns the temperature-scaling treatment.

    Args:
        examples: largest number of examples of `valid` to fit the temperature on.
    """
    check(examples >= 1, "calibrate", "examples", examples, "a number of examples, at least 1")
    fit = partial(fitted, examples=examples)
    return Treatment(task=_of_classes, model=tempered, fitted={NAME: Fitted(1.0, fit)}, frozen=f"(^|/){NAME}$", name="calibrate")


def tempered(model: Model, params: PyTree) -> tuple[Model, PyTree]:
    """Returns the model that divides its logits by `params["temperature"]`, which starts at 1."""
    return changed_by(model, params, NAME, 1.0, lambda logits, temperature: logits / temperature)


def changed_by(model: Model, params: PyTree, name: str, neutral: float, change: Change) -> tuple[Model, PyTree]:
    """Returns the model whose logits are `change(logits, params[name])`; the number starts at `neutral`."""
    if not isinstance(params, Mapping) or model.fit is not None:
        raise Inapplicable(
            "does not apply: the model is fitted by counting" if model.fit else "does not apply: the parameters have no names"
        )
    if name in params:
        raise Inapplicable(f"does not apply: the model has a {name} already.")

    def own(params: PyTree) -> tuple[PyTree, jax.Array]:
        return {key: part for key, part in params.items() if key != name}, params[name]

    def apply(params: PyTree, batch: Batch, **keywords: Any) -> Output:
        rest, number = own(params)
        output = model.apply(rest, batch, **keywords)
        return output._replace(logits=jax.tree.map(lambda logits: change(widened(logits), number), output.logits))

    decode = None
    if model.decode is not None:
        inner = model.decode

        def extend(params: PyTree, cache: PyTree, tokens: jax.Array) -> tuple[jax.Array, PyTree]:
            rest, number = own(params)
            logits, cache = inner.extend(rest, cache, tokens)
            return change(widened(logits), number), cache

        decode = Decode(lambda params, batch, most: inner.init_cache(own(params)[0], batch, most), extend)
    return replace(model, apply=apply, decode=decode, remake=None), {**params, name: jnp.full((), neutral, jnp.float32)}


def fitted(model: Model, params: PyTree, task: Task, examples: int) -> float:
    """Returns the most probable temperature given `valid`. Raises Inapplicable if answers are not classes."""
    apply = jax.jit(lambda params, batch: model.apply(params, batch).logits)
    read = [(batch, apply(params, batch)) for batch in validation(task, examples)]
    if not all(np.issubdtype(batch["targets"].dtype, np.integer) for batch, _ in read):
        raise Inapplicable(NUMBERS)

    @jax.jit
    def total(log: jax.Array, batch: Batch, logits: PyTree) -> tuple[jax.Array, jax.Array]:
        loss, weight, _ = task.score(Output(jax.tree.map(lambda one: widened(one) * jnp.exp(-log), logits), {}), batch)
        return (loss * weight).sum(), weight.sum()

    def mean(log: float) -> float:
        sums = np.array([total(jnp.float32(log), batch, logits) for batch, logits in read], np.float64).sum(axis=0)
        return float((sums[0] + log**2 / 2) / max(sums[1], 1.0))

    found = minimize_scalar(mean, bounds=(-WIDEST, WIDEST), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x))


def validation(task: Task, examples: int) -> Iterator[dict[str, Any]]:
    """Yields up to `examples` examples of `valid`, evenly spread over its lengths, each once, in batches of ROWS.

    Raises Inapplicable if the task has no such split.
    """
    try:
        source = task.source("valid")
    except UserError:
        raise Inapplicable(f"does not apply: {task.name} has no split `valid` to fit on.") from None
    every = source.indices(-(-examples // (source.lengths[1] - source.lengths[0] + 1)))
    chosen = every[np.linspace(0, len(every) - 1, min(examples, len(every))).round().astype(int)]
    ends = bucket_ends(source.lengths, BUCKETS)
    for start in range(0, len(chosen), ROWS):
        part = chosen[start : start + ROWS]
        end = bucket_of(int(source.length_of(part).max()), ends)
        _, batch = encoded(source, np.resize(part, ROWS), task.encode, task.width(end))
        yield {**batch, "weight": batch["weight"] * (np.arange(ROWS) < len(part))}


# -- private --------------------------------------------------------------------------------------------------------------


def _of_classes(task: Task) -> Task:
    if task.evidence is of_numbers:
        raise Inapplicable(NUMBERS)
    return task
