"""A folder that one process writes to at a time."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.core.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder, which must exist, until the end of the block or of the process, whatever ends it.

    Raises UserError if another process holds it. Where the system or its disk has no locks, nothing is held.
    """
    file = _taken(folder)
    if file is None:
        yield
        return
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield
    finally:
        (folder / NAME).unlink(missing_ok=True)
        file.close()  # and with it the lock


# -- private --------------------------------------------------------------------------------------------------------------


def _taken(folder: Path):
    """Returns the locked file; None without locks. Raises UserError."""
    if fcntl is None:
        return None
    path = folder / NAME
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a file. Remove it, or choose another --workdir.")
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            other = file.read().strip()
            file.close()
            who = f"another process ({other})" if other else "another process"
            raise UserError(f"{who} is writing to {folder}. Wait until it has ended, or choose another --workdir.") from None
        except OSError:
            file.close()
            path.unlink(missing_ok=True)
            return None
        if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            return file
        file.close()  # its last holder removed it after it was opened here
