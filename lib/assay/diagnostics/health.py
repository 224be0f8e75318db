"""Optimisation health: gradients in every layer, active units, focused attention heads, and the effective rank of representations."""

import math
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from assay.core import rng
from assay.core.tree import PyTree, dtype_of, path_string, widened
from assay.diagnostics.long_range import attention
from assay.diagnostics.measurement import LOWER, Measurement, Plot, inapplicable, sample
from assay.diagnostics.subject import Subject
from assay.models.model import STATE, Batch, Model
from assay.tasks.task import Task

GROUP = "optimisation health"
BATCHES, ROWS = 16, 16  # batches of training examples and rows per batch, for gradients
BLOCK = re.compile(r"(?:^|/)((?:encoder/|decoder/)?block_\d+)(?:/|$)")
ACTIVE = re.compile(r"(mlp|hidden|dense|features)$")  # taps of unit activations
STATES = re.compile(r"(residual|hidden|dense|pooled|features)$")  # taps of representations
STILL = 1e-4  # fraction of the layer's mean deviation below which a unit counts as dead
MOST_STATES = 4096
LOGGED, BEFORE = 8, 5  # gradient norms required in the log, and preceding norms that each is compared with
HUGE = 1e9  # replaces a norm that is not finite


def gradients(subject: Subject) -> list[Measurement]:
    """Measures gradient norms of the task's loss on small batches of training examples, by block."""
    names = ("gradient_norm", "gradient_balance")
    if subject.model.opaque:
        return [inapplicable(GROUP, name, f"does not apply: {subject.model.opaque}.") for name in names]
    if subject.model.fit is not None or not _differentiable(subject.params):
        reason = "does not apply: the parameters are counts or rounded values without gradients."
        return [inapplicable(GROUP, name, reason) for name in names]
    split = "train" if "train" in subject.task.splits else subject.split
    batch = subject.first(BATCHES * ROWS, split)
    used = len(batch["weight"]) // BATCHES * BATCHES
    if used == 0:
        return [inapplicable(GROUP, name, f"does not apply: there are fewer than {BATCHES} training examples.") for name in names]
    order = np.random.default_rng(0).permutation(used)  # examples are sorted by length, but training batches are not
    program = _gradient_norms(subject.model, subject.task)
    parts = [{name: array[order[i::BATCHES]] for name, array in batch.items()} for i in range(BATCHES)]
    each = [jax.device_get(program(subject.params, part)) for part in parts]
    whole = np.array([math.sqrt(sum(float(value) ** 2 for value in norms.values())) for norms in each])
    blocks = sorted(each[0], key=_place)
    by_block = {name: float(np.median([norms[name] for norms in each])) for name in blocks}
    how = f"the gradient of the loss on {BATCHES} batches of {ROWS} training examples, without dropout"
    rows = [
        sample(
            GROUP,
            names[0],
            "mean",
            {"batches/norm": whole},
            how=f"norm of {how}",
            meaning=_spread(whole),
            margin=0.05,
            relative=True,
            plot=Plot("bar", list(range(len(blocks))), {"norm": [float(f"{by_block[name]:.4g}") for name in blocks]}, "", "norm", blocks),
        )
    ]
    numbered = [name for name in blocks if "block_" in name]
    if len(numbered) < 2:
        return [*rows, inapplicable(GROUP, names[1], "does not apply: fewer than two blocks were found in the parameters.")]
    first, last = numbered[0], numbered[-1]
    for name in (first, last):
        none = sum(float(norms[name]) == 0 for norms in each)
        if none:
            return [*rows, inapplicable(GROUP, names[1], f"not measured: {name} has no gradient in {none} of {BATCHES} batches.")]
    ratio = np.array([float(norms[first]) / float(norms[last]) for norms in each])
    return [
        *rows,
        sample(
            GROUP,
            names[1],
            "mean",
            {"batches/balance": np.log10(np.maximum(ratio, 1e-30))},
            unit="powers of ten",
            how=f"log10 of the norm of {first} over that of {last}, for {how}",
            meaning=f"The first block's gradient is {np.median(ratio):.3g} times the last block's; a ratio far below 1 indicates "
            "vanishing gradients, one far above 1 exploding gradients.",
            margin=0.05,
            plot=Plot(
                "line",
                list(range(1, BATCHES + 1)),
                {"balance": [round(float(value), 4) for value in np.log10(np.maximum(ratio, 1e-30))]},
                "batch",
                "powers of ten",
            ),
        ),
    ]


