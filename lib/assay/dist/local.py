"""Runs several processes on one machine, as a cluster would start them: for tests and laptops.

Only the output of process 0 is shown as it runs. Lines that the others write to stderr follow at the end, each once. If one process fails,
the others are stopped, since they would wait for it.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import FrameType
from typing import IO

from assay.core.errors import UserError
from assay.dist.launch import COORDINATOR, PROCESS, PROCESSES

MOST = 256  # processes, and devices of each
LINGER_SECONDS = 5.0  # time the others have to exit on their own after one has failed
KILL_SECONDS = 10.0  # time between SIGTERM and SIGKILL


def run(command: Sequence[str], processes: int, devices: int) -> int:
    """Runs `command` in `processes` processes with `devices` simulated CPU devices each, and returns the exit code.

    `devices=0` uses the existing devices. The exit code is 0, or that of the first process to fail: 128 + n if signal n ended it. SIGTERM
    and SIGINT are forwarded to all processes. Raises UserError for impossible counts or a command that cannot run.
    """
    if processes < 1:
        raise UserError(f"--processes={processes} is not possible: it must be at least 1.")
    if processes > MOST:
        raise UserError(f"--processes={processes} is not possible: one machine runs at most {MOST:,}.")
    if not 0 <= devices <= MOST:
        raise UserError(f"--devices={devices} is not possible: give a number of devices up to {MOST:,}, or 0 for the existing ones.")
    if not command:
        raise UserError("no command to run. Write it after --, as in: assay launch --processes=2 -- assay train --config=...")
    environment = {**os.environ, COORDINATOR: f"127.0.0.1:{_free_port()}", PROCESSES: str(processes)}
    if devices:
        environment["JAX_NUM_CPU_DEVICES"] = str(devices)
    children: list[subprocess.Popen[bytes]] = []
    heard = [tempfile.TemporaryFile() for _ in range(1, processes)]
    received: list[int] = []

    def hand_on(number: int, _: FrameType | None) -> None:
        received.append(number)
        _each_alive(children, number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for i in range(processes):
            out, err = (subprocess.DEVNULL, heard[i - 1]) if i else (None, None)
            own = {**environment, PROCESS: str(i)}
            children.append(subprocess.Popen(command, env=own, start_new_session=True, stdout=out, stderr=err))
        return _watch(children, received)
    except OSError as error:
        raise UserError(f"cannot run {command[0]!r}: {error.strerror}. Write the command after --.") from None
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
        _show(heard)


# -- private --------------------------------------------------------------------------------------------------------------


def _watch(children: Sequence[subprocess.Popen[bytes]], received: Sequence[int]) -> int:
    failed, begun, told = 0, 0.0, False
    while True:
        codes = [child.poll() for child in children]
        bad = [i for i, code in enumerate(codes) if code]
        first = min(bad, key=lambda i: (codes[i] or 0) > 0, default=None)  # if two are found at once, the killed one made the other fail
        if first is not None and not begun:
            begun, code = time.monotonic(), codes[first] or 0
            failed = 128 - code if code < 0 else code
            if code < 0 and not received:
                name = signal.Signals(-code).name
                _say(
                    f"process {first} of {len(children)} was ended by {name}, so the others stop. "
                    "The same command resumes from the last checkpoint"
                )
        if all(code is not None for code in codes):
            return failed
        waited = time.monotonic() - begun if begun else 0.0
        if waited > LINGER_SECONDS and not told:
            told = True
            _say(f"process {first} of {len(children)} ended with exit code {failed}; stopping the others")
            _each_alive(children, signal.SIGTERM)
        if waited > LINGER_SECONDS + KILL_SECONDS:
            _each_alive(children, signal.SIGKILL)
        time.sleep(0.05)


def _say(text: str) -> None:
    print(f"launch: {text}", file=sys.stderr, flush=True)


def _each_alive(children: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def _show(heard: Sequence[IO[bytes]]) -> None:
    """Prints what processes 1, 2, ... wrote to stderr, each line once."""
    seen: set[str] = set()
    for i, file in enumerate(heard, start=1):
        file.seek(0)
        for line in file.read().decode(errors="replace").splitlines():
            if line and line not in seen:
                seen.add(line)
                print(f"[{i}] {line}", file=sys.stderr)
        file.close()
