"""The allocator's settings, as another process gets them from its environment."""

import os
import subprocess
import sys

import pytest

from assay.core.allocator import as_environment

MAPPED = """
import ctypes
libc = ctypes.CDLL(None)
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc.mallinfo2.restype, libc.malloc.argtypes, libc.malloc.restype = Info, [ctypes.c_size_t], ctypes.c_void_p
kept = libc.malloc(100 * 2**20)
print(libc.mallinfo2().hblkhd > 2**20)
"""


def mapped(environment: dict[str, str]) -> bool:
    """Whether a process gets a large block from mmap, which it returns to the system at once when it is freed."""
    rest = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-S", "-c", MAPPED], env=rest | environment, capture_output=True, text=True)
    if "mallinfo2" in done.stderr:
        pytest.skip("needs glibc 2.33")
    return {"True\n": True, "False\n": False}[done.stdout]


def test_the_variables_keep_memory_in_another_process(monkeypatch):
    monkeypatch.delenv("ASSAY_MALLOC", raising=False)
    given = as_environment()
    assert given["MALLOC_ARENA_MAX"] == "1" and as_environment(8)["MALLOC_ARENA_MAX"] == "8"
    assert mapped({}) and not mapped(given)
    monkeypatch.setenv("ASSAY_MALLOC", "system")
    assert as_environment() == {}, "both sides have the system's settings"
