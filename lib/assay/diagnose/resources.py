"""Cost and speed as rows: what cost.py counts and speed.py times, decoding, energy, and how near to the device's roofline a model runs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.tree import PyTree
from assay.diagnose.cost import Cost, compiled_forward, cost, example_batch
from assay.diagnose.measurement import HIGHER, LOWER, SHARE, Measurement, inapplicable
from assay.diagnose.speed import MANY, ONE, Speed, speed
from assay.diagnose.subject import Subject
from assay.infer.decode import free_running

COST, SPEED = "cost", "speed"
COUNTER = Path("/sys/class/powercap/intel-rapl:0/energy_uj")  # microjoules of the processor, where the system has it
SIDE, BLOCK = 1024, 1 << 26  # of the product and of the copy (float32 numbers) by which the device's roofline is measured
COSTS = {  # field of Cost -> (name, unit, how, what it means)
    "parameters": ("parameters", "", "numbers in the parameters, scales of quantised ones included", ""),
    "bytes_on_disk": ("bytes_on_disk", "bytes", "values of the exported parameters, int4 packed two to a byte", "So much is shipped."),
    "bytes_in_memory": ("bytes_in_memory", "bytes", "of the parameters on the device", "So much memory the parameters take."),
    "flops_per_example": (
        "flops",
        "operations",
        "of one of the longest examples, in products, convolutions and attention; a multiplication and an addition are two",
        "So many operations an answer takes.",
    ),
    "xla_flops_per_example": ("xla_flops", "operations", "of one example as XLA counts them, a loop once", "XLA's count beside ours."),
    "peak_memory_bytes": (
        "peak_memory",
        "bytes",
        "of the forward pass of one example: parameters, batch, results and temporaries",
        "So much memory an answer takes.",
    ),
}
SPEEDS = {  # field of Speed -> (name, unit, how, what it means, which direction is better)
    "compile_seconds": (
        "compile_seconds",
        "seconds",
        "XLA's compilation of the forward pass of one example, without its cache",
        "A new shape waits so long for its first answer.",
        LOWER,
    ),
    "latency_p50_seconds": ("latency_p50", "seconds", "median call of one example, warm", "Half of the answers are there by then.", LOWER),
    "latency_p90_seconds": (
        "latency_p90",
        "seconds",
        "ninth tenth of calls of one example, warm",
        "Nine of ten answers are there by then.",
        LOWER,
    ),
    "examples_per_second": (
        "examples_per_second",
        "examples/s",
        "one example at a time, warm",
        "So many are answered one at a time.",
        HIGHER,
    ),
    "batched_examples_per_second": (
        "batched_examples_per_second",
        "examples/s",
        f"in batches of {MANY}, warm",
        f"So many are answered {MANY} at a time.",
        HIGHER,
    ),
}


def costs(subject: Subject) -> list[Measurement]:
    """Numbers of the parameters and of the forward pass of one example."""
    found = _cost(subject)
    rows = []
    for field, (name, unit, how, sentence) in COSTS.items():
        value = getattr(found, field)
        if value is None:
            rows.append(inapplicable(COST, name, "not measured: a loop's length is data, or the device's compiler does not say."))
            continue
        meaning = sentence or f"{found.parameters:,} numbers were learnt, of which {found.nonzero:,} are not zero."
        rows.append(
            Measurement(
                COST, name, float(value), unit=unit, n=1, how=how, meaning=meaning, better=LOWER, margin=SHARE, relative=True, exact=True
            )
        )
    return rows


def energy(subject: Subject) -> list[Measurement]:
    """Of one example in batches of 64, by the processor's counter."""
    if not _readable(COUNTER):
        return [inapplicable(COST, "energy", "not measured: this device has no energy counter that can be read.", timing=True)]
    call = _forward(subject, MANY)
    before, start, calls = int(COUNTER.read_text()), time.perf_counter(), 0
    while time.perf_counter() - start < 1.0:
        call()
        calls += 1
    joules = max(int(COUNTER.read_text()) - before, 0) / 1e6 / (calls * MANY)
    return [
        Measurement(
            COST,
            "energy",
            joules,
            unit="joules",
            n=calls,
            how="the processor's counter (RAPL, package 0) over a second of batches of 64, by example; what else runs counts too",
            meaning="So much energy an answer takes.",
            timing=True,
            better=LOWER,
            margin=SHARE,
            relative=True,
        )
    ]


