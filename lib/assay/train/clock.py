"""Where the time of a run's steps goes, as the process that conducts them sees it.

    compile   the first call, until it is handed over
    input     making the batches, or waiting for them
    compute   waiting for the devices
    host      handing calls over, logging
    save      checkpoints and looks at the validation split, of which only the part that holds training up counts

Devices compute while the host makes the next batches, so `input` and `host` cost a run nothing as long as there is time left in `compute`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

KINDS = ("compile", "input", "compute", "host", "save")
TRACED_FROM, TRACED = 3, 8  # calls: the first that a trace shows, and how many


class Clock:
    """Adds up the seconds between its `charge`s."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(KINDS, 0.0)
        self.last, self.calls, self.steps = time.perf_counter(), 0, 0

    def charge(self, kind: str) -> None:
        """What has passed since the last charge was `kind`; of the first call, which compiles, handing over is `compile`."""
        now = time.perf_counter()
        self.seconds["compile" if kind == "host" and not self.calls else kind] += now - self.last
        self.last = now

    def taken(self, steps: int) -> None:
        """A call of so many steps was handed over."""
        self.charge("host")
        self.calls, self.steps = self.calls + 1, self.steps + steps

    def split(self) -> dict[str, Any]:
        return {"steps": self.steps, "seconds": {kind: round(value, 4) for kind, value in self.seconds.items()}}


class Trace:
    """A trace of some calls in the middle of training, for XProf and Perfetto, in `folder`; of a run too short for that, its end."""

    def __init__(self, folder: Path | None, calls: int):
        self.folder, self.first, self.running = folder, max(0, min(TRACED_FROM, calls - TRACED)), False

    def before(self, call: int) -> None:
        """Asked before each call, by its number."""
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
    """Of a run of so many calls; `folder` None: nothing is traced."""
    trace = Trace(folder, calls)
    try:
        yield trace
    finally:
        trace.stop()
