"""What a good end of a command line is, and a process that runs them: `with running(folder, seconds) as run: run(line)`.

A command ends well with exit code 0, or with 2 and one message that names a flag, a key or a path, and leaves no empty folder behind; after
a signal with 128 + its number; with 1 where a documented measurement failed. Never with a traceback.
"""

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from experiments.hostile.lines import Line

ROOT = Path(__file__).resolve().parents[2]
STOPPED = 900  # exit code of a command that the server has stopped
MARK = "stopped"  # file of a server that has stopped the present command
SIGNALLED = 128 + 15
MEASURING = ("diagnose", "compare")  # verbs that exit with 1 if a row could not be measured, and say which
NAMED = re.compile(r"--\w|config\b|/|'|\"|\.json|\.csv|\.py")
PATIENCE = 60.0  # seconds beyond its limit after which the server counts as hanging
QUICKLY = "JAX_DISABLE_MOST_OPTIMIZATIONS"  # commands compile more than they compute
SERVED = 150  # commands of one server; JAX keeps what it has compiled


class End(NamedTuple):
    """How a command line ended. `left`: folders and temporary files that it should not have left; `waited`: stopped while it was idle."""

    code: int
    out: str
    err: str
    seconds: float
    left: tuple[str, ...] = ()
    waited: bool = False


def fault(line: Line, end: End) -> str:
    """Returns what is wrong with an end, in a word or two, or ""."""
    if end.waited:
        return "waits"
    if end.code == STOPPED:
        return ""
    if "Traceback" in end.err + end.out:
        return "traceback"
    told = len(re.findall(r"^error: ", end.err, re.MULTILINE))
    if end.code == 2:
        if told != 1:
            return f"{told} messages"
        if not NAMED.search(end.err):
            return "a message without a name"
        return "left behind" if end.left else ""
    if end.code in (0, SIGNALLED) or (end.code == 1 and line.verb in MEASURING and re.search("^(failed|error): ", end.err, re.MULTILINE)):
        return "an error with a wrong code" if told and end.code != 1 else ""
    return "" if line.verb == "launch" and end.code in (1, 127) else f"exit code {end.code}"


def kind(end: End) -> str:
    """Returns the last error and its last line inside the package, which groups tracebacks of one cause."""
    lines = (end.err + end.out).splitlines()
    where = [found.strip() for found in lines if re.search(r'File ".*/(assay|experiments)/', found)]
    last = next((found for found in reversed(lines) if found.strip()), "")
    return f"{where[-1] if where else ''} | {last[:160]}"


@contextmanager
def running(folder: Path, seconds: float, ready: Path | None = None) -> Iterator[Callable[[Line], End]]:
    """Yields a function that runs a command line in a server process, which is started again when it dies or hangs.

    With `ready`, a finished run, nothing is trained: see server.py.
    """
    server: list[subprocess.Popen[str]] = []
    count = 0

    def stop() -> None:
        for one in server:
            one.kill()
            one.communicate()  # closes its pipes
        server.clear()

    def run(line: Line) -> End:
        nonlocal count
        if count and count % SERVED == 0:
            stop()
        count += 1
        if not server:
            command = [sys.executable, "-m", "experiments.hostile.server", str(folder), str(seconds), *([str(ready)] if ready else [])]
            paths = os.pathsep.join([str(ROOT), str(ROOT / "lib")])
            pipes: Mapping[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
            server.append(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths, QUICKLY: "1"}, **pipes))
            limit = 600.0
        else:
            limit = seconds + PATIENCE
        one = server[0]
        assert one.stdin and one.stdout
        one.stdin.write(json.dumps(line._asdict()) + "\n")
        one.stdin.flush()
        heard, _, _ = select.select([one.stdout], [], [], limit)
        answer = one.stdout.readline() if heard else ""
        if answer:
            said = json.loads(answer)
            return End(**{**said, "left": tuple(said["left"])})
        err = (folder / "err").read_text(errors="replace") + (folder / "faults").read_text(errors="replace")
        code = STOPPED if heard and (folder / MARK).exists() else one.poll() if heard else None
        stop()
        return End(code if code is not None else -9, "", err, limit, (), not heard)

    try:
        yield run
    finally:
        stop()
