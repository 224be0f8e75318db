"""The processor's energy counter, where the system has one that can be read: joules since some time ago, of all that runs."""

from pathlib import Path
from typing import NamedTuple

DOMAIN = Path("/sys/class/powercap/intel-rapl:0")  # package 0


class Reading(NamedTuple):
    """The counter, and where it wraps round."""

    microjoules: int
    wraps: int  # 0: not known


def joules() -> Reading | None:
    """The counter now; None where there is none to be read."""
    try:
        return Reading(_number("energy_uj"), _number("max_energy_range_uj") if (DOMAIN / "max_energy_range_uj").exists() else 0)
    except (OSError, ValueError):
        return None


def spent(before: Reading | None) -> float:
    """Joules since then; nan where the counter could not be read at either end."""
    now = joules()
    if now is None or before is None:
        return float("nan")
    used = now.microjoules - before.microjoules
    return (used + (now.wraps if used < 0 else 0)) / 1e6


def _number(name: str) -> int:
    return int((DOMAIN / name).read_text())
