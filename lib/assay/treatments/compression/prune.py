"""Pruning: sets weights to zero, or removes whole parts of a model.

    --treat=prune:sparsity=0.8                 sets the smallest weights of all kernels to zero (see mask.py)
    --treat=prune:sparsity=0.9,ramp=400        prunes gradually over 400 steps
    --treat=prune:nm=2:4                       keeps two of every four consecutive weights
    --treat=prune:sparsity=0.8,rewind=0        lottery ticket (Frankle and Carbin 2019, arXiv 1803.03635): resets the remaining weights
    --treat=prune:heads=0.5,units=0.5          removes half of the heads and of the feed-forward units (see surgery.py)

Zeros alone save neither time nor memory. Removing heads, units, channels or layers makes a model smaller and faster.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from assay.core import rng
from assay.core.tree import PyTree, merge
from assay.models.model import Batch, Model
from assay.tasks.task import Task
from assay.train.objective import supervised
from assay.train.treatment import Treatment
from assay.treatments.compression import surgery
from assay.treatments.compression.batches import batches
from assay.treatments.compression.mask import LEARNED, SCORES, Pruning, applied, at_once, chosen, keeping, pruned, within
from assay.treatments.folder import folder
from assay.treatments.option import check, pattern
from assay.treatments.runs import Runs

SCOPES = ("global", "layer")
PARTS = ("heads", "units", "channels", "layers")
TAYLOR_EXAMPLES = 512  # training examples over which gradient-based importance is averaged


def prune(
    runs: Runs,
    sparsity: float = 0.0,
    nm: str = "",
    heads: float = 0.0,
    units: float = 0.0,
    channels: float = 0.0,
    layers: float = 0.0,
    score: str = "magnitude",
    scope: str = "global",
    ramp: int = 0,
    rewind: int = -1,
    from_: str = "",
    paths: str = r"/(kernel|recurrent)(/factor_[ab])?$",
) -> Treatment:
    """Returns the pruning treatment. Raises UserError for invalid options.

    Args:
        runs: readers of other runs.
        sparsity: fraction of the weights at `paths` to set to zero, in [0, 1).
        nm: N:M pattern, which keeps N of every M consecutive weights, such as 2:4.
        heads: fraction of the attention heads to remove, in [0, 1).
        units: fraction of the feed-forward or hidden units to remove.
        channels: fraction of the convolution channels to remove.
        layers: fraction of the layers to remove.
        score: importance; magnitude, movement, snip or random for weights, and magnitude, taylor or random for parts.
        scope: global ranks weights over all layers; layer ranks them within each.
        ramp: steps over which sparsity grows; 0: prune at once.
        rewind: step of the run `from` whose values the remaining weights are reset to; -1: no reset.
        from_: work directory of the run to rewind to.
        paths: regex of the pruned parameter paths.
    """
    shares = {"heads": heads, "units": units, "channels": channels, "layers": layers}
    for option, share in {"sparsity": sparsity, **shares}.items():
        check(0 <= share < 1, "prune", option, share, "a share in [0, 1)")
    asked = {part: share for part, share in shares.items() if share}
    masks = bool(sparsity or nm)
    check(
        masks != bool(asked),
        "prune",
        "sparsity",
        sparsity,
        "set either sparsity or nm, for zeros, or some of heads, units, channels, layers",
    )
    if asked:
        check(score in surgery.SCORERS, "prune", "score", score, f"one of {', '.join(surgery.SCORERS)} when parts are removed")
        check(ramp == 0 and rewind < 0, "prune", "ramp", ramp, "parts are removed at once; omit ramp and rewind")
        return _surgery(asked, score)
    check(not (sparsity and nm), "prune", "nm", nm, "a pattern defines its own sparsity; omit sparsity")
    check(score in SCORES, "prune", "score", score, f"one of {', '.join(SCORES)}")
    check(scope in SCOPES, "prune", "scope", scope, f"one of {', '.join(SCOPES)}")
    check(ramp >= 0, "prune", "ramp", ramp, "a number of steps, or 0 to prune at once")
    check(score != "movement" or ramp > 0, "prune", "ramp", ramp, "movement is accumulated over steps; set ramp above 0")
    check(not (nm and ramp), "prune", "ramp", ramp, "a pattern is applied at once; omit ramp")
    check(
        rewind < 0 or not (ramp or score in LEARNED),
        "prune",
        "rewind",
        rewind,
        "rewinding requires pruning at once, by magnitude or random",
    )
    pattern("prune", "paths", paths)
    kept, group = _pattern_of(nm) if nm else (0, 0)
    how = Pruning(1 - kept / group if kept else sparsity, score, scope == "global", kept, group, ramp, paths)
    treatment = Treatment(
        model=partial(pruned, how=how),
        optimizer=partial(keeping, how=how),
        final=_zeroed,
        steps=0 if how.at_once else max(ramp, 1),
        name="prune",
    )
    if rewind < 0:
        return treatment
    check(bool(from_), "prune", "rewind", rewind, "set from=WORKDIR to the run whose values the weights are reset to")
    return treatment._replace(
        convert=partial(_rewound, how=how, step=rewind, workdir=folder(from_), runs=runs),
        prepare=partial(runs.check_early, folder(from_), rewind),
        finished=True,
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _pattern_of(nm: str) -> tuple[int, int]:
    kept, colon, group = nm.partition(":")
    numbers = kept.isdecimal() and group.isdecimal()
    check(bool(colon) and numbers and 0 < int(kept) < int(group), "prune", "nm", nm, "N:M, such as 2:4, with N below M")
    return int(kept), int(group)


def _zeroed(state: Any, params: PyTree) -> PyTree:
    """Returns the parameters with the masks applied again, because an average over steps would fill in the zeros."""
    for _, mask in optax.tree.get_all_with_path(state.opt_state, "mask"):
        params = merge(params, applied(mask, within(params, mask)))
    return params


def _rewound(model: Model, params: PyTree, how: Pruning, step: int, workdir: str, runs: Runs) -> PyTree:
    """Returns the run's parameters at `step`, masked where `params` would be pruned."""
    pruned(model, params, how)  # raises for paths that match nothing
    mask = at_once(chosen({"model": params}, how.paths), how)
    before = {"model": runs.early(workdir, step)}
    return merge(before, applied(mask, chosen(before, how.paths)))["model"]


def _surgery(asked: dict[str, float], score: str) -> Treatment:
    tasks: list[Task] = []

    def remember(task: Task) -> Task:
        tasks.append(task)
        return task

    def smaller(model: Model, params: PyTree) -> tuple[Model, PyTree]:
        for part, share in asked.items():
            model, params = surgery.cut(model, params, part, share)
        return model, params

    def by_importance(model: Model, params: PyTree) -> PyTree:
        objective = supervised(tasks[-1].score)
        for part, share in asked.items():

            def loss(params: PyTree, batch: Batch, model: Model = model) -> jax.Array:
                return objective.loss(model, {"model": params}, batch, jax.random.key(0), jnp.zeros((), jnp.int32))[0]

            shown = batches(tasks[-1], "train", TAYLOR_EXAMPLES)
            evidence = surgery.Evidence(loss=loss, batches=shown, key=rng.stream(jax.random.key(0), part))
            found = surgery.importance(model, params, part, score, evidence)
            model, params = surgery.cut(model, params, part, share, found)
        return params

    by_data = score != "magnitude"
    return Treatment(task=remember, model=smaller, convert=by_importance if by_data else None, finished=by_data, name="prune")
