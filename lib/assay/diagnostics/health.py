"""Optimisation health: whether gradients reach every layer, units work, heads look somewhere, and representations use their room."""

import math
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from assay.core import rng
from assay.core.tree import PyTree, path_string, widened
from assay.diagnostics.long_range import attention
from assay.diagnostics.measurement import LOWER, Measurement, Plot, inapplicable, sample
from assay.diagnostics.subject import Subject
from assay.models.model import Batch, Model
from assay.tasks.task import Task

GROUP = "optimisation health"
BATCHES, ROWS = 16, 16  # of training examples, for gradients
BLOCK = re.compile(r"(?:^|/)((?:encoder/|decoder/)?block_\d+)(?:/|$)")
ACTIVE = re.compile(r"(mlp|hidden|dense|features)$")  # taps of units, as they are activated
STATES = re.compile(r"(residual|hidden|dense|pooled|features)$")  # taps of representations
STILL = 1e-4  # of the mean deviation of its layer, below which a unit says nothing
MOST_STATES = 4096
LOGGED, BEFORE = 8, 5  # gradient norms that a record must have, and those that one is set against
HUGE = 1e9  # stands for a norm that is no finite number


def gradients(subject: Subject) -> list[Measurement]:
    """Norms of the gradient of the task's loss on small batches of training examples, by block."""
    names = ("gradient_norm", "gradient_balance")
    if subject.model.fit is not None or not _differentiable(subject.params):
        reason = "does not apply: the parameters are counts or rounded, which have no gradient."
        return [inapplicable(GROUP, name, reason) for name in names]
    split = "train" if "train" in subject.task.splits else subject.split
    batch = subject.first(BATCHES * ROWS, split)
    used = len(batch["weight"]) // BATCHES * BATCHES
    if used == 0:
        return [inapplicable(GROUP, name, f"does not apply: there are fewer than {BATCHES} training examples.") for name in names]
    order = np.random.default_rng(0).permutation(used)  # examples come by length, batches of training do not
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
            meaning=f"The gradient has a norm of {whole.mean():.3g}; that of a batch differs by a factor of "
            f"{whole.max() / max(np.median(whole), 1e-30):.1f} at most from the median.",
            margin=0.05,
            relative=True,
            plot=Plot("bar", list(range(len(blocks))), {"norm": [float(f"{by_block[name]:.4g}") for name in blocks]}, "", "norm", blocks),
        )
    ]
    numbered = [name for name in blocks if "block_" in name]
    if len(numbered) < 2:
        return [*rows, inapplicable(GROUP, names[1], "does not apply: the model has fewer than two blocks.")]
    first, last = numbered[0], numbered[-1]
    ratio = np.array([float(norms[first]) / max(float(norms[last]), 1e-30) for norms in each])
    return [
        *rows,
        sample(
            GROUP,
            names[1],
            "mean",
            {"batches/balance": np.log10(np.maximum(ratio, 1e-30))},
            unit="powers of ten",
            how=f"log10 of the norm of {first} over that of {last}, of {how}",
            meaning=f"The first block's gradient is {np.median(ratio):.3g} times the last block's; far below 1 it vanishes on its "
            "way, far above it explodes.",
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
    """How far a gradient of training stood out from those just before it; gradients that shrink as a model learns do not."""
    name = "largest_gradient"
    logged = [
        (line["step"], line.get("unclipped_norm", line["grad_norm"])) for line in subject.history if line.get("grad_norm") is not None
    ]
    if len(logged) < LOGGED:
        return [inapplicable(GROUP, name, f"does not apply: there is no record of training with {LOGGED} gradient norms (metrics.jsonl).")]
    steps, norms = [step for step, _ in logged], np.array([norm for _, norm in logged], float)
    norms = np.where(np.isfinite(norms), norms, HUGE)
    before = [max(float(np.median(norms[max(0, i - BEFORE) : i])), 1e-30) for i in range(2, len(norms))]
    ratios = norms[2:] / before
    worst, shown = int(ratios.argmax()) + 2, np.unique(np.linspace(0, len(norms) - 1, 60).round().astype(int))
    return [
        sample(
            GROUP,
            name,
            "largest",
            {f"{len(norms)} logged steps of {steps[-1]}/ratio": ratios},
            unit="times those before",
            how=f"the largest ratio of a logged gradient norm, before clipping, to the median of the {BEFORE} logged before it; what was "
            "largest has no interval",
            meaning=f"At step {steps[worst]:,} the gradient was {ratios.max():.3g} times those before it, with a norm of "
            f"{norms[worst]:.3g}; half of all norms lie above {np.median(norms):.3g}.",
            better=LOWER,
            margin=0.05,
            relative=True,
            plot=Plot(
                "line", [steps[i] for i in shown], {"norm": [float(f"{norms[i]:.4g}") for i in shown]}, "step", "gradient norm (log)"
            ),
        )
    ]


def update_norm(subject: Subject) -> list[Measurement]:
    """How far training has moved each block from where it began."""
    name = "update_norm"
    if subject.started is None:
        return [inapplicable(GROUP, name, "does not apply: where training began is not known.")]
    begun = subject.started()
    same = str(jax.tree.structure(begun)) == str(jax.tree.structure(subject.params))
    if not same or not _differentiable(subject.params):
        return [inapplicable(GROUP, name, "does not apply: the parameters have another form than those that training began with.")]
    moved, there = (
        _by_block(jax.tree.map(lambda new, old: np.asarray(widened(new)) - np.asarray(widened(old)), subject.params, begun)),
        _by_block(begun),
    )
    share = {block: moved[block] / max(there[block], 1e-30) for block in moved}
    whole = math.sqrt(sum(value**2 for value in moved.values())) / max(math.sqrt(sum(value**2 for value in there.values())), 1e-30)
    return [
        Measurement(
            GROUP,
            name,
            whole,
            n=1,
            interval=(whole, whole),
            exact=True,
            how="the distance of the parameters from where training began, over their norm there; no sample stands behind it",
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
    """The share of hidden units that answer the same to every example."""
    name = "dead_units"
    layers = {path: _flat(value)[0] for path, value in subject.taps().items() if ACTIVE.search(path)}
    if not layers:
        return [inapplicable(GROUP, name, "does not apply: the model taps no hidden units.")]
    dead = {path: _still(values) for path, values in layers.items()}
    units = np.concatenate(list(dead.values()))
    return [
        sample(
            GROUP,
            name,
            "mean",
            {f"{len(units)} units of {len(layers)} layers/dead": units},
            unit="fraction",
            how=f"hidden units of {len(layers)} layers whose output varies by less than {STILL:g} of their layer's mean deviation "
            f"over the examples of {subject.probe}; the interval is over units",
            meaning=f"{int(units.sum())} of {len(units)} hidden units say nothing.",
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
    """How evenly heads attend: 1 looks at all tokens alike, 0 at one."""
    name = "attention_entropy"
    batch = subject.first(min(subject.examples, 64), subject.probe)
    if not subject.tokens or "length" not in batch:
        return [inapplicable(GROUP, name, "does not apply: the model reads no sequence of tokens.")]
    _, _, by_layer = attention(subject, batch)
    if not by_layer:
        return [inapplicable(GROUP, name, "does not apply: the model has no attention.")]
    each = np.mean(list(by_layer.values()), axis=0)
    split = f"{subject.probe}, {len(each)} examples"
    return [
        sample(
            GROUP,
            name,
            "mean",
            {f"{split}/entropy": each},
            unit="share of even attention",
            how="entropy of attention over that of even attention to as many tokens, the mean over layers, heads and queries, on "
            f"{len(each)} examples of {subject.probe}",
            meaning=f"Attention is spread to {100 * each.mean():.0f} % of what it could be; near 0 it has collapsed onto single "
            "tokens, near 100 it does not choose.",
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
    """How many directions the last representation uses (Roy and Vetterli 2007)."""
    name = "effective_rank"
    states = {path: value for path, value in subject.taps().items() if STATES.search(path)}
    if not states:
        return [inapplicable(GROUP, name, "does not apply: the model taps no representation.")]
    ranks = {path: rank(_flat(value)[0]) for path, value in states.items()}
    path = list(states)[-1]
    values, example = _flat(states[path])
    if len(states[path]) < BATCHES:
        return [inapplicable(GROUP, name, "does not apply: there are too few examples.")]
    whole = ranks[path]
    without = np.array([rank(values[example % BATCHES != i]) for i in range(BATCHES)])
    pseudo = whole - (BATCHES - 1) * (without - without.mean())  # the jackknife, around the value itself
    found = sample(GROUP, name, "mean", {"folds/rank": pseudo})
    width = values.shape[1]
    return [
        found._replace(
            value=whole,
            interval=found.interval if np.ptp(pseudo) else (whole, whole),
            unit="directions",
            how=f"exp of the entropy of the singular values of {path}, {len(values)} vectors of {width} numbers, centred; "
            f"interval by jackknife over {BATCHES} parts of the examples (Roy and Vetterli 2007)",
            meaning=f"The representation uses {whole:.1f} of its {width} directions ({100 * whole / width:.0f} %).",
            margin=0.05,
            relative=True,
            plot=Plot(
                "bar", list(range(len(ranks))), {"directions": [round(value, 3) for value in ranks.values()]}, "", "directions", list(ranks)
            ),
        )
    ]


def rank(values: np.ndarray) -> float:
    """exp(entropy of the normalised singular values) of centred rows [n, width]; 0 where all rows are alike."""
    centred = values - values.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    if singular.sum() <= 1e-12:
        return 0.0
    share = singular / singular.sum()
    return float(np.exp(-(share * np.log(np.maximum(share, 1e-30))).sum()))


def parts_of(params: PyTree) -> dict[str, list[jax.Array]]:
    """The leaves of each block, in their order; what lies in no block has the name of its first part."""
    found: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        found.setdefault(_block(path_string(path)), []).append(leaf)
    return {name: found[name] for name in sorted(found, key=_place)}


# -- private --------------------------------------------------------------------------------------------------------------


def _differentiable(params: PyTree) -> bool:
    return all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(params))


def _gradient_norms(model: Model, task: Task):
    """`(params, batch) -> {block: norm}`; what lies in no block has the name of its first part."""

    def loss(params: PyTree, batch: Batch) -> jax.Array:
        values, weights, _ = task.score(model.apply(params, batch, key=rng.stream(jax.random.key(0), "health")), batch)
        return (values * weights).sum() / jnp.maximum(weights.sum(), 1e-9)

    def norms(params: PyTree, batch: Batch) -> Mapping[str, jax.Array]:
        squares: dict[str, jax.Array] = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.grad(loss)(params, batch)):
            block = _block(path_string(path))
            squares[block] = squares.get(block, jnp.zeros(())) + jnp.sum(jnp.square(widened(leaf)))
        return {name: jnp.sqrt(square) for name, square in squares.items()}

    return jax.jit(norms)


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
    """[n, width]: of every example and place, at most MOST_STATES of them; and the example of each, [n]."""
    rows = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
    chosen = np.linspace(0, len(rows) - 1, min(MOST_STATES, len(rows))).round().astype(int)
    return rows[chosen], chosen // (len(rows) // len(values))


def _still(values: np.ndarray) -> np.ndarray:
    """bool [units]"""
    deviation = values.std(axis=0)
    return deviation <= STILL * max(float(deviation.mean()), 1e-30)
