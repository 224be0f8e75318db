"""Class weights: examples of rare classes weigh more in the loss, so that each class has the same total weight.

    weight of an example = (n / (classes * n_class)) ** power               --config.treatments=balance

Evaluation is unchanged. The gain is in metrics that weigh classes alike (f1_macro); accuracy and calibration may fall, because the model
then overestimates rare classes. `power` 0.5 is halfway.
"""

from functools import partial

import numpy as np

from assay.core.errors import Inapplicable
from assay.data.loader import Drawn, Sample, drawn
from assay.data.source import Source, row_of
from assay.train.treatment import Treatment
from assay.treatments.option import check


def balance(power: float = 1.0) -> Treatment:
    """Returns the treatment that weighs examples by the inverse frequency of their class.

    Args:
        power: exponent of the weights, in (0, 1].
    """
    check(0 < power <= 1, "balance", "power", power, "it lies above 0 and at most at 1")
    return Treatment(sample=partial(balanced, power=power), name="balance")


def balanced(sample: Sample, source: Source, power: float) -> Sample:
    """Returns the sample with weights by class. Raises Inapplicable if the training split has no classes."""
    if source.labels is None or source.size is None:
        raise Inapplicable("does not apply: the training examples have no classes. Remove balance from --config.treatments.")
    labels, size = source.labels(), source.size
    counts = np.bincount(labels[labels >= 0])
    rare = np.where(counts > 0, (labels >= 0).sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0) ** power
    by_row = np.where(labels >= 0, rare[np.maximum(labels, 0)], 1.0).astype(np.float32)  # without a label: as it was

    def weighed(step: int) -> Drawn:
        found = drawn(sample(step))
        weight = by_row[row_of(found.indices, size)]
        return found._replace(weight=weight if found.weight is None else weight * found.weight)

    return weighed
