"""The command that trains a run again: its config file, and an override for each key in which its config.json differs from that file.

training_command(json.load(open("runs/a/config.json")), "runs/b")
# assay train --config=experiments/reason/parity.py:lstm --config.seed=3 --config.train.steps=20 --workdir=runs/b
"""

import shlex
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from assay.config.files import load
from assay.config.modules import IMPORTS
from assay.config.overrides import parse, recorded
from assay.config.schema import differences, to_dict
from assay.core.errors import UserError

BESIDES = ("experiment", "composition", "data", "source", "overrides", IMPORTS)  # keys of config.json that are not of the config


def training_command(written: Mapping[str, Any], workdir: str) -> str:
    """Returns the `assay train` command of a run, quoted for a shell. `written` is its config.json.

    What no command can say follows as a comment: a config file that has changed or is gone.
    """
    name, _, variant = str(written["experiment"]).partition(":")
    source = str(written.get("source") or f"experiments/{name}.py{':' if variant else ''}{variant}")
    wanted = {key: value for key, value in written.items() if key not in BESIDES}
    words: list[str] = []
    try:
        words, left = assignments(load(source), wanted)
        remark = f"  # the config file has no {', '.join(left)}, as the run had" if left else ""
    except UserError:
        remark = "  # the config file is not found; the keys of the run are in its config.json"
    words = [*(f"--import={name}" for name in written.get(IMPORTS, ())), *words]
    return shlex.join(["assay", "train", f"--config={source}", *words, f"--workdir={workdir}"]) + remark


def changed_keys(config: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, str]:
    """Returns the overrides that a row records, with their values as `config` has them, so that two spellings of a value are one."""
    found = {}
    for key, given in recorded(overrides).items():
        value: Any = config
        for part in key.split("."):
            value = value[part]
        found[key] = given if isinstance(value, Mapping) else ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return found


def assignments(base: ConfigDict, wanted: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Returns (overrides, keys): the overrides that turn `base` into `wanted`, and keys for which there is none."""
    words, left = [], []
    for key, (_, value) in differences(to_dict(base), wanted).items():
        if not _has(wanted, key):  # of a later version than the run
            continue
        text = _text(base, key, value)
        if text is None:
            left.append(key)
        else:
            words.append(f"--config.{key}={text}")
    return words, left


# -- private --------------------------------------------------------------------------------------------------------------


def _has(config: Mapping[str, Any], key: str) -> bool:
    name, _, rest = key.partition(".")
    return name in config and (not rest or (isinstance(config[name], Mapping) and _has(config[name], rest)))


def _text(base: ConfigDict, key: str, value: Any) -> str | None:
    """Returns the text that is parsed as `value` at a key of the config, or None."""
    node: Any = base
    for part in key.split("."):
        if not isinstance(node, ConfigDict) or part not in node:
            return None
        node = node[part]
    texts = [str(value)]
    if isinstance(value, (list, tuple)):
        texts = [",".join(map(str, value)), repr(tuple(value))]
    for text in texts:
        try:
            found = parse(text, node, key)
        except UserError:
            continue
        if (type(found) is type(value) and found == value) or (
            isinstance(value, list) and isinstance(found, tuple) and _listed(found) == value
        ):
            return text
    return None


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, (tuple, list)) else value
