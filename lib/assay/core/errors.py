"""Errors a user can fix: one message that names the wrong thing, the allowed things and the key to change; exit code 2."""

import difflib
import signal
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Raised for a mistake that the person who launched the run can fix. Verbs print it without a traceback and exit with code 2."""


class UnknownName(UserError):
    """Raised for a name that a table does not contain; a module of the user's own may have registered it in another process."""


class SaveError(UserError):
    """Raised when a run cannot write to `path`. The threads of a checkpoint may deadlock, so verbs end the process without waiting for
    them.
    """

    def __init__(self, path: Path, reason: str, checkpoints: Path):
        whole = [int(other.name) for other in checkpoints.glob("*") if other.name.isdecimal()]
        kept = f"The checkpoint of step {max(whole)} is complete" if whole else "There is no checkpoint"
        super().__init__(
            f"cannot write to {path} ({reason}). {kept}. Fix this and run the same command again, or choose another --workdir."
        )


class Inapplicable(UserError):
    """Raised for a treatment that does not apply to a model or a task, with the reason in one line."""


class Alone(Exception):
    """Raised when another process of the run has died, so collective computation cannot continue.

    Verbs exit at once with code 1: anything that waits for the other process would wait forever.
    """


def unknown(what: str, name: object, known: Iterable[str], key: str) -> UnknownName:
    """Returns the error for a name that a table does not contain; it lists the known names and suggests the closest."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownName(f"unknown {what} {name!r}.{guess} Known: {', '.join(names)}. Set it with {key}.")


class Terminated(Exception):
    """Raised after SIGTERM or Ctrl-C, once the state is saved at `step`. Verbs exit with 128 + the signal's number, as shells do."""

    def __init__(self, step: int, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}, saved at step {step}; the same command resumes from there")
        self.step, self.number = step, number
