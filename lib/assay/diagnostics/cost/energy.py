"""Energy counter of the processor, if the system has a readable one: joules since an arbitrary start, for everything that runs."""

from pathlib import Path
from typing import NamedTuple

DOMAIN = Path("/sys/class/powercap/intel-rapl:0")  # package 0


class Reading(NamedTuple):
    """Counter value and the value at which it wraps around."""

    microjoules: int
    wraps: int  # 0: unknown


def joules() -> Reading | None:
    """Reads the counter; returns None if there is no readable counter."""
    try:
        return Reading(_number("energy_uj"), _number("max_energy_range_uj") if (DOMAIN / "max_energy_range_uj").exists() else 0)
    except (OSError, ValueError):
        return None


def spent(before: Reading | None) -> float:
    """Returns the joules used since `before`; NaN if the counter could not be read at either end."""
    now = joules()
    if now is None or before is None:
        return float("nan")
    used = now.microjoules - before.microjoules
    return (used + (now.wraps if used < 0 else 0)) / 1e6


def _number(name: str) -> int:
    return int((DOMAIN / name).read_text())
