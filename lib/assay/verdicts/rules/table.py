"""The table of rules that suggest treatments from a diagnosis. Each is a pure function of rows and facts.

A rule estimates the potential gain in score, and lists remedies, the best first, each with the minimum change of a row that it predicts.
Thresholds stand beside their rules, with their reasons.
"""

from collections.abc import Mapping

from assay.verdicts.rules import cost, generalization, learning
from assay.verdicts.rules.rule import Rule

FIRST = ("exploding gradients", "vanishing gradients", "not learnt")  # if a task is not learned, the others mean nothing yet
RULES: Mapping[str, Rule] = {
    "exploding gradients": learning.exploding_gradients,
    "vanishing gradients": learning.vanishing_gradients,
    "not learnt": learning.not_learnt,
    "spurious colour": generalization.spurious_colour,
    "over-fitting": generalization.over_fitting,
    "longer inputs": generalization.longer_inputs,
    "under-trained": learning.under_trained,
    "brittle": generalization.brittle,
    "needlessly wide": cost.needlessly_wide,
    "miscalibrated": generalization.miscalibrated,
    "large": cost.large,
    "noisy end": learning.noisy_end,
}