def largest_gradient(subject: Subject) -> list[Measurement]:
    """Measures the largest ratio of a training gradient norm to those just before it; shrinking gradients do not count."""
    name = "largest_gradient"
    logged = [
        (line["step"], line.get("unclipped_norm", line["grad_norm"])) for line in subject.history if line.get("grad_norm") is not None
    ]
    if len(logged) < LOGGED:
        return [inapplicable(GROUP, name, f"does not apply: no training record with {LOGGED} gradient norms was found (metrics.jsonl).")]
    steps, norms = [step for step, _ in logged], np.array([norm for _, norm in logged], float)
    norms = np.where(np.isfinite(norms), norms, HUGE)
    before = np.array([np.median(norms[max(0, i - BEFORE) : i]) for i in range(2, len(norms))])
    ratios = np.divide(norms[2:], before, out=np.zeros(len(before)), where=before > 0)  # without a baseline there is no ratio
    if not before.any():
        return [inapplicable(GROUP, name, "does not apply: the logged gradient norms are 0, so there is no baseline.")]
    worst, shown = int(ratios.argmax()) + 2, np.unique(np.linspace(0, len(norms) - 1, 60).round().astype(int))
    return [
        sample(
            GROUP,
            name,
            "largest",
            {f"{len(norms)} logged steps of {steps[-1]}/ratio": ratios},
            unit="times the baseline",
            how=f"the largest ratio of a logged gradient norm, before clipping, to its baseline, the median of the {BEFORE} logged before "
            "it; a maximum has no interval",
            meaning=f"At step {steps[worst]:,} the gradient norm was {ratios.max():.3g} times its recent baseline, at "
            f"{norms[worst]:.3g}; the median of all norms is {np.median(norms):.3g}.",
            better=LOWER,
            margin=0.05,
            relative=True,
            plot=Plot(
                "line", [steps[i] for i in shown], {"norm": [float(f"{norms[i]:.4g}") for i in shown]}, "step", "gradient norm (log)"
            ),
        )
    ]


def update_norm(subject: Subject) -> list[Measurement]:
    """Measures how far training moved each block from its initial parameters."""
    name = "update_norm"
    if subject.started is None:
        return [inapplicable(GROUP, name, "does not apply: the initial parameters are unknown.")]
    begun, params = _learned(subject.started()), _learned(subject.params)
    same = str(jax.tree.structure(begun)) == str(jax.tree.structure(params))
    if not same or not _differentiable(params):
        return [inapplicable(GROUP, name, "does not apply: the parameters have another structure than the initial ones, or no gradients.")]
    moved, there = (
        _by_block(jax.tree.map(lambda new, old: np.asarray(widened(new)) - np.asarray(widened(old)), params, begun)),
        _by_block(begun),
    )
    if not any(there.values()):
        return [inapplicable(GROUP, name, "does not apply: the initial parameters are all 0, so nothing is relative to them.")]
    share = {block: moved[block] / there[block] if there[block] else math.nan for block in moved}
    whole = math.sqrt(sum(value**2 for value in moved.values())) / math.sqrt(sum(value**2 for value in there.values()))
    return [
        Measurement(
            GROUP,
            name,
            whole,
            n=1,
            interval=(whole, whole),
            exact=True,
            how="distance of the parameters from their initial values, relative to the initial norm; a deterministic quantity",
            meaning=f"Training moved the parameters by {100 * whole:.3g} % of their norm.",
            margin=0.05,
            relative=True,
            plot=Plot(
                "bar",
                list(range(len(share))),
                {"moved": [float(f"{value:.4g}") for value in share.values()]},
                "",
                "share of the norm",
                list(share),
            ),
        )
    ]


