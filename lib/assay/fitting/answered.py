"""Answers of the simple learner to new rows. It is fitted again on the training rows, to the same answers: a run holds parameters only."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from assay.fitting.simple import matrices, predictions, shifted
from assay.tasks.files.opened import Opened
from assay.tasks.files.rows import asked
from assay.tasks.task import Task

ASKED = "asked"  # the part of new rows


def answers(found: Opened, task: Task, rows: Sequence[Any], cut: str = "") -> Iterator[dict[str, Any]]:
    """Yields an answer for each row as a model gives it: {id, text, label, probabilities}, or {id, text, prediction}.

    Args:
      found: the data set.
      task: its task, which reads pictures.
      rows: texts, mappings from columns to cells, or pictures.
      cut: the metric of the decision threshold, as for `simple`.

    Raises UserError for rows that the task cannot read.
    """
    if not len(rows):
        return
    if found.roles.pictures:
        assert task.examples is not None
        new = task.examples([*rows]).input
        inputs = {**matrices(found, task), ASKED: new.reshape(len(new), -1).astype(np.float32) / 255}
    else:
        inputs = matrices(found._replace(parts={**found.parts, ASKED: asked(rows, found.roles)}), task)
    predicted, shift, _ = predictions(found, inputs, cut)
    for number, (row, one) in enumerate(zip(rows, predicted[ASKED], strict=True)):
        text = {"text": row} if isinstance(row, str) and not found.roles.pictures else {}
        if found.roles.kind == "number":
            yield {"id": number, **text, "prediction": float(one)}
        elif found.roles.kind == "labels":
            yield {"id": number, **text, "prediction": [name for name, share in zip(found.classes, one, strict=True) if share > 0.5]}
        else:
            shares = np.exp(shifted(one[None], shift)[0])
            told = {str(name): round(float(share), 6) for name, share in zip(found.classes, shares, strict=True)}
            yield {"id": number, **text, "label": str(found.classes[int(shares.argmax())]), "probabilities": told}
