"""Speed rows: timings from speed.py for one model or several in turns, and their ratio to the device's measured peak."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.tree import PyTree
from assay.diagnostics.cost.costs import batch_of, cost_of
from assay.diagnostics.cost.disturbance import Timing
from assay.diagnostics.cost.speed import MANY, ONE, Candidate, median_interval, speed
from assay.diagnostics.measurement import HIGHER, LOWER, SHARE, Measurement, Plot, inapplicable
from assay.diagnostics.subject import Subject
from assay.infer.decode import free_running

COST, SPEED = "cost", "speed"
SIDE, BLOCK = 1024, 1 << 26  # sizes of the matrix product and the copy (bytes) that measure the device's peak
LINE = 6  # minimum number of turns for a line plot
COMPILES = 12  # maximum number of compilations per program: the number of turns that a sign test among many rows needs
ROWS = {  # name -> (unit, how, meaning, better direction)
    "compile_seconds": (
        "seconds",
        "XLA's compilation of the forward pass of one example, without its cache",
        "Compile time before the first answer at a new input shape.",
        LOWER,
    ),
    "latency_p50": ("seconds", "median warm call with one example", "Half of the answers take at most this long.", LOWER),
    "latency_p90": ("seconds", "90th percentile of warm calls with one example", "Nine of ten answers take at most this long.", LOWER),
    "examples_per_second": ("examples/s", "one example at a time, warm", "Throughput with one example at a time.", HIGHER),
    "batched_examples_per_second": ("examples/s", f"in batches of {MANY}, warm", f"Throughput with batches of {MANY}.", HIGHER),
}
DRAWN = {"latency_p50": ("ms", 1e3), "latency_p90": ("ms", 1e3), "roofline": ("of the device's peak (%)", 100.0)}  # row -> unit, factor
SHARED: Mapping[str, Any] = {"timing": True, "margin": SHARE, "relative": True}


class Device(NamedTuple):
    """Peak rates measured on the device."""

    operations: float  # float32 operations per second in matrix products
    bytes: float  # bytes per second, read and written


class Timed(NamedTuple):
    """Timings of one model: the value of each row in each turn, and the resulting rows."""

    turns: Mapping[str, np.ndarray]
    rows: Mapping[str, Measurement]
    failed: Exception | None = None  # error raised while decoding token by token
    timing: Timing = Timing({}, {}, None)  # of all models that took turns


def timed(
    subjects: Mapping[str, Subject],
    seconds: float,
    on_turn: Callable[[int, int], None] = lambda done, turns: None,
    compiles: int = COMPILES,
) -> dict[str, Timed]:
    """Times all models in turns, within about `seconds` in total, and returns the rows of each model."""
    written, candidates = {name: _writing(subject) for name, subject in subjects.items()}, {}
    for name, subject in subjects.items():
        batches = {rows: batch_of(subject, rows) for rows in (ONE, MANY)}
        candidates[name] = Candidate(subject.model, subject.params, batches, written[name].call)
    speeds, best = speed(candidates, seconds, on_turn, compiles), device()
    found = {}
    for name, subject in subjects.items():
        by = {figure: np.array(values) for figure, values in speeds[name].by_turn.items()}
        least, bound = _least(subject, best)
        turns = {
            "compile_seconds": by["compile"],
            "latency_p50": by["p50"],
            "latency_p90": by["p90"],
            "examples_per_second": ONE / by["p50"],
            "batched_examples_per_second": MANY / by["batch"],
        }
        if "decode" in by:
            turns["tokens_per_second"] = written[name].tokens / by["decode"]
        if bound:
            turns["roofline"] = least / by["batch"]
        if "joules" in by and (by["joules"] > 0).all():
            turns["energy"] = by["joules"]
        rows = {row: _row(row, values, speeds[name].calls, written[name].tokens, bound, best) for row, values in turns.items()}
        timing = speeds[name].timing
        if timing.disturbed:
            rows = {row: value._replace(how=f"{value.how}; {timing.disturbed}") for row, value in rows.items()}
        found[name] = Timed(turns, rows, written[name].error, timing)
    return found


def speeds(subject: Subject) -> list[Measurement]:
    """Measures compile time, latency and throughput, warm."""
    rows = [_timed(subject).rows[name] for name in ROWS]
    if not subject.model.opaque:
        return rows
    reason = f"does not apply: {subject.model.opaque}, and is not compiled."
    return [inapplicable(SPEED, row.name, reason, timing=True) if row.name == "compile_seconds" else row for row in rows]


def energy(subject: Subject) -> list[Measurement]:
    """Measures energy per example in batches of 64, with the processor's counter."""
    found = _timed(subject).rows.get("energy")
    reason = "not measured: this device has no readable energy counter, or the counter did not change in every turn."
    return [found or inapplicable(COST, "energy", reason, timing=True)]


def decoding(subject: Subject) -> list[Measurement]:
    """Measures tokens per second for models that decode token by token."""
    found, name = _timed(subject), "tokens_per_second"
    if found.failed is not None:
        raise found.failed
    none = inapplicable(SPEED, name, "does not apply: the model predicts the whole answer at once, not token by token.", timing=True)
    return [found.rows.get(name, none)]


