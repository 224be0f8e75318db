"""Checkpoints with orbax: the state and the data iterator (whose whole state is the step) are one item, saved and restored together.

Nothing to restore means a fresh start. A restore that fails is an error, never a silent restart.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from assay.core.config import require
from assay.core.errors import UserError
from assay.core.tree import PyTree

logging.getLogger("absl").setLevel(logging.ERROR)  # orbax narrates every save


@dataclass(frozen=True)
class CheckpointConfig:
    every: int  # steps between saves; the end of training is always saved
    keep: int  # newest checkpoints that stay

    def __post_init__(self):
        require(self.every >= 1, "checkpoint.every", self.every, "it is at least 1")
        require(self.keep >= 1, "checkpoint.keep", self.keep, "it is at least 1")


class Checkpointer:
    """Saves in the background; leaving its `with` block waits for the last save."""

    def __init__(self, path: Path, config: CheckpointConfig):
        self.path = path
        self.manager = ocp.CheckpointManager(
            path, options=ocp.CheckpointManagerOptions(max_to_keep=config.keep, enable_async_checkpointing=True, create=True)
        )

    def latest(self) -> int | None:
        return self.manager.latest_step()

    def save(self, step: int, state: PyTree) -> None:
        if step not in self.manager.all_steps():
            self.manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave({"step": step})))

    def restore(self, step: int, target: PyTree) -> PyTree:
        """The state at `step` onto the shardings of `target`, a tree of ShapeDtypeStructs. Raises UserError where it cannot be read."""
        folder = self.path / str(step)
        links = [file for file in folder.rglob("*") if file.is_symlink()]
        if links:
            raise UserError(f"the checkpoint {folder} holds a symbolic link ({links[0].name}), which is not followed. Remove it.")
        with _hushed_loose_ends():
            try:
                item = ocp.args.Composite(state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore())
                found = self.manager.restore(step, args=item)
                state, data = found["state"], found["data"]
                jax.block_until_ready(state)
            except Exception as error:  # orbax and tensorstore raise many kinds
                raise self._unreadable(step, f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}") from error
        if data is None or data.get("step") != step:
            raise self._unreadable(step, f"its data iterator is at {data}, its state at step {step}")
        return state

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.manager.wait_until_finished()
        self.manager.close()

    def _unreadable(self, step: int, reason: str) -> UserError:
        others = [other for other in self.manager.all_steps() if other != step]
        back = f"delete that folder to go on from step {max(others)}" if others else "delete that folder to start from step 0"
        folder = self.path / str(step)
        return UserError(f"the checkpoint {folder} cannot be restored ({reason}). Nothing was changed: {back}, or use another --workdir.")


@contextmanager
def _hushed_loose_ends() -> Iterator[None]:
    """A restore that fails leaves reads behind that fail once more, in threads and when they are collected; the one message is enough.

    After a failure they stay hushed, since they may be collected at any later time.
    """
    log = logging.getLogger("asyncio")
    level, unraisable, uncaught, threaded = log.level, sys.unraisablehook, sys.excepthook, threading.excepthook
    log.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda raised: None if _loose(raised.exc_type, raised.exc_value, raised.exc_traceback) else unraisable(raised)
    sys.excepthook = lambda *raised: None if _loose(*raised) else uncaught(*raised)
    threading.excepthook = lambda raised: None if _loose(raised.exc_type, raised.exc_value, raised.exc_traceback) else threaded(raised)
    yield
    log.setLevel(level)
    sys.unraisablehook, sys.excepthook, threading.excepthook = unraisable, uncaught, threaded


def _loose(kind: Any, value: Any, trace: Any) -> bool:
    told = "".join(traceback.format_exception(kind, value, trace))
    return any(name in told for name in ("orbax", "tensorstore", "Event loop is closed"))
