"""Configuration: a file's locked ConfigDict, overrides from the command line, and the one conversion into frozen dataclasses.

`load("experiments/reason/parity.py:lstm")` calls the file's `get_config("lstm")`; `override` sets keys that exist, by their type;
`typed(TrainConfig, config.train, "train")` is the door of a component: a wrong key or type fails there and names itself.
"""

import ast
import difflib
import importlib.util
import json
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from assay.core.errors import UserError, unknown

LARGEST = 2**53  # what a whole number may reach
LONGEST = 100_000  # tokens: what a range of lengths may reach


def load(spec: str) -> ConfigDict:
    """The locked config of `FILE.py` or `FILE.py:variant`. Raises UserError where there is no such file or variant."""
    config = _of_file(spec, "get_config", lambda module, variant: module.get_config(variant))
    if not isinstance(config, ConfigDict):
        file = spec.partition(":")[0]
        raise UserError(f"get_config of {file} returns {type(config).__name__}, not a ConfigDict. Mend it, or name another with --config.")
    return config.lock()


def pipeline(spec: str) -> list[str]:
    """The treatments that `FILE.py:NAME` lists, in order, as `PIPELINES = {NAME: (...)}`. Raises UserError where it lists none."""
    file, _, name = spec.partition(":")
    listed = _of_file(spec, "PIPELINES", lambda module, _: dict(module.PIPELINES))
    if name not in listed:
        raise unknown("pipeline", name, listed, f"--treat={file}:NAME")
    return [str(treatment) for treatment in listed[name]]


def locked(values: Mapping[str, Any]) -> ConfigDict:
    """A locked ConfigDict of plain data, such as a config.json's."""
    return ConfigDict(dict(values)).lock()


def experiment_name(spec: str) -> str:
    """`experiments/reason/parity.py:lstm` -> `reason/parity:lstm`."""
    file, _, variant = spec.partition(":")
    name = "/".join(Path(file).with_suffix("").parts[-2:])
    return f"{name}:{variant}" if variant else name


def override(config: ConfigDict, assignments: Mapping[str, str]) -> ConfigDict:
    """Sets `a.b.c` to the value that the text means for the type which the key has now. Returns the same locked config.

    A group takes several of its keys at once: `mesh` is set by `data:2,tensor:4`.
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
            node[parents[-1]] = _parse(text, value, key)
    return config


def typed(cls: type, values: Mapping[str, Any], path: str) -> Any:
    """A frozen dataclass from a mapping, recursively. Raises UserError for a key too many, a key missing or a wrong type."""
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
    """The config as plain JSON data (tuples become lists). Raises UserError for a value that JSON does not have."""
    for name in _flat(config):
        value = config
        for part in name.split("."):
            value = value[part]
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise UserError(f"config.{name}={value!r} is not possible: only finite numbers, strings, booleans and lists are.") from None
    return json.loads(config.to_json())


def differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with (old, new)."""
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
    """`"41:500"` (or `"41-500"`) -> (41, 500), both ends included. Raises UserError for an empty or malformed range."""
    low, _, high = text.replace("-", ":").partition(":")
    if not (low.isdecimal() and high.isdecimal()):
        raise UserError(f"{key}={text!r} is not a range of lengths. Write it as FIRST:LAST, both included, such as 41:500.")
    if int(low) > int(high):
        raise UserError(f"{key}={text!r} is an empty range: {low} is above {high}. Write it as FIRST:LAST, both included.")
    if int(high) > LONGEST:
        raise UserError(f"{key}={text!r} reaches beyond length {LONGEST:,}, the longest that is made. Write a smaller LAST.")
    if int(low) < 1:
        raise UserError(f"{key}={text!r} starts below length 1. Write it as FIRST:LAST with FIRST at least 1.")
    return int(low), int(high)


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Validation in a dataclass's __post_init__: UserError naming key, value and what is allowed."""
    if not condition:
        raise UserError(f"config.{key}={value!r} is not possible: {allowed}. Change it with --config.{key}=...")


