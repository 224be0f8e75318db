"""What training writes down as it goes: metrics.jsonl, TensorBoard files, the progress bar. Stops where a figure is not finite.

Of several processes all look at the figures, and the first writes.
"""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from assay.core.errors import SaveError
from assay.dist.launch import leader
from assay.train.progress import Update, bar
from assay.train.workdir import WorkDir


class Log:
    """Takes the stacked metrics of finished calls; made by `logging`. `examples`: how many a step has.

    Raises SaveError where they cannot be written down.
    """

    def __init__(self, folder: WorkDir, update: Update, examples: float, every: int, begun: int):
        self.folder, self.update, self.examples, self.every = folder, update, examples, every
        with self._told():
            folder.tensorboard.mkdir(exist_ok=True)
            self.file = open(folder.metrics if leader() else os.devnull, "a")  # noqa: SIM115 - closed by `logging`
            # not tensorboardX's SummaryWriter: the queue to its thread blocks for ever once the thread has met a full disk
            self.events = EventsWriter(str(folder.tensorboard / "events"), f".{os.getpid()}") if leader() else None
        self.started, self.begun = time.monotonic(), begun

    def add(self, first: int, count: int, metrics: Mapping[str, jax.Array], last: int) -> None:
        """Steps `first + 1` to `first + count`, whose metrics are the leading rows; line n holds the figures of the n-th update.

        Raises FloatingPointError at the first loss, gradient or parameter that is not finite.
        """
        values = {name: np.asarray(value)[:count] for name, value in jax.device_get(dict(metrics)).items()}
        for i in range(count):
            step = first + i + 1
            for name in ("loss", "grad_norm", "parameter_norm"):  # a finite loss may still lead to an infinite parameter
                if not math.isfinite(values[name][i]):
                    raise FloatingPointError(f"step {step}: {name} is {values[name][i]}")
            if step % self.every and step != last:
                continue
            elapsed = time.monotonic() - self.started
            line = {"step": step} | {name: float(value[i]) for name, value in values.items()}
            line |= {"examples_per_second": (step - self.begun) * self.examples / elapsed, "elapsed_seconds": elapsed}
            self._write(line)
        self._flush()
        shown = {name: float(value[count - 1]) for name, value in values.items() if name == "loss" or "accuracy" in name}
        self.update(first + count, shown)

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Figures that are no metrics of a step, such as those of a look at the validation split; a line of their own."""
        self._write({"step": step, **values})
        self._flush()

    def close(self) -> None:
        with self._told():
            self.file.close()
            if self.events:
                self.events.close()

    def _write(self, line: Mapping[str, float]) -> None:
        with self._told():
            self.file.write(json.dumps(line) + "\n")
            if self.events:
                for name, value in line.items():
                    if name != "step":
                        self.events.write_event(Event(wall_time=time.time(), step=int(line["step"]), summary=scalar(name, value)))

    def _flush(self) -> None:
        with self._told():
            self.file.flush()
            if self.events:
                self.events.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SaveError(self.folder.path, str(error.strerror), self.folder.checkpoints) from None


@contextmanager
def logging(folder: WorkDir, label: str, examples: float, every: int, begun: int, total: int, quiet: bool) -> Iterator[Log]:
    """Opens the files for appending, after what lies behind step `begun` was cut off."""
    folder.cut_metrics(begun)
    with bar(f"{label} train", total, "steps", begun, quiet) as update:
        log = Log(folder, update, examples, every, begun)
        try:
            yield log
        except BaseException:
            with suppress(SaveError):  # a second fault would hide the first
                log.close()
            raise
        log.close()