def dead_units(subject: Subject) -> list[Measurement]:
    """Measures the fraction of hidden units with constant output over all examples."""
    name = "dead_units"
    layers = {path: _flat(value)[0] for path, value in subject.taps().items() if ACTIVE.search(path)}
    if not layers:
        return [inapplicable(GROUP, name, "does not apply: the model exposes no taps of hidden units.")]
    dead = {path: _still(values) for path, values in layers.items()}
    units = np.concatenate(list(dead.values()))
    return [
        sample(
            GROUP,
            name,
            "mean",
            {f"{len(units)} units of {len(layers)} layers/dead": units},
            unit="fraction",
            how=f"hidden units of {len(layers)} layers whose output deviates by less than {STILL:g} of their layer's mean deviation "
            f"over the examples of {subject.probe}; the interval is over units",
            meaning=f"{int(np.nansum(units))} of {len(units)} hidden units are dead: their output is constant.",
            better=LOWER,
            margin=0.05,
            plot=Plot(
                "bar",
                list(range(len(dead))),
                {"dead": [round(100 * float(value.mean()), 3) for value in dead.values()]},
                "",
                "dead (%)",
                list(dead),
            ),
        )
    ]


def attention_entropy(subject: Subject) -> list[Measurement]:
    """Measures how evenly heads attend: 1 is uniform attention over all tokens, 0 attention to a single token."""
    name = "attention_entropy"
    batch = subject.first(min(subject.examples, 64), subject.probe)
    if not subject.tokens or "length" not in batch:
        return [inapplicable(GROUP, name, "does not apply: the model reads no sequence of tokens.")]
    _, _, by_layer = attention(subject, batch)
    if not by_layer:
        return [inapplicable(GROUP, name, "does not apply: no attention weights were found in the model.")]
    each = np.mean(list(by_layer.values()), axis=0)
    split = f"{subject.probe}, {len(each)} examples"
    return [
        sample(
            GROUP,
            name,
            "mean",
            {f"{split}/entropy": each},
            {split: subject.groups(len(each), subject.probe)},
            unit="share of even attention",
            how="attention entropy relative to that of uniform attention over as many tokens, averaged over layers, heads and queries, on "
            f"{len(each)} examples of {subject.probe}",
            meaning=f"Attention entropy is {100 * each.mean():.0f} % of its maximum; near 0 % attention has collapsed onto single "
            "tokens, near 100 % it is uniform.",
            plot=Plot(
                "bar",
                list(range(len(by_layer))),
                {"entropy": [round(float(value.mean()), 4) for value in by_layer.values()]},
                "",
                "share",
                list(by_layer),
            ),
        )
    ]


def effective_rank(subject: Subject) -> list[Measurement]:
    """Measures the effective dimension of the last representation (Roy and Vetterli 2007)."""
    name = "effective_rank"
    states = {path: value for path, value in subject.taps().items() if STATES.search(path)}
    if not states:
        return [inapplicable(GROUP, name, "does not apply: the model exposes no taps of representations.")]
    path = list(states)[-1]
    values, example = _flat(states[path])
    bad = int((~np.isfinite(values).all(axis=1)).sum())
    if bad:
        return [inapplicable(GROUP, name, f"the value is not finite: {bad} of {len(values)} representations are not finite.")]
    if len(states[path]) < BATCHES:
        return [inapplicable(GROUP, name, "does not apply: there are too few examples.")]
    ranks = {path: rank(_flat(value)[0]) for path, value in states.items()}
    whole = ranks[path]
    without = np.array([rank(values[example % BATCHES != i]) for i in range(BATCHES)])
    pseudo = whole - (BATCHES - 1) * (without - without.mean())  # jackknife pseudo-values, centred on the estimate
    found = sample(GROUP, name, "mean", {"folds/rank": pseudo})
    width = values.shape[1]
    return [
        found._replace(
            value=whole,
            interval=found.interval if np.ptp(pseudo) else (whole, whole),
            unit="directions",
            how=f"exp of the entropy of the singular values of {path}, {len(values)} centred vectors of dimension {width}; "
            f"interval by jackknife over {BATCHES} parts of the examples (Roy and Vetterli 2007)",
            meaning=f"The representation has an effective rank of {whole:.1f} out of {width} dimensions ({100 * whole / width:.0f} %).",
            margin=0.05,
            relative=True,
            plot=Plot(
                "bar", list(range(len(ranks))), {"directions": [round(value, 3) for value in ranks.values()]}, "", "directions", list(ranks)
            ),
        )
    ]


