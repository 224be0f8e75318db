"""A user's mistake: one message that names the wrong thing, the allowed things and the key to change; exit code 2."""

import difflib
import signal
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Raised for what the person who launched the run can mend. Verbs print it without a traceback and exit with 2."""


class SaveError(UserError):
    """A run could not write to `path`. A checkpoint's threads may wait for one another for ever, so verbs end the process without them."""

    def __init__(self, path: Path, reason: str, checkpoints: Path):
        whole = [int(other.name) for other in checkpoints.glob("*") if other.name.isdecimal()]
        kept = f"The checkpoint of step {max(whole)} is whole" if whole else "There is no checkpoint"
        super().__init__(
            f"cannot write to {path} ({reason}). {kept}. Mend this and run the same command again, or choose another --workdir."
        )


class Inapplicable(UserError):
    """A treatment that makes no sense for a model, or for a task, with the reason in a line."""


class Alone(Exception):
    """Another process of the run is gone, so what they compute together cannot go on. Verbs end at once, with exit code 1: whatever waits
    for the other would wait for ever."""


def unknown(what: str, name: object, known: Iterable[str], key: str) -> UserError:
    """The error for a name that no table holds: lists the known ones and guesses the nearest."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {what} {name!r}.{guess} Known: {', '.join(names)}. Set it with {key}.")


class Terminated(Exception):
    """SIGTERM or Ctrl-C came, and the state was saved at `step`. Verbs exit with 128 + the signal's number, as shells do."""

    def __init__(self, step: int, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}, saved at step {step}; the same command goes on from there")
        self.step, self.number = step, number
