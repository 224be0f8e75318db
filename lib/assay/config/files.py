"""Config files: finds and loads them.

    load("experiments/reason/parity.py:lstm")    by path, as in a checkout
    load("./mine.py")                            your own file
    load("parity:lstm")                          by name: ./parity.py, or else the config that ships with the package

A file defines `get_config(variant) -> ConfigDict`. It may list pipelines of treatments as `PIPELINES = {NAME: (...)}`.
"""

import difflib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from assay.core.errors import UserError, unknown

HINT = "`assay list` shows the included configs; pass your own file as --config=./FILE.py:variant."


def load(spec: str) -> ConfigDict:
    """Returns the locked config of `FILE.py` or `FILE.py:variant`. Raises UserError if there is no such file or variant."""
    config = _of_file(spec, "get_config", lambda module, variant: module.get_config(variant))
    if not isinstance(config, ConfigDict):
        file = parts(spec)[0]
        raise UserError(
            f"get_config of {file} returns {type(config).__name__}, not a ConfigDict. Fix it, or pass another file with --config."
        )
    return config.lock()


def pipeline(spec: str) -> list[str]:
    """Returns the treatments that `FILE.py:NAME` lists as `PIPELINES = {NAME: (...)}`, in order. Raises UserError for an unknown name."""
    file, name = parts(spec)
    listed = _of_file(spec, "PIPELINES", lambda module, _: dict(module.PIPELINES))
    if name not in listed:
        raise unknown("pipeline", name, listed, f"--treat={file}:NAME")
    return [str(treatment) for treatment in listed[name]]


def parts(spec: str) -> tuple[str, str]:
    """Returns (file, variant) of `FILE.py:variant` or `NAME:variant`. Folders may have colons in their names."""
    ends = [found.end() for found in re.finditer(r"\.py(?=:|$)", spec)]
    if not ends:
        name, _, variant = spec.partition(":")
        return name, variant
    end = next((end for end in reversed(ends) if Path(spec[:end]).is_file()), ends[0])
    return spec[:end], spec[end + 1 :]


def names_file(spec: str) -> bool:
    """Returns True if the spec begins with a file, and is not a treatment with a file among its options."""
    return spec.partition(":")[0].endswith(".py") or Path(parts(spec)[0]).is_file()


def experiment_name(spec: str) -> str:
    """Returns the experiment name of a spec.

    Both `experiments/reason/parity.py:lstm` and `parity:lstm` give `reason/parity:lstm`. A file in the current folder gives its stem alone.
    """
    file, variant = parts(spec)
    path = Path(file) if file.endswith(".py") else find(spec)
    name = "/".join(path.with_suffix("").parts[-2:]).replace(":", "_")  # a colon begins the variant
    return f"{name}:{variant}" if variant else name


def source_of(spec: str) -> str:
    """Returns the spec if its file is the user's own, and "" for a config that ships with the package, which its name finds anywhere."""
    return "" if find(spec).resolve().is_relative_to(shipped().resolve()) else spec


def find(spec: str) -> Path:
    """Returns the file of `FILE.py[:variant]` or `NAME[:variant]`. The user's own files take precedence over those of the package.

    NAME is the stem of a file, with or without its folder: `parity` or `reason/parity`. Raises UserError if there is no such file, or if
    several files have the stem.
    """
    name, _ = parts(spec)
    if name.endswith(".py"):
        found = [path for path in (Path(name), shipped() / name.removeprefix("experiments/")) if path.is_file()]
        if not found:
            raise UserError(f"no config file {name!r} (searched from {Path.cwd()}). {HINT}")
        return found[0]
    own = Path(f"{name}.py")
    if name and own.is_file():
        return own
    known = sorted(path for path in shipped().glob("*/*.py") if "def get_config(" in path.read_text(encoding="utf-8"))
    found = [path for path in known if name in (path.stem, f"{path.parent.name}/{path.stem}")]
    if len(found) > 1:
        listed = " or ".join(f"{path.parent.name}/{path.stem}" for path in found)
        raise UserError(f"{name!r} matches several configs. Use --config={listed}.")
    if not found:
        near = difflib.get_close_matches(name.rpartition("/")[2], [path.stem for path in known], n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"no config {name!r}: neither {own} (searched from {Path.cwd()}) nor an included config.{guess} {HINT}")
    return found[0]


def shipped() -> Path:
    """Returns the folder of the included configs: `experiments` in the wheel or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    return next((path for path in (package / "experiments", package.parents[1] / "experiments") if path.is_dir()), package)


# -- private --------------------------------------------------------------------------------------------------------------


def _of_file(spec: str, needed: str, read: Callable[[Any, str], Any]) -> Any:
    """Returns `read(module, variant)` of a config file. Raises UserError if it fails or does not define `needed`."""
    file, variant = parts(spec)
    path = find(spec)
    for folder in path.resolve().parents:  # config files may import `experiments` from any current folder
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
    except (Exception, SystemExit) as error:  # the file's code may raise anything
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.resolve()]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        where = f", line {line}" if line else ""
        raise UserError(
            f"the config file {file}{where} cannot be used: {type(error).__name__}: {error}. Fix it, or pass another file."
        ) from None