def rank(values: np.ndarray) -> float:
    """Returns exp(entropy of the normalised singular values) of centred rows [n, width]; 0 if all are equal, NaN if one is not finite."""
    if not np.isfinite(values).all():
        return math.nan
    centred = values - values.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    if singular.sum() <= 1e-12:
        return 0.0
    share = singular / singular.sum()
    return float(np.exp(-(share * np.log(np.maximum(share, 1e-30))).sum()))


def parts_of(params: PyTree) -> dict[str, list[jax.Array]]:
    """Returns the leaves of each block in order; leaves outside blocks are grouped by the first part of their path."""
    found: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        found.setdefault(_block(path_string(path)), []).append(leaf)
    return {name: found[name] for name in sorted(found, key=_place)}


# -- private --------------------------------------------------------------------------------------------------------------


def _learned(params: PyTree) -> PyTree:
    """Returns the parameters without the model's own state, which has no gradients."""
    return {name: part for name, part in params.items() if name != STATE} if isinstance(params, Mapping) else params


def _differentiable(params: PyTree) -> bool:
    return all(jnp.issubdtype(dtype_of(leaf), jnp.floating) for leaf in jax.tree.leaves(_learned(params)))


def _gradient_norms(model: Model, task: Task):
    """Returns `(params, batch) -> {block: norm}`; leaves outside blocks are grouped by the first part of their path."""

    def loss(learned: PyTree, params: PyTree, batch: Batch) -> jax.Array:
        params = {**params, **learned} if isinstance(params, Mapping) else learned
        values, weights, _ = task.score(model.apply(params, batch, key=rng.stream(jax.random.key(0), "health")), batch)
        return (values * weights).sum() / jnp.maximum(weights.sum(), 1e-9)

    def norms(params: PyTree, batch: Batch) -> Mapping[str, jax.Array]:
        squares: dict[str, jax.Array] = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.grad(loss)(_learned(params), params, batch)):
            block = _block(path_string(path))
            squares[block] = squares.get(block, jnp.zeros(())) + jnp.sum(jnp.square(widened(leaf)))
        return {name: jnp.sqrt(square) for name, square in squares.items()}

    return jax.jit(norms)


def _spread(norms: np.ndarray) -> str:
    """Returns what the gradient norms of the batches show, in a sentence."""
    typical = float(np.median(norms))
    if typical > 0:
        return f"The gradient norm is {norms.mean():.3g}; the largest batch norm is {norms.max() / typical:.1f} times the median."
    none = "No batch has a gradient" if norms.max() == 0 else "At least half of the batches have no gradient"
    return f"{none}: the loss does not depend on the parameters there."


def _by_block(tree: PyTree) -> dict[str, float]:
    return {
        name: math.sqrt(sum(float(np.square(np.asarray(leaf, np.float64)).sum()) for leaf in leaves))
        for name, leaves in parts_of(tree).items()
    }


def _block(path: str) -> str:
    found = BLOCK.search(path)
    return found[1] if found else path.partition("/")[0]


def _place(name: str) -> tuple:
    found = re.search(r"block_(\d+)", name)
    return (1, name.partition("block_")[0], int(found[1])) if found else (0 if name.startswith("embed") else 2, name, 0)


def _flat(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows [n, width], one per example and position, at most MOST_STATES, and the example of each row, [n]."""
    rows = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
    chosen = np.linspace(0, len(rows) - 1, min(MOST_STATES, len(rows))).round().astype(int)
    return rows[chosen], chosen // (len(rows) // len(values))


def _still(values: np.ndarray) -> np.ndarray:
    """Returns which units are constant over all rows: 1 or 0 [units], NaN for units whose output is not finite."""
    known = np.isfinite(values).all(axis=0)
    deviation = np.where(known, values, 0.0).std(axis=0)
    typical = float(deviation[known].mean()) if known.any() else 0.0
    return np.where(known, deviation <= STILL * max(typical, 1e-30), np.nan)
