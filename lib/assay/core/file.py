"""Reads files that anything may have happened to: a pipe, which would be waited for, is an error, and so is JSON of any depth."""

import json
from pathlib import Path
from typing import Any


def read_bytes(path: str | Path) -> bytes:
    """Returns the contents of a regular file. Raises OSError, for a folder, a pipe or a device too."""
    whole = Path(path)
    if whole.exists() and not whole.is_file():
        raise OSError("it is a folder" if whole.is_dir() else "it is not a regular file")
    return whole.read_bytes()


def read_text(path: str | Path, errors: str = "strict") -> str:
    """Returns the text of a regular file, in UTF-8, with line ends as they are. Raises OSError or ValueError."""
    return read_bytes(path).decode("utf-8", errors)


def read_json(path: str | Path) -> Any:
    """Returns the data of a JSON file. Raises OSError, and ValueError for contents that are no JSON."""
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """Returns the data of JSON text. Raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
