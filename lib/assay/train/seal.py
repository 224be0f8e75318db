"""The seal of a checkpoint: the hash of each of its files, written into its folder before the folder gets its name.

Storage that loses a byte is found by this, whatever the byte meant: tensorstore checks its indices and not the numbers themselves. A folder
without a seal is an older one, or whose seal was lost; it is read as it is.
"""

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path

SEAL = "seal.json"


def seal(folder: Path, later: Collection[str] = ()) -> None:
    """Writes the seal of every file that lies in `folder`, or adds those that were not in it yet; `later`: names to leave for then."""
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
    """What differs from the seal, in words; "" where nothing does or there is none."""
    links = [file for file in (folder, *folder.rglob("*")) if file.is_symlink()]
    if links:
        return f"it contains a symbolic link, {links[0].name}, which is not followed"
    try:
        found = json.loads((folder / SEAL).read_text())
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