# -- private --------------------------------------------------------------------------------------------------------------


def _of_file(spec: str, needed: str, read: Callable[[Any, str], Any]) -> Any:
    """`read(module, variant)` of a config file that has what is needed."""
    file, _, variant = spec.partition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"no config file {file!r} (from {Path.cwd()}). Give one with --config=experiments/FOLDER/NAME.py:variant.")
    for folder in path.resolve().parents:  # a config file may import what stands beside its verbs, wherever it is run from
        if (folder / "experiments" / "__init__.py").is_file() and str(folder) not in sys.path:
            sys.path.append(str(folder))
    try:
        module_spec = importlib.util.spec_from_file_location(path.stem, path)
        assert module_spec and module_spec.loader
        module = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
        if not hasattr(module, needed):
            what = "get_config(variant) function, so --config" if needed == "get_config" else f"{needed}, so --treat"
            raise UserError(f"{file} has no {what} cannot name it.")
        return read(module, variant)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever the file's own code does
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.resolve()]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        where = f", line {line}" if line else ""
        raise UserError(
            f"the config file {file}{where} cannot be used: {type(error).__name__}: {error}. Mend it, or name another."
        ) from None


def _unknown_key(key: str, config: ConfigDict, group: str) -> UserError:
    every = _flat(config)
    last = key.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(key, every, n=1, cutoff=0.6) or [name for name in every if name.rsplit(".", 1)[-1] == last][:1]
    guess = f" Did you mean --config.{near[0]}?" if near else ""
    node = config
    for part in group.split(".") if group else ():
        node = node[part]
    known = ", ".join(sorted(node)) if isinstance(node, ConfigDict) else f"none, {group} is a value"
    return UserError(f"unknown config key {key!r}.{guess} Keys of {'config.' + group if group else 'config'}: {known}.")


def _group(key: str, text: str, group: ConfigDict) -> dict[str, str]:
    """`mesh`, `data:2,tensor:4` -> {mesh.data: 2, mesh.tensor: 4}."""
    parts = [
        (name.strip(), colon, value.strip()) for name, colon, value in (part.partition(":") for part in text.split(",") if part.strip())
    ]
    names = [name for name, _, _ in parts]
    if not parts or not all(colon for _, colon, _ in parts) or len(set(names)) < len(names):
        some = ",".join(f"{name}:VALUE" for name in list(group)[:2])
        keys = ", ".join(f"{key}.{name}" for name in sorted(group))
        raise UserError(
            f"--config.{key} is a group; set one of its keys ({keys}), or several, each once, as --config.{key}={some}. Got {text!r}."
        )
    return {f"{key}.{name}": value for name, _, value in parts}


def _flat(config: ConfigDict, path: str = "") -> list[str]:
    names: list[str] = []
    for name, value in config.items():
        here = f"{path}.{name}" if path else name
        names += _flat(value, here) if isinstance(value, ConfigDict) else [here]
    return names


def _parse(text: str, current: Any, key: str) -> Any:
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
                return tuple(ast.literal_eval(text))
            parts = [part.strip() for part in text.split(",") if part.strip()]
            numbers = bool(current) and all(isinstance(item, (int, float)) for item in current)
            return tuple(ast.literal_eval(part) for part in parts) if numbers else tuple(parts)
    except (ValueError, KeyError, SyntaxError, OverflowError, TypeError):
        raise UserError(f"--config.{key}={text}: expected {wanted} (it is {current!r} now).") from None
    return text


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
            raise UserError(f"config.{path}={value} is not possible: numbers reach to {LARGEST:,}. Change it with --config.{path}=...")
        return value
    name = getattr(hint, "__name__", str(hint))
    raise UserError(f"config.{path}={value!r} has type {type(value).__name__}; expected {name}. Change it with --config.{path}=...")


def _matches(value: Any, hint: Any) -> bool:
    return hint is Any or (isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool))
