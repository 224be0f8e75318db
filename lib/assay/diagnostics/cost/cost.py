"""What a model costs: numbers, bytes on disk and in memory, operations, peak memory, compile time. Latency is in speed.py.

    cost(model, params, example_batch(task, "valid", rows=1))

Operations of an example are counted in the program as it is written (flops.py), exact for products, convolutions and attention, with a
multiplication and an addition as two; XLA's own count, which has element-wise operations and counts a loop once, stands beside it.
The forward pass is that of a call without training, whose taps nobody reads. A pruned weight that is still stored costs as much as another:
`nonzero` says how many are left, and only what is smaller in bytes is smaller.
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
from assay.diagnostics.cost.flops import flops
from assay.infer.export import export, exported_bytes
from assay.models.model import Batch, Model
from assay.tasks.task import Task

CHOSEN = ("valid", "iid")  # splits that examples are taken from, the first that the task has; then any but those below
LEFT_ALONE = ("test", "train")


class Cost(NamedTuple):
    """Of one model. Peak memory and compile time are those of the forward pass on the batch that was given."""

    parameters: int  # numbers, scales of quantised ones included
    nonzero: int  # of them, those that are not zero
    bytes_on_disk: int  # values alone, as infer.export writes them
    bytes_in_memory: int  # of the parameters on the device
    flops_per_example: int | None  # counted; None where a loop's length is data
    xla_flops_per_example: float | None  # XLA's count; None where the device's compiler gives none
    peak_memory_bytes: int | None  # parameters, batch, results and temporaries together; None as above
    compile_seconds: float  # without the compilation cache
    folder_bytes: int = 0  # of the folder that infer.export writes, with its index
    temporary_bytes: int | None = None  # of the peak memory, what only the computation needs


def cost(model: Model, params: PyTree, batch: Mapping[str, Any]) -> Cost:
    """Compiles the forward pass for the batch [rows, ...], as example_batch makes one, on the default device."""
    rows = len(jax.tree.leaves(dict(batch))[0])
    program, seconds = compiled_forward(model, params, batch)
    one = {name: jax.ShapeDtypeStruct((1, *array.shape[1:]), array.dtype) for name, array in batch.items()}
    memory = program.memory_analysis()
    return Cost(
        parameters=count(params),
        nonzero=sum(int(np.count_nonzero(np.asarray(leaf) != 0)) for leaf in jax.tree.leaves(params)),
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
    """Bytes of the parameters as the default device lays them out.

    The compiler is asked, as `nbytes` and `on_device_size_in_bytes` say a byte for an int4, and XLA stores two in a byte: on a CPU the
    resident memory of a process grows by 0.48 bytes for each int4, and by 0.96 for each int8 (measured).
    """
    found = jax.jit(_nothing, keep_unused=True).lower(params).compile().memory_analysis()
    return exported_bytes(params) if found is None else int(found.argument_size_in_bytes)


def compiled_forward(model: Model, params: PyTree, batch: Mapping[str, Any]) -> tuple[Any, float]:
    """The forward pass compiled for a batch's shape, called as `program(params, dict(batch))`, and the seconds that XLA took.

    The parameters are its arguments: as constants they would be folded into the program, and quantised ones be widened before it runs.
    """
    lowered = jax.jit(forward(model)).lower(params, dict(batch))
    with _uncached():
        start = time.perf_counter()
        program = lowered.compile()
        return program, time.perf_counter() - start


def forward(model: Model) -> Callable[[PyTree, Batch], PyTree]:
    """`(params, batch) -> logits`."""
    return lambda params, batch: model.apply(params, batch).logits


def example_batch(task: Task, split: str, rows: int) -> dict[str, np.ndarray]:
    """The longest examples of a split, as many as `rows`, encoded and padded to the split's longest length: the shape that costs most.

    `split`: "" takes `valid`, or where there is none what comes nearest. Raises UserError for `test`, which no choice may look at.
    """
    split = split or _split(task)
    if split == "test":
        raise UserError("a cost is not measured on the split 'test', which choices leave alone. Set --split=valid, or leave it out.")
    source = task.source(split)
    examples = source.fetch(np.resize(source.indices(rows)[-rows:], rows))
    return {**task.encode(examples, task.width(source.lengths[1])), "weight": np.ones(rows, np.float32)}


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
    """What is compiled inside comes from no compilation cache, and leaves nothing there."""
    config: Any = jax.config  # its attributes are made when JAX is imported
    before = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # whether there is one is asked once, and kept
    try:
        yield
    finally:
        config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
