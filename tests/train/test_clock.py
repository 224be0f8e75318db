"""Where a step's time goes, and the trace of a run."""

import json
import time

import pytest
from test_resume import train

from assay.reports.run import render
from assay.reports.view import read_run
from assay.train.clock import KINDS, TRACED, TRACED_FROM, Clock, Trace


def test_every_second_is_charged_once():
    clock = Clock()
    started = clock.last
    for call in range(3):
        time.sleep(0.01)
        clock.charge("input")
        time.sleep(0.02)
        clock.taken(5)
        clock.charge("compute")
        assert clock.calls == call + 1
    split = clock.split()
    assert split["steps"] == 15 and set(split["seconds"]) == set(KINDS)
    assert sum(clock.seconds.values()) == pytest.approx(clock.last - started)
    assert clock.seconds["input"] >= 0.03 and clock.seconds["compile"] >= 0.02 and clock.seconds["host"] >= 0.04


@pytest.mark.parametrize("calls", [1, 2, TRACED, TRACED + 2, 100])
def test_calls_that_are_traced(monkeypatch, tmp_path, calls):
    now, seen = [-1], []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: seen.append(("start", now[0])))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: seen.append(("stop", now[0])))
    trace = Trace(tmp_path, calls)
    for now[0] in range(calls):
        trace.before(now[0])
    trace.stop()
    assert [kind for kind, _ in seen] == ["start", "stop"]
    assert seen[0][1] == (TRACED_FROM if calls >= TRACED + TRACED_FROM else max(0, calls - TRACED))


def test_a_profiled_run_has_a_trace_and_its_report_a_split(tmp_path):
    train(tmp_path, train__steps=20, profile=True)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    timing = json.loads((tmp_path / "timing.json").read_text())
    assert timing["steps"] == 20 and timing["seconds"]["compile"] > 0 and timing["seconds"]["compute"] > 0
    page = render([read_run(tmp_path)], "split")
    assert "compute " in page and "until the first call was compiled" in page
