"""Several labels per example, each of them true or false: the score of independent sigmoids."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from assay.core.tree import widened
from assay.models.model import Batch, Output

METRICS = ("exact_match", "label_accuracy", "f1_labels")


def score_labels(output: Output, batch: Batch) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
    """Computes the binary cross-entropy of each example in nats, averaged over its labels.

    Logits and `batch["targets"]`, 1 or 0: float [batch, labels]. A label is predicted where its logit is above 0.
    `exact_match`: whether all labels are correct; `label_accuracy`: the share of correct labels; `jaccard`: labels that are both true and
    predicted, over those that are either (1 if there are none).
    """
    logits, targets = widened(output.logits), batch["targets"]
    loss = jax.nn.softplus(logits) - logits * targets  # -log sigmoid, without overflow
    predicted, present = logits > 0, targets > 0
    right = (predicted == present).astype(jnp.float32)
    both, either = (predicted & present).sum(axis=1), (predicted | present).sum(axis=1)
    jaccard = jnp.where(either > 0, both / jnp.maximum(either, 1), 1.0)
    metrics = {"exact_match": right.min(axis=1), "label_accuracy": right.mean(axis=1), "jaccard": jaccard}
    return loss.mean(axis=1), batch["weight"], metrics
