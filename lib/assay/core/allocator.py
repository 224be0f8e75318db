"""Keeps freed memory in the process on glibc.

XLA:CPU allocates a new temporary buffer at every call. By default glibc serves it by mmap and returns it to the system, so each step zeroes
it again page by page. That was measured to cost up to half of a step. Call `keep_memory` before JAX is imported. ASSAY_MALLOC=system
disables it.
"""

import ctypes
import os
import sys

_SETTINGS = {-4: 0, -1: 2**31 - 1, -2: 64 * 2**20}  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
_ARENAS = -8  # M_ARENA_MAX
_VARIABLES = {-4: "MALLOC_MMAP_MAX_", -1: "MALLOC_TRIM_THRESHOLD_", -2: "MALLOC_TOP_PAD_", _ARENAS: "MALLOC_ARENA_MAX"}


def as_environment(arenas: int = 1) -> dict[str, str]:
    """Returns the variables that configure glibc's allocator alike in another process, such as one that is compared with this one."""
    if os.environ.get("ASSAY_MALLOC") == "system":
        return {}
    return {_VARIABLES[option]: str(value) for option, value in {**_SETTINGS, _ARENAS: arenas}.items()}


def keep_memory(arenas: int = 1) -> bool:
    """Configures glibc's allocator once for the process; returns True on success.

    With a single arena (`arenas=1`), a step reuses all memory that other threads have freed. XLA compiles with several threads, which
    contend for a single arena, so a process that compiles more than it computes needs more. With eight, a quick diagnosis of SCAN's
    Transformer took 33.8 s instead of 41.4 s (two cores, medians of three, alternating).
    """
    if os.environ.get("ASSAY_MALLOC") == "system" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has no mallopt
        return False
    return all(mallopt(option, value) == 1 for option, value in {**_SETTINGS, _ARENAS: arenas}.items())
