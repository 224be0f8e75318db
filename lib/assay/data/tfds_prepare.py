"""Preparing a data set of TFDS once: quietly, safely against a second process and a kill, and with errors that say what can be done.

TFDS downloads and writes into a folder named `incomplete...` beside the final one and renames it at the end, so what has the final name is
whole. Some of its builders (MNIST, CIFAR-10) call TensorFlow while they prepare; reading never does.
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

CONNECT, READ = 10.0, 60.0  # seconds of silence after which a download has failed
RETRIES = 2
HEARTBEAT = 30.0  # seconds between two lines that say that it is still going on
EMBEDDED = ("digits", "stdlib_text")
NETWORK = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError", "DownloadError", "ChunkedEncodingError")


def prepared(builder: Any, name: str) -> Any:
    """The builder, whose data set lies whole in its folder afterwards. Raises UserError."""
    if builder.is_prepared():
        return builder
    try:
        with _telling(name, builder.data_dir), _quiet(), _patience():
            builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        again = _anew(builder)
        if again.is_prepared():  # another process was faster, and the rename failed
            return again
        raise explain(error, name, builder.data_dir) from error
    return builder


def explain(error: BaseException, name: str, folder: str) -> UserError:
    """What a failed preparation means for the person who wanted the data."""
    elsewhere = (
        f"A copy prepared elsewhere (`pip install tensorflow-datasets tensorflow-cpu; tfds build {name} --file_format=array_record`) is "
        f"looked for in {folder}; move the place with config.task.data_dir or $TFDS_DATA_DIR."
    )
    if name.partition("/")[0] in EMBEDDED:
        elsewhere = "Set another folder with config.task.data_dir or $ASSAY_DATA."
    for cause in _chain(error):
        if isinstance(cause, UserError):
            return cause
        if isinstance(cause, ImportError) and (cause.name or "").partition(".")[0] == "tensorflow":
            return UserError(
                f"{name} is not prepared, and its builder needs TensorFlow to prepare it (never to read it). Install the extra: "
                f"pip install -e '.[tfds-prepare]'. {elsewhere}"
            )
        if isinstance(cause, ImportError) and cause.name:
            return UserError(f"{name} is not prepared, and its builder needs the package {cause.name}, which is not installed. {elsewhere}")
        if isinstance(cause, (urllib.error.URLError, socket.gaierror, TimeoutError, ConnectionError)) or type(cause).__name__ in NETWORK:
            _, caused, reason = in_one_line(cause).rpartition("(Caused by ")
            reason = reason.removesuffix(")") if caused else reason
            return UserError(
                f"{name} has no prepared copy, and without a network it cannot be downloaded ({reason}). {elsewhere} Embedded "
                "data that need none: config.task.name=digits for images, config.task.name=stdlib/package for text."
            )
        if isinstance(cause, PermissionError):
            return UserError(f"{name} cannot be prepared: no permission to write {cause.filename}. {elsewhere}")
    return UserError(f"{name} could not be prepared in {folder}: {type(error).__name__}: {in_one_line(error)}. {elsewhere}")


def unknown_name(name: str, known: Sequence[str], root: str) -> UserError:
    """The error for a data set that neither TFDS nor its folder knows."""
    near = difflib.get_close_matches(name.partition("/")[0], known, n=5, cutoff=0.6)
    guess = f" Did you mean {', '.join(near)}?" if near else ""
    return UserError(
        f"unknown data set {name!r}: TFDS has no builder of this name, and there is no prepared copy in {root}/{name}.{guess} "
        "Embedded: digits, stdlib_text/lm, stdlib_text/package-LENGTH. Set it with config.task.name."
    )


def import_builders(tfds: Any) -> None:
    """Imports TFDS's folders of builders one by one. TFDS stops at the first that lacks a package, and then does not know the rest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.iter_modules(tfds.__path__):
            if module.ispkg and module.name not in ("core", "testing", "scripts", "proto", "datasets", "dataset_collections"):
                with contextlib.suppress(ImportError):
                    importlib.import_module(f"tensorflow_datasets.{module.name}")


def in_one_line(error: BaseException) -> str:
    """The message of an error in one line of at most 400 characters, without its last full stop."""
    return (" ".join(str(error).split()) or type(error).__name__)[:400].rstrip(".")


# -- private --------------------------------------------------------------------------------------------------------------


def _anew(builder: Any) -> Any:
    """The same builder as its folder is now."""
    return type(builder)(**builder._original_state) if hasattr(builder, "_original_state") else builder


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def _telling(name: str, folder: str) -> Iterator[None]:
    """A line on stderr at the beginning and at the end, and one now and then between."""
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
    """TFDS's own lines and those about retries go nowhere, its bars to a terminal only."""
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
    """Downloads that hear nothing for a while fail. TFDS by itself waits for ever, and tries ten times at growing distances."""
    from tensorflow_datasets.core.download import downloader

    before = downloader._open_url, downloader.MAX_RETRIES, socket.getdefaulttimeout()
    downloader._open_url = functools.partial(before[0], timeout=(CONNECT, READ))
    downloader.MAX_RETRIES = RETRIES
    socket.setdefaulttimeout(READ)  # urllib, for FTP
    try:
        yield
    finally:
        downloader._open_url, downloader.MAX_RETRIES = before[:2]
        socket.setdefaulttimeout(before[2])
