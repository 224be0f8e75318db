"""Checkpoints with orbax. The state and the data iterator (fully determined by the step) are saved and restored together.

Training starts from scratch if there is no checkpoint. A failed restore raises an error; it never silently restarts or falls back to an
older step. `rewind` does so on request.
"""

import contextlib
import errno
import hashlib
import logging
import os
import sys
import threading
import traceback
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from assay.config.schema import require
from assay.core.errors import Alone, SaveError, UserError
from assay.core.tree import PyTree
from assay.dist import launch
from assay.train.seal import damage, seal

logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)  # orbax logs every write; we report each failure once


ROOT = "_CHECKPOINT_METADATA"  # the file that orbax writes last


@dataclass(frozen=True)
class CheckpointConfig:
    every: int  # steps between checkpoints; the last step always gets one
    keep: int  # number of recent checkpoints to keep
    keep_every: int = 0  # steps between checkpoints that are never deleted; 0 keeps only the recent ones

    def __post_init__(self):
        require(self.every >= 1, "checkpoint.every", self.every, "it must be at least 1")
        require(self.keep >= 1, "checkpoint.keep", self.keep, "it must be at least 1")
        require(self.keep_every >= 0, "checkpoint.keep_every", self.keep_every, "it must be a number of steps, or 0 for none")

    def until(self, step: int) -> int:
        """Returns the number of steps from `step` to the next checkpoint that is never deleted."""
        return self.keep_every - step % self.keep_every if self.keep_every else 1 << 30

    def due(self, before: int, step: int) -> bool:
        """Returns True if a checkpoint is due at `step`, given that the last call ended at `before`."""
        return step // self.every > before // self.every or self.until(step) == self.keep_every


