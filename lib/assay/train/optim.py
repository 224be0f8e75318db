"""Optimizers and schedules by name, from optax. Gradients are clipped first; a path regex selects the parameters that are decayed.

A named rule turns a gradient into a direction; the learning rate is applied once, after it. The update size of adam, adamw, muon and lion
is about one learning rate per parameter, whatever the gradient's size. It is 0.2 to 0.4 of the rate for muon and exactly the rate for lion.
Set lion's rate to a third to a tenth of Adam's. The learning rate of adafactor is relative to the size of the parameter.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import optax
import optax.contrib

from assay.config.schema import LAST_STEP, require
from assay.core.errors import UserError, unknown
from assay.core.tree import PyTree, map_with_path, select

MATRICES = re.compile(r"(?<!/head)/(kernel|recurrent)$")  # Muon applies to hidden matrices only, not to embeddings or the output layer


@dataclass(frozen=True)
class OptimizerConfig:
    name: str  # a name in OPTIMIZERS
    learning_rate: float  # peak learning rate
    schedule: str  # a name in SCHEDULES
    warmup_steps: int  # steps of linear warmup from 0
    decay_steps: int  # steps until the decay ends, warmup included; 0 means train.steps
    weight_decay: float  # decoupled weight decay, multiplied by the learning rate
    decay_paths: str  # regex of the parameter paths to decay
    clip_norm: float  # gradients are clipped to this global norm; 0 disables clipping

    def __post_init__(self):
        if self.name not in OPTIMIZERS:
            raise unknown("optimizer", self.name, OPTIMIZERS, "--config.optimizer.name")
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES, "--config.optimizer.schedule")
        try:
            re.compile(self.decay_paths)
        except (re.error, RecursionError, OverflowError) as error:
            raise UserError(f"config.optimizer.decay_paths={self.decay_paths!r} is not a valid regular expression: {error}.") from None
        require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "it must be above 0")
        for name in ("warmup_steps", "decay_steps", "weight_decay", "clip_norm"):
            require(getattr(self, name) >= 0, f"optimizer.{name}", getattr(self, name), "it must be at least 0")
        for name in ("warmup_steps", "decay_steps"):
            require(getattr(self, name) <= LAST_STEP, f"optimizer.{name}", getattr(self, name), f"it must be at most {LAST_STEP:,}")


def check_schedule(config: OptimizerConfig) -> None:
    """Raises UserError if a schedule has decayed to 0 before its warmup ends. Called before training; a finished run may be read."""
    if config.decay_steps and config.schedule not in ENDLESS and config.warmup_steps >= config.decay_steps:
        raise UserError(
            f"config.optimizer.warmup_steps={config.warmup_steps} leaves no steps for the {config.schedule} decay, which ends at step "
            f"config.optimizer.decay_steps={config.decay_steps}, warmup included: the rate would be 0 from then on. Lower warmup_steps, "
            "or raise decay_steps."
        )


def adafactor() -> optax.GradientTransformation:
    """Adafactor without momentum (Shazeer and Stern 2018, arXiv 1804.04235).

    Second moments of large matrices are factored by row and column; updates scale with the parameter's size.
    """
    return optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0), optax.scale_by_param_block_rms())


def muon() -> optax.GradientTransformation:
    """Orthogonalized momentum for hidden matrices (Jordan et al. 2024); all other parameters are updated as by adamw.

    Updates are scaled to the size of Adam's by 0.2 sqrt(max(rows, columns)) (Liu et al. 2025, arXiv 2502.16982), so that one learning
    rate fits both.
    """

    def rule(path: str, leaf: Any) -> str:
        return "muon" if leaf.ndim == 2 and MATRICES.search(path) else "adam"

    def resized(updates: PyTree, params: PyTree) -> PyTree:
        del params
        return jax.tree.map(lambda leaf: 0.2 * max(leaf.shape) ** 0.5 * leaf, updates)

    def rows_and_columns(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: optax.contrib.MuonDimensionNumbers(), tree)

    orthogonal = optax.contrib.scale_by_muon(weight_dimension_numbers=rows_and_columns)
    rules = {"muon": optax.chain(orthogonal, optax.stateless(resized)), "adam": optax.scale_by_adam(b2=0.95)}
    return optax.partition(rules, lambda params: map_with_path(rule, params))


OPTIMIZERS: Mapping[str, Callable[[], optax.GradientTransformation]] = {
    "sgd": optax.identity,
    "momentum": lambda: optax.trace(decay=0.9),
    "adam": lambda: optax.scale_by_adam(),
    "adamw": lambda: optax.scale_by_adam(b2=0.95),  # b2 as usual for language models; decay is set by optimizer.weight_decay
    "adagrad": lambda: optax.scale_by_rss(),
    "adafactor": adafactor,
    "lion": lambda: optax.scale_by_lion(),  # Chen et al. 2023 (arXiv 2302.06675): the sign of a moving average of gradients
    "muon": muon,
}
SCHEDULES: Mapping[str, Callable[[float, int], optax.Schedule]] = {
    "constant": lambda peak, steps: optax.constant_schedule(peak),
    "cosine": lambda peak, steps: optax.cosine_decay_schedule(peak, steps),
    "linear": lambda peak, steps: optax.linear_schedule(peak, 0.0, steps),
}
ENDLESS = ("constant",)  # schedules that do not depend on the number of steps


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Returns step -> learning rate: linear warmup, then the named schedule over the remaining steps."""
    total = config.decay_steps or steps
    main = SCHEDULES[config.schedule](config.learning_rate, max(total - config.warmup_steps, 1))
    if not config.warmup_steps:
        return main
    rise = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return optax.join_schedules([rise, main], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Chains gradient clipping, the named rule, weight decay and the learning rate, in this order."""
    parts = [OPTIMIZERS[config.name]()]
    if config.clip_norm:
        parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=lambda params: select(params, config.decay_paths)))
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule))
