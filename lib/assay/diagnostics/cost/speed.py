"""Speed of models: latency of one example, examples per second, and speed-up over the first model.

    speed({"untreated": (model, params, batches), "int8": (small, quantised, batches)}, seconds=60)

Machine speed drifts, so models take turns in one process (A B C A B C ...), with some calls per turn. The value of a turn is the median of
its calls; the value of a model is the median over turns. A ratio is taken within each turn, first / other: above 1 is faster than
the first model, below 1 slower. Its interval is that of a median by order statistics (Conover 1999), valid for any
distribution. Parameters are arguments of the programs, never constants. Compilation, decoding and the energy counter take turns likewise.
Before and after the turns each model is timed alone. A disturbed timing (cost/disturbance.py) gives no ratios.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.machine import others, used
from assay.core.tree import PyTree
from assay.diagnostics.cost import energy
from assay.diagnostics.cost.cost import compiled_forward, forward
from assay.diagnostics.cost.disturbance import Timing, judge
from assay.models.model import Model

ONE, MANY = 1, 64  # rows of the two batches
WARM = 3  # warm-up calls
DECODE = 0  # stands in for a number of rows: a call that decodes
LEAST = {ONE: 10, MANY: 2, DECODE: 1}  # minimum calls per turn, if time allows as many turns
MOST = 1000  # maximum calls per turn
TURNS = 25
FEW = 6  # minimum number of turns for an interval; with fewer there is no verdict, and the models are not timed alone
ALONE = 2  # blocks of calls of a model alone, before the turns and again after them
DISTURBED = "disturbed"

Batches = Mapping[int, Mapping[str, Any]] | Callable[[int], Mapping[str, Any]]  # batches by number of rows


class Candidate(NamedTuple):
    model: Model
    params: PyTree
    batches: Batches
    decode: Callable[[], Any] | None = None  # compiled call that decodes an answer token by token and waits for it


class Speed(NamedTuple):
    """Warm timings of one model. Ratios to the first model: 2 is twice as fast, 0.5 half as fast.

    Intervals are None below six turns. Ratios are None if the timing was disturbed.
    """

    latency_p50_seconds: float  # batch of one: the first model's, divided by latency_ratio, so that times and ratios agree
    latency_p90_seconds: float
    examples_per_second: float  # one at a time
    batched_examples_per_second: float  # in batches of 64
    compile_seconds: float  # program for one example
    latency_ratio: float | None  # median over turns of (the first model's latency / this one's)
    latency_ratio_interval: tuple[float, float] | None  # at least 95 %
    throughput_ratio: float | None  # the same ratio for batches of 64
    throughput_ratio_interval: tuple[float, float] | None
    verdict: str  # on the latency: faster, slower or inconclusive, or disturbed; the first model is the baseline
    turns: int
    calls: int  # per turn, for a batch of one
    by_turn: Mapping[str, tuple[float, ...]] = {}  # p50, p90, batch, compile, decode (seconds) and joules (per example) -> value per turn
    timing: Timing = Timing({}, {}, None)  # of all models together, for one example


class Runner(NamedTuple):
    """Model prepared for timing."""

    call: Mapping[int, Callable[[], Any]]  # rows, or DECODE -> one call, which waits for its result
    compile_seconds: float
    compile: Callable[[], float] = lambda: math.nan  # recompiles the program for one example and returns XLA's time in seconds


def speed(
    candidates: Mapping[str, Candidate | tuple[Model, PyTree, Batches]],
    seconds: float = 60.0,
    on_turn: Callable[[int, int], None] = lambda done, turns: None,
    compiles: int = 1,
) -> dict[str, Speed]:
    """Measures the models in turns on the default device, in about `seconds` in total, compilation included.

    If compilation takes more than half of that, measuring still gets the other half. Programs are compiled up to `compiles` times, within
    a quarter of the time. `on_turn(done, turns)` reports progress.

    At least one turn is made, however long it takes. Raises ValueError if there is no model.
    """
    if not candidates:
        raise ValueError("there is no model to measure")
    end = time.perf_counter() + seconds
    runners = {name: _runner(Candidate(*candidate)) for name, candidate in candidates.items()}
    start = used()
    compiled = _compiled(runners, compiles, seconds / 4)
    end = max(end, time.perf_counter() + seconds / 2)  # half of the time is for measuring, however long compilation took
    calls, turns = _share(runners, end - time.perf_counter())
    seen: dict[str, dict[int, list[np.ndarray]]] = {name: {rows: [] for rows in runner.call} for name, runner in runners.items()}
    joules, counted = {name: list[float]() for name in runners}, energy.joules() is not None
    alone = {name: list[float]() for name in runners}
    _rest(runners, calls[ONE], turns, alone)
    for turn in range(turns):
        if turn and time.perf_counter() > end:
            break
        for name, runner in runners.items():
            for rows, call in runner.call.items():
                before = energy.joules() if counted and rows == MANY else None
                seen[name][rows].append(_timed(call, calls[rows]))
                if counted and rows == MANY:
                    joules[name].append(energy.spent(before) / (calls[MANY] * MANY))
        on_turn(turn + 1, turns)
    _rest(runners, calls[ONE], turns, alone)
    medians = {name: {rows: np.array([np.median(turn) for turn in of[rows]]) for rows in of} for name, of in seen.items()}
    first = medians[next(iter(medians))]
    timing = judge(alone, {name: of[ONE].tolist() for name, of in medians.items()}, others(start, used()))
    found = {}
    for name, own in medians.items():
        ratios = {rows: first[rows] / own[rows] for rows in (ONE, MANY)}
        interval = None if timing.disturbed else median_interval(ratios[ONE])
        p50, many = (float(np.median(first[rows]) / np.median(ratios[rows])) for rows in (ONE, MANY))
        slow = np.array([np.quantile(turn, 0.9) for turn in seen[name][ONE]])
        found[name] = Speed(
            latency_p50_seconds=p50,
            latency_p90_seconds=p50 * float(np.median(slow / own[ONE])),
            examples_per_second=ONE / p50,
            batched_examples_per_second=MANY / many,
            compile_seconds=float(np.median(compiled[name])),
            latency_ratio=None if timing.disturbed else float(np.median(ratios[ONE])),
            latency_ratio_interval=interval,
            throughput_ratio=None if timing.disturbed else float(np.median(ratios[MANY])),
            throughput_ratio_interval=None if timing.disturbed else median_interval(ratios[MANY]),
            verdict="baseline" if own is first else DISTURBED if timing.disturbed else verdict(interval),
            turns=len(own[ONE]),
            calls=calls[ONE],
            by_turn={
                "p50": tuple(own[ONE].tolist()),
                "p90": tuple(slow.tolist()),
                "batch": tuple(own[MANY].tolist()),
                "compile": tuple(compiled[name]),
                **({"decode": tuple(own[DECODE].tolist())} if DECODE in own else {}),
                **({"joules": tuple(joules[name])} if joules[name] else {}),
            },
            timing=timing,
        )
    return found


def median_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Returns an interval of the median at 95 % or more from order statistics, or None below six values, for which no pair suffices.

    The interval runs from the k-th smallest to the k-th largest value. k is the largest for which P(Binomial(n, 1/2) < k) is at most
    2.5 %.
    """
    n, below, k = len(values), 0.0, 0
    while k < n:
        below += math.comb(n, k) / 2**n
        if below > 0.025:
            break
        k += 1
    ordered = np.sort(values)
    return (float(ordered[k - 1]), float(ordered[n - k])) if k else None


