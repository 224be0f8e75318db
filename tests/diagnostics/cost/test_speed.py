"""Speed: models take turns, ratios are of one turn, intervals are those of a median, and what is slower is called slower."""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.diagnostics.cost import speed as module
from assay.diagnostics.cost.disturbance import Timing
from assay.diagnostics.cost.speed import MANY, ONE, median_interval, speed, verdict
from assay.models.model import Model, Output

pytestmark = pytest.mark.optimised

WIDTH = 256


def perceptron(depth: int, width: int = WIDTH):
    """A model whose parameters make it as slow as they are many."""
    params = {f"block_{i}": jnp.full((width, width), 0.01) for i in range(depth)}

    def apply(params, batch, **_):
        x = batch["inputs"]
        for kernel in params.values():
            x = jnp.tanh(x @ kernel)
        return Output(x, {})

    return Model(lambda key, batch: params, apply), params


def batches(width: int = WIDTH):
    return lambda rows: {"inputs": np.ones((rows, width), np.float32), "weight": np.ones(rows, np.float32)}


def test_a_model_of_fifty_times_the_size_is_slower(quiet):
    found = speed({"small": (*perceptron(1), batches()), "large": (*perceptron(50), batches())}, seconds=8)
    small, large = found["small"], found["large"]
    assert list(found) == ["small", "large"]
    for one in found.values():
        assert 0 < one.latency_p50_seconds <= one.latency_p90_seconds and one.compile_seconds > 0
        assert one.examples_per_second == pytest.approx(1 / one.latency_p50_seconds)
        assert one.batched_examples_per_second > 0 and one.turns >= 1 and one.calls >= 1
    assert (small.latency_ratio, small.throughput_ratio, small.verdict) == (1, 1, "baseline")
    assert large.latency_ratio < 1 and large.throughput_ratio < 1 and large.verdict == "slower"
    assert large.latency_ratio_interval[0] <= large.latency_ratio <= large.latency_ratio_interval[1] < 1
    assert large.latency_p50_seconds > small.latency_p50_seconds


def in_seven_turns(monkeypatch, cores, alone=2.5):
    """Two models in seven turns, the second half as fast, on a machine that slows down at every turn, and the order of the calls."""
    order: list[tuple[str, int]] = []

    def runner(candidate):
        return module.Runner({rows: (candidate.params["name"], rows) for rows in (ONE, MANY)}, 1.0)

    clock = itertools.count(-4)  # each model is timed alone in two blocks, before the turns and after them

    def timed(call, times):
        order.append(call)
        now = next(clock)
        base = {"first": 1.0, "second": 2.0}[call[0]] * call[1]
        return np.full(times, base * (1 + now // 4 if 0 <= now < 28 else alone))

    monkeypatch.setattr(module, "_runner", runner)
    monkeypatch.setattr(module, "_timed", timed)
    monkeypatch.setattr(module, "_share", lambda runners, left: ({ONE: 3, MANY: 2}, 7))
    monkeypatch.setattr(module, "others", lambda before, after: cores)
    turns: list[tuple[int, int]] = []
    found = speed(
        {name: (None, {"name": name}, {}) for name in ("first", "second")}, on_turn=lambda done, wanted: turns.append((done, wanted))
    )
    return found, order, turns


def test_models_take_turns(monkeypatch):
    """A machine that slows down at every turn does so for both: the ratio of a turn does not see it."""
    found, order, turns = in_seven_turns(monkeypatch, 0.1, alone=4.0)
    alone = [("first", ONE)] * 2 + [("second", ONE)] * 2
    assert order == alone + [("first", ONE), ("first", MANY), ("second", ONE), ("second", MANY)] * 7 + alone
    timing = found["second"].timing
    assert timing == found["first"].timing == Timing({"first": 4.0, "second": 8.0}, {"first": 4.0, "second": 8.0}, 0.1)
    assert turns == [(done, 7) for done in range(1, 8)]
    assert found["second"].latency_ratio_interval == found["second"].throughput_ratio_interval == (0.5, 0.5)
    first, second = (np.array(found[name].by_turn["p50"]) for name in ("first", "second"))
    assert (second / first == 2.0).all() and len(first) == 7 and found["first"].by_turn["compile"] == (1.0,)
    assert (found["second"].verdict, found["second"].turns, found["second"].calls) == ("slower", 7, 3)
    assert found["first"].latency_p50_seconds == 4.0, "the median over turns of 1, 2, ..., 7"
    for name in ("first", "second"):  # the times that are printed beside a ratio agree with it
        assert found["first"].latency_p50_seconds / found[name].latency_p50_seconds == found[name].latency_ratio
        assert found[name].batched_examples_per_second / found["first"].batched_examples_per_second == found[name].throughput_ratio


@pytest.mark.parametrize(
    ("cores", "alone", "reason"),
    [
        (0.8, 4.0, "disturbed: other processes used 0.8 cores"),
        (None, 2.0, "disturbed: first took 2.00 times as long in turns as alone"),
    ],
)
def test_a_disturbed_timing_has_no_ratio(monkeypatch, cores, alone, reason):
    found, _, _ = in_seven_turns(monkeypatch, cores, alone)
    first, second = found["first"], found["second"]
    assert (first.verdict, second.verdict, second.timing.disturbed) == ("baseline", "disturbed", reason)
    for one in (first, second):
        assert one.latency_ratio is one.latency_ratio_interval is one.throughput_ratio is one.throughput_ratio_interval is None
    assert (first.latency_p50_seconds, second.latency_p50_seconds) == (4.0, 8.0), "the times stay"


def test_the_seconds_are_kept(quiet):
    candidates = {"one": (*perceptron(2), batches()), "two": (*perceptron(2), batches())}
    start = time.perf_counter()
    found = speed(candidates, seconds=0.0)
    assert [one.turns for one in found.values()] == [1, 1] and found["two"].latency_ratio_interval is None
    assert found["two"].verdict == "inconclusive" and time.perf_counter() - start < 60


def test_batches_may_lie_ready_and_are_checked():
    made = {rows: batches()(rows) for rows in (ONE, MANY)}
    assert speed({"one": (*perceptron(1), made)}, seconds=0.0)["one"].latency_p50_seconds > 0
    with pytest.raises(ValueError, match="a batch of 64 rows was requested, but 1 rows were given"):
        speed({"one": (*perceptron(1), lambda rows: batches()(1))}, seconds=0.0)
    with pytest.raises(ValueError, match="no model"):
        speed({})


def test_parameters_are_no_constants():
    """The program that is timed reads the parameters that it is given."""
    model, params = perceptron(1, 8)
    program, _ = module.compiled_forward(model, params, batches(8)(1))
    assert not np.allclose(program(params, batches(8)(1)), program(jax.tree.map(lambda leaf: 2 * leaf, params), batches(8)(1)))


def test_an_interval_of_a_median_covers_it():
    assert median_interval(np.arange(5.0)) is None and median_interval(np.arange(6.0)[::-1]) == (0, 5)
    assert median_interval(np.arange(9.0)) == (1, 7) and median_interval(np.arange(25.0)) == (7, 17)  # Conover's table
    random = np.random.default_rng(0)
    inside = [low <= np.log(2) <= high for low, high in (median_interval(random.exponential(size=15)) for _ in range(2000))]
    assert 0.95 <= np.mean(inside) <= 0.98


def test_verdicts():
    assert verdict((1.1, 1.2)) == "faster" and verdict((0.5, 0.9)) == "slower"
    assert verdict((0.9, 1.1)) == verdict((1.0, 1.0)) == verdict(None) == "inconclusive"
