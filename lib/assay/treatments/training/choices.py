"""Treatments at the settings of a run: dropout, and early stopping on `valid`.

--config.treatments=dropout:rate=0.3                          config.model.dropout, for any family that has one
--config.treatments=early_stopping:patience=5,every=100       stops after 5 validations without improvement, and keeps the best
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from assay.core.errors import Inapplicable
from assay.train.treatment import Choices, Treatment
from assay.treatments.option import check


def dropout(rate: float = 0.3) -> Treatment:
    """Returns the dropout treatment (Srivastava et al. 2014).

    Args:
        rate: fraction of features dropped in training, in [0, 1).
    """
    check(0 <= rate < 1, "dropout", "rate", rate, "a fraction in [0, 1)")

    def settings(train: Any, model: Mapping[str, Any]) -> Choices:
        if "dropout" not in model:
            raise Inapplicable(f"does not apply: the family {model.get('name')!r} has no dropout. Remove it from --config.treatments.")
        return train, {**model, "dropout": rate}

    return Treatment(settings=settings, name="dropout")


def early_stopping(patience: int = 5, every: int = 100) -> Treatment:
    """Returns the early-stopping treatment: the parameters of the best validation answer.

    Args:
        patience: validations without improvement before training stops.
        every: steps between validations.
    """
    check(patience >= 1, "early_stopping", "patience", patience, "a number of validations, at least 1")
    check(every >= 1, "early_stopping", "every", every, "a number of steps, at least 1")

    def settings(train: Any, model: Mapping[str, Any]) -> Choices:
        if not train.steps:
            raise Inapplicable("does not apply: the run takes no training steps. Remove early_stopping from --config.treatments.")
        return replace(train, patience=patience, validate_every=min(every, train.steps)), model

    return Treatment(settings=settings, name="early_stopping")
