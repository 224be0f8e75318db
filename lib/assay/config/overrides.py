"""Command-line overrides: `--config.a.b.c=TEXT` sets an existing key to TEXT, parsed according to the type of its current value."""

import ast
import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from assay.config.schema import flat
from assay.core.errors import UserError

UNRECORDED = ("seed", "checkpoint", "train.log_every", "train.read_threads")  # a row has its seed; the others change no number


def recorded(assignments: Mapping[str, str]) -> dict[str, str]:
    """Returns the assignments that a row records: those that can change its number."""
    return {key: text for key, text in assignments.items() if key not in UNRECORDED and key.split(".")[0] not in UNRECORDED}


def locked(values: Mapping[str, Any]) -> ConfigDict:
    """Returns a locked ConfigDict of plain data, such as the contents of a config.json."""
    return ConfigDict(dict(values)).lock()


def override(config: ConfigDict, assignments: Mapping[str, str]) -> ConfigDict:
    """Sets `a.b.c` to its text, parsed according to the type of the current value. Returns the same locked config.

    A group accepts several keys at once: `data:2,tensor:4` sets two keys of `mesh`. Raises UserError for an unknown key or invalid text.
    """
    for key, text in assignments.items():
        node, parents = config, key.split(".")
        for depth, part in enumerate(parents):
            if not isinstance(node, ConfigDict) or part not in node:
                raise _unknown_key(key, config, ".".join(parents[:depth]))
            if depth < len(parents) - 1:
                node = node[part]
        value = node[parents[-1]]
        if isinstance(value, ConfigDict):
            override(config, _group(key, text, value))
        else:
            node[parents[-1]] = parse(text, value, key)
    return config


def parse(text: str, current: Any, key: str) -> Any:
    """Returns the value that a text means where the current value is of that type. Raises UserError for invalid text."""
    wanted = type(current).__name__
    try:
        if isinstance(current, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if isinstance(current, int):
            number = float(text) if "e" in text.lower() else int(text)
            if number != int(number):
                raise ValueError
            return int(number)
        if isinstance(current, float):
            return float(text)
        if isinstance(current, (tuple, list)):
            wanted = "comma-separated list"
            if text.startswith(("(", "[")):
                listed = ast.literal_eval(text)
                return tuple(listed) if isinstance(listed, (tuple, list)) else (listed,)  # ('iid') is a string in parentheses
            parts = [part.strip() for part in text.split(",") if part.strip()]
            numbers = bool(current) and all(isinstance(item, (int, float)) for item in current)
            return tuple(ast.literal_eval(part) for part in parts) if numbers else tuple(parts)
    except (ValueError, KeyError, SyntaxError, OverflowError, TypeError, MemoryError, RecursionError):  # the last two: from ast
        raise UserError(f"--config.{key}={text}: expected {wanted} (current value: {current!r}).") from None
    return text


# -- private --------------------------------------------------------------------------------------------------------------


def _unknown_key(key: str, config: ConfigDict, group: str) -> UserError:
    every = flat(config)
    last = key.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(key, every, n=1, cutoff=0.6) or [name for name in every if name.rsplit(".", 1)[-1] == last][:1]
    guess = f" Did you mean --config.{near[0]}?" if near else ""
    node = config
    for part in group.split(".") if group else ():
        node = node[part]
    known = ", ".join(sorted(node)) if isinstance(node, ConfigDict) else f"none, {group} is not a group"
    return UserError(f"unknown config key {key!r}.{guess} Keys of {'config.' + group if group else 'config'}: {known}.")


def _group(key: str, text: str, group: ConfigDict) -> dict[str, str]:
    """Expands an assignment to a group: `mesh`, `data:2,tensor:4` -> {mesh.data: 2, mesh.tensor: 4}."""
    parts = [
        (name.strip(), colon, value.strip()) for name, colon, value in (part.partition(":") for part in text.split(",") if part.strip())
    ]
    names = [name for name, _, _ in parts]
    if not parts or not all(colon for _, colon, _ in parts) or len(set(names)) < len(names):
        some = ",".join(f"{name}:VALUE" for name in list(group)[:2])
        keys = ", ".join(f"{key}.{name}" for name in sorted(group))
        raise UserError(
            f"--config.{key} is a group: set one of its keys ({keys}), or several, each once, as --config.{key}={some}. Got {text!r}."
        )
    return {f"{key}.{name}": value for name, _, value in parts}
