"""The load that other processes put on the machine, from given counters and from a process that spins."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from assay.core.machine import Used, busy_ticks, others, processor, tree_ticks, used

#            user nice system idle iowait irq softirq steal guest guest_nice
STAT = """cpu  999 999 999 999 999 999 999 999 999 999
cpu0 100 20 30 5000 700 1 2 3 40 5
cpu1 10 2 3 6000 800 4 5 6 7 8
intr 12 0 0
"""


def stat(process: int, name: str, parent: int, *ticks: int) -> str:
    return f"{process} ({name}) S {parent} 1 1 0 -1 4194304 9 9 9 9 {' '.join(map(str, ticks))} 20 0 1 0 4022400"


def test_busy_ticks_are_those_of_the_cores_that_may_be_used():
    assert busy_ticks(STAT, {0}) == 100 + 20 + 30 + 1 + 2 + 3, "neither idle nor iowait, and guests are in user and nice"
    assert busy_ticks(STAT, {0, 1}) == 156 + 30 and busy_ticks(STAT, {1}) == 30


def test_a_tree_is_a_process_with_its_descendants():
    stats = [
        stat(1, "init", 0, 1000, 0, 0, 0),
        stat(7, "python", 1, 10, 20, 3, 4),  # ended children count with their parent
        stat(8, "worker) S 1 (x", 7, 100, 200, 0, 0),
        stat(9, "worker's", 8, 1, 2, 0, 0),
        stat(10, "other", 1, 5000, 0, 0, 0),
        stat(11, "a parent that is gone", 77, 5000, 0, 0, 0),
    ]
    assert tree_ticks(stats, 7) == 37 + 300 + 3 and tree_ticks(stats, 10) == 5000 and tree_ticks([], 7) == 0


def test_others_used_what_was_busy_and_not_own():
    before = Used(100.0, 50.0, 20.0)
    assert others(before, Used(110.0, 68.0, 30.0)) == pytest.approx(0.8)
    assert others(before, Used(110.0, 59.9, 30.0)) == 0.0, "counters differ by some ticks"
    assert others(before, Used(100.5, 51.0, 20.0)) is None, "half a second is too short"
    assert others(before, Used(110.0, 50.0, 30.0)) is None, "counters that stand still"
    assert others(None, before) is others(before, None) is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc")
def test_a_process_that_spins_is_other_unless_it_is_a_child():
    spin = "import time\nwhile time.perf_counter() < {}: pass"
    before, end = used(), time.perf_counter() + 1.2
    code = spin.format(end)  # the clock is the system's, not the process's
    orphan = int(subprocess.check_output(["sh", "-c", f"'{sys.executable}' -S -c '{code}' >/dev/null & echo $!"]))
    with subprocess.Popen([sys.executable, "-S", "-c", code]) as child:
        child.wait()
    after = used()
    with suppress(ProcessLookupError):
        os.kill(orphan, signal.SIGKILL)
    assert before is not None and after is not None
    assert after.own - before.own > 0.15, "the child's time is own, although it has ended"
    cores = others(before, after)
    assert cores is not None and cores > 0.1, "beside two other processes on one core it would still be a third"


def test_the_processor_has_a_name():
    known = Path("/proc/cpuinfo").exists() and "model name" in Path("/proc/cpuinfo").read_text()
    assert not known or f": {processor()}\n" in Path("/proc/cpuinfo").read_text()
