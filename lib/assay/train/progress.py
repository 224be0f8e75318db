"""Progress display of a run: a bar on a terminal, a plain line every few seconds elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0

Update = Callable[[int, Mapping[str, float]], None]  # (number done so far, values to show)


@contextlib.contextmanager
def bar(label: str, total: int, unit: str, done: int = 0, quiet: bool = False) -> Iterator[Update]:
    """Yields `update(done, figures)`. The speed is measured from the start of the bar, not of the run."""
    started, begun = time.monotonic(), done
    if quiet:
        yield lambda done, figures: None
    elif sys.stderr.isatty():
        columns = (
            TextColumn("{task.description:<32}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(label, total=total, completed=done, figures="")

            def update(done: int, figures: Mapping[str, float]) -> None:
                progress.update(task, completed=done, figures=_line(figures, done - begun, started, unit))

            yield update
    else:
        last = started

        def update(done: int, figures: Mapping[str, float]) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < PLAIN_SECONDS and done < total:
                return
            last = now
            left = (total - done) * (now - started) / max(done - begun, 1)
            line = f"{label}: {done}/{total}  {_line(figures, done - begun, started, unit)}  {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)

        yield update


def _line(figures: Mapping[str, float], done: int, started: float, unit: str) -> str:
    speed = done / max(time.monotonic() - started, 1e-9)
    return "  ".join([*(f"{name} {value:.4g}" for name, value in figures.items()), f"{speed:.1f} {unit}/s"])
