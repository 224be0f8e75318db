"""Work directories inside treatment specs, written so that no character of a path is taken for a part of the spec.

    f"inherit:from={written('runs/a+b, c')}"        # inherit:from=/home/me/runs/a%2Bb%2C%20c
    folders("runs/c++")                             # ("runs/c++",) where that folder exists, otherwise ("runs/c",)

Specs are lists of options separated by commas, and `+` joins several folders. A path that is written by the program has these and other
special characters in percent-encoding. A path that a user types may have them as they are, if the folder exists.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

SPECIAL = re.compile(r"[%,+;|'\"()\[\]{}\s]")
OPTION = "from"


def written(path: str | Path) -> str:
    """Returns the absolute path as part of a spec."""
    return SPECIAL.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), os.path.abspath(os.path.expanduser(path)))


def folder(text: str) -> str:
    """Returns the path of a folder from a spec."""
    return os.path.expanduser(unquote(text))


def folders(text: str) -> tuple[str, ...]:
    """Returns the paths of folders joined by `+`: one folder if the whole text names an existing one."""
    if os.path.isdir(folder(text)):
        return (folder(text),)
    return tuple(folder(part) for part in text.split("+") if part)


def pieces(options: Sequence[str]) -> list[str]:
    """Rejoins options that were split at commas inside an existing folder: `from=runs/a` and `b` if there is a folder `runs/a,b`."""
    found: list[str] = []
    left = list(options)
    while left:
        key, equals, _ = left[0].rpartition(f"{OPTION}=")
        many = 1
        if equals and (not key or key.endswith(":")):
            start = len(key) + len(equals)
            many = next((n for n in range(len(left), 1, -1) if os.path.isdir(folder(",".join(left[:n])[start:]))), 1)
        if many > 1:
            start = len(key) + len(equals)
            found.append(f"{key}{equals}{written(folder(','.join(left[:many])[start:]))}")
        else:
            found.append(left[0])
        left = left[many:]
    return found
