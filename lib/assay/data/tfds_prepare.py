"""Prepares a TFDS data set once: quietly, safe against concurrent processes and kills, and with actionable errors.

TFDS downloads into a folder named `incomplete...` beside the final one and renames it at the end, so a folder with the final name is
complete. Some builders (MNIST, CIFAR-10) call TensorFlow while preparing; reading never does.
"""

import contextlib
import difflib
import functools
import importlib
import io
import logging
import pkgutil
import socket
import sys
import threading
import time
import urllib.error
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from assay.core.errors import UserError

CONNECT, READ = 10.0, 60.0  # seconds without data after which a download fails
RETRIES = 2
HEARTBEAT = 30.0  # seconds between two progress lines
EMBEDDED = ("digits", "stdlib_text")
NETWORK = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError", "DownloadError", "ChunkedEncodingError")


def prepared(builder: Any, name: str) -> Any:
    """Returns the builder once its data set is complete in its folder. Raises UserError."""
    if builder.is_prepared():
        return builder
    try:
        with _telling(name, builder.data_dir), _quiet(), _patience():
            builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        again = _anew(builder)
        if again.is_prepared():  # another process was faster, so the rename failed
            return again
        raise explain(error, name, builder.data_dir) from error
    return builder


def explain(error: BaseException, name: str, folder: str) -> UserError:
    """Explains a failed preparation to the person who requested the data."""
    elsewhere = (
        f"A copy prepared elsewhere (`pip install tensorflow-datasets tensorflow-cpu; tfds build {name} --file_format=array_record`) is "
        f"expected in {folder}; change that folder with config.task.data_dir or $TFDS_DATA_DIR."
    )
    if name.partition("/")[0] in EMBEDDED:
        elsewhere = "Set another folder with config.task.data_dir or $ASSAY_DATA."
    for cause in _chain(error):
        if isinstance(cause, UserError):
            return cause
        if isinstance(cause, ImportError) and (cause.name or "").partition(".")[0] == "tensorflow":
            return UserError(
                f"{name} is not prepared, and its builder needs TensorFlow to prepare it (not to read it). Install the extra: "
                f"pip install -e '.[tfds-prepare]'. {elsewhere}"
            )
        if isinstance(cause, ImportError) and cause.name:
            return UserError(f"{name} is not prepared, and its builder needs the package {cause.name}, which is not installed. {elsewhere}")
        if isinstance(cause, (urllib.error.URLError, socket.gaierror, TimeoutError, ConnectionError)) or type(cause).__name__ in NETWORK:
            _, caused, reason = in_one_line(cause).rpartition("(Caused by ")
            reason = reason.removesuffix(")") if caused else reason
            return UserError(
                f"{name} has no prepared copy, and without a network it cannot be downloaded ({reason}). {elsewhere} Embedded "
                "data sets need none: config.task.name=digits for images, config.task.name=stdlib/package for text."
            )
        if isinstance(cause, PermissionError):
            return UserError(f"{name} cannot be prepared: no permission to write {cause.filename}. {elsewhere}")
    return UserError(f"{name} could not be prepared in {folder}: {type(error).__name__}: {in_one_line(error)}. {elsewhere}")


def unknown_name(name: str, known: Sequence[str], root: str) -> UserError:
    """Returns the error for a data set that is neither registered with TFDS nor in its folder."""
    near = difflib.get_close_matches(name.partition("/")[0], known, n=5, cutoff=0.6)
    guess = f" Did you mean {', '.join(near)}?" if near else ""
    return UserError(
        f"unknown data set {name!r}: TFDS has no builder of this name, and there is no prepared copy in {root}/{name}.{guess} "
        "Embedded: digits, stdlib_text/lm, stdlib_text/package-LENGTH. Set it with config.task.name."
    )


def import_builders(tfds: Any) -> None:
    """Imports TFDS's builder packages one by one. TFDS stops at the first that lacks a dependency, and would miss the rest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.iter_modules(tfds.__path__):
            if module.ispkg and module.name not in ("core", "testing", "scripts", "proto", "datasets", "dataset_collections"):
                with contextlib.suppress(ImportError):
                    importlib.import_module(f"tensorflow_datasets.{module.name}")


def in_one_line(error: BaseException) -> str:
    """Returns the message of an error in one line of at most 400 characters, without a final full stop."""
    return (" ".join(str(error).split()) or type(error).__name__)[:400].rstrip(".")


# -- private --------------------------------------------------------------------------------------------------------------


def _anew(builder: Any) -> Any:
    """Recreates the builder for the current state of its folder."""
    return type(builder)(**builder._original_state) if hasattr(builder, "_original_state") else builder


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def _telling(name: str, folder: str) -> Iterator[None]:
    """Prints a line to stderr at the start and at the end, and progress lines in between."""
    done, start = threading.Event(), time.monotonic()

    def beat() -> None:
        while not done.wait(HEARTBEAT):
            print(f"still preparing {name} ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)

    print(f"preparing {name} in {folder} (once)", file=sys.stderr, flush=True)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
        print(f"prepared {name} in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses TFDS's own output and retry messages; progress bars are shown on a terminal only."""
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    retries = logging.getLogger("urllib3.connectionpool")
    before = retries.level
    retries.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        retries.setLevel(before)


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Limits how long downloads wait for data. By default TFDS waits forever, and retries ten times with growing delays."""
    from tensorflow_datasets.core.download import downloader

    before = downloader._open_url, downloader.MAX_RETRIES, socket.getdefaulttimeout()
    downloader._open_url = functools.partial(before[0], timeout=(CONNECT, READ))
    downloader.MAX_RETRIES = RETRIES
    socket.setdefaulttimeout(READ)  # urllib's timeout, for FTP
    try:
        yield
    finally:
        downloader._open_url, downloader.MAX_RETRIES = before[:2]
        socket.setdefaulttimeout(before[2])
