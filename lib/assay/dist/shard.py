"""Placement of arrays on the mesh: parameters by a list of (path regex, PartitionSpec), activations by their examples.

Paths of optimizer state end in the paths of its parameters, so the same rules place it.
"""

import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from assay.core.tree import PyTree, map_with_path
from assay.dist.mesh import AXES, BATCH

Rules = Sequence[tuple[str, PartitionSpec]]

# The first rule that matches a path wins. Megatron's split (Shoeybi et al. 2019): matrices into the wide side are split by column over
# `tensor`, and matrices out of it by row, so that each half of a block needs one reduction.
RULES: Rules = (
    (r"/(query|key|value|up|up_gate|relative|copy_up|input)/kernel$", PartitionSpec("fsdp", "tensor")),
    (r"/(out|down|copy_down)/kernel$", PartitionSpec("tensor", "fsdp")),
    (r"embedding$", PartitionSpec("tensor", "fsdp")),
    (r"/head/kernel$", PartitionSpec("fsdp", "tensor")),
    (r"/kernel$", PartitionSpec(None, None, "fsdp", "tensor")),  # convolutions: [height, width, channels in, channels out]
)
_MESH: ContextVar[Mesh | AbstractMesh | None] = ContextVar("mesh", default=None)  # the mesh of the enclosing `on_mesh`
SMALLEST = 1024  # fewest elements of a leaf to be sharded without a rule; below, sharding costs more than it saves


def spec_of(path: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> PartitionSpec:
    """Returns the PartitionSpec of one leaf. A rule's axis that does not divide its dimension is left out.

    A leaf that is then not split over `fsdp`, or that no rule matches, follows the FSDP rule: its largest divisible dimension is split,
    unless the leaf is small. A leaf with one axis more than its rule, such as that of an ensemble's members, keeps that leading axis
    unsplit.
    """
    axes = next((found for stacked in (0, 1) for regex, spec in rules if (found := _matched(regex, spec, path, shape, stacked))), None)
    cut = [axis if axis and size % mesh.shape[axis] == 0 else None for axis, size in zip(axes or (None,) * len(shape), shape, strict=True)]
    parts, numbers = mesh.shape["fsdp"], 1
    for size in shape:
        numbers *= size
    free = [i for i, size in enumerate(shape) if cut[i] is None and size % parts == 0]
    if parts > 1 and "fsdp" not in cut and free and numbers >= SMALLEST:
        cut[max(free, key=lambda i: shape[i])] = "fsdp"
    return PartitionSpec(*cut)


def shardings(abstract: PyTree, mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> PyTree:
    """Returns a NamedSharding for each leaf of a tree of shapes."""
    return map_with_path(lambda path, leaf: NamedSharding(mesh, spec_of(path, leaf.shape, mesh, rules)), abstract)


def place(abstract: PyTree, mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> PyTree:
    """Returns the tree of `ShapeDtypeStruct`s with their shardings: the target for restoring a checkpoint."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract, shardings(abstract, mesh, rules)
    )


def on_mesh(function: Callable[..., Any], mesh: Mesh | AbstractMesh) -> Callable[..., Any]:
    """Wraps `function` so that `constrain` and `on_one_cpu` know the mesh while it is traced."""

    @wraps(function)
    def traced(*arguments: Any, **keywords: Any) -> Any:
        token = _MESH.set(mesh)
        try:
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return function(*arguments, **keywords)
        finally:
            _MESH.reset(token)

    return traced


def on_one_cpu() -> bool:
    """Returns True if the traced code will run on a single CPU, whose fast products and convolutions differ from those of other devices."""
    mesh = _MESH.get()
    if mesh is None:
        return jax.default_backend() == "cpu"
    return isinstance(mesh, Mesh) and mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"


def constrain(x: jax.Array, axis: int = 0) -> jax.Array:
    """Constrains activations so that their examples along `axis` are split like the batch and the other axes are whole.

    Returns x unchanged outside `on_mesh`, on one device, or if the examples do not divide evenly.
    """
    mesh = jax.sharding.get_abstract_mesh()
    ours = all(name in mesh.shape for name in AXES)  # not the mesh of a pmap or of a caller
    if not ours or mesh.size == 1 or x.shape[axis] % (mesh.shape["data"] * mesh.shape["fsdp"]):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*(None,) * axis, *BATCH))


# -- private --------------------------------------------------------------------------------------------------------------


def _matched(regex: str, spec: PartitionSpec, path: str, shape: tuple[int, ...], stacked: int) -> tuple[Any, ...] | None:
    return (*(None,) * stacked, *spec) if len(spec) + stacked == len(shape) and re.search(regex, path) else None
