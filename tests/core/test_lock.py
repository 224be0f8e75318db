"""One process writes to a folder at a time: the second one is told, and a process that was killed holds nothing."""

import os
import subprocess
import sys
import time

import pytest

from assay.core.errors import UserError
from assay.core.lock import NAME, locked

HOLD = """
import sys, time
from pathlib import Path
from assay.core.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_process_is_told_who_writes(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        said = rf"another process \(process {other.pid} on .*\) is writing to .*choose another --workdir"
        with pytest.raises(UserError, match=said), locked(tmp_path):
            raise AssertionError("the folder is held")
    finally:
        other.kill()
        other.communicate()
    with locked(tmp_path):
        assert (tmp_path / NAME).exists(), "a process that was killed holds nothing"
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_block_that_fails_gives_the_folder_back(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(tmp_path):
            raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_taken_as_soon_as_it_is_free(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD.replace("60", "1"), str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            with locked(tmp_path):
                break
        except UserError:
            time.sleep(0.05)
    else:
        raise AssertionError("it was never free")
    other.communicate()
    assert other.returncode == 0


def test_a_lock_that_is_no_file_is_told(tmp_path):
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(UserError, match=r"\.lock is not a file\. Remove it, or choose another --workdir"), locked(tmp_path):
        raise AssertionError("nothing is held")
