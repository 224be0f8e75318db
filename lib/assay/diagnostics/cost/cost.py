"""Cost of a model: parameters, bytes on disk and in memory, operations, peak memory, compile time. speed.py measures latency.

    cost(model, params, example_batch(task, "valid", rows=1))

Operations per example are counted in the program as written (flops.py): exact for products, convolutions and attention, with a multiply-add
as two. XLA's own count, which includes element-wise operations and counts a loop once, is reported beside it. The forward pass is an
inference call whose taps are not read. Pruned weights that are still stored cost as much as others. `nonzero` counts the remaining ones,
but only a smaller size in bytes is a saving.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from assay.core.errors import UserError
from assay.core.tree import PyTree, count
from assay.data.loader import encoded
from assay.diagnostics.cost.flops import flops
from assay.infer.export import export, exported_bytes
from assay.models.model import STATE, Batch, Model
from assay.tasks.task import Task

CHOSEN = ("valid", "iid")  # splits that examples are taken from, the first that the task has; then any except LEFT_ALONE
LEFT_ALONE = ("test", "train")


class Cost(NamedTuple):
    """Costs of one model. Peak memory and compile time are those of the forward pass on the given batch."""

    parameters: int  # number of learned values, including the scales of quantized ones and without batch statistics
    nonzero: int  # number of nonzero values
    bytes_on_disk: int  # values alone, as infer.export writes them
    bytes_in_memory: int  # parameters on the device
    flops_per_example: int | None  # counted; None if a loop's length depends on data
    xla_flops_per_example: float | None  # XLA's count; None if the device's compiler reports none
    peak_memory_bytes: int | None  # parameters, batch, results and temporaries together; None as above
    compile_seconds: float  # without the compilation cache
    folder_bytes: int = 0  # folder written by infer.export, with its index
    temporary_bytes: int | None = None  # part of the peak memory used for temporaries


def cost(model: Model, params: PyTree, batch: Mapping[str, Any]) -> Cost:
    """Compiles the forward pass for the batch [rows, ...], as made by example_batch, on the default device."""
    rows = len(jax.tree.leaves(dict(batch))[0])
    program, seconds = compiled_forward(model, params, batch)
    one = {name: jax.ShapeDtypeStruct((1, *array.shape[1:]), array.dtype) for name, array in batch.items()}
    memory = program.memory_analysis()
    learned = {name: part for name, part in params.items() if name != STATE} if isinstance(params, Mapping) else params
    return Cost(
        parameters=count(learned),
        nonzero=sum(int(np.count_nonzero(np.asarray(leaf) != 0)) for leaf in jax.tree.leaves(learned)),
        bytes_on_disk=exported_bytes(params),
        bytes_in_memory=bytes_in_memory(params),
        flops_per_example=_counted(model, params, one),
        xla_flops_per_example=_told(program, rows),
        peak_memory_bytes=None if memory is None else _peak(memory),
        compile_seconds=seconds,
        folder_bytes=_exported(params),
        temporary_bytes=None if memory is None else int(memory.temp_size_in_bytes),
    )


def bytes_in_memory(params: PyTree) -> int:
    """Returns the bytes of the parameters as laid out on the default device.

    The compiler's report is used, because `nbytes` and `on_device_size_in_bytes` count one byte per int4, while XLA stores two in a byte.
    On a CPU the resident memory of a process grows by 0.48 bytes per int4 and by 0.96 per int8 (measured).
    """
    found = jax.jit(_nothing, keep_unused=True).lower(params).compile().memory_analysis()
    return exported_bytes(params) if found is None else int(found.argument_size_in_bytes)


def compiled_forward(model: Model, params: PyTree, batch: Mapping[str, Any]) -> tuple[Any, float]:
    """Returns the forward pass compiled for a batch's shape, called as `program(params, dict(batch))`, and the compile time in seconds.

    The parameters are arguments: as constants they would be folded into the program, and quantized ones widened before it runs.
    """
    if model.opaque:
        return forward(model), 0.0  # a function of the host has no program
    lowered = jax.jit(forward(model)).lower(params, dict(batch))
    with _uncached():
        start = time.perf_counter()
        program = lowered.compile()
        return program, time.perf_counter() - start


def forward(model: Model) -> Callable[[PyTree, Batch], PyTree]:
    """Returns `(params, batch) -> logits`."""
    return lambda params, batch: model.apply(params, batch).logits


def example_batch(task: Task, split: str, rows: int) -> dict[str, np.ndarray]:
    """Returns the `rows` longest examples of a split, encoded and padded to the split's longest length: the most expensive shape.

    `split=""` takes `valid`, or the closest substitute. Raises UserError for `test`, which must not influence choices.
    """
    split = split or _split(task)
    if split == "test":
        raise UserError("cost is not measured on the split 'test', which must not influence choices. Set --split=valid, or omit it.")
    source = task.source(split)
    indices = np.resize(source.indices(rows)[-rows:], rows)
    return {**encoded(source, indices, task.encode, task.width(source.lengths[1]))[1], "weight": np.ones(rows, np.float32)}


# -- private --------------------------------------------------------------------------------------------------------------


def _exported(params: PyTree) -> int:
    with tempfile.TemporaryDirectory() as folder:
        export(params, Path(folder) / "params")
        return sum(path.stat().st_size for path in (Path(folder) / "params").iterdir())


def _nothing(params: PyTree) -> jax.Array:
    del params
    return jnp.zeros(())


def _counted(model: Model, params: PyTree, batch: Any) -> int | None:
    try:
        return flops(forward(model), params, batch)
    except ValueError:
        return None


def _told(program: Any, rows: int) -> float | None:
    found = program.cost_analysis()
    return float(found["flops"]) / rows if found and "flops" in found else None


def _peak(memory: Any) -> int:
    return memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes


def _split(task: Task) -> str:
    for name in (*CHOSEN, *(other for other in task.splits if other not in LEFT_ALONE)):
        if name in task.splits:
            return name
    return "train"


@contextmanager
def _uncached() -> Iterator[None]:
    """Disables the compilation cache inside the block, for reads and writes."""
    config: Any = jax.config  # its attributes are created when JAX is imported
    before = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX checks for a cache once and remembers the answer
    try:
        yield
    finally:
        config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
