"""Files of a work directory other than checkpoints: the public interface for scripts. Writes are atomic; reads validate the contents."""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import assay
from assay.config.modules import IMPORTS
from assay.config.older import completed
from assay.config.reproduce import BESIDES
from assay.config.schema import differences
from assay.core.errors import UserError
from assay.core.file import parse_json, read_json, read_text
from assay.core.lock import locked
from assay.core.machine import processor
from assay.core.plain import json_text
from assay.dist.launch import leader
from assay.evals.written import wrong_row

OVERRIDES = "overrides"  # in config.json: the keys that the command changed, with their texts
EXTRA = BESIDES
UNCOMMITTED = " + uncommitted changes"  # follows a commit
SOURCE = ("lib", "experiments", ":!experiments/results")  # what a run depends on, as git names it
TOLD = ("experiment", "source", OVERRIDES, IMPORTS)  # of these, the ones that do not change what is computed


class WorkDir:
    """Work directory of one run."""

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser().absolute()
        self.config, self.results, self.metrics = (self.path / name for name in ("config.json", "results.json", "metrics.jsonl"))
        self.checkpoints, self.best, self.set_aside = (self.path / name for name in ("checkpoints", "best", "set_aside"))
        self.timing, self.profile = self.path / "timing.json", self.path / "profile"
        self.secret = self.path / "secret.json"  # the secret's fingerprint
        self.fitted = self.path / "fitted.json"  # parameters that were fitted after training, with the step of the others
        self.tensorboard, self.report = self.path / "tensorboard", self.path / "report.html"

    def predictions(self, split: str) -> Path:
        return self.path / "predictions" / f"{split}.jsonl"

    def check(self, config: Mapping[str, Any], free: Sequence[str]) -> None:
        """Creates the folder if it does not exist; an existing run may differ only in the keys `free`. Raises UserError."""
        if self.config.exists():
            changed = {key: pair for key, pair in differences(self.read_config(), config).items() if not _is_free(key, (*free, *TOLD))}
            if "data" in changed:
                raise self.other_data()
            if changed:
                listed = "\n".join(f"  config.{key}: {old!r} in the run, {new!r} requested" for key, (old, new) in changed.items())
                raise UserError(
                    f"{self.path} holds a run of another configuration:\n{listed}\n"
                    "To resume it, set these keys back. To start from scratch, choose another --workdir or delete that folder."
                )
        elif self.path.is_dir() and any(self.path.glob("*/seed_*")):
            raise UserError(f"{self.path} holds a study. Set --workdir to one of its runs, or to another folder.")
        elif self.checkpoints.is_dir() and any(self.checkpoints.iterdir()):
            raise UserError(f"{self.path} holds checkpoints without a config.json. Choose another --workdir.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise self._unwritable(error) from None

    def other_data(self) -> UserError:
        return UserError(
            f"the training data of {self.path} have changed since it was trained (a text, a label, their order, or Python for stdlib/*). "
            "Restore them, or start from scratch in another --workdir."
        )

    def claim(self, config: Mapping[str, Any]) -> None:
        """Writes config.json and deletes outdated results.json. Call it only after `check` and after existing files have been read."""
        if leader():
            self.results.unlink(missing_ok=True)
        self.write_json(self.config, config)

    def read_config(self) -> dict[str, Any]:
        hint = "A run writes it when it starts. Set --workdir to the folder of a run."
        parts = {"experiment": str, "composition": dict, "task": dict, "model": dict, "treatments": list}
        return completed(self._read(self.config, hint, parts))

    def read_results(self) -> dict[str, Any]:
        hint = "A run writes it when it finishes. Run the same command again to finish the run."
        found = self._read(self.results, hint, {"schema": int, "rows": list, "environment": dict})
        if wrong := wrong_row(found["rows"]):
            raise UserError(f"{self.results} is damaged: {wrong}. Choose another --workdir.")
        return found

    def finished(self, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns results.json of a run that finished with exactly this config, else None."""
        if not (self.results.exists() and self.config.exists()):
            return None
        changed = [key for key in differences(self.read_config(), config) if not _is_free(key, TOLD)]
        return None if changed else self.read_results()

    def write_results(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        results = {"schema": 1, "rows": list(rows), "environment": environment()}
        self.write_json(self.results, results)
        return results

    def write_predictions(self, split: str, records: Iterable[Mapping[str, Any]]) -> None:
        write_text(self.predictions(split), "".join(json_text(record) + "\n" for record in records))

    def cut_metrics(self, step: int) -> None:
        """Drops logged lines after `step`, and a last line truncated by a kill."""
        if not self.metrics.exists():
            return
        kept = []
        for line in read_text(self.metrics, "replace").splitlines():
            try:
                if parse_json(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                break
        write_text(self.metrics, "".join(kept))

    @staticmethod
    def write_json(path: Path, value: Any) -> None:
        write_text(path, json_text(value, indent=1) + "\n")

    def check_parts(self) -> None:
        """Raises UserError if a path that must be a folder is a file, or the reverse."""
        try:
            for path in (self.checkpoints, self.best, self.set_aside, self.tensorboard, self.profile, self.path / "predictions"):
                if path.exists() and not path.is_dir():
                    raise UserError(f"{path} is not a folder. Choose another --workdir, or remove it.")
            for path in (self.config, self.results, self.metrics, self.timing, self.report, self.secret):
                if path.exists() and not path.is_file():
                    raise UserError(f"{path} is not a file. Choose another --workdir, or remove it.")
        except OSError as error:  # such as a name that is too long
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"cannot write to the work directory {self.path}: {error.strerror}. Choose another with --workdir.")

    def _read(self, path: Path, hint: str, parts: Mapping[str, type]) -> dict[str, Any]:
        try:
            found = read_json(path)
        except FileNotFoundError:
            raise UserError(f"no {path.name} in {path.parent}. {hint}") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read: {error}. Choose another --workdir.") from None
        bad = [name for name, kind in parts.items() if not isinstance(found, dict) or not isinstance(found.get(name), kind)]
        if bad:
            raise UserError(f"{path} is not a file of a run: it lacks {', '.join(bad)}. Choose another --workdir.")
        return found


def check_writable(folder: str | Path, key: str = "--workdir") -> None:
    """Raises UserError, in every process, if files cannot be created in `folder` or its nearest existing parent. Leaves nothing behind.

    `key` is the flag that names the folder.
    """
    whole = Path(folder).absolute()
    try:
        tempfile.TemporaryFile(dir=next(path for path in (whole, *whole.parents) if path.exists())).close()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}. Choose another {key}.") from None


@contextmanager
def unless_empty(folder: Path) -> Iterator[None]:
    """Removes the folder and its parents again if the block that creates them fails and leaves them empty."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):  # it has files, or is gone
                path.rmdir()
        raise


@contextmanager
def held(folder: str | Path) -> Iterator[None]:
    """Holds a folder, which is created if it does not exist, for this run alone until the end of the block.

    Raises UserError if another process holds it, or if it cannot be written. With several processes nothing is held: they write together.
    """
    path = Path(folder).expanduser().absolute()
    check_writable(path)
    if jax.process_count() > 1:
        yield
        return
    with unless_empty(path):
        path.mkdir(parents=True, exist_ok=True)
        with locked(path):
            yield


def write_text(path: Path, text: str) -> None:
    """Writes the file atomically; with several processes, process 0 writes. Raises UserError if the system refuses."""
    write_bytes(path, text.encode("utf-8", "replace"))  # a lone surrogate must not prevent writing a page


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes as `write_text` writes text."""
    if not leader():
        return
    try:
        _write(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}. Choose another location.") from None


def _write(path: Path, content: bytes) -> None:
    if path.exists() and not path.is_file():  # a device would be replaced by a file, a folder cannot be
        raise OSError("it is a folder" if path.is_dir() else "it is not a regular file")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def environment() -> dict[str, Any]:
    """Returns versions, devices, the processor and the cores that this process may use, and the commit of the source if known."""
    versions = {name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")}
    versions["assay"] = assay.__version__
    devices = jax.devices()
    return {
        "versions": versions,
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "processor": processor(),
        "cores": cores(),
        "commit": COMMIT,
    }


def cores() -> int | None:
    """Returns the number of CPU cores that this process may use: it changes how XLA splits sums, and so the last bits of results."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def commit_of(folder: Path) -> str | None:
    """Returns the commit of the checkout that holds a folder, with ` + uncommitted changes` if files of the source differ from it.

    None outside a checkout. Without git the changes are unknown, and only the commit is returned.
    """
    root = next((one for one in (folder, *folder.parents) if (one / ".git" / "HEAD").is_file()), None)
    head = None if root is None else _head(root)
    return head if root is None or head is None or not _is_changed(root) else head + UNCOMMITTED


def _is_changed(root: Path) -> bool:
    command = ["git", "-C", str(root), "--no-optional-locks", "status", "--porcelain", "--", *SOURCE]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return found.returncode == 0 and bool(found.stdout.strip())


def _head(root: Path) -> str | None:
    """Reads HEAD of a checkout, without running git; None if its branch has no file."""
    text = (root / ".git" / "HEAD").read_text().strip()
    if not text.startswith("ref: "):
        return text
    reference = root / ".git" / text.removeprefix("ref: ")
    return reference.read_text().strip() if reference.is_file() else None


COMMIT = commit_of(Path(__file__).resolve().parent)  # read at import: commits and edits made during the run do not matter


def _is_free(key: str, free: Sequence[str]) -> bool:
    return any(key == name or key.startswith(name + ".") for name in free)
