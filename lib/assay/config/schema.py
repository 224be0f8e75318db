"""Conversion of a config into frozen dataclasses, and checks of its values.

Each component calls this once, as in `typed(TrainConfig, config.train, "train")`. A wrong key or type raises an error that names the key.
"""

import difflib
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from ml_collections import ConfigDict

from assay.core.errors import UserError

LARGEST = 2**53  # largest magnitude of an integer
LAST_STEP = 2**31 - 1  # largest number of a step: steps are int32 on devices
LONGEST = 100_000  # tokens; upper limit of a range of lengths


def typed(cls: type, values: Mapping[str, Any], path: str) -> Any:
    """Converts a mapping into a frozen dataclass, recursively. Raises UserError for an unknown key, a missing key or a wrong type."""
    hints = typing.get_type_hints(cls)
    prefix = f"{path}." if path else ""
    names = [field.name for field in fields(cls)]
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            guess = f" Did you mean {prefix}{near[0]}?" if near else ""
            raise UserError(f"unknown config key {prefix}{name}.{guess} Known: {', '.join(names)}.")
    missing = [field.name for field in fields(cls) if field.name not in values and field.default is MISSING]
    if missing:
        raise UserError(f"{'config.' + path if path else 'the config'} lacks {', '.join(missing)}. It needs: {', '.join(names)}.")
    return cls(**{name: _check(values[name], hints[name], f"{prefix}{name}") for name in names if name in values})


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as plain JSON data; tuples become lists. Raises UserError for a value that JSON does not support."""
    for name in flat(config):
        value = config
        for part in name.split("."):
            value = value[part]
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise UserError(
                f"config.{name}={value!r} is not possible: only finite numbers, strings, booleans and lists are supported."
            ) from None
    return json.loads(config.to_json())


def flat(config: ConfigDict, path: str = "") -> list[str]:
    """Returns the dotted names of all keys."""
    names: list[str] = []
    for name, value in config.items():
        here = f"{path}.{name}" if path else name
        names += flat(value, here) if isinstance(value, ConfigDict) else [here]
    return names


def differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> dict[str, tuple[Any, Any]]:
    """Returns {dotted key: (old, new)} for the keys whose values differ."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted({*old, *new}):
        here = f"{path}.{name}" if path else name
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found |= differences(a, b, here)
        elif a != b:
            found[here] = (a, b)
    return found


def span(text: str, key: str) -> tuple[int, int]:
    """Parses a range of lengths: `"41:500"` or `"41-500"` -> (41, 500), both inclusive. Raises UserError for an invalid range."""
    low, _, high = text.replace("-", ":").partition(":")
    if not (low.isdecimal() and high.isdecimal()):
        raise UserError(f"{key}={text!r} is not a range of lengths. Write it as FIRST:LAST, both inclusive, such as 41:500.")
    if int(low) > int(high):
        raise UserError(f"{key}={text!r} is an empty range: {low} is above {high}. Write it as FIRST:LAST, both inclusive.")
    if int(high) > LONGEST:
        raise UserError(f"{key}={text!r} exceeds the maximum length of {LONGEST:,}. Use a smaller LAST.")
    if int(low) < 1:
        raise UserError(f"{key}={text!r} starts below the minimum length of 1. Write it as FIRST:LAST with FIRST at least 1.")
    return int(low), int(high)


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Validates a field in a dataclass's __post_init__. Raises UserError naming the key, its value and the allowed values."""
    if not condition:
        raise UserError(f"config.{key}={value!r} is not possible: {allowed}. Change it with --config.{key}=...")


# -- private --------------------------------------------------------------------------------------------------------------


def _check(value: Any, hint: Any, path: str) -> Any:
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, Mapping):
        return typed(hint, value, path)
    origin = typing.get_origin(hint)
    if origin is tuple:
        if isinstance(value, Sequence) and not isinstance(value, str):
            return tuple(_check(item, typing.get_args(hint)[0], path) for item in value)
    elif origin is Mapping:
        if isinstance(value, Mapping):
            return value
    elif hint is float and _matches(value, int):
        return float(value)
    elif _matches(value, hint):
        if isinstance(value, int) and abs(value) > LARGEST:
            raise UserError(f"config.{path}={value} is not possible: the largest number is {LARGEST:,}. Change it with --config.{path}=...")
        return value
    name = getattr(hint, "__name__", str(hint))
    raise UserError(f"config.{path}={value!r} has type {type(value).__name__}; expected {name}. Change it with --config.{path}=...")


def _matches(value: Any, hint: Any) -> bool:
    return hint is Any or (isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool))