def verdict(interval: tuple[float, float] | None) -> str:
    """Classifies an interval of a ratio as faster, slower or inconclusive."""
    if interval is None or interval[0] <= 1 <= interval[1]:
        return "inconclusive"
    return "faster" if interval[0] > 1 else "slower"


# -- private --------------------------------------------------------------------------------------------------------------


def _runner(candidate: Candidate) -> Runner:
    model, batches = candidate.model, candidate.batches
    params, call, compiling, given_of = jax.device_put(candidate.params), {}, {}, {}
    for rows in (ONE, MANY):
        batch = given_of[rows] = jax.device_put(dict(batches(rows) if callable(batches) else batches[rows]))
        given = len(jax.tree.leaves(batch)[0])
        if given != rows:
            raise ValueError(f"a batch of {rows} rows was requested, but {given} rows were given")
        program, compiling[rows] = compiled_forward(model, params, batch)
        small = any(leaf.dtype in (jnp.int4, jnp.uint4) for leaf in jax.tree.leaves(params))
        call[rows] = _call(jax.jit(forward(model)) if small else program, params, batch)  # ahead-of-time programs take no int4 (JAX 0.10)
        for _ in range(WARM):
            call[rows]()
    if candidate.decode is not None:
        call[DECODE] = candidate.decode
    return Runner(call, compiling[ONE], lambda: compiled_forward(model, params, given_of[ONE])[1])


def _compiled(runners: Mapping[str, Runner], times: int, seconds: float) -> dict[str, list[float]]:
    """Returns compile times in seconds: the initial ones first, then one per turn while time remains for another."""
    found, end = {name: [runner.compile_seconds] for name, runner in runners.items()}, time.perf_counter() + seconds
    longest = sum(runner.compile_seconds for runner in runners.values())
    for _ in range(1, times):
        start = time.perf_counter()
        if start + longest > end:
            break
        for name, runner in runners.items():
            found[name].append(runner.compile())
        longest = max(longest, time.perf_counter() - start)
    return found


def _call(program: Any, params: PyTree, batch: PyTree) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(program(params, batch))


def _timed(call: Callable[[], Any], times: int) -> np.ndarray:
    """Returns the duration of each call in seconds."""
    found = np.empty(times)
    for i in range(times):
        start = time.perf_counter()
        call()
        found[i] = time.perf_counter() - start
    return found


def _rest(runners: Mapping[str, Runner], calls: int, turns: int, alone: Mapping[str, list[float]]) -> None:
    """Times each of several models alone, and appends the medians of its blocks: the others rest, and no cache holds their data."""
    if turns >= FEW and len(runners) > 1:
        for name, runner in runners.items():
            alone[name].extend(float(np.median(_timed(runner.call[ONE], calls))) for _ in range(ALONE))


def _share(runners: Mapping[str, Runner], left: float) -> tuple[dict[int, int], int]:
    """Returns the number of calls per turn for each size, equal for all models, and the number of turns, to fill the remaining seconds."""
    start = time.perf_counter()
    once = {rows: sum(float(np.min(_timed(one.call[rows], 2))) for one in runners.values() if rows in one.call) for rows in LEAST}
    left -= time.perf_counter() - start
    least, alone = sum(LEAST[rows] * once[rows] for rows in LEAST), 2 * ALONE * LEAST[ONE] * once[ONE]
    if len(runners) == 1 or (left - alone) // least < FEW:
        alone = 0.0
    turns = int(min(TURNS, max(1, (left - alone) // least)))
    more = max(1.0, left / (turns * least + alone))
    return {rows: int(min(MOST, LEAST[rows] * more)) for rows in LEAST}, turns
