"""Measures how the wall time of training splits, as seen by the host process that drives it.

    compile   the first call, until it has been dispatched
    input     making batches, or waiting for them
    compute   waiting for the devices
    host      dispatching calls and logging
    save      checkpoints and validation; only the part that blocks training counts

Devices compute while the host makes the next batches. `input` and `host` therefore cost no time as long as `compute` is above zero.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

KINDS = ("compile", "input", "compute", "host", "save")
TRACED_FROM, TRACED = 3, 8  # index of the first traced call, and number of traced calls
FULL = TRACED_FROM + TRACED  # calls of which a run has enough to trace its middle


class Clock:
    """Accumulates the seconds between calls of `charge`, by kind."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(KINDS, 0.0)
        self.last, self.calls, self.steps = time.perf_counter(), 0, 0

    def charge(self, kind: str) -> None:
        """Adds the time since the last charge to `kind`; the first dispatch includes compilation and counts as `compile`."""
        now = time.perf_counter()
        self.seconds["compile" if kind == "host" and not self.calls else kind] += now - self.last
        self.last = now

    def taken(self, steps: int) -> None:
        """Records that a call of `steps` steps was dispatched."""
        self.charge("host")
        self.calls, self.steps = self.calls + 1, self.steps + steps

    def split(self) -> dict[str, Any]:
        return {"steps": self.steps, "seconds": {kind: round(value, 4) for kind, value in self.seconds.items()}}


class Trace:
    """Profiles some calls in the middle of training into `folder`, for XProf and Perfetto; a run too short for that traces its end."""

    def __init__(self, folder: Path | None, calls: int):
        self.folder, self.first, self.running = folder, max(0, min(TRACED_FROM, calls - TRACED)), False

    def before(self, call: int) -> None:
        """Starts or stops the trace as needed; called before each call with its number."""
        if self.folder is not None and call == self.first:
            jax.profiler.start_trace(self.folder)
            self.running = True
        elif call == self.first + TRACED:
            self.stop()

    def stop(self) -> None:
        if self.running:
            self.running = False
            jax.profiler.stop_trace()


@contextmanager
def tracing(folder: Path | None, calls: int) -> Iterator[Trace]:
    """Yields a Trace for a run of `calls` calls, or ENOUGH of them, and stops it at the end; `folder=None` disables tracing."""
    trace = Trace(folder, calls)
    try:
        yield trace
    finally:
        trace.stop()