def roofline(subject: Subject) -> list[Measurement]:
    """Measures the time needed at the device's measured peak relative to the time taken by batches of 64 (Williams et al. 2009)."""
    none = inapplicable(SPEED, "roofline", "not measured: the operations of an example cannot be counted.", timing=True)
    if subject.model.opaque:
        none = none._replace(reason=f"does not apply: {subject.model.opaque}, and shows no operations.")
    return [_timed(subject).rows.get("roofline", none)]


def picture(name: str, values: np.ndarray, unit: str) -> Plot:
    """Plots a timing row, turn by turn."""
    label, factor = DRAWN.get(name, (unit, 1.0))
    said = [float(f"{factor * value:.4g}") for value in values]
    if len(said) < LINE:
        return Plot("bar", list(range(len(said))), {label: said}, "", label, [str(i + 1) for i in range(len(said))])
    return Plot("line", list(range(1, len(said) + 1)), {label: said}, "turn", label)


def device() -> Device:
    """Measures the default device's peak rates, each the fastest of five calls."""
    square, long = jnp.ones((SIDE, SIDE)), jnp.ones((BLOCK // 4,))
    product, copy = jax.jit(lambda x: x @ x), jax.jit(lambda x: x + 1.0)
    rates = []
    for program, given, work in ((product, square, 2 * SIDE**3), (copy, long, 2 * long.nbytes)):
        call = _ended(program, given)
        call()
        rates.append(work / min(_once(call) for _ in range(5)))
    return Device(*rates)


# -- private --------------------------------------------------------------------------------------------------------------


class _Writing(NamedTuple):
    call: Callable[[], Any] | None  # decodes one answer
    tokens: int = 0  # number of tokens of the answer
    error: Exception | None = None


def _timed(subject: Subject) -> Timed:
    """Times the subject once and caches the result, including a failure."""
    if "timed" not in subject.asked:
        try:
            subject.asked["timed"] = timed({"it": subject}, 0.6 * subject.seconds)["it"]
        except Exception as error:
            subject.asked["timed"] = error
    if isinstance(subject.asked["timed"], Exception):
        raise subject.asked["timed"]
    return subject.asked["timed"]


def _row(name: str, turns: np.ndarray, calls: int, tokens: int, bound: str, best: Device) -> Measurement:
    """Returns the median over turns, with its interval."""
    middle, interval = float(np.median(turns)), median_interval(turns)
    known = {
        **ROWS,
        "tokens_per_second": (
            "tokens/s",
            f"greedy decoding of one of the longest examples, {tokens} tokens, including its prompt, warm",
            "Decoding throughput in tokens per second.",
            HIGHER,
        ),
        "energy": (
            "joules",
            "the processor's counter (RAPL, package 0) over batches of 64, per example; other processes are included",
            "Energy per answer.",
            LOWER,
        ),
        "roofline": (
            "fraction",
            f"minimum time at the device's measured peak ({best.operations / 1e9:.0f} Gop/s in a product of {SIDE} x {SIDE}, "
            f"{best.bytes / 1e9:.0f} GB/s in a copy) relative to the time taken, batches of 64",
            f"The model runs at {100 * middle:.1f} % of the device's peak; it is limited by {bound}."
            if middle <= 1
            else f"The model runs at {100 * middle:.1f} % of the peak that was measured, which other work on the device made too low.",
            HIGHER,
        ),
    }
    unit, how, meaning, better = known[name]
    told = f"median of {len(turns)} turns" if interval else f"{len(turns)} turns, too few for an interval"
    return Measurement(
        COST if name == "energy" else SPEED,
        name,
        middle,
        unit=unit,
        n=len(turns) * (calls if name.startswith(("latency", "examples")) else 1),
        interval=interval,
        how=f"{how}; {told}",
        meaning=meaning,
        better=better,
        fact="latency" if name.startswith("latency") else "",
        plot=picture(name, turns, unit),
        **SHARED,
    )


def _writing(subject: Subject) -> _Writing:
    """Prepares decoding for models that write their answers or continue a text; of a passage, half is read and the other half written."""
    task, model = subject.task, subject.model
    if model.decode is None or not subject.tokens or task.vocabulary.pooled or task.vocabulary.heads:
        return _Writing(None)
    if not task.free_running and "perplexity" not in task.metrics:
        return _Writing(None)
    try:
        batch = dict(batch_of(subject, ONE))
        if not task.free_running:
            width = batch["inputs"].shape[1]
            batch["given"] = np.broadcast_to(np.arange(width) < width // 2, batch["inputs"].shape).astype(np.float32)
        tokens, batch, stride = int((batch["given"] == 0).sum()), jax.device_put(batch), task.free_running or 1
        program = jax.jit(lambda params, batch: free_running(model, params, batch, task.answer_to_input, stride).logits)
        call = _ended(program, jax.device_put(subject.params), batch)
        call()
        return _Writing(call, tokens)
    except Exception as error:  # a decoding failure must not prevent the other timings
        return _Writing(None, 0, error)


def _least(subject: Subject, best: Device) -> tuple[float, str]:
    """Returns the time of a batch of 64 at the device's peak, in seconds, and the limiting resource; "" if unknown."""
    if subject.model.opaque:
        return 0.0, ""
    found = cost_of(subject)
    if found.flops_per_example is None:
        return 0.0, ""
    arithmetic, memory = found.flops_per_example * MANY / best.operations, found.bytes_in_memory / best.bytes
    return max(arithmetic, memory), "arithmetic" if arithmetic > memory else "memory"


def _ended(program: Callable, *given: PyTree) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(program(*given))


def _once(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
