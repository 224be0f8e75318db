"""Low-rank adaptation (Hu et al. 2022, arXiv 2106.09685): freezes a trained matrix and trains a low-rank update of it.

    W x + alpha / rank * A B x,   A [n, r] drawn with variance 1/n, B [r, m] = 0: the initial model is unchanged

    --config.treatments=inherit:from=runs/trained,lora:rank=8,alpha=16
    --config.treatments=inherit:from=runs/trained,quantize:nf4,block=64,lora:rank=8      QLoRA (Dettmers et al. 2023, arXiv 2305.14314)
    --config.treatments=lora:rank=8,alpha=16,inherit:from=runs/adapted,merge             W + alpha / rank * A B, and nothing else

All other model parameters are frozen; parameters owned by an objective are trained. An adapted matrix multiplies in floating point, even if
an earlier `quantize` quantizes activations. Runs with different run seeds draw the same A unless `seed` differs.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.models.model import Model
from assay.train.treatment import Treatment
from assay.treatments.compression.record import BASE, Reading, chosen, inapplicable, parameters, reading, record, rewritten, shape_of
from assay.treatments.compression.rounding import dequantized
from assay.treatments.option import KEY, check

PATHS = r"/kernel$"
FROZEN = r"^model/(?!.*/lora_[ab]$)"


def lora(rank: int = 8, alpha: float = 16.0, paths: str = PATHS, seed: int = 0) -> Treatment:
    """Returns the LoRA treatment. A convolution kernel is adapted as a matrix with its input axes flattened into rows.

    Args:
        rank: rank of the update; at least 1.
        alpha: scale of the update, divided by `rank`.
        paths: regex of the adapted parameter paths.
        seed: seed of A.
    """
    check(rank >= 1, "lora", "rank", rank, "it must be at least 1")
    check(math.isfinite(alpha), "lora", "alpha", alpha, "it must be a finite number")
    check(0 <= seed < 2**31, "lora", "seed", seed, "it must be an integer from 0, below 2147483648")
    return Treatment(model=partial(adapted, rank=rank, alpha=alpha, paths=paths, seed=seed), frozen=FROZEN, name="lora")


def merge() -> Treatment:
    """Returns the treatment that merges LoRA updates into their matrices and restores the model from before `lora`.

    List it after `lora`, with no other model treatment between them.
    """
    return Treatment(model=merged, name="merge")


def adapted(model: Model, params: PyTree, rank: int, alpha: float, paths: str = PATHS, seed: int = 0) -> tuple[Model, PyTree]:
    """Returns the model with low-rank updates of the matching matrices, and its parameters.

    Raises UserError if the model is fitted by counting, a matrix is already adapted, or the rank is too high.
    """
    if model.fit is not None:
        raise inapplicable("lora", model, "has no matrices to adapt: the model is fitted by counting")
    at, key = frozenset(chosen("lora", params, paths)), jax.random.key(seed)
    for path, node in parameters(params):
        if path in at and record(node, (BASE,)):
            raise UserError(f"{path} is adapted already. List 'lora' only once. {KEY}")

    most = max(min(math.prod(shape_of(node)[:-1]), shape_of(node)[-1]) for path, node in parameters(params) if path in at)
    check(rank <= most, "lora", "rank", rank, f"it must be at most {most}, the maximum rank of the chosen matrices")

    def change(path: str, node: Any) -> Any:
        if path not in at:
            return node
        *rows, columns = shape_of(node)
        inputs, dtype = math.prod(rows), jnp.float32 if isinstance(node, Mapping) else node.dtype
        drawn = jax.random.normal(rng.stream(key, path), (inputs, rank)) / math.sqrt(inputs)
        return {BASE: node, "lora_a": drawn.astype(dtype), "lora_b": jnp.zeros((rank, columns), dtype)}

    def read(params: PyTree) -> PyTree:
        return rewritten(params, lambda path, node: _effective(node, alpha / rank) if record(node, (BASE,)) else node)

    return reading(model, read, "lora"), rewritten(params, change)


def merged(model: Model, params: PyTree) -> tuple[Model, PyTree]:
    """Returns the original model and its merged matrices; quantized matrices become floating-point again."""
    adapted = getattr(model.apply, "plain", model.apply)  # a model made elsewhere has a door around it that refuses edits
    if not isinstance(adapted, Reading) or adapted.of != "lora":
        raise UserError(
            f"the treatment 'merge' has no adapted model. List it after lora, with no other model treatment between them. {KEY}"
        )
    return adapted.model, adapted.read(params)


# -- private --------------------------------------------------------------------------------------------------------------


def _effective(node: Mapping[str, Any], scale: float) -> jax.Array:
    base = node[BASE]
    if isinstance(base, Mapping):
        base = dequantized(base)
    change = (widened(node["lora_a"]) @ widened(node["lora_b"])).reshape(base.shape)
    return (widened(base) + scale * change).astype(base.dtype)
