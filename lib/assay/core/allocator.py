"""Keeps freed memory with the process on glibc. XLA:CPU allocates its temporary buffer anew at every call; glibc would serve it by mmap
and give it back, so that each step zeroes it again page by page, which was measured to cost up to half of a step.
Call before JAX is imported. ASSAY_MALLOC=system switches it off."""

import ctypes
import os
import sys

_SETTINGS = {-4: 0, -1: 2**31 - 1, -2: 64 * 2**20}  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
_ARENAS = -8  # M_ARENA_MAX


def keep_memory(arenas: int = 1) -> bool:
    """Sets glibc's allocator once for the process; True where it was done. `arenas`: of one, a step finds all that others have freed; XLA
    compiles with several threads, which wait for one another there, so that what compiles more than it computes wants more. A quick
    diagnosis of SCAN's Transformer took 33.8 s in place of 41.4 with eight (two cores, medians of three, in turns)."""
    if os.environ.get("ASSAY_MALLOC") == "system" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has no mallopt
        return False
    return all(mallopt(option, value) == 1 for option, value in {**_SETTINGS, _ARENAS: arenas}.items())
