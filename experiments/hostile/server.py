"""Runs command lines one after another in one process, each in a fresh folder of traps; JAX is slow to import.

    python -m experiments.hostile.server FOLDER SECONDS [RUN]

Reads a line of JSON a command, answers with its exit code and output. A command that has computed for SECONDS is stopped: in
training by SIGTERM, which a run answers with a checkpoint, elsewhere by an exception that nothing catches. With a finished RUN, which is
copied in place of runs that would be trained first, training is stopped in the same way where it would begin.
"""

import faulthandler
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from assay.cli.main import VERBS
from experiments.hostile.verdict import MARK, STOPPED

WAIT = 20.0  # seconds by the clock after which a command is stopped too
IDLE = 0.02  # a stopped command that computed for a smaller share of its time has waited for something
MEMORY = 8 << 30  # bytes that the process may allocate
ENVIRONMENT = ("ASSAY_COORDINATOR", "ASSAY_PROCESSES", "ASSAY_PROCESS")
AGAIN = 5.0  # seconds after which a command that still runs is stopped again
MARKED: list[Path] = []  # the file that says so


class Stop(BaseException):
    """Ends a command that takes too long."""


def serve(root: Path, seconds: float, run: Path | None) -> None:
    """Answers the lines of standard input until it ends."""
    replies = os.fdopen(os.dup(1), "w")
    sys.stdout.reconfigure(errors="strict")  # type: ignore[union-attr]
    faulthandler.enable(open(root / "faults", "w"))  # noqa: SIM115 - open as long as the process
    os._exit = sys.exit  # type: ignore[assignment] - a command ends, not the server
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _over)
    import tensorflow_datasets  # a module whose import is stopped half-way is no use to later commands
    from absl import app

    app.define_help_flags()
    _ = tensorflow_datasets.features
    for verb in VERBS:
        importlib.import_module(f"assay.cli.{verb}")
    MARKED.append(root / MARK)
    made = root / "made"
    if not made.exists():
        from experiments.hostile.box import template

        made.mkdir()
        template(made, lambda verb, *words: _run(root, verb, words, 600.0, expected=0), run)
    if run is not None:
        _without_steps()
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(answer(root, asked, seconds)), file=replies, flush=True)


def answer(root: Path, asked: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Runs one command line and returns {code, out, err, seconds, left}."""
    from experiments.hostile.box import fill, left_behind, listed
    from experiments.hostile.values import BOX

    box = root / "box"
    if box.exists():
        (box / "locked").chmod(0o700)
        shutil.rmtree(box)
    box.mkdir()
    fill(box, root / "made", asked["damage"])
    before = listed(box)
    os.chdir(box)
    try:
        found = _run(root, asked["verb"], [word.replace(BOX, str(box)) for word in asked["words"]], seconds)
    finally:
        os.chdir(root)
    return {**found, "left": left_behind(box, before)}


# -- private --------------------------------------------------------------------------------------------------------------


def _run(root: Path, verb: str, words: Any, seconds: float, expected: int | None = None) -> dict[str, Any]:
    from absl import flags

    for number, stream in ((1, "out"), (2, "err")):
        with open(root / stream, "wb") as file:
            os.dup2(file.fileno(), number)
    for name in ENVIRONMENT:
        os.environ.pop(name, None)
    known, began, computed = set(flags.FLAGS), time.monotonic(), time.process_time()
    sys.argv = [f"assay {verb}", *words]
    for clock, limit in ((signal.ITIMER_PROF, seconds), (signal.ITIMER_REAL, max(WAIT, seconds))):
        signal.setitimer(clock, limit, AGAIN)
    (root / MARK).unlink(missing_ok=True)
    try:
        importlib.import_module(f"assay.cli.{verb}").start()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        for clock in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(clock, 0.0)
    if (root / MARK).exists():  # however the exception came through
        code = STOPPED
    sys.stdout.flush()
    sys.stderr.flush()
    for name in set(flags.FLAGS) - known:
        if name in flags.FLAGS and str(flags.FLAGS.find_module_defining_flag(name)).startswith("assay"):
            delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    took = time.monotonic() - began
    waited = code == STOPPED and time.process_time() - computed < IDLE * took
    out, err = ((root / stream).read_text(errors="replace") for stream in ("out", "err"))
    if expected is not None and code != expected:
        raise RuntimeError(f"{verb} {words} ended with {code}: {err}")
    return {"code": code, "out": out, "err": err, "seconds": took, "waited": waited}


def _over(number: int, frame: Any) -> None:
    """Stops the command: a run by SIGTERM, everything else by an exception."""
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler):
        handler(signal.SIGTERM, frame)
    else:
        MARKED[0].touch()
        raise Stop


def _without_steps() -> None:
    from assay.core.errors import Terminated
    from assay.train import loop

    def train(made: Any, folder: Any, mesh: Any, labels: Any, quiet: bool, claim: Any = lambda: None, profile: bool = False) -> Any:
        claim()
        raise Terminated(0, signal.SIGTERM)

    loop.train = train  # type: ignore[assignment]


if __name__ == "__main__":
    serve(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3:] else None)