class Checkpointer:
    """Saves checkpoints in the background; leaving its `with` block waits for the last one."""

    def __init__(self, path: Path, config: CheckpointConfig):
        self.path = path
        self.restore_hooks = _hush_loose_ends()
        self.saving: int | None = None
        sealed = ocp.AsyncOptions(post_finalization_callback=self._seal)  # called when all is written, before the folder is renamed
        options = ocp.CheckpointManagerOptions(
            max_to_keep=config.keep,
            keep_period=config.keep_every or None,
            enable_async_checkpointing=True,
            create=True,
            async_options=sealed,
        )
        self.manager = ocp.CheckpointManager(path, options=options)

    def latest(self) -> int | None:
        return self.manager.latest_step()

    def finished(self) -> int | None:
        """Waits for the checkpoint being saved and returns the newest step."""
        self._finish()
        return self.latest()

    def steps(self) -> list[int]:
        """Returns the steps that can be restored, in ascending order."""
        return sorted(self.manager.all_steps())

    def save(self, step: int, state: PyTree, kept: Mapping[str, Any]) -> None:
        """Starts saving, with the JSON data `kept` beside the state. Raises SaveError, a UserError, for failures up to now."""
        if step in self.manager.all_steps():
            return
        _check_names(state)
        data = ocp.args.JsonSave({"step": step, **kept})
        with self._told():
            self._finish()
            self.saving = step
            self.manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(_written(state)), data=data))

    def restore(self, step: int, target: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Restores the state at `step` onto the shardings of `target`, a tree of ShapeDtypeStructs. Also returns the data stored beside it.

        Raises UserError if it cannot be read; the message names the newest checkpoint that can.
        """
        try:
            return self._read(step, target)
        except _Damaged as error:
            raise self._unreadable(step, target, str(error)) from error

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Alone):  # saving waits forever for a lost process
            return
        with contextlib.suppress(Exception) if error else self._told():  # a second error would hide the first
            self._finish()
            self.manager.close()
        if error is None:
            self.restore_hooks()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # such as a full disk or a deleted folder
            raise SaveError(self.path, _brief(error), self.path) from error

    def _read(self, step: int, target: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Reads a checkpoint. Raises _Damaged."""
        reason = damage(self.path / str(step)) if launch.leader() else ""
        if jax.process_count() > 1 and multihost_utils.broadcast_one_to_all(np.array(bool(reason))):
            raise _Damaged(reason or "process 0 reports the reason")
        if reason:
            raise _Damaged(reason)
        try:
            item = ocp.args.Composite(state=ocp.args.StandardRestore(_written(target)), data=ocp.args.JsonRestore())
            found = self.manager.restore(step, args=item)
            state, data = _read_back(found["state"], target), found["data"]
            jax.block_until_ready(state)
        except Exception as error:  # orbax and tensorstore raise many exception types
            raise _Damaged(_brief(error)) from error
        if data is None or data.get("step") != step:
            raise _Damaged(f"its data iterator is at {data}, its state at step {step}")
        return state, data

    def _unreadable(self, step: int, target: PyTree, reason: str) -> UserError:
        good = 0
        for other in sorted((other for other in self.manager.all_steps() if other < step), reverse=True):
            with contextlib.suppress(_Damaged):
                self._read(other, target)
                good = other
                break
        newest = (
            f"The newest intact one is step {good}: --from_step={good} resumes from it"
            if good
            else "No earlier one is intact: --from_step=0 restarts from scratch"
        )
        return UserError(
            f"the checkpoint {self.path / str(step)} cannot be restored ({reason}). Nothing was changed. {newest} and moves newer ones "
            "to set_aside/ (a flag of assay train). Or choose another --workdir."
        )

    def _seal(self) -> None:
        for folder in self.path.glob(f"{self.saving}.*"):  # its temporary name until it is complete: STEP.orbax-checkpoint-tmp
            if launch.leader():
                seal(folder, later=[ROOT])

    def _finish(self) -> None:
        self.manager.wait_until_finished()
        if self.saving is not None and launch.leader():
            seal(self.path / str(self.saving))
        self.saving = None


def _written(state: PyTree) -> PyTree:
    """Drops optional record fields that are empty. A run without carried state thus writes and reads the older checkpoint format, from
    before these fields existed."""
    optional = getattr(state, "_field_defaults", {})
    left = [name for name in getattr(state, "_fields", ()) if name not in optional or jax.tree.leaves(getattr(state, name))]
    return namedtuple(type(state).__name__, left)(*(getattr(state, name) for name in left)) if optional else state


def _check_names(state: PyTree) -> None:
    """Raises UserError if two arrays would be stored under one name, so that one would overwrite the other: Orbax joins names by dots."""
    seen: set[str] = set()
    for path, _ in jax.tree_util.tree_leaves_with_path(state):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name in seen:
            raise UserError(f"two arrays of the state are stored as {name!r}: rename a parameter, with no dot in its name.")
        seen.add(name)


def _read_back(found: PyTree, target: PyTree) -> PyTree:
    return target._replace(**found._asdict()) if getattr(target, "_field_defaults", {}) else found


def _brief(error: Exception) -> str:
    """Returns the operating system's message for known error codes, else the first line of the error."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO):
        if os.strerror(number) in str(error):
            return os.strerror(number)
    return f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"


class _Damaged(Exception):
    """Raised for a checkpoint that differs from what was written."""


def fingerprint(workdir: str | Path) -> str:
    """Identifies the newest checkpoint of a run: its step and the hash of its seal; "" if the run has none."""
    folder = Path(workdir) / "checkpoints"
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    if not steps:
        return ""
    sealed = folder / str(max(steps)) / "seal.json"
    whole = hashlib.blake2b(sealed.read_bytes() if sealed.is_file() else b"", digest_size=8)
    return f"{max(steps)}-{whole.hexdigest()}"


def rewind(folders: Sequence[Path], aside: Path, step: int) -> None:
    """Moves the checkpoints beyond `step` from `folders` into `aside`, so that a run resumes from `step`; 0 restarts from scratch.

    Raises UserError if the first folder has no checkpoint of that step or a move fails. With several processes, process 0 moves them.
    """
    found = {folder: sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal()) for folder in folders}
    first = found[folders[0]]
    if step and step not in first:
        known = ", ".join(map(str, first)) or "none"
        raise UserError(f"--from_step={step} is not a checkpoint in {folders[0]}. Available: {known}; 0 restarts from scratch.")
    launch.together("rewind")
    if launch.leader():
        for folder, steps in found.items():
            for newer in (other for other in steps if other > step or not step):  # a run without steps has a checkpoint of step 0
                place, again = aside / f"{folder.name}_{newer}", 1
                while place.exists():
                    place, again = aside / f"{folder.name}_{newer}.{again}", again + 1
                try:
                    aside.mkdir(exist_ok=True)
                    os.rename(folder / str(newer), place)
                except OSError as error:
                    raise UserError(f"cannot move {folder / str(newer)} to {place}: {error.strerror}. Choose another --workdir.") from None
    launch.together("rewound")


def _hush_loose_ends() -> Callable[[], None]:
    """Silences follow-up errors of a failed save or restore, which arise in threads and at garbage collection; one message is enough.

    Returns a function that undoes it. After a failure it stays in effect, because remaining objects may be collected at any later time.
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
