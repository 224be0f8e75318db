"""How fast models answer: latency of one example, examples a second, and how much faster each is than the first.

    speed({"untreated": (model, params, batches), "int8": (small, quantised, batches)}, seconds=60)

A machine drifts, so models take turns in one process (A B C A B C ...): some calls each, until the results are there. A turn's figure is
the median of its calls, a model's figure the median over turns, and a ratio is taken within each turn, first / other, so that above 1 is
faster and below 1 is slower than the first. Its interval is that of a median by order statistics (Conover 1999): it holds whatever the
distribution. Parameters are arguments of the programs, never constants. Compiling, decoding and the energy counter take turns likewise.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.tree import PyTree
from assay.diagnostics.cost import energy
from assay.diagnostics.cost.cost import compiled_forward, forward
from assay.models.model import Model

ONE, MANY = 1, 64  # rows of the two batches
WARM = 3  # calls before the first that counts
DECODE = 0  # in the place of rows: a call that decodes
LEAST = {ONE: 10, MANY: 2, DECODE: 1}  # calls of a turn, where time allows as many turns
MOST = 1000  # calls of a turn
TURNS = 25

Batches = Mapping[int, Mapping[str, Any]] | Callable[[int], Mapping[str, Any]]  # of each size, by the number of rows


class Candidate(NamedTuple):
    model: Model
    params: PyTree
    batches: Batches
    decode: Callable[[], Any] | None = None  # writes an answer token by token, compiled, and ends when it is there


class Speed(NamedTuple):
    """Of one model, warm. Ratios are to the first model: 2 is twice as fast, 0.5 half as fast; intervals are None below six turns."""

    latency_p50_seconds: float  # of a batch of one
    latency_p90_seconds: float
    examples_per_second: float  # one at a time
    batched_examples_per_second: float  # in batches of 64
    compile_seconds: float  # of the program for one example
    latency_ratio: float  # median over turns of (the first model's latency / this one's)
    latency_ratio_interval: tuple[float, float] | None  # at least 95 %
    throughput_ratio: float  # the same of batches of 64
    throughput_ratio_interval: tuple[float, float] | None
    verdict: str  # of the latency: faster, slower or inconclusive; the first model is the baseline
    turns: int
    calls: int  # in each turn, of a batch of one
    by_turn: Mapping[str, tuple[float, ...]] = {}  # figure -> of each turn: p50, p90, batch, compile, decode (seconds), joules (an example)


class Runner(NamedTuple):
    """A model ready to be timed."""

    call: Mapping[int, Callable[[], Any]]  # rows, or DECODE -> one call, which ends when its result is there
    compile_seconds: float
    compile: Callable[[], float] = lambda: math.nan  # compiles the program for one example again: the seconds that XLA took


def speed(
    candidates: Mapping[str, Candidate | tuple[Model, PyTree, Batches]],
    seconds: float = 60.0,
    on_turn: Callable[[int, int], None] = lambda done, turns: None,
    compiles: int = 1,
) -> dict[str, Speed]:
    """Measures the models in turns, on the default device, in about `seconds` in all, compiling included; where that takes more than half
    of them, the other half is added. `on_turn(done, turns)` tells. Programs are compiled up to `compiles` times, in a quarter of it.

    One turn is always made, however long it takes. Raises ValueError for no model.
    """
    if not candidates:
        raise ValueError("there is no model to measure")
    end = time.perf_counter() + seconds
    runners = {name: _runner(Candidate(*candidate)) for name, candidate in candidates.items()}
    compiled = _compiled(runners, compiles, seconds / 4)
    end = max(end, time.perf_counter() + seconds / 2)  # however long compiling took, half of it is for measuring
    calls, turns = _share(runners, end - time.perf_counter())
    seen: dict[str, dict[int, list[np.ndarray]]] = {name: {rows: [] for rows in runner.call} for name, runner in runners.items()}
    joules, counted = {name: list[float]() for name in runners}, energy.joules() is not None
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
    medians = {name: {rows: np.array([np.median(turn) for turn in of[rows]]) for rows in of} for name, of in seen.items()}
    first = medians[next(iter(medians))]
    found = {}
    for name, own in medians.items():
        ratios = {rows: first[rows] / own[rows] for rows in (ONE, MANY)}
        interval = median_interval(ratios[ONE])
        found[name] = Speed(
            latency_p50_seconds=float(np.median(own[ONE])),
            latency_p90_seconds=float(np.median([np.quantile(turn, 0.9) for turn in seen[name][ONE]])),
            examples_per_second=float(ONE / np.median(own[ONE])),
            batched_examples_per_second=float(MANY / np.median(own[MANY])),
            compile_seconds=float(np.median(compiled[name])),
            latency_ratio=float(np.median(ratios[ONE])),
            latency_ratio_interval=interval,
            throughput_ratio=float(np.median(ratios[MANY])),
            throughput_ratio_interval=median_interval(ratios[MANY]),
            verdict="baseline" if own is first else verdict(interval),
            turns=len(own[ONE]),
            calls=calls[ONE],
            by_turn={
                "p50": tuple(own[ONE].tolist()),
                "p90": tuple(float(np.quantile(turn, 0.9)) for turn in seen[name][ONE]),
                "batch": tuple(own[MANY].tolist()),
                "compile": tuple(compiled[name]),
                **({"decode": tuple(own[DECODE].tolist())} if DECODE in own else {}),
                **({"joules": tuple(joules[name])} if joules[name] else {}),
            },
        )
    return found


def median_interval(values: np.ndarray) -> tuple[float, float] | None:
    """An interval of the median at 95 % or more, from order statistics: the k-th smallest to the k-th largest with the greatest k for which
    P(Binomial(n, 1/2) < k) is at most 2.5 %. None below six values, of which no pair is so sure."""
    n, below, k = len(values), 0.0, 0
    while k < n:
        below += math.comb(n, k) / 2**n
        if below > 0.025:
            break
        k += 1
    ordered = np.sort(values)
    return (float(ordered[k - 1]), float(ordered[n - k])) if k else None


def verdict(interval: tuple[float, float] | None) -> str:
    """What an interval of a ratio says in a word."""
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
            raise ValueError(f"a batch of {rows} was asked for, and {given} rows were given")
        program, compiling[rows] = compiled_forward(model, params, batch)
        small = any(leaf.dtype in (jnp.int4, jnp.uint4) for leaf in jax.tree.leaves(params))
        call[rows] = _call(jax.jit(forward(model)) if small else program, params, batch)  # what is compiled ahead takes no int4 (JAX 0.10)
        for _ in range(WARM):
            call[rows]()
    if candidate.decode is not None:
        call[DECODE] = candidate.decode
    return Runner(call, compiling[ONE], lambda: compiled_forward(model, params, given_of[ONE])[1])


def _compiled(runners: Mapping[str, Runner], times: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of compiling, those of the start first, then in turns while there is time for another."""
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
    """Seconds of each call."""
    found = np.empty(times)
    for i in range(times):
        start = time.perf_counter()
        call()
        found[i] = time.perf_counter() - start
    return found


def _share(runners: Mapping[str, Runner], left: float) -> tuple[dict[int, int], int]:
    """How many calls a turn has of each size, alike for all models, and how many turns there are, so that they fill the seconds left."""
    start = time.perf_counter()
    once = {rows: sum(float(np.min(_timed(one.call[rows], 2))) for one in runners.values() if rows in one.call) for rows in LEAST}
    left -= time.perf_counter() - start
    least = sum(LEAST[rows] * once[rows] for rows in LEAST)
    turns = int(min(TURNS, max(1, left // least)))
    more = max(1.0, left / turns / least)
    return {rows: int(min(MOST, LEAST[rows] * more)) for rows in LEAST}, turns
