"""A single mesh with axes `data`, `fsdp` and `tensor`. An axis may have size 1, so one device and a pod run the same program."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from assay.config.schema import require
from assay.core.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))


@dataclass(frozen=True)
class MeshConfig:
    data: int  # devices that split the batch; -1: all remaining devices
    fsdp: int  # devices that split both the batch and the parameters
    tensor: int  # devices that split each matrix product

    def __post_init__(self):
        for axis in AXES:
            size = getattr(self, axis)
            require(size >= 1 or size == -1, f"mesh.{axis}", size, "a size must be at least 1, or -1 for all remaining devices")
        require([self.data, self.fsdp, self.tensor].count(-1) <= 1, "mesh.data", self.data, "only one axis may be -1")


def sizes(config: MeshConfig, devices: int) -> tuple[int, int, int]:
    """Returns the axis sizes on `devices` devices, with -1 resolved. Raises UserError if their product is not the number of devices."""
    given = (config.data, config.fsdp, config.tensor)
    product = 1
    for size in given:
        product *= max(size, 1)
    data, fsdp, tensor = (size if size != -1 else max(devices // product, 1) for size in given)
    if data * fsdp * tensor != devices:
        raise UserError(
            f"config.mesh asks for data={config.data} x fsdp={config.fsdp} x tensor={config.tensor}, but there are {devices} device(s). "
            "Change it with --config.mesh.data, --config.mesh.fsdp or --config.mesh.tensor (-1 means: all remaining devices)."
        )
    return data, fsdp, tensor


def make_mesh(config: MeshConfig) -> Mesh:
    """Builds the mesh over all devices of all processes."""
    return jax.make_mesh(sizes(config, jax.device_count()), AXES, axis_types=(AxisType.Auto,) * 3)


def abstract_mesh(config: MeshConfig, devices: int) -> AbstractMesh:
    """Builds a mesh of devices that need not exist, for `eval_shape` and ahead-of-time compilation."""
    return AbstractMesh(sizes(config, devices), AXES, axis_types=(AxisType.Auto,) * 3)


def batch_sharding(mesh: Mesh | AbstractMesh, steps: bool = False) -> NamedSharding:
    """Returns the sharding that splits examples over `data` and `fsdp`. With `steps`, arrays have a leading axis of steps that is not
    split.
    """
    return NamedSharding(mesh, PartitionSpec(None, *BATCH) if steps else BATCH)


def everywhere(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Returns the fully replicated sharding, which every process can read."""
    return NamedSharding(mesh, PartitionSpec())


def spread(batch: Mapping[str, np.ndarray], sharding: NamedSharding) -> Mapping[str, jax.Array]:
    """Places arrays that every process has in full on the devices; each process supplies the shards of its own devices."""
    if jax.process_count() == 1:
        return jax.device_put(dict(batch), sharding)
    return {name: jax.make_array_from_callback(array.shape, sharding, array.__getitem__) for name, array in batch.items()}


def own_rows(batch_size: int, mesh: Mesh) -> slice:
    """Returns the rows of a batch that this process's devices hold."""
    held = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    ends = [rows.indices(batch_size) for index in held if index is not None for rows in index]
    return slice(min(first for first, _, _ in ends), max(last for _, last, _ in ends))


def global_batch(batch: Mapping[str, np.ndarray], mesh: Mesh, batch_size: int) -> Mapping[str, Any]:
    """Builds global arrays from batches of several steps, [steps, rows, ...], of which this process has its `own_rows`."""
    sharding = batch_sharding(mesh, steps=True)
    if jax.process_count() == 1:
        return jax.device_put(dict(batch), sharding)
    whole = {name: (len(array), batch_size, *array.shape[2:]) for name, array in batch.items()}
    return {name: jax.make_array_from_process_local_data(sharding, array, whole[name]) for name, array in batch.items()}


def check_divides(batch_size: int, mesh: Mesh | AbstractMesh, key: str) -> None:
    """Raises UserError if the mesh cannot split a batch evenly."""
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % parts:
        raise UserError(
            f"config.{key}={batch_size} cannot be divided over {parts} devices (mesh data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']}). "
            f"Make it a multiple of {parts} with --config.{key}=... or change --config.mesh.data."
        )
