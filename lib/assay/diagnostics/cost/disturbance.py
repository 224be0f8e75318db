"""Whether other work disturbed a timing of several sides in turns. A disturbed timing gives no ratio and no verdict.

    start = used()
    alone = ...                                     # each side by itself, before the turns
    turns = ...                                     # the sides in turns
    alone = ...                                     # each side by itself, after the turns
    timing = judge(alone, turns, others(start, used()))
    timing.disturbed                                # "" or "disturbed: other processes used 0.8 cores"

Turns cancel a slow machine only if the load slows all sides by the same factor. It does not where one side's threads wait in a loop: beside
other processes PyTorch was slowed elevenfold and XLA twofold, and a ratio of turns that is 1.05 on the quiet machine read 5.8.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

SLOWER = 1.15  # a side's median in turns over its median alone, at most
CORES = 0.1  # cores that other processes may use
NOT_KNOWN = "not known"


class Timing(NamedTuple):
    """How a timing went: medians of each side in seconds, the load of the machine, and whether the sides may be compared."""

    alone_seconds: Mapping[str, float]  # before and after the turns, while the other sides rest; empty if not measured
    turn_seconds: Mapping[str, float]
    others_cores: float | None  # cores that other processes used; None if not known
    disturbed: str = ""  # the reason why no ratio is given

    def plain(self) -> dict:
        """Returns the fields for JSON. A load that is not known says so."""
        cores = NOT_KNOWN if self.others_cores is None else round(self.others_cores, 3)
        return {
            "alone_seconds": dict(self.alone_seconds),
            "turn_seconds": dict(self.turn_seconds),
            "others_cores": cores,
            "disturbed": self.disturbed,
        }


def judge(alone: Mapping[str, Sequence[float]], turns: Mapping[str, Sequence[float]], cores: float | None) -> Timing:
    """Judges a timing from the seconds of each side alone and in turns, and from the cores that other processes used."""
    rested, taken = ({side: float(np.median(values)) for side, values in of.items() if len(values)} for of in (alone, turns))
    slowed = {side: taken[side] / seconds for side, seconds in rested.items() if side in taken}
    reasons = [f"other processes used {cores:.1f} cores"] if cores is not None and cores > CORES else []
    worst = max(slowed, key=slowed.__getitem__, default="")
    if slowed and slowed[worst] > SLOWER:
        reasons.append(f"{worst} took {slowed[worst]:.2f} times as long in turns as alone")
    return Timing(rested, taken, cores, f"disturbed: {', and '.join(reasons)}" if reasons else "")
