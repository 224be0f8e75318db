"""One mesh with axes `data`, `fsdp` and `tensor`. Size 1 is fine, so that one device and a pod run the same program."""

from dataclasses import dataclass

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from assay.core.config import require
from assay.core.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))


@dataclass(frozen=True)
class MeshConfig:
    data: int  # devices that split the batch; -1 takes all that the others leave
    fsdp: int  # devices that split the batch and the parameters
    tensor: int  # devices that split each matrix product

    def __post_init__(self):
        for axis in AXES:
            size = getattr(self, axis)
            require(size >= 1 or size == -1, f"mesh.{axis}", size, "a size is at least 1, or -1 for all devices that are left")
        require([self.data, self.fsdp, self.tensor].count(-1) <= 1, "mesh.data", self.data, "only one axis may be -1")


def sizes(config: MeshConfig, devices: int) -> tuple[int, int, int]:
    """The axis sizes on so many devices, -1 resolved. Raises UserError where they do not multiply to the number of devices."""
    given = (config.data, config.fsdp, config.tensor)
    product = 1
    for size in given:
        product *= max(size, 1)
    data, fsdp, tensor = (size if size != -1 else max(devices // product, 1) for size in given)
    if data * fsdp * tensor != devices:
        raise UserError(
            f"config.mesh asks for data={config.data} x fsdp={config.fsdp} x tensor={config.tensor}, but there are {devices} device(s). "
            "Change it with --config.mesh.data, --config.mesh.fsdp or --config.mesh.tensor (-1 means: all that are left)."
        )
    return data, fsdp, tensor


def make_mesh(config: MeshConfig) -> Mesh:
    """The mesh over all devices of all processes."""
    return jax.make_mesh(sizes(config, jax.device_count()), AXES, axis_types=(AxisType.Auto,) * 3)


def abstract_mesh(config: MeshConfig, devices: int) -> AbstractMesh:
    """A mesh of devices that need not be there: for `eval_shape` and ahead-of-time compilation."""
    return AbstractMesh(sizes(config, devices), AXES, axis_types=(AxisType.Auto,) * 3)


def batch_sharding(mesh: Mesh | AbstractMesh, steps: bool = False) -> NamedSharding:
    """Examples split over `data` and `fsdp`; `steps`: the arrays have a leading axis of steps that is not split."""
    return NamedSharding(mesh, PartitionSpec(None, *BATCH) if steps else BATCH)


def check_divides(batch_size: int, mesh: Mesh | AbstractMesh, key: str) -> None:
    """Raises UserError where the mesh cannot split a batch evenly."""
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % parts:
        raise UserError(
            f"config.{key}={batch_size} cannot be divided over {parts} devices (mesh data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']}). "
            f"Make it a multiple of {parts} with --config.{key}=... or change --config.mesh.data."
        )
