"""Where to cut the margin between two classes: `shift_of(margins, second, "f1_macro")` is the number to add to it.

The cut that is best on some examples is better there than elsewhere, so it counts only if it gains more than a standard error or two.
"""

import numpy as np
from jaxtyping import Bool, Float

# metric -> standard errors that a gain exceeds; the accuracy of calibrated probabilities is best at 0 anyway
METRICS = {"accuracy": 2.0, "f1_macro": 1.0, "balanced_accuracy": 1.0}
CANDIDATES = 200  # cuts that are tried: between quantiles of the margins
RESAMPLES = 200  # of the standard error


def shift_of(margins: Float[np.ndarray, "n"], second: Bool[np.ndarray, "n"], metric: str, seed: int = 0) -> float:
    """Returns the number to add to margins [n] (logit of the second class - that of the first) that maximizes a metric, or 0.0.

    Args:
        margins: of each example.
        second: whether the second class is right, bool [n].
        metric: one of METRICS.
        seed: of the resamples.
    """
    if len(np.unique(second)) < 2 or not np.isfinite(margins).all():
        return 0.0
    ends = np.unique(np.quantile(margins, np.linspace(0, 1, CANDIDATES + 1)))
    cuts = np.append((ends[1:] + ends[:-1]) / 2, 0.0)
    cuts = cuts[np.argsort(np.abs(cuts), kind="stable")]  # of equal ones, that nearest to 0
    answers = margins[None, :] > cuts[:, None]
    values = _metric(answers, second, np.ones(len(second)), metric)
    best = int(np.argmax(values))
    drawn = np.random.default_rng(seed).multinomial(len(second), np.full(len(second), 1 / len(second)), RESAMPLES)
    gains = [float(np.diff(_metric(answers[[0, best]], second, weight, metric))[0]) for weight in drawn]
    return float(-cuts[best]) if values[best] - values[0] > METRICS[metric] * np.nanstd(gains) else 0.0


# -- private --------------------------------------------------------------------------------------------------------------


def _metric(answers: np.ndarray, second: np.ndarray, weight: np.ndarray, metric: str) -> np.ndarray:
    """Returns the metric of each row of answers, bool [rows, n]; `weight` [n] counts examples."""
    total, positive = weight.sum(), weight[second].sum()
    hit = answers[:, second] @ weight[second]  # true positives
    false = answers[:, ~second] @ weight[~second]
    right = total - positive - false  # true negatives
    if metric == "accuracy":
        return (hit + right) / total
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric == "balanced_accuracy":
            return (hit / positive + right / (total - positive)) / 2
        return (2 * hit / (hit + false + positive) + 2 * right / (right + total - hit - false + total - positive)) / 2
