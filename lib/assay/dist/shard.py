"""Where arrays lie on the mesh: parameters by a list of (path regex, PartitionSpec), activations by their examples.

Optimiser state ends in the paths of its parameters, so the same rules place it.
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

# The first rule that is found in a path wins. Megatron's split (Shoeybi et al. 2019): matrices into the wide side are cut by column
# over `tensor`, matrices out of it by row, so that a block needs one reduction for each half.
RULES: Rules = (
    (r"/(query|key|value|up|up_gate|relative|copy_up|input)/kernel$", PartitionSpec("fsdp", "tensor")),
    (r"/(out|down|copy_down)/kernel$", PartitionSpec("tensor", "fsdp")),
    (r"embedding$", PartitionSpec("tensor", "fsdp")),
    (r"/head/kernel$", PartitionSpec("fsdp", "tensor")),
    (r"/kernel$", PartitionSpec(None, None, "fsdp", "tensor")),  # convolutions: [height, width, channels in, channels out]
)
_MESH: ContextVar[Mesh | AbstractMesh | None] = ContextVar("mesh", default=None)  # that of the `on_mesh` around
SMALLEST = 1024  # numbers that a leaf has at least to be cut where no rule cuts it: gathering less costs more than it saves


def spec_of(path: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> PartitionSpec:
    """The spec of one leaf. A rule's axis that does not divide its dimension is left out.

    A leaf that is not cut over `fsdp` then, or that no rule names, follows the FSDP rule: its largest dimension that the axis divides is
    cut, if the leaf is not small. A leaf with one axis more than its rules, such as that of an ensemble's members, has it in front and
    not cut.
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
    """A NamedSharding for each leaf of a tree of shapes."""
    return map_with_path(lambda path, leaf: NamedSharding(mesh, spec_of(path, leaf.shape, mesh, rules)), abstract)


def place(abstract: PyTree, mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> PyTree:
    """The same tree of `ShapeDtypeStruct`s, each with its sharding: what a checkpoint is restored into."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract, shardings(abstract, mesh, rules)
    )


def on_mesh(function: Callable[..., Any], mesh: Mesh | AbstractMesh) -> Callable[..., Any]:
    """The function, traced where `constrain` and `on_one_cpu` know the mesh."""

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
    """Whether what is traced here will run on a single CPU, whose quick products and convolutions are not those of other devices."""
    mesh = _MESH.get()
    if mesh is None:
        return jax.default_backend() == "cpu"
    return isinstance(mesh, Mesh) and mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"


def constrain(x: jax.Array, axis: int = 0) -> jax.Array:
    """Activations with their examples along `axis` split as the batch is, and whole otherwise. Outside `on_mesh`, on one device, or where
    the examples do not divide, x itself."""
    mesh = jax.sharding.get_abstract_mesh()
    ours = all(name in mesh.shape for name in AXES)  # not that of a pmap or of a caller
    if not ours or mesh.size == 1 or x.shape[axis] % (mesh.shape["data"] * mesh.shape["fsdp"]):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*(None,) * axis, *BATCH))


# -- private --------------------------------------------------------------------------------------------------------------


def _matched(regex: str, spec: PartitionSpec, path: str, shape: tuple[int, ...], stacked: int) -> tuple[Any, ...] | None:
    return (*(None,) * stacked, *spec) if len(spec) + stacked == len(shape) and re.search(regex, path) else None