def speeds(subject: Subject) -> list[Measurement]:
    """Latency and throughput, warm."""
    found = _speed(subject)
    shared: dict[str, Any] = {"timing": True, "margin": SHARE, "relative": True, "n": found.turns * found.calls}
    return [
        Measurement(SPEED, name, getattr(found, field), unit=unit, how=how, meaning=meaning, better=better, **shared)
        for field, (name, unit, how, meaning, better) in SPEEDS.items()
    ]


def decoding(subject: Subject) -> list[Measurement]:
    """Tokens a second where the model writes its answers token by token."""
    name = "tokens_per_second"
    if not subject.task.free_running:
        return [inapplicable(SPEED, name, "does not apply: answers are read at once, and not written token by token.", timing=True)]
    batch = jax.device_put(_batch(subject, ONE))
    task = subject.task
    program = jax.jit(lambda params, batch: free_running(subject.model, params, batch, task.answer_to_input, task.free_running).logits)
    call = _ended(program, subject.params, batch)
    call()
    seconds = _median(call, 0.15 * subject.seconds)
    tokens = int((batch["given"] == 0).sum())
    return [
        Measurement(
            SPEED,
            name,
            tokens / seconds,
            unit="tokens/s",
            n=tokens,
            how=f"greedy decoding of one of the longest examples, {tokens} tokens, its prompt read too, warm",
            meaning="So many tokens are written in a second.",
            timing=True,
            better=HIGHER,
            margin=SHARE,
            relative=True,
        )
    ]


def roofline(subject: Subject) -> list[Measurement]:
    """The time that the device would need at its measured best over the time that batches of 64 take (Williams et al. 2009)."""
    found, count = _speed(subject), _cost(subject).flops_per_example
    if count is None:
        return [inapplicable(SPEED, "roofline", "not measured: the operations of an example cannot be counted.", timing=True)]
    best = device()
    took = MANY / found.batched_examples_per_second
    moved = _cost(subject).bytes_in_memory
    least = max(count * MANY / best.operations, moved / best.bytes)
    bound = "arithmetic" if count * MANY / best.operations > moved / best.bytes else "memory"
    return [
        Measurement(
            SPEED,
            "roofline",
            least / took,
            unit="fraction",
            n=1,
            how=f"least time at the device's measured best ({best.operations / 1e9:.0f} Gop/s in a product of {SIDE} x {SIDE}, "
            f"{best.bytes / 1e9:.0f} GB/s in a copy) over the time taken, batches of 64",
            meaning=f"It runs at {100 * least / took:.1f} % of what the device can do; the bound is {bound}.",
            timing=True,
            better=HIGHER,
            margin=SHARE,
            relative=True,
        )
    ]


class Device(NamedTuple):
    """The best that was measured."""

    operations: float  # a second, float32 products
    bytes: float  # a second, read and written


def device() -> Device:
    """The default device's best rates, each the fastest of five calls."""
    square, long = jnp.ones((SIDE, SIDE)), jnp.ones((BLOCK // 4,))
    product, copy = jax.jit(lambda x: x @ x), jax.jit(lambda x: x + 1.0)
    rates = []
    for program, given, work in ((product, square, 2 * SIDE**3), (copy, long, 2 * long.nbytes)):
        call = _ended(program, given)
        call()
        rates.append(work / min(_once(call) for _ in range(5)))
    return Device(*rates)


# -- private --------------------------------------------------------------------------------------------------------------


def _cost(subject: Subject) -> Cost:
    if "cost" not in subject.asked:
        subject.asked["cost"] = cost(subject.model, subject.params, _batch(subject, ONE))
    return subject.asked["cost"]


def _speed(subject: Subject) -> Speed:
    if "speed" not in subject.asked:
        batches = {rows: _batch(subject, rows) for rows in (ONE, MANY)}
        subject.asked["speed"] = speed({"it": (subject.model, subject.params, batches)}, 0.5 * subject.seconds)["it"]
    return subject.asked["speed"]


def _batch(subject: Subject, rows: int) -> dict[str, np.ndarray]:
    return subject.first(rows, again=True) if list(subject.task.splits) == ["test"] else example_batch(subject.task, "", rows)


def _forward(subject: Subject, rows: int) -> Callable[[], Any]:
    batch = jax.device_put(_batch(subject, rows))
    program, _ = compiled_forward(subject.model, subject.params, batch)
    return _ended(program, subject.params, batch)


def _ended(program: Callable, *given: PyTree) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(program(*given))


def _once(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _median(call: Callable[[], Any], seconds: float) -> float:
    end, found = time.perf_counter() + seconds, [_once(call) for _ in range(3)]
    while time.perf_counter() < end:
        found.append(_once(call))
    return float(np.median(found))


def _readable(path: Path) -> bool:
    try:
        return path.read_text().strip().isdigit()
    except OSError:
        return False
