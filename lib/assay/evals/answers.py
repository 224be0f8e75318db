"""Answers of a model to new inputs: the most likely class and the probability of each, a list of labels, a number, or tokens.

for answer in answers(model, params, task, ["a text", "another"]): ...
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.data.loader import encoded
from assay.evals.evaluate import answered
from assay.models.model import Batch, Model
from assay.tasks.task import Task

END = "END"  # class that ends an answer
Inputs = Sequence[Any] | np.ndarray | Mapping[str, Any]  # texts, or what else a task makes examples of


def answers(model: Model, params: PyTree, task: Task, inputs: Inputs, batch_size: int = 256) -> Iterator[dict[str, Any]]:
    """Yields an answer for each input, in order. Only texts are repeated in it.

    A classifier answers {id, text, label, probabilities}; the label is None where the probabilities are not finite. Any other model answers
    {id, text, prediction}: a number, a list of labels, or for a text the tokens of the answer, up to END; None where its logits are not
    finite.

    Inputs are texts, rows of a table as mappings, or whatever else the task makes examples of. Fills up the last batch, so that only one
    shape is compiled. Raises UserError if the task cannot make examples of inputs.
    """
    if task.asked is None and task.examples is None:
        raise no_examples(task)
    if not len(inputs):
        return
    size, batch_of = _batches(task, inputs)
    listed = inputs if isinstance(inputs, list) else []

    @jax.jit
    def logits(params: PyTree, batch: Batch) -> jax.Array:
        found = answered(model, params, task, batch).logits
        return jax.nn.softmax(found, axis=-1) if task.classes and found.ndim == 2 else found

    rows = min(batch_size, size)
    for start in range(0, size, rows):
        chosen = np.arange(start, min(start + rows, size))
        batch = batch_of(np.resize(chosen, rows))
        found = np.asarray(logits(params, batch))
        for place, (i, row) in enumerate(zip(chosen.tolist(), found, strict=False)):
            text = {"text": listed[i]} if listed and isinstance(listed[i], str) else {}
            known = bool(np.isfinite(row).all())
            if row.ndim > 1:  # an answer at each token
                read = {name: array[place] for name, array in batch.items()}
                prediction = task.read(np.asarray(task.answer(row)), read) if known else None
                yield {"id": i, **text, "prediction": _written(prediction, task) if text else prediction}
            elif task.classes:
                shares = {str(name): round(float(share), 6) for name, share in zip(task.classes, row, strict=True)}
                label = str(task.classes[int(row.argmax())]) if known else None
                yield {"id": i, **text, "label": label, "probabilities": shares}
            else:
                yield {"id": i, **text, "prediction": task.read(np.asarray(task.answer(row)), {}) if known else None}


def no_examples(task: Task, what: str = "the run") -> UserError:
    """Returns the error for a task that cannot make examples of new inputs; `what` was trained on it."""
    return UserError(
        f"{what} was trained on {task.name}, which does not make examples of new inputs (Task.examples); predict answers "
        "texts, rows, pictures and tokens."
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _written(prediction: Any, task: Task) -> Any:
    """Returns class ids as a text: their names up to END, with spaces between them unless each is one character."""
    if not isinstance(prediction, list):
        return prediction
    names = [str(task.classes[one]) if task.classes else str(one) for one in prediction]
    names = names[: names.index(END)] if END in names else names
    return ("" if all(len(name) == 1 for name in names) else " ").join(names)


def _batches(task: Task, inputs: Inputs) -> tuple[int, Callable[[np.ndarray], Mapping[str, Any]]]:
    """Returns the number of inputs, and a function from indices to their batch."""
    if task.asked is not None:
        source = task.asked(inputs)
        assert source.size is not None
        width = task.width(source.lengths[1])
        return source.size, lambda rows: encoded(source, rows, task.encode, width)[1]
    assert task.examples is not None
    examples = task.examples([*inputs])
    width = task.width(int(examples.length.max()))
    return len(inputs), lambda rows: task.encode(type(examples)(*(part[rows] for part in examples)), width)
