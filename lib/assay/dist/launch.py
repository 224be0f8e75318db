"""Prepares a process before it computes: joins the other processes, if any, and enables the compilation cache.

Environment variables describe the other processes, so any launcher can set them; verbs have flags that set them.

    ASSAY_COORDINATOR   HOST:PORT of process 0; or `auto`, where JAX detects all three: Slurm, Open MPI, TPU, Kubernetes
    ASSAY_PROCESSES     number of processes
    ASSAY_PROCESS       index of this process, from 0
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from assay.core.errors import Alone, UserError

COORDINATOR, PROCESSES, PROCESS = "ASSAY_COORDINATOR", "ASSAY_PROCESSES", "ASSAY_PROCESS"
HEARTBEAT_SECONDS = 30  # after this long without a heartbeat a process counts as dead, and the others stop
JOIN_SECONDS = 120  # how long the first process waits for the last


def start() -> None:
    """Joins the other processes that the environment names, and enables the compilation cache. Repeated calls have no effect.

    The cache is $JAX_COMPILATION_CACHE_DIR, used as it is, or ~/.cache/assay/xla, created with mode 0700. Its files are code that will run,
    so only the owner may write to ours. Raises UserError if the processes fail to connect.
    """
    _join()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    folder = Path.home() / ".cache" / "assay" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError:  # a read-only home costs time, not correctness
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


def leader() -> bool:
    """Returns True in the process that writes logs and results (process 0). It initializes no device, so it may be called
    before `start`.
    """
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def together(where: str) -> None:
    """Waits until every process reaches this point; does nothing with a single process."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def hearing() -> Callable[[int], int]:
    """Returns `heard(number)`, which gives the largest number that any process passed; each process calls it once per step.

    It lets processes that stop all stop at the same step. With several processes the result is delayed by one call, so that nothing waits
    for the devices.
    """
    if jax.process_count() == 1:
        return lambda number: number
    mesh = jax.make_mesh((jax.device_count(),), ("all",), axis_types=(AxisType.Auto,))
    each, whole = NamedSharding(mesh, PartitionSpec("all")), NamedSharding(mesh, PartitionSpec())
    largest = jax.jit(jnp.max, out_shardings=whole)
    asked: list[jax.Array] = []

    def heard(number: int) -> int:
        given = jax.make_array_from_callback((mesh.size,), each, lambda index: np.full(1, number, np.int32))
        asked.append(largest(given))
        return int(asked.pop(0)) if len(asked) > 1 else 0

    return heard


@contextmanager
def among_others() -> Iterator[None]:
    """Raises Alone if a computation inside fails because another process is gone, which is assumed whenever there are several processes."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        told = str(error).splitlines()[0][:200]
        raise Alone(
            f"process {jax.process_index()} of {jax.process_count()} stops because another process does not answer ({told}). "
            "The same command resumes from the last checkpoint."
        ) from None


# -- private --------------------------------------------------------------------------------------------------------------


def _join() -> None:
    coordinator = os.environ.get(COORDINATOR, "")
    if not coordinator or jax.distributed.is_initialized():
        for name in (PROCESSES, PROCESS):
            if os.environ.get(name) and not coordinator:
                raise UserError(f"{name} is set and {COORDINATOR} is not. Give --coordinator=HOST:PORT, the address of process 0, or auto.")
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    arguments: dict[str, Any] = {} if coordinator == "auto" else _named(coordinator)
    arguments |= {"initialization_timeout": JOIN_SECONDS, "heartbeat_timeout_seconds": HEARTBEAT_SECONDS}
    try:
        jax.distributed.initialize(**arguments)
    except (ValueError, RuntimeError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the processes could not connect ({told}). --coordinator is HOST:PORT of process 0, the same for all processes; --processes "
            "is their number, --process the index of this one. Or use --coordinator=auto under Slurm, Open MPI, Kubernetes or on a TPU."
        ) from None


def _named(coordinator: str) -> dict[str, Any]:
    """Returns the arguments of `initialize`. Raises UserError for an invalid address, count or index."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"--coordinator={coordinator!r} is not an address. Write HOST:PORT, such as 10.0.0.1:9876, or auto.")
    counts = {name: os.environ.get(name, "") for name in (PROCESSES, PROCESS)}
    for name, text in counts.items():
        if not text.isdecimal():
            flag = name.removeprefix("ASSAY_").lower()
            raise UserError(f"--{flag}={text!r} is not a number. With --coordinator give --processes=N and --process=I, I from 0 to N - 1.")
    count, index = int(counts[PROCESSES]), int(counts[PROCESS])
    if not index < count:
        raise UserError(f"--process={index} is not one of {count} processes. Number them from 0 to {count - 1}.")
    return {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
