"""Decision threshold of a classifier with two classes, chosen on `valid`: adds one number to the logit of the second class.

    assay treat --from=runs/A --treat=threshold:metric=f1_macro --workdir=runs/B

The number is where the metric of `valid` is highest, if it is higher there than at 0 by more than a standard error of the difference, or
two of them for accuracy; otherwise it is 0. The ranks of examples, and so AUROC, do not change; probabilities and their calibration do.
The number is the parameter `shift` of the model: 0 in training, and chosen again at the end of each run or stage.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import Inapplicable, unknown
from assay.core.tree import PyTree, widened
from assay.evals.cut import METRICS, shift_of
from assay.models.model import Model
from assay.tasks.task import Task
from assay.train.treatment import Fitted, Treatment
from assay.treatments.option import check
from assay.treatments.training.temperature import changed_by, validation

NAME = "shift"


def threshold(metric: str = "accuracy", examples: int = 4096) -> Treatment:
    """Returns the treatment that chooses a decision threshold.

    Args:
        metric: what to maximize: accuracy, f1_macro or balanced_accuracy (the mean of both classes' accuracies).
        examples: largest number of examples of `valid` to choose it on.
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS, "threshold:metric=...")
    check(examples >= 1, "threshold", "examples", examples, "a number of examples, at least 1")
    fit = partial(_fitted, metric=metric, examples=examples)
    return Treatment(task=_of_two, model=shifted, fitted={NAME: Fitted(0.0, fit)}, frozen=f"(^|/){NAME}$", name="threshold")


def shifted(model: Model, params: PyTree) -> tuple[Model, PyTree]:
    """Returns the model that adds `params["shift"]` to the logit of the second class, the last of two."""
    return changed_by(model, params, NAME, 0.0, lambda logits, shift: logits.at[..., 1].add(shift))


# -- private --------------------------------------------------------------------------------------------------------------


def _of_two(task: Task) -> Task:
    if len(task.classes) != 2:
        raise Inapplicable(f"does not apply: {task.name} has {len(task.classes) or 'no'} classes, and a threshold is between two.")
    return task


def _fitted(model: Model, params: PyTree, task: Task, metric: str, examples: int) -> float:
    apply = jax.jit(lambda params, batch: widened(model.apply(params, batch).logits))
    margins, second = list[np.ndarray](), list[np.ndarray]()
    for batch in validation(task, examples):
        logits = apply(params, batch)
        targets = np.asarray(batch["targets"])
        if logits.ndim != 2 or logits.shape[1] != 2 or targets.shape != logits.shape[:1] or not np.issubdtype(targets.dtype, np.integer):
            raise Inapplicable(f"does not apply: {task.name} does not have two classes.")
        here = np.asarray(batch["weight"]) > 0
        margins.append(np.asarray(jnp.subtract(logits[:, 1], logits[:, 0]))[here])
        second.append(targets[here] == 1)
    return shift_of(np.concatenate(margins).astype(np.float64), np.concatenate(second), metric)
