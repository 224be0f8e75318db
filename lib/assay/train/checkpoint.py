"""Checkpoints with orbax: the state and the data iterator (whose whole state is the step) are one item, saved and restored together.

Nothing to restore means a fresh start. A restore that fails is an error, never a silent restart.
"""

import contextlib
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from assay.core.config import require
from assay.core.errors import Alone, SaveError, UserError
from assay.core.tree import PyTree

logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)  # it narrates every save; what fails is told once, by us


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
        self.restore_hooks = _hush_loose_ends()
        self.manager = ocp.CheckpointManager(
            path, options=ocp.CheckpointManagerOptions(max_to_keep=config.keep, enable_async_checkpointing=True, create=True)
        )

    def latest(self) -> int | None:
        return self.manager.latest_step()

    def finished(self) -> int | None:
        """The newest step, once what is being saved has been."""
        self.manager.wait_until_finished()
        return self.latest()

    def save(self, step: int, state: PyTree, kept: Mapping[str, Any]) -> None:
        """Starts to save; `kept` is JSON data beside the state. What fails here, or failed since the last call, is a UserError."""
        if step in self.manager.all_steps():
            return
        data = ocp.args.JsonSave({"step": step, **kept})
        with self._told():
            self.manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), data=data))

    def restore(self, step: int, target: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """The state at `step` onto the shardings of `target`, a tree of ShapeDtypeStructs, and what was kept beside it.

        Raises UserError where it cannot be read.
        """
        folder = self.path / str(step)
        links = [file for file in folder.rglob("*") if file.is_symlink()]
        if links:
            raise UserError(f"the checkpoint {folder} holds a symbolic link ({links[0].name}), which is not followed. Remove it.")
        try:
            item = ocp.args.Composite(state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore())
            found = self.manager.restore(step, args=item)
            state, data = found["state"], found["data"]
            jax.block_until_ready(state)
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise self._unreadable(step, f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}") from error
        if data is None or data.get("step") != step:
            raise self._unreadable(step, f"its data iterator is at {data}, its state at step {step}")
        return state, data

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Alone):  # a save that needs the other process never ends
            return
        with contextlib.suppress(Exception) if error else self._told():  # a second fault would hide the first
            self.manager.wait_until_finished()
            self.manager.close()
        if error is None:
            self.restore_hooks()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a full disk, a folder that went away
            told = str(error).splitlines()[0][:300] if str(error) else ""
            raise SaveError(f"cannot save to {self.path} ({type(error).__name__}: {told}). Choose another --workdir.") from error

    def _unreadable(self, step: int, reason: str) -> UserError:
        others = [other for other in self.manager.all_steps() if other != step]
        back = f"delete that folder to go on from step {max(others)}" if others else "delete that folder to start from step 0"
        folder = self.path / str(step)
        return UserError(f"the checkpoint {folder} cannot be restored ({reason}). Nothing was changed: {back}, or use another --workdir.")


def _hush_loose_ends() -> Callable[[], None]:
    """A save or restore that fails leaves work behind that fails once more, in threads and when it is collected; our one message is enough.

    Returns what undoes it. After a failure it stays: what is left may be collected at any later time.
    """
    logs = {name: logging.getLogger(name) for name in ("asyncio", "concurrent.futures")}
    levels = {name: log.level for name, log in logs.items()}
    unraisable, uncaught, threaded = sys.unraisablehook, sys.excepthook, threading.excepthook
    for log in logs.values():
        log.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda raised: None if _loose(raised.exc_type, raised.exc_value, raised.exc_traceback) else unraisable(raised)
    sys.excepthook = lambda *raised: None if _loose(*raised) else uncaught(*raised)
    threading.excepthook = lambda raised: None if _loose(raised.exc_type, raised.exc_value, raised.exc_traceback) else threaded(raised)

    def undo() -> None:
        for name, log in logs.items():
            log.setLevel(levels[name])
        sys.unraisablehook, sys.excepthook, threading.excepthook = unraisable, uncaught, threaded

    return undo


def _loose(kind: Any, value: Any, trace: Any) -> bool:
    told = "".join(traceback.format_exception(kind, value, trace))
    return any(name in told for name in ("orbax", "tensorstore", "Event loop is closed"))
