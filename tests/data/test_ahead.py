"""Reading ahead changes when a batch is made, and nothing else."""

import threading

import pytest

from assay.data.ahead import ahead


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


@pytest.mark.parametrize("threads", [0, 2])
def test_the_calls_of_a_long_run_are_never_all_listed(threads):
    """Of two thousand million steps only those are asked for that are made, and a few ahead."""
    asked = []

    def calls():
        for step in range(2**31):
            asked.append(step)
            yield step, 1

    found = ahead(calls(), lambda step, count: step, threads)
    assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(asked) <= (5 if not threads else 10_000)
