"""Checkpoint integrity: the hash of each file, written into the checkpoint's folder before the folder gets its final name.

The seal detects any changed byte; tensorstore checks its indices but not the values. A folder without a seal comes from an older version or
has lost it, and is read without the check.
"""

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path

from assay.core.file import read_json

SEAL = "seal.json"


def seal(folder: Path, later: Collection[str] = ()) -> None:
    """Writes the seal of all files in `folder`, or adds new files to an existing seal. `later` lists names to leave for a later call."""
    written = folder / SEAL
    files = json.loads(written.read_text())["files"] if written.exists() else {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and name not in (*files, *later, SEAL):
            files[name] = _hash(path)
    whole = folder / f".{SEAL}"
    whole.write_text(json.dumps({"files": files, "hash": _of(files)}))
    os.replace(whole, written)


def damage(folder: Path) -> str:
    """Describes the first difference from the seal; "" if there is none or the folder has no seal."""
    links = [file for file in (folder, *folder.rglob("*")) if file.is_symlink()]
    if links:
        return f"it contains a symbolic link, {links[0].name}, which is not followed"
    try:
        found = read_json(folder / SEAL)
        files = found["files"]
        if found["hash"] != _of(files):
            raise ValueError
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        return f"its {SEAL} has changed since it was written"
    for name, wanted in files.items():
        try:
            if _hash(folder / name) != wanted:
                return f"its file {name} has changed since it was written"
        except OSError as error:
            return f"its file {name} cannot be read: {error.strerror}"
    return ""


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
