"""Work directories inside treatment specs, written so that no character of a path is taken for a part of the spec.

    f"inherit:from={written('runs/a+b, c')}"        # inherit:from=%2Fhome/me/runs/a%2Bb%2C%20c
    folders("runs/c+++runs/b")                      # ("runs/c++", "runs/b") where these folders exist

Specs are lists of options separated by commas, and `+` joins several folders. A path that is written by the program has these and other
special characters in percent-encoding, and then its first slash, too: nobody types that. A path that a user types may have them as they
are, if the folder exists.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

SPECIAL = re.compile(r"[%,+;|'\"()\[\]{}\s]")
OPTION, ROOT = "from", "%2F"


def written(path: str | Path) -> str:
    """Returns the absolute path as part of a spec."""
    whole = os.path.abspath(os.path.expanduser(path))
    encoded = SPECIAL.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), whole)
    return encoded if encoded == whole else ROOT + encoded.removeprefix("/")


def folder(text: str) -> str:
    """Returns the path of a folder from a spec: as it stands if that folder exists, or else without percent-encoding."""
    typed = os.path.expanduser(text)
    return typed if not text.startswith(ROOT) and os.path.isdir(typed) else os.path.expanduser(unquote(text))


def folders(text: str) -> tuple[str, ...]:
    """Returns the paths of folders joined by `+`. Where names contain it, the longest existing ones are meant.

    A text that leaves an empty name, such as `runs/c++` without such a folder, is one folder: `runs/c` was not asked for.
    """
    found: list[str] = []
    left = text.split("+") if text else []
    while left:
        many = next((n for n in range(len(left), 1, -1) if os.path.isdir(folder("+".join(left[:n])))), 1)
        found.append("+".join(left[:many]))
        left = left[many:]
    return tuple(map(folder, found if all(found) else [text]))


def pieces(options: Sequence[str]) -> list[str]:
    """Rejoins options that were split at commas inside existing folders: `from=runs/a` and `b` if there is a folder `runs/a,b`."""
    found: list[str] = []
    left = list(options)
    while left:
        start, many = _start(left[0]), 1
        if start is not None:
            many = next((n for n in range(len(left), 1, -1) if all(map(os.path.isdir, folders(",".join(left[:n])[start:])))), 1)
        if many > 1:
            found.append(left[0][:start] + "+".join(map(written, folders(",".join(left[:many])[start:]))))
        else:
            found.append(left[0])
        left = left[many:]
    return found


def _start(piece: str) -> int | None:
    """Returns where the folders start in a piece of a spec: after `from=`, or after the name of the treatment; None if it has none."""
    key, equals, _ = piece.rpartition(f"{OPTION}=")
    if equals and (not key or key.endswith(":")):
        return len(key) + len(equals)
    name, colon, _ = piece.partition(":")
    plain = "=" not in piece or os.path.isdir(folder(piece[len(name) + len(colon) :]))
    return len(name) + len(colon) if colon and plain and name.isidentifier() else None
