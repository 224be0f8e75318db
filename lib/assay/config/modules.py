"""Modules of the user's own that `--import=MODULE` names: they register models, tasks, treatments, diagnostics and metrics.

    load(["my_treatments", "./more/tasks.py"])       # once a process, before anything is looked up by name
    given()                                          # ("my_treatments", "./more/tasks.py"), which a run records

config.json records the names, but reading a run never imports them: what it holds is data. A run that needs one says so (`needed`).
"""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from assay.core.errors import UnknownName, UserError
from assay.core.file import read_json

OWN = "mine/"  # begins the names of models and tasks that a caller gives as values: a process knows them, a run does not hold them
IMPORTS = "imports"  # in config.json: the modules that the run was trained with, as they were named

INSTALLED = (str(Path(__file__).resolve().parents[1]), sys.prefix, sys.base_prefix)  # folders of code that is not the user's

_loaded: dict[str, ModuleType] = {}  # by file, or by dotted name: imports last as long as the process
_given: tuple[str, ...] = ()


def load(names: Sequence[str]) -> None:
    """Imports modules by their dotted names, or by the path of a file, such as ./my_tasks.py. A module named twice is imported once.

    A name without dots is a file of the current folder, if there is one. Raises UserError if a module is missing or fails.
    """
    global _given
    named: dict[str, str] = {}
    for name in names:
        key = _key(name)
        if key not in _loaded:
            _loaded[key] = _imported(name, _file(name))
        named.setdefault(key, name)
    _given = tuple(named.values())


def given() -> tuple[str, ...]:
    """Returns the modules that the command named, in order."""
    return _given


def needed(workdir: str | Path) -> str:
    """Returns the sentence that names the modules of the run in a folder, or of a study's runs, that were not imported; or ""."""
    folder = Path(workdir).expanduser()
    names = [name for path in (folder, *sorted(folder.glob("*/seed_*"))) for name in _recorded(path / "config.json")]
    known = set(map(_key, _given))
    missing = [name for name in dict.fromkeys(names) if _key(name) not in known]
    return f" It was trained with {' '.join(f'--import={name}' for name in missing)}; add it." if missing else ""


@contextmanager
def explaining(workdir: str | Path) -> Iterator[None]:
    """Adds to an unknown name in the block that the run of a folder was trained with modules which were not imported."""
    try:
        yield
    except UnknownName as error:
        if told := needed(workdir):
            raise UserError(f"{error}{told}") from None
        raise


# -- private --------------------------------------------------------------------------------------------------------------


def _file(name: str) -> Path | None:
    """Returns the file that a name means, or None for a dotted name of a module."""
    if name.endswith(".py") or "/" in name:
        return Path(name).expanduser()
    own = Path(f"{name}.py")
    return own if name and "." not in name and own.is_file() else None


def _key(name: str) -> str:
    """Returns what identifies the module of a name: its file, or its dotted name."""
    file = _file(name)
    return name if file is None else str(file.resolve())


def _imported(name: str, file: Path | None) -> ModuleType:
    if file is not None and not (file.is_file() and file.suffix == ".py"):
        raise UserError(f"no Python file {name!r} (from {Path.cwd()}). Set --import to a module, or to a file such as ./my_tasks.py.")
    folder = str((file or Path("module")).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # a module may import the files beside it; last, so that none of them replaces an installed package
    try:
        return importlib.import_module(name) if file is None else _of_file(file.resolve())
    except ModuleNotFoundError as error:
        if file is None and error.name and f"{name}.".startswith(f"{error.name}."):
            raise UserError(
                f"no module {name!r} (searched in {Path.cwd()} and on Python's path). Set --import to a module, or to ./FILE.py."
            ) from None
        raise _failed(name, error) from None
    except (Exception, SystemExit) as error:  # the module's code may raise anything
        raise _failed(name, error) from None


def _of_file(file: Path) -> ModuleType:
    known = sys.modules.get(file.stem)
    taken = known is not None and getattr(known, "__file__", None) != str(file)
    spec = importlib.util.spec_from_file_location(f"{file.stem}_imported" if taken else file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(spec.name, None)
        raise
    return module


def _failed(name: str, error: BaseException) -> UserError:
    """Returns the error of a module that failed, with the last line of the user's own code that led there."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [frame for frame in frames if not frame[0].startswith(("<", *INSTALLED)) and "site-packages" not in frame[0]]
    where, line = (error.filename, error.lineno) if isinstance(error, SyntaxError) else (own or frames)[-1]
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    what = said if isinstance(error, UserError) else f"{type(error).__name__}: {said}"
    return UserError(f"--import={name} failed in {where}, line {line}: {what.rstrip('.')}. Fix it, or omit --import.")


def _recorded(path: Path) -> list[str]:
    """Returns the modules that a config.json names; [] for one that cannot be read, which is reported elsewhere."""
    try:
        config: Any = read_json(path)
    except (OSError, ValueError):
        return []
    names = config.get(IMPORTS) if isinstance(config, Mapping) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
