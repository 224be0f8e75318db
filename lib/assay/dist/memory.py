"""The memory of this machine. What cannot fit is refused before it is allocated: the system would end the process without a word."""

import os
from pathlib import Path

from assay.core.errors import UserError
from assay.core.number import number

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container, in bytes


def machine_bytes() -> int:
    """Returns the bytes of memory that a process may use here; 0 if the system does not say."""
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (OSError, ValueError, AttributeError):  # AttributeError: Windows
        return 0
    for name in LIMITS:
        text = Path(name).read_text().strip() if Path(name).is_file() else ""
        found += [int(text)] if text.isdecimal() else []
    return min(found)


def check_fits(needed: int, what: str, keys: str) -> None:
    """Raises UserError if `needed` bytes, a lower bound, exceed the memory of the machine. `what` takes them; `keys` reduce them."""
    have = machine_bytes()
    if have and needed > have:
        raise UserError(
            f"not enough memory: {what} take at least {number(needed, 'bytes')}, and this machine has {number(have, 'bytes')}. Reduce {keys}."
        )
