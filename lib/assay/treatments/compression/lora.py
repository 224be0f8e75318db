"""Low-rank adaptation (Hu et al. 2022, arXiv 2106.09685): a trained matrix stays as it is, and two thin ones beside it are trained.

    W x + alpha / rank * A B x,   A [n, r] drawn with variance 1/n, B [r, m] = 0: the model is unchanged at first

    --config.treatments=inherit:from=runs/trained,lora:rank=8,alpha=16
    --config.treatments=inherit:from=runs/trained,quantize:nf4,block=64,lora:rank=8      QLoRA (Dettmers et al. 2023, arXiv 2305.14314)
    --config.treatments=lora:rank=8,alpha=16,inherit:from=runs/adapted,merge             W + alpha / rank * A B, and nothing else

All other parameters of the model are frozen; what an objective owns is trained. A matrix that is adapted multiplies real numbers, also
where `quantize` before it rounds activations. Runs of several seeds draw the same A unless `seed` says otherwise.
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
    """The input axes of a convolution's kernel are rows of W together."""
    check(rank >= 1, "lora", "rank", rank, "it is at least 1")
    check(math.isfinite(alpha), "lora", "alpha", alpha, "a number")
    check(0 <= seed < 2**31, "lora", "seed", seed, "a whole number from 0, below 2147483648")
    return Treatment(model=partial(adapted, rank=rank, alpha=alpha, paths=paths, seed=seed), frozen=FROZEN, name="lora")


def merge() -> Treatment:
    """The adapted matrices alone, and the model that was there before `lora`. It stands after `lora`, with nothing of the model between."""
    return Treatment(model=merged, name="merge")


def adapted(model: Model, params: PyTree, rank: int, alpha: float, paths: str = PATHS, seed: int = 0) -> tuple[Model, PyTree]:
    """The model with low-rank matrices beside those chosen, and its parameters."""
    if model.fit is not None:
        raise inapplicable("lora", model, "has no matrices to adapt: the model is fitted by counting")
    at, key = frozenset(chosen("lora", params, paths)), jax.random.key(seed)
    for path, node in parameters(params):
        if path in at and record(node, (BASE,)):
            raise UserError(f"{path} is adapted already. Name 'lora' once. {KEY}")

    most = max(min(math.prod(shape_of(node)[:-1]), shape_of(node)[-1]) for path, node in parameters(params) if path in at)
    check(rank <= most, "lora", "rank", rank, f"at most {most}, the rank that a chosen matrix can have")

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
    """The model that was adapted, and the matrices that it was adapted to; one that was quantised is real numbers again."""
    if not isinstance(model.apply, Reading) or model.apply.of != "lora":
        raise UserError(
            f"the treatment 'merge' has no adapted model. List it after lora, with nothing that changes the model between. {KEY}"
        )
    return model.apply.model, model.apply.read(params)


# -- private --------------------------------------------------------------------------------------------------------------


def _effective(node: Mapping[str, Any], scale: float) -> jax.Array:
    base = node[BASE]
    if isinstance(base, Mapping):
        base = dequantized(base)
    change = (widened(node["lora_a"]) @ widened(node["lora_b"])).reshape(base.shape)
    return (widened(base) + scale * change).astype(base.dtype)
