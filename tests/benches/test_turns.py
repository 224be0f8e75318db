"""Benchmarks in turns: each side alone before and after, a ratio if nothing disturbed, and peers that rest and have our allocator."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from assay.core.errors import UserError
from assay.diagnostics.cost.disturbance import Timing
from experiments.benches import turns as module
from experiments.benches.turns import Taken, ratio, take
from experiments.compression import bought
from experiments.peers import table, turns

ROOT = Path(__file__).resolve().parents[2]
REASON = "disturbed: other processes used 0.8 cores"
SERVE = f"import sys; sys.path.insert(0, {str(ROOT / 'experiments' / 'peers')!r}); from serve import serve; "  # no package but Python's
WORKER = SERVE + "serve(lambda name: (lambda count: None, {'malloc': {}}))"


def sides(order: list[str], **seconds: list[float]):
    """Sides that take the given seconds, one after the other, and note their order."""
    given = {side: iter(values) for side, values in seconds.items()}

    def call(side: str):
        order.append(side)
        return next(given[side])

    return {side: (lambda side=side: call(side)) for side in seconds}


def test_sides_take_turns_and_are_timed_alone_before_and_after(monkeypatch):
    monkeypatch.setattr(module, "others", lambda before, after: 0.02)
    order, told = [], []
    calls = sides(order, a=[9.0, 1.0, 1.0, 1.1, 1.0, 1.2, 1.0, 1.0], b=[9.0, 2.0, 2.0, 2.2, 2.2, 2.2, 2.0, 2.0])
    taken = take(calls, 3, 1, lambda turn, seconds: told.append((turn, *seconds.values())))
    assert "".join(order) == "ab" + "aabb" + "ababab" + "aabb"
    assert told == [(0, 9.0, 9.0), (1, 1.1, 2.2), (2, 1.0, 2.2), (3, 1.2, 2.2)]
    assert taken.timing == Timing({"a": 1.0, "b": 2.0}, {"a": 1.1, "b": 2.2}, 0.02)
    found = ratio(taken, "b", "a")
    assert (found["ratio"], found["ratios"], found["timing"]["others_cores"]) == (pytest.approx(2.0), [2.0, 2.2, 1.8333], 0.02)


def test_a_disturbed_timing_has_no_ratio(monkeypatch):
    monkeypatch.setattr(module, "others", lambda before, after: None)
    taken = take(sides([], a=[1.0] * 7, b=[2.0, 2.0, 6.0, 6.0, 6.0, 2.0, 2.0]), 3)
    found = ratio(taken, "b", "a")
    assert found == {"ratio": None, "timing": taken.timing.plain()}
    assert taken.timing.disturbed == "disturbed: b took 3.00 times as long in turns as alone"
    assert found["timing"]["others_cores"] == "not known"


def result(taken: Taken, malloc: dict | None = None) -> dict:
    facts = {side: {"device": "cpu", "flops": 1, "malloc": {"MALLOC_ARENA_MAX": "1"}} for side in taken.turns}
    if malloc is not None:
        facts["eager"]["malloc"] = malloc
    return json.loads(json.dumps(turns.row("gpt_small", {"kind": "gpt"}, taken, facts)))


def printed(*works: dict, processor: str = "EPYC") -> list[str]:
    found = {"works": works, "environment": {"devices": "1 x cpu", "processor": processor, "cores": 2}}
    return table.table([found]).splitlines()[2:]


def test_a_row_has_a_ratio_or_the_reason_why_not():
    seconds = {"ours": [0.1] * 9, "eager": [0.09] * 9, "compiled": [0.12] * 9}
    row = result(Taken(seconds, Timing({}, seconds, 0.01)))
    assert (row["better_peer"], row["ratio"], row["ratio_interval"]) == ("eager", 0.9, [0.9, 0.9]) and row["timing"]["others_cores"] == 0.01
    begins = "| GPT, 2 x 128, context 64, batch 64 | EPYC, 2 cores | 100.0 | 90.0 | 120.0 |"
    assert printed(row) == [f"{begins} **0.90** (0.90 - 0.90) |"]
    own = printed(result(Taken(seconds, Timing({}, seconds, 0.01)), malloc={}))
    assert own[0].endswith("(0.90 - 0.90) ² |") and own[2].startswith("² PyTorch ran with its own allocator settings")
    row = result(Taken(seconds, Timing({}, seconds, 0.8, REASON)))
    assert row["ratio"] is None and "better_peer" not in row and row["seconds"]["ours"] == 0.1 and row["timing"]["disturbed"] == REASON
    assert printed(row) == [f"{begins} {REASON} |"]


def test_the_page_shows_the_committed_results_by_machine():
    """Where this fails, replace the table by what `python -m experiments.peers.table` prints."""
    found = table.results()
    assert found and table.table(found) in (ROOT / "experiments/results/benchmarks.md").read_text()
    assert all(result["environment"]["processor"] for result in found)
    assert "¹ ²" in table.table(found), "those without the check say so"


def test_a_threshold_is_not_judged_by_a_disturbed_timing(tmp_path, monkeypatch):
    for value, held in ((None, None), (2.5, True), (1.5, False)):
        monkeypatch.setattr("experiments.compression.change", lambda before, after: {"value": 0.0})
        monkeypatch.setattr("experiments.compression.times", lambda folder, what, value=value: {"value": value, "machines": ["EPYC"]})
        claim = bought("digits", tmp_path, tmp_path, None, None, 2.0)[2]
        assert (claim["bar"], claim["held"], claim["machines"]) == (2.0, held, ["EPYC"])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_worker_rests_between_its_turns_and_has_our_allocator(monkeypatch):
    monkeypatch.delenv("ASSAY_MALLOC", raising=False)
    worker = turns._start([sys.executable, "-S", "-c", WORKER, "name"])
    try:
        assert turns._answer("peer", worker) == {"malloc": {}}
        assert turns._turn("peer", worker, 3) >= 0
        assert state(worker) == "T", "stopped"
        assert turns._turn("peer", worker, 3) >= 0, "continued for its turn"
        assert b"MALLOC_ARENA_MAX=1\0" in Path(f"/proc/{worker.pid}/environ").read_bytes()
        worker.kill()
        worker.wait()
        with pytest.raises(UserError, match="the worker of peer exited"):
            turns._turn("peer", worker, 3)
    finally:
        worker.kill()
        worker.wait()
        for pipe in (worker.stdin, worker.stdout, worker.stderr):
            with suppress(BrokenPipeError):  # what was written to a worker that has exited
                pipe.close()


def state(worker: subprocess.Popen) -> str:
    """Waits until the signal has arrived."""
    for _ in range(1000):
        found = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if found == "T":
            break
    return found
