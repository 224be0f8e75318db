"""Reading ahead changes when a batch is made, and nothing else."""

import threading

import pytest

from assay.data import ahead as module
from assay.data.ahead import ahead
from assay.train.loop import _calls


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_calls_come_in_order_each_once(threads):
    calls = [(step, 3) for step in range(0, 60, 3)]
    made = []

    def make(start: int, count: int) -> tuple[int, int, str]:
        made.append(start)
        return start, count, threading.current_thread().name

    found = list(ahead(calls, make, threads))
    assert [call[:2] for call in found] == calls
    assert sorted(made) == [start for start, _ in calls]
    here = threading.current_thread().name
    assert all((name == here) == (threads == 0) for *_, name in found), "only threads read ahead"


def test_a_failure_while_reading_is_not_lost():
    def make(start: int, count: int) -> int:
        raise OSError("no such record")

    with pytest.raises(OSError, match="no such record"):
        list(ahead([(0, 1)], make, 2))


def test_calls_without_end_are_made_as_they_are_needed(monkeypatch):
    monkeypatch.setattr(module, "PART", 3)
    endless = _calls(7, 2**31 - 1, 10, lambda step: 1 << 30)
    found = ahead(endless, lambda start, count: (start, count), 2)
    assert [next(found) for _ in range(7)] == [(7, 3), *((step, 10) for step in range(10, 70, 10))]
    assert next(endless)[0] < 200, "no more than a few parts were asked for"
