"""Speed as rows: what speed.py times of one model, or of several in turns, and how near to the device's best that is."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.tree import PyTree
from assay.diagnostics.cost.costs import batch_of, cost_of
from assay.diagnostics.cost.speed import MANY, ONE, Candidate, median_interval, speed
from assay.diagnostics.measurement import HIGHER, LOWER, SHARE, Measurement, Plot, inapplicable
from assay.diagnostics.subject import Subject
from assay.infer.decode import free_running

COST, SPEED = "cost", "speed"
SIDE, BLOCK = 1024, 1 << 26  # of the product and of the copy (bytes) by which the device's best is measured
LINE = 6  # turns, from which on they are drawn as a line
COMPILES = 12  # of a program, where there is time: as many turns as a sign test among many rows needs
ROWS = {  # name -> (unit, how, what it means, which direction is better)
    "compile_seconds": (
        "seconds",
        "XLA's compilation of the forward pass of one example, without its cache",
        "A new shape waits so long for its first answer.",
        LOWER,
    ),
    "latency_p50": ("seconds", "median call of one example, warm", "Half of the answers are there by then.", LOWER),
    "latency_p90": ("seconds", "ninth tenth of calls of one example, warm", "Nine of ten answers are there by then.", LOWER),
    "examples_per_second": ("examples/s", "one example at a time, warm", "So many are answered one at a time.", HIGHER),
    "batched_examples_per_second": ("examples/s", f"in batches of {MANY}, warm", f"So many are answered {MANY} at a time.", HIGHER),
}
DRAWN = {"latency_p50": ("ms", 1e3), "latency_p90": ("ms", 1e3), "roofline": ("of the device's best (%)", 100.0)}  # row -> unit, factor
SHARED: Mapping[str, Any] = {"timing": True, "margin": SHARE, "relative": True}


class Device(NamedTuple):
    """The best that was measured."""

    operations: float  # a second, float32 products
    bytes: float  # a second, read and written


class Timed(NamedTuple):
    """Of one model: its value in each turn by row, and the rows that they make."""

    turns: Mapping[str, np.ndarray]
    rows: Mapping[str, Measurement]
    failed: Exception | None = None  # how it failed to write token by token


def timed(
    subjects: Mapping[str, Subject],
    seconds: float,
    on_turn: Callable[[int, int], None] = lambda done, turns: None,
    compiles: int = COMPILES,
) -> dict[str, Timed]:
    """The rows of time of each model, in turns with the others, in about `seconds` in all."""
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
        found[name] = Timed(turns, rows, written[name].error)
    return found


def speeds(subject: Subject) -> list[Measurement]:
    """Compile time, latency and throughput, warm."""
    return [_timed(subject).rows[name] for name in ROWS]


def energy(subject: Subject) -> list[Measurement]:
    """Of one example in batches of 64, by the processor's counter."""
    found = _timed(subject).rows.get("energy")
    reason = "not measured: this device has no energy counter that can be read, or it did not move in every turn."
    return [found or inapplicable(COST, "energy", reason, timing=True)]


def decoding(subject: Subject) -> list[Measurement]:
    """Tokens a second where the model writes token by token."""
    found, name = _timed(subject), "tokens_per_second"
    if found.failed is not None:
        raise found.failed
    none = inapplicable(SPEED, name, "does not apply: answers are read at once, and not written token by token.", timing=True)
    return [found.rows.get(name, none)]


def roofline(subject: Subject) -> list[Measurement]:
    """The time that the device would need at its measured best over the time that batches of 64 take (Williams et al. 2009)."""
    none = inapplicable(SPEED, "roofline", "not measured: the operations of an example cannot be counted.", timing=True)
    return [_timed(subject).rows.get("roofline", none)]


def picture(name: str, values: np.ndarray, unit: str) -> Plot:
    """A row of time, turn by turn."""
    label, factor = DRAWN.get(name, (unit, 1.0))
    said = [float(f"{factor * value:.4g}") for value in values]
    if len(said) < LINE:
        return Plot("bar", list(range(len(said))), {label: said}, "", label, [str(i + 1) for i in range(len(said))])
    return Plot("line", list(range(1, len(said) + 1)), {label: said}, "turn", label)


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


class _Writing(NamedTuple):
    call: Callable[[], Any] | None  # writes an answer
    tokens: int = 0  # that it has
    error: Exception | None = None


def _timed(subject: Subject) -> Timed:
    """Asked once, also where it fails."""
    if "timed" not in subject.asked:
        try:
            subject.asked["timed"] = timed({"it": subject}, 0.6 * subject.seconds)["it"]
        except Exception as error:
            subject.asked["timed"] = error
    if isinstance(subject.asked["timed"], Exception):
        raise subject.asked["timed"]
    return subject.asked["timed"]


def _row(name: str, turns: np.ndarray, calls: int, tokens: int, bound: str, best: Device) -> Measurement:
    """The median over turns, with its interval."""
    middle, interval = float(np.median(turns)), median_interval(turns)
    known = {
        **ROWS,
        "tokens_per_second": (
            "tokens/s",
            f"greedy decoding of one of the longest examples, {tokens} tokens, its prompt read too, warm",
            "So many tokens are written in a second.",
            HIGHER,
        ),
        "energy": (
            "joules",
            "the processor's counter (RAPL, package 0) over batches of 64, by example; what else runs counts too",
            "So much energy an answer takes.",
            LOWER,
        ),
        "roofline": (
            "fraction",
            f"least time at the device's measured best ({best.operations / 1e9:.0f} Gop/s in a product of {SIDE} x {SIDE}, "
            f"{best.bytes / 1e9:.0f} GB/s in a copy) over the time taken, batches of 64",
            f"It runs at {100 * middle:.1f} % of what the device can do; the bound is {bound}.",
            HIGHER,
        ),
    }
    unit, how, meaning, better = known[name]
    told = f"the median of {len(turns)} turns" if interval else f"{len(turns)} turns, too few for an interval"
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
        plot=picture(name, turns, unit),
        **SHARED,
    )


def _writing(subject: Subject) -> _Writing:
    """Of models that write their answers, and of those that go on with a text: half of a passage is read, the other half written."""
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
    except Exception as error:  # it is no reason not to time the rest
        return _Writing(None, 0, error)


def _least(subject: Subject, best: Device) -> tuple[float, str]:
    """Seconds that a batch of 64 takes at the device's best, and what binds; "" where that is not known."""
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
