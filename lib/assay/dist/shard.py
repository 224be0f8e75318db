"""Where parameters lie: a list of (path regex, PartitionSpec). Optimiser state ends in the same paths, so the same rules place it."""

import re
from collections.abc import Sequence

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from assay.core.tree import PyTree, map_with_path

Rules = Sequence[tuple[str, PartitionSpec]]

# The first rule that is found in a path wins; what no rule names is replicated. Megatron's split: matrices into the wide side are
# cut by column over `tensor`, matrices out of it by row, so that a block needs one reduction for each half.
RULES: Rules = (
    (r"/(query|key|value|up|up_gate|relative|copy_up|input)/kernel$", PartitionSpec("fsdp", "tensor")),
    (r"/(out|down|copy_down)/kernel$", PartitionSpec("tensor", "fsdp")),
    (r"embedding$", PartitionSpec("tensor", "fsdp")),
    (r"/head/kernel$", PartitionSpec("fsdp", "tensor")),
    (r"/kernel$", PartitionSpec(None, None, "fsdp", "tensor")),  # convolutions: [height, width, channels in, channels out]
)


def spec_of(path: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> PartitionSpec:
    """The spec of one leaf. An axis that does not divide its dimension is left out: small matrices are replicated.

    A leaf with one axis more than its rules, such as that of an ensemble's members, has it in front and not split.
    """
    for stacked in (0, 1):
        for regex, spec in rules:
            if re.search(regex, path) and len(spec) + stacked == len(shape):
                axes = zip((*(None,) * stacked, *spec), shape, strict=True)
                return PartitionSpec(*(axis if axis and size % mesh.shape[axis] == 0 else None for axis, size in axes))
    return PartitionSpec()


def shardings(abstract: PyTree, mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> PyTree:
    """A NamedSharding for each leaf of a tree of shapes."""
    return map_with_path(lambda path, leaf: NamedSharding(mesh, spec_of(path, leaf.shape, mesh, rules)), abstract)


def place(abstract: PyTree, mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> PyTree:
    """The same tree of `ShapeDtypeStruct`s, each with its sharding: what a checkpoint is restored into."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract, shardings(abstract, mesh, rules)
    )
