"""A stack of equal blocks as one loop, so that XLA compiles a block once and not once per layer; and rematerialization of blocks.

Parameters keep the paths block_0, block_1, ...: they are stacked inside the loop's function, and taps of the blocks are unstacked again.
Checkpoints, path regexes and taps are therefore unaffected. The cost is a second copy of the parameters during the step.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from assay.core.tree import merge

REMATS: Mapping[str, Callable[..., bool] | None] = {  # activations of a block saved for the backward pass; the rest is recomputed
    "none": None,  # all activations
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # products with parameters, but not attention weights
    "full": jax.checkpoint_policies.nothing_saveable,  # only the input of the block (Chen et al. 2016)
}


def rematerialised(block: type[nn.Module], remat: str, static: tuple[int, ...]) -> type[nn.Module]:
    """Returns the block class with the rematerialization policy `remat`, a name in REMATS.

    `static`: indices of call arguments that are not arrays.
    """
    if remat == "none":
        return block
    return nn.remat(block, policy=REMATS[remat], static_argnums=static)


def scanned(
    module: nn.Module,
    period: Sequence[nn.Module],
    groups: int,
    x: Float[Array, "rows width"],
    call: Callable[[nn.Module, Mapping[str, Any], jax.Array, dict[str, jax.Array]], tuple[jax.Array, Mapping[str, Any]]],
    remat: str = "none",
) -> Float[Array, "rows width"]:
    """Returns x after `groups` repetitions of the blocks of `period`, with the parameters block_0, block_1, ... of `module`.

    `call(block, params, x, rngs) -> (x, taps)` applies an unbound block. Dropout masks differ from those of block-by-block execution.
    """
    params, size = module.variables["params"], len(period)
    stacked = [
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params[f"block_{group * size + i}"] for group in range(groups)))
        for i in range(size)
    ]
    keys = jax.random.split(module.make_rng("dropout"), (groups, size)) if module.has_rng("dropout") else None

    def body(x: jax.Array, given: tuple[Sequence[Any], jax.Array | None]) -> tuple[jax.Array, list[Any]]:
        slices, keys = given
        tapped = []
        for i, block in enumerate(period):
            x, taps = call(block, slices[i], x, {} if keys is None else {"dropout": keys[i]})
            tapped.append(taps)
        return x, tapped

    if remat != "none":
        body = jax.checkpoint(body, policy=REMATS[remat], prevent_cse=False)
    x, tapped = jax.lax.scan(body, x, (stacked, keys))
    if module.is_mutable_collection("taps"):
        for group in range(groups):
            for i in range(size):
                name = f"block_{group * size + i}"
                before: Any = module.get_variable("taps", name, {})  # taps of earlier loops, under their own names
                module.put_variable("taps", name, merge(before, jax.tree.map(itemgetter(group), tapped[i])))
    return x
