"""Treatments at the settings of a run: dropout, early stopping on `valid`, a larger model, more updates.

--config.treatments=dropout:rate=0.3                          config.model.dropout, for any family that has one
--config.treatments=early_stopping:patience=5,every=100       stops after 5 validations without improvement, and keeps the best
--config.treatments=larger:times=2                            twice the width, or filters, of the model
assay treat --treat=longer:steps=2000                         trains a finished run further, or with another rate: longer:rate=0.01
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from assay.core.errors import Inapplicable
from assay.train.treatment import Choices, Treatment
from assay.treatments.option import check

WIDTHS = ("width", "embedding", "mlp", "dense")  # keys of a family


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


def larger(times: int = 2) -> Treatment:
    """Returns the treatment that widens the model. As a stage of `assay treat`, it trains from scratch, as long as the run.

    Args:
        times: factor of the width, at least 2. A model without hidden layers gets one.
    """
    check(times >= 2, "larger", "times", times, "a whole number of at least 2")

    def settings(train: Any, model: Mapping[str, Any]) -> Choices:
        found = {key: model[key] * times for key in WIDTHS if model.get(key)}
        if "filters" in model:
            found["filters"] = [filters * times for filters in model["filters"]]
        if not found:
            raise Inapplicable(f"does not apply: the family {model.get('name')!r} has no width. Remove it from --config.treatments.")
        depth = {"depth": 1} if model.get("depth") == 0 else {}
        return train, {**model, **found, **depth}

    return Treatment(settings=settings, name="larger")


def longer() -> Treatment:
    """Returns the treatment that changes nothing: as a stage of `assay treat`, its `steps` and `rate` train the run further."""

    def settings(train: Any, model: Mapping[str, Any]) -> Choices:
        _check_trained(train, "longer")
        return train, model

    return Treatment(settings=settings, name="longer")


def early_stopping(patience: int = 5, every: int = 100) -> Treatment:
    """Returns the early-stopping treatment: the parameters of the best validation answer.

    Args:
        patience: validations without improvement before training stops.
        every: steps between validations.
    """
    check(patience >= 1, "early_stopping", "patience", patience, "a number of validations, at least 1")
    check(every >= 1, "early_stopping", "every", every, "a number of steps, at least 1")

    def settings(train: Any, model: Mapping[str, Any]) -> Choices:
        _check_trained(train, "early_stopping")
        return replace(train, patience=patience, validate_every=min(every, train.steps)), model

    return Treatment(settings=settings, name="early_stopping")


# -- private --------------------------------------------------------------------------------------------------------------


def _check_trained(train: Any, name: str) -> None:
    """Raises Inapplicable if a run takes no steps."""
    if not train.steps:
        raise Inapplicable(f"does not apply: the run takes no training steps. Remove {name} from --config.treatments.")
