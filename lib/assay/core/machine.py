"""The machine that a timing ran on: the name of its processor, and how much of it other processes used.

    before = used()
    ...                          # the timing
    cores = others(before, used())

Use is counted on the cores that this process may run on: busy time of /proc/stat minus the time of this process and its descendants. Time
that a hypervisor gave to other guests counts as used by others. Systems without /proc return None: not known.
"""

import os
import platform
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

LEAST = 1.0  # seconds: counters advance in ticks of 10 ms, which tell a tenth of a core only over a duration like this
COUNTED = (0, 1, 2, 5, 6, 7)  # columns of a core in /proc/stat: user, nice, system, irq, softirq, steal; not idle and iowait, guests twice


class Used(NamedTuple):
    """Counters at one moment, in seconds."""

    clock: float
    busy: float  # all processes, summed over the cores that this process may run on
    own: float  # this process and its descendants, those that have ended included


def processor() -> str:
    """Returns the model name of the processor, or what the platform calls it."""
    lines = _text(Path("/proc/cpuinfo")).splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def used() -> Used | None:
    """Reads the counters, or returns None if the system has none."""
    whole = _text(Path("/proc/stat"))
    if not whole or not hasattr(os, "sched_getaffinity"):
        return None
    tick = float(os.sysconf("SC_CLK_TCK"))
    each = [text for path in Path("/proc").glob("[0-9]*/stat") if (text := _text(path))]
    return Used(time.perf_counter(), busy_ticks(whole, os.sched_getaffinity(0)) / tick, tree_ticks(each, os.getpid()) / tick)


def others(before: Used | None, after: Used | None) -> float | None:
    """Returns the cores that other processes used on average between two moments, or None if it is not known.

    It is not known without counters, over less than a second, or if the counters missed this process's own work.
    """
    if before is None or after is None or after.clock - before.clock < LEAST:
        return None
    busy, own = after.busy - before.busy, after.own - before.own
    if busy < own / 2:  # a sandbox whose /proc/stat stands still
        return None
    return max(0.0, busy - own) / (after.clock - before.clock)


def busy_ticks(text: str, cores: Collection[int]) -> int:
    """Returns the busy ticks of some cores from the text of /proc/stat."""
    names = {f"cpu{core}" for core in cores}
    rows = [line.split() for line in text.splitlines() if line.startswith("cpu")]
    return sum(int(row[1 + column]) for row in rows if row[0] in names for column in COUNTED)


def tree_ticks(stats: Collection[str], root: int) -> int:
    """Returns the ticks of a process and its descendants from the texts of /proc/PID/stat, with those of children that have ended."""
    ticks, parent = {}, {}
    for text in stats:
        head, _, tail = text.rpartition(")")  # the name of a program may hold spaces and brackets
        process, fields = int(head.partition(" ")[0]), tail.split()
        parent[process], ticks[process] = int(fields[1]), sum(map(int, fields[11:15]))
    return sum(count for process, count in ticks.items() if _descends(process, root, parent))


# -- private --------------------------------------------------------------------------------------------------------------


def _descends(process: int, root: int, parent: dict[int, int]) -> bool:
    while process not in (0, root):
        process = parent.get(process, 0)
    return process == root


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # no /proc, or the process has ended
        return ""
