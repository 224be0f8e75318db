"""What a process does once before it computes: it joins the others where there are several, and turns the compilation cache on.

The environment says who the others are, so that whatever starts processes can say it; verbs have flags that set it.

    ASSAY_COORDINATOR   HOST:PORT of process 0; or `auto`, where JAX finds all three out: Slurm, Open MPI, TPU, Kubernetes
    ASSAY_PROCESSES     how many processes
    ASSAY_PROCESS       which of them this is, from 0
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
HEARTBEAT_SECONDS = 30  # a process that is not heard of for so long is gone, and the others end
JOIN_SECONDS = 120  # how long the first process waits for the last


def start() -> None:
    """Joins the other processes that the environment names, and turns the compilation cache on. Further calls do nothing.

    The cache: $JAX_COMPILATION_CACHE_DIR as it is, else ~/.cache/assay/xla, made with mode 0700. It amounts to code that will be run, so
    nobody else may write to ours. Raises UserError where the processes do not come together.
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
    """Whether this is the process that writes files and speaks. It may be asked before `start`: it wakes no device."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def together(where: str) -> None:
    """Waits until every process is here; with one, nothing."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def hearing() -> Callable[[int], int]:
    """`heard(number)`, which each process calls once a step, returns the largest number that any of them gave: processes that stop must
    stop at the same step. With several, one call late, so that nothing waits for the devices."""
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
    """Where a computation fails inside, with several processes, it is because another is gone. Raises Alone then."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        told = str(error).splitlines()[0][:200]
        raise Alone(
            f"process {jax.process_index()} of {jax.process_count()} stops, since another one does not answer ({told}). "
            "The same command goes on from the last checkpoint."
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
            f"the processes did not come together ({told}). --coordinator is HOST:PORT of process 0, the same for all of them, --processes "
            "how many there are, --process which one this is; or --coordinator=auto under Slurm, Open MPI, Kubernetes or on a TPU."
        ) from None


def _named(coordinator: str) -> dict[str, Any]:
    """The arguments of `initialize`. Raises UserError for what is no address, no count or no number."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"--coordinator={coordinator!r} is no address. Write HOST:PORT, such as 10.0.0.1:9876, or auto.")
    counts = {name: os.environ.get(name, "") for name in (PROCESSES, PROCESS)}
    for name, text in counts.items():
        if not text.isdecimal():
            flag = name.removeprefix("ASSAY_").lower()
            raise UserError(f"--{flag}={text!r} is no number. With --coordinator give --processes=N and --process=I, I from 0 to N - 1.")
    count, index = int(counts[PROCESSES]), int(counts[PROCESS])
    if not index < count:
        raise UserError(f"--process={index} is not one of {count} processes. Number them from 0 to {count - 1}.")
    return {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
