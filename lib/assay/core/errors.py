"""A user's mistake: one message that names the wrong thing, the allowed things and the key to change; exit code 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Raised for what the person who launched the run can mend. Verbs print it without a traceback and exit with 2."""


def unknown(what: str, name: object, known: Iterable[str], key: str) -> UserError:
    """The error for a name that no table holds: lists the known ones and guesses the nearest."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {what} {name!r}.{guess} Known: {', '.join(names)}. Set it with {key}.")
