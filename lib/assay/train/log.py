"""Training log: metrics.jsonl, TensorBoard files and the progress bar. Training stops at the first value that is not finite.

Every process checks the values; process 0 writes them. Under a private treatment (train/treatment.py), lines that depend on private
examples have `"private": false`, and TensorBoard shows them under `private_no/`.
"""

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
from assay.core.plain import json_text
from assay.dist.launch import leader
from assay.train.progress import Update, bar
from assay.train.workdir import WorkDir

CHECKED = ("loss", "grad_norm", "parameter_norm")


class Log:
    """Writes the stacked metrics of finished calls; made by `logging`. `examples` is the number of examples per step; `private` is True
    under a private treatment, whose loss may not stop the run.

    Raises SaveError if they cannot be written.
    """

    def __init__(self, folder: WorkDir, update: Update, examples: float, every: int, begun: int, private: bool):
        self.folder, self.update, self.examples, self.every = folder, update, examples, every
        self.checked = CHECKED[1:] if private else CHECKED
        self.private = private
        with self._told():
            folder.tensorboard.mkdir(exist_ok=True)
            self.file = open(folder.metrics if leader() else os.devnull, "a")  # noqa: SIM115 - closed by `logging`
            # not tensorboardX's SummaryWriter: the queue to its thread blocks forever once the thread hits a full disk
            self.events = EventsWriter(str(folder.tensorboard / "events"), f".{os.getpid()}") if leader() else None
        self.started, self.begun = time.monotonic(), begun

    def add(self, first: int, count: int, metrics: Mapping[str, jax.Array], last: int) -> None:
        """Logs steps `first + 1` to `first + count`, whose metrics are the leading rows; each line holds the metrics of its own update.

        Raises FloatingPointError at the first loss (unless private), gradient norm or parameter norm that is not finite.
        """
        values = {name: np.asarray(value)[:count] for name, value in jax.device_get(dict(metrics)).items()}
        for i in range(count):
            step = first + i + 1
            for name in self.checked:  # a finite loss can still produce an infinite parameter
                if not math.isfinite(values[name][i]):
                    raise FloatingPointError(f"step {step}: {name} is {values[name][i]}")
            if step % self.every and step != last:
                continue
            elapsed = time.monotonic() - self.started
            line = {"step": step} | {name: float(value[i]) for name, value in values.items()}
            line |= {"examples_per_second": (step - self.begun) * self.examples / elapsed, "elapsed_seconds": elapsed}
            self._write(line, self.private)
        self._flush()
        shown = {name: float(value[count - 1]) for name, value in values.items() if name == "loss" or "accuracy" in name}
        self.update(first + count, shown)

    def note(self, step: int, values: Mapping[str, float], released: bool) -> None:
        """Writes values that are not metrics of a step, such as validation results, as a line of their own. `released` is True if they
        depend on private examples."""
        self._write({"step": step, **values}, released)
        self._flush()

    def close(self) -> None:
        with self._told():
            self.file.close()
            if self.events:
                self.events.close()

    def _write(self, line: Mapping[str, float], released: bool) -> None:
        with self._told():
            self.file.write(json_text({**line, "private": False} if released else line) + "\n")
            if self.events:
                for name, value in line.items():
                    if name != "step":
                        tag = f"private_no/{name}" if released else name
                        self.events.write_event(Event(wall_time=time.time(), step=int(line["step"]), summary=scalar(tag, value)))

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
def logging(folder: WorkDir, label: str, examples: float, every: int, begun: int, total: int, quiet: bool, private: bool) -> Iterator[Log]:
    """Opens the files for appending, after removing lines that lie beyond step `begun`."""
    folder.cut_metrics(begun)
    with bar(f"{label} train", total, "steps", begun, quiet) as update:
        log = Log(folder, update, examples, every, begun, private)
        try:
            yield log
        except BaseException:
            with suppress(SaveError):  # a second error would hide the first
                log.close()
            raise
        log.close()
